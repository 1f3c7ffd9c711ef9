//! [`Counted`]: a file system whose operations are counted, whatever it is and whichever adapter serves it.
//!
//! An operation lasts from its call to its answer, on whatever thread that is given; a reply that is dropped is a failed one.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_tree::Special;

use super::operations::{Operation, Operations};
use super::{
    Asker, Attachment, Created, DataReply, Entry, FileSystem, Found, ListReply, ListedReply,
    NameReply, NewNode, NodeId, OpenedDir, OpenedFile, Released, Reply, Usage,
};
use crate::{
    Access, Allocation, FileAttr, FsError, FsErrorKind, HandleId, SeekTo, SetAttr, SetXattr,
};

/// A file system, and the counts of what it is asked for.
#[derive(Debug)]
pub struct Counted<F> {
    inner: Arc<F>,
    operations: Arc<Operations>,
}

impl<F> Counted<F> {
    /// Nothing is counted yet.
    pub fn new(inner: Arc<F>) -> Self {
        Self {
            inner,
            operations: Arc::default(),
        }
    }

    /// The counts, which go on when the file system is gone.
    pub fn operations(&self) -> Arc<Operations> {
        Arc::clone(&self.operations)
    }

    fn begin<R>(&self, operation: Operation, reply: R) -> Timed<R> {
        self.operations.begin();
        let clock = Clock {
            operations: Arc::clone(&self.operations),
            operation,
            begun: Instant::now(),
            is_stopped: false,
        };
        Timed { clock, reply }
    }
}

/// A reply whose answer is waited for.
struct Timed<R> {
    /// The first field, so that a reply that is dropped is counted before it answers.
    clock: Clock,
    reply: R,
}

struct Clock {
    operations: Arc<Operations>,
    operation: Operation,
    begun: Instant,
    is_stopped: bool,
}

impl Clock {
    fn stop(&mut self, failed: Option<&FsError>) {
        self.is_stopped = true;
        self.operations.end(self.operation, self.begun, failed);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if !self.is_stopped {
            self.stop(Some(&FsErrorKind::Io.into()));
        }
    }
}

/// What is counted of an answer itself.
trait Told {
    fn tell(&self, _: Operation, _: &Operations) {}
}

impl Told for () {}
impl Told for usize {}
impl Told for u64 {}
impl Told for Entry {}
impl Told for FileAttr {}
impl Told for Created {}
impl Told for OpenedDir {}
impl Told for OpenedFile {}
impl Told for Released {}
impl Told for HandleId {}
impl Told for Usage {}

impl Told for Found {
    fn tell(&self, _: Operation, operations: &Operations) {
        if self.entry.is_none() {
            operations.note_missing();
        }
    }
}

impl Told for &[u8] {
    fn tell(&self, operation: Operation, operations: &Operations) {
        if operation == Operation::Read {
            operations.note_read(self.len());
        }
    }
}

impl<T: Told, R: Reply<T>> Reply<T> for Timed<R> {
    fn ok(mut self, value: T) {
        value.tell(self.clock.operation, &self.clock.operations);
        // Before the answer: a program that has the answer finds it counted.
        self.clock.stop(None);
        self.reply.ok(value);
    }

    fn fail(mut self, error: FsError) {
        self.clock.stop(Some(&error));
        self.reply.fail(error);
    }
}

impl<E, R: ListReply<E>> ListReply<E> for Timed<R> {
    fn add(&mut self, entry: E, next: u64) -> bool {
        self.reply.add(entry, next)
    }
}

impl<F: FileSystem> FileSystem for Counted<F> {
    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn keeps_for(&self) -> Option<Duration> {
        self.inner.keeps_for()
    }

    fn attach(&self, adapter: Attachment) {
        self.inner.attach(adapter);
    }

    fn detach(&self) -> Result<(), FsError> {
        self.inner.detach()
    }

    fn forget(&self, node: NodeId, references: u64) {
        self.inner.forget(node, references);
    }

    fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
        asker: impl FnOnce() -> Option<Asker>,
        reply: impl Reply<Found>,
    ) {
        let reply = self.begin(Operation::Lookup, reply);
        self.inner.lookup(parent, name, asker, reply);
    }

    fn getattr(&self, node: NodeId, reply: impl Reply<FileAttr>) {
        let reply = self.begin(Operation::Getattr, reply);
        self.inner.getattr(node, reply);
    }

    fn setattr(&self, node: NodeId, set: SetAttr, reply: impl Reply<FileAttr>) {
        let reply = self.begin(Operation::Setattr, reply);
        self.inner.setattr(node, set, reply);
    }

    fn getxattr(&self, node: NodeId, name: &[u8], reply: impl DataReply) {
        let reply = self.begin(Operation::Getxattr, reply);
        self.inner.getxattr(node, name, reply);
    }

    fn setxattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        how: SetXattr,
        reply: impl Reply<()>,
    ) {
        let reply = self.begin(Operation::Setxattr, reply);
        self.inner.setxattr(node, name, value, how, reply);
    }

    fn listxattr(&self, node: NodeId, all: bool, reply: impl DataReply) {
        let reply = self.begin(Operation::Listxattr, reply);
        self.inner.listxattr(node, all, reply);
    }

    fn removexattr(&self, node: NodeId, name: &[u8], reply: impl Reply<()>) {
        let reply = self.begin(Operation::Removexattr, reply);
        self.inner.removexattr(node, name, reply);
    }

    fn readlink(&self, node: NodeId, reply: impl DataReply) {
        let reply = self.begin(Operation::Readlink, reply);
        self.inner.readlink(node, reply);
    }

    fn make_file(&self, parent: NodeId, name: &[u8], new: NewNode, reply: impl Reply<Entry>) {
        let reply = self.begin(Operation::MakeFile, reply);
        self.inner.make_file(parent, name, new, reply);
    }

    fn create(
        &self,
        parent: NodeId,
        name: &[u8],
        new: NewNode,
        access: Access,
        reply: impl Reply<Created>,
    ) {
        let reply = self.begin(Operation::Create, reply);
        self.inner.create(parent, name, new, access, reply);
    }

    fn mkdir(&self, parent: NodeId, name: &[u8], new: NewNode, reply: impl Reply<Entry>) {
        let reply = self.begin(Operation::Mkdir, reply);
        self.inner.mkdir(parent, name, new, reply);
    }

    fn make_special(
        &self,
        parent: NodeId,
        name: &[u8],
        special: Special,
        new: NewNode,
        reply: impl Reply<Entry>,
    ) {
        let reply = self.begin(Operation::MakeSpecial, reply);
        self.inner.make_special(parent, name, special, new, reply);
    }

    fn symlink(
        &self,
        parent: NodeId,
        name: &[u8],
        text: &[u8],
        new: NewNode,
        reply: impl Reply<Entry>,
    ) {
        let reply = self.begin(Operation::Symlink, reply);
        self.inner.symlink(parent, name, text, new, reply);
    }

    fn link(&self, node: NodeId, parent: NodeId, name: &[u8], reply: impl Reply<Entry>) {
        let reply = self.begin(Operation::Link, reply);
        self.inner.link(node, parent, name, reply);
    }

    fn unlink(&self, parent: NodeId, name: &[u8], reply: impl Reply<()>) {
        let reply = self.begin(Operation::Unlink, reply);
        self.inner.unlink(parent, name, reply);
    }

    fn rmdir(&self, parent: NodeId, name: &[u8], reply: impl Reply<()>) {
        let reply = self.begin(Operation::Rmdir, reply);
        self.inner.rmdir(parent, name, reply);
    }

    fn rename(
        &self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        no_replace: bool,
        reply: impl Reply<()>,
    ) {
        let reply = self.begin(Operation::Rename, reply);
        self.inner.rename(from, to, no_replace, reply);
    }

    fn exchange(&self, from: (NodeId, &[u8]), to: (NodeId, &[u8]), reply: impl Reply<()>) {
        let reply = self.begin(Operation::Exchange, reply);
        self.inner.exchange(from, to, reply);
    }

    fn open(&self, node: NodeId, access: Access, truncate: bool, reply: impl Reply<OpenedFile>) {
        let reply = self.begin(Operation::Open, reply);
        self.inner.open(node, access, truncate, reply);
    }

    fn read(&self, handle: HandleId, offset: u64, len: u32, reply: impl DataReply) {
        let reply = self.begin(Operation::Read, reply);
        self.inner.read(handle, offset, len, reply);
    }

    fn write(
        &self,
        handle: HandleId,
        offset: u64,
        data: &[u8],
        is_late: bool,
        reply: impl Reply<usize>,
    ) {
        let reply = self.begin(Operation::Write, reply);
        self.inner.write(handle, offset, data, is_late, reply);
    }

    fn allocate(
        &self,
        handle: HandleId,
        how: Allocation,
        range: Range<u64>,
        reply: impl Reply<()>,
    ) {
        let reply = self.begin(Operation::Allocate, reply);
        self.inner.allocate(handle, how, range, reply);
    }

    fn seek(&self, handle: HandleId, offset: u64, to: SeekTo, reply: impl Reply<u64>) {
        let reply = self.begin(Operation::Seek, reply);
        self.inner.seek(handle, offset, to, reply);
    }

    fn fsync(&self, handle: HandleId, data_only: bool, reply: impl Reply<()>) {
        let reply = self.begin(Operation::Fsync, reply);
        self.inner.fsync(handle, data_only, reply);
    }

    fn release(&self, handle: HandleId, reply: impl Reply<Released>) {
        let reply = self.begin(Operation::Release, reply);
        self.inner.release(handle, reply);
    }

    fn opendir(&self, node: NodeId, reply: impl Reply<OpenedDir>) {
        let reply = self.begin(Operation::Opendir, reply);
        self.inner.opendir(node, reply);
    }

    fn readdir(&self, handle: HandleId, offset: u64, reply: impl NameReply) {
        let reply = self.begin(Operation::Readdir, reply);
        self.inner.readdir(handle, offset, reply);
    }

    fn readdirplus(&self, handle: HandleId, offset: u64, reply: impl ListedReply) {
        let reply = self.begin(Operation::Readdirplus, reply);
        self.inner.readdirplus(handle, offset, reply);
    }

    fn releasedir(&self, handle: HandleId, reply: impl Reply<()>) {
        let reply = self.begin(Operation::Releasedir, reply);
        self.inner.releasedir(handle, reply);
    }

    fn fsyncdir(&self, handle: HandleId, reply: impl Reply<()>) {
        let reply = self.begin(Operation::Fsyncdir, reply);
        self.inner.fsyncdir(handle, reply);
    }

    fn statfs(&self, reply: impl Reply<Usage>) {
        let reply = self.begin(Operation::Statfs, reply);
        self.inner.statfs(reply);
    }
}
