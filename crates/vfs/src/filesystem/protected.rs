//! [`Protected`]: a file system whose inputs stay as they are.
//!
//! What the base has can be read, and nothing else: it is not written, cut, renamed, replaced or deleted, and files and links keep
//! their attributes. That is an error as of a file that is immutable (`chattr +i`): not permitted. New names can be made everywhere, in
//! directories of the base too, whose own attributes may change, because nothing of those is committed.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use attachfs_durable::Allocation;
use attachfs_tree::{Ino, Kind, Special};

use super::{
    Asker, Attachment, Created, DataReply, Entry, FileSystem, Found, ListedReply, NameReply,
    NewNode, NodeId, OpenedDir, OpenedFile, Released, Reply, Usage,
};
use crate::{Access, FileAttr, FsError, FsErrorKind, HandleId, SeekTo, SetAttr, SetXattr, Vfs};

/// A file system whose inputs cannot be changed, if that was asked for.
#[derive(Debug)]
pub struct Protected {
    inner: Arc<Vfs>,
    protects: bool,
}

impl Protected {
    /// Protects the inputs if `protects`.
    pub fn new(inner: Arc<Vfs>, protects: bool) -> Self {
        Self { inner, protects }
    }

    /// Whether a node is one of the base that must stay as it is.
    fn is_kept(&self, node: NodeId) -> bool {
        self.protects && self.inner.is_input(node.into())
    }

    /// Whether what is at a name must stay there.
    fn is_kept_at(&self, parent: NodeId, name: &[u8]) -> bool {
        self.protects
            && self
                .inner
                .at(parent.into(), name)
                .is_some_and(|ino| self.inner.is_input(ino))
    }
}

fn refused() -> FsError {
    FsErrorKind::NotPermitted.into()
}

impl Vfs {
    /// Whether the base has this inode.
    fn is_input(&self, ino: Ino) -> bool {
        self.namespace.read().base().plain_kind(ino).is_some()
    }

    /// The inode that a name leads to.
    fn at(&self, parent: Ino, name: &[u8]) -> Option<Ino> {
        let namespace = self.namespace.read();
        self.at_name(&namespace, parent, name).map(|(ino, _)| ino)
    }

    fn is_dir(&self, ino: Ino) -> bool {
        self.namespace.read().kind(ino) == Some(Kind::Dir)
    }
}

impl FileSystem for Protected {
    fn is_read_only(&self) -> bool {
        FileSystem::is_read_only(&*self.inner)
    }

    fn keeps_for(&self) -> Option<Duration> {
        FileSystem::keeps_for(&*self.inner)
    }

    fn attach(&self, adapter: Attachment) {
        FileSystem::attach(&*self.inner, adapter);
    }

    fn detach(&self) -> Result<(), FsError> {
        FileSystem::detach(&*self.inner)
    }

    fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
        asker: impl FnOnce() -> Option<Asker>,
        reply: impl Reply<Found>,
    ) {
        FileSystem::lookup(&*self.inner, parent, name, asker, reply);
    }

    fn forget(&self, node: NodeId, references: u64) {
        FileSystem::forget(&*self.inner, node, references);
    }

    fn getattr(&self, node: NodeId, reply: impl Reply<FileAttr>) {
        FileSystem::getattr(&*self.inner, node, reply);
    }

    fn setattr(&self, node: NodeId, set: SetAttr, reply: impl Reply<FileAttr>) {
        if self.is_kept(node) && !self.inner.is_dir(node.into()) {
            return reply.fail(refused());
        }
        FileSystem::setattr(&*self.inner, node, set, reply);
    }

    fn getxattr(&self, node: NodeId, name: &[u8], reply: impl DataReply) {
        FileSystem::getxattr(&*self.inner, node, name, reply);
    }

    fn setxattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        how: SetXattr,
        reply: impl Reply<()>,
    ) {
        if self.is_kept(node) && !self.inner.is_dir(node.into()) {
            return reply.fail(refused());
        }
        FileSystem::setxattr(&*self.inner, node, name, value, how, reply);
    }

    fn listxattr(&self, node: NodeId, all: bool, reply: impl DataReply) {
        FileSystem::listxattr(&*self.inner, node, all, reply);
    }

    fn removexattr(&self, node: NodeId, name: &[u8], reply: impl Reply<()>) {
        if self.is_kept(node) && !self.inner.is_dir(node.into()) {
            return reply.fail(refused());
        }
        FileSystem::removexattr(&*self.inner, node, name, reply);
    }

    fn readlink(&self, node: NodeId, reply: impl DataReply) {
        FileSystem::readlink(&*self.inner, node, reply);
    }

    fn make_file(&self, parent: NodeId, name: &[u8], new: NewNode, reply: impl Reply<Entry>) {
        FileSystem::make_file(&*self.inner, parent, name, new, reply);
    }

    fn create(
        &self,
        parent: NodeId,
        name: &[u8],
        new: NewNode,
        access: Access,
        reply: impl Reply<Created>,
    ) {
        FileSystem::create(&*self.inner, parent, name, new, access, reply);
    }

    fn mkdir(&self, parent: NodeId, name: &[u8], new: NewNode, reply: impl Reply<Entry>) {
        FileSystem::mkdir(&*self.inner, parent, name, new, reply);
    }

    fn make_special(
        &self,
        parent: NodeId,
        name: &[u8],
        special: Special,
        new: NewNode,
        reply: impl Reply<Entry>,
    ) {
        FileSystem::make_special(&*self.inner, parent, name, special, new, reply);
    }

    fn symlink(
        &self,
        parent: NodeId,
        name: &[u8],
        text: &[u8],
        new: NewNode,
        reply: impl Reply<Entry>,
    ) {
        FileSystem::symlink(&*self.inner, parent, name, text, new, reply);
    }

    fn link(&self, node: NodeId, parent: NodeId, name: &[u8], reply: impl Reply<Entry>) {
        // It would change the input's link count, and could not be removed again.
        if self.is_kept(node) {
            return reply.fail(refused());
        }
        FileSystem::link(&*self.inner, node, parent, name, reply);
    }

    fn unlink(&self, parent: NodeId, name: &[u8], reply: impl Reply<()>) {
        if self.is_kept_at(parent, name) {
            return reply.fail(refused());
        }
        FileSystem::unlink(&*self.inner, parent, name, reply);
    }

    fn rmdir(&self, parent: NodeId, name: &[u8], reply: impl Reply<()>) {
        if self.is_kept_at(parent, name) {
            return reply.fail(refused());
        }
        FileSystem::rmdir(&*self.inner, parent, name, reply);
    }

    fn rename(
        &self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        no_replace: bool,
        reply: impl Reply<()>,
    ) {
        // With `no_replace` what is at the new name is not touched, and the answer says that it exists.
        if self.is_kept_at(from.0, from.1) || (!no_replace && self.is_kept_at(to.0, to.1)) {
            return reply.fail(refused());
        }
        FileSystem::rename(&*self.inner, from, to, no_replace, reply);
    }

    fn exchange(&self, from: (NodeId, &[u8]), to: (NodeId, &[u8]), reply: impl Reply<()>) {
        if self.is_kept_at(from.0, from.1) || self.is_kept_at(to.0, to.1) {
            return reply.fail(refused());
        }
        FileSystem::exchange(&*self.inner, from, to, reply);
    }

    fn open(&self, node: NodeId, access: Access, truncate: bool, reply: impl Reply<OpenedFile>) {
        if (access.write || truncate) && self.is_kept(node) {
            return reply.fail(refused());
        }
        FileSystem::open(&*self.inner, node, access, truncate, reply);
    }

    fn read(&self, handle: HandleId, offset: u64, len: u32, reply: impl DataReply) {
        FileSystem::read(&*self.inner, handle, offset, len, reply);
    }

    fn write(
        &self,
        handle: HandleId,
        offset: u64,
        data: &[u8],
        is_late: bool,
        reply: impl Reply<usize>,
    ) {
        FileSystem::write(&*self.inner, handle, offset, data, is_late, reply);
    }

    fn allocate(
        &self,
        handle: HandleId,
        how: Allocation,
        range: Range<u64>,
        reply: impl Reply<()>,
    ) {
        // The handle can write, and was refused to who wanted to write an input.
        FileSystem::allocate(&*self.inner, handle, how, range, reply);
    }

    fn seek(&self, handle: HandleId, offset: u64, to: SeekTo, reply: impl Reply<u64>) {
        FileSystem::seek(&*self.inner, handle, offset, to, reply);
    }

    fn fsync(&self, handle: HandleId, data_only: bool, reply: impl Reply<()>) {
        FileSystem::fsync(&*self.inner, handle, data_only, reply);
    }

    fn release(&self, handle: HandleId, reply: impl Reply<Released>) {
        FileSystem::release(&*self.inner, handle, reply);
    }

    fn opendir(&self, node: NodeId, reply: impl Reply<OpenedDir>) {
        FileSystem::opendir(&*self.inner, node, reply);
    }

    fn readdir(&self, handle: HandleId, offset: u64, reply: impl NameReply) {
        FileSystem::readdir(&*self.inner, handle, offset, reply);
    }

    fn readdirplus(&self, handle: HandleId, offset: u64, reply: impl ListedReply) {
        FileSystem::readdirplus(&*self.inner, handle, offset, reply);
    }

    fn releasedir(&self, handle: HandleId, reply: impl Reply<()>) {
        FileSystem::releasedir(&*self.inner, handle, reply);
    }

    fn fsyncdir(&self, handle: HandleId, reply: impl Reply<()>) {
        FileSystem::fsyncdir(&*self.inner, handle, reply);
    }

    fn statfs(&self, reply: impl Reply<Usage>) {
        FileSystem::statfs(&*self.inner, reply);
    }
}
