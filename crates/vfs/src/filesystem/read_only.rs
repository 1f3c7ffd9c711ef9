//! [`ReadOnlyFileSystem`]: a file system to which nobody can write.

use std::ops::Range;
use std::time::Duration;

use attachfs_tree::Special;

use super::{
    Asker, Attachment, Created, DataReply, Entry, FileSystem, Found, ListedReply, NameReply,
    NewNode, NodeId, OpenedDir, OpenedFile, Released, Reply, Usage,
};
use crate::{
    Access, Allocation, FileAttr, FsError, FsErrorKind, HandleId, SeekTo, SetAttr, SetXattr,
};

/// What reads of a [`FileSystem`], with the same guarantees. Each one is a [`FileSystem`] that answers all that would change something with
/// [`ReadOnly`](FsErrorKind::ReadOnly).
#[expect(missing_docs, reason = "each method is that of `FileSystem`")]
pub trait ReadOnlyFileSystem: std::fmt::Debug + Send + Sync + 'static {
    fn keeps_for(&self) -> Option<Duration>;

    fn attach(&self, adapter: Attachment);

    fn detach(&self) -> Result<(), FsError>;

    fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
        asker: impl FnOnce() -> Option<Asker>,
        reply: impl Reply<Found>,
    );

    fn forget(&self, node: NodeId, references: u64);

    fn getattr(&self, node: NodeId, reply: impl Reply<FileAttr>);

    fn getxattr(&self, node: NodeId, name: &[u8], reply: impl DataReply);

    fn listxattr(&self, node: NodeId, all: bool, reply: impl DataReply);

    fn readlink(&self, node: NodeId, reply: impl DataReply);

    /// Opens a file to read it.
    fn open(&self, node: NodeId, reply: impl Reply<OpenedFile>);

    fn read(&self, handle: HandleId, offset: u64, len: u32, reply: impl DataReply);

    fn seek(&self, handle: HandleId, offset: u64, to: SeekTo, reply: impl Reply<u64>);

    fn release(&self, handle: HandleId, reply: impl Reply<Released>);

    fn opendir(&self, node: NodeId, reply: impl Reply<OpenedDir>);

    fn readdir(&self, handle: HandleId, offset: u64, reply: impl NameReply);

    fn readdirplus(&self, handle: HandleId, offset: u64, reply: impl ListedReply);

    fn releasedir(&self, handle: HandleId, reply: impl Reply<()>);

    fn statfs(&self, reply: impl Reply<Usage>);
}

const READ_ONLY: FsError = FsError::plain(FsErrorKind::ReadOnly);

impl<F: ReadOnlyFileSystem> FileSystem for F {
    fn is_read_only(&self) -> bool {
        true
    }

    fn keeps_for(&self) -> Option<Duration> {
        ReadOnlyFileSystem::keeps_for(self)
    }

    fn attach(&self, adapter: Attachment) {
        ReadOnlyFileSystem::attach(self, adapter);
    }

    fn detach(&self) -> Result<(), FsError> {
        ReadOnlyFileSystem::detach(self)
    }

    fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
        asker: impl FnOnce() -> Option<Asker>,
        reply: impl Reply<Found>,
    ) {
        ReadOnlyFileSystem::lookup(self, parent, name, asker, reply);
    }

    fn forget(&self, node: NodeId, references: u64) {
        ReadOnlyFileSystem::forget(self, node, references);
    }

    fn getattr(&self, node: NodeId, reply: impl Reply<FileAttr>) {
        ReadOnlyFileSystem::getattr(self, node, reply);
    }

    fn getxattr(&self, node: NodeId, name: &[u8], reply: impl DataReply) {
        ReadOnlyFileSystem::getxattr(self, node, name, reply);
    }

    fn listxattr(&self, node: NodeId, all: bool, reply: impl DataReply) {
        ReadOnlyFileSystem::listxattr(self, node, all, reply);
    }

    fn readlink(&self, node: NodeId, reply: impl DataReply) {
        ReadOnlyFileSystem::readlink(self, node, reply);
    }

    fn open(&self, node: NodeId, access: Access, truncate: bool, reply: impl Reply<OpenedFile>) {
        if access.write || truncate {
            return reply.fail(READ_ONLY);
        }
        ReadOnlyFileSystem::open(self, node, reply);
    }

    fn read(&self, handle: HandleId, offset: u64, len: u32, reply: impl DataReply) {
        ReadOnlyFileSystem::read(self, handle, offset, len, reply);
    }

    fn seek(&self, handle: HandleId, offset: u64, to: SeekTo, reply: impl Reply<u64>) {
        ReadOnlyFileSystem::seek(self, handle, offset, to, reply);
    }

    fn release(&self, handle: HandleId, reply: impl Reply<Released>) {
        ReadOnlyFileSystem::release(self, handle, reply);
    }

    fn opendir(&self, node: NodeId, reply: impl Reply<OpenedDir>) {
        ReadOnlyFileSystem::opendir(self, node, reply);
    }

    fn readdir(&self, handle: HandleId, offset: u64, reply: impl NameReply) {
        ReadOnlyFileSystem::readdir(self, handle, offset, reply);
    }

    fn readdirplus(&self, handle: HandleId, offset: u64, reply: impl ListedReply) {
        ReadOnlyFileSystem::readdirplus(self, handle, offset, reply);
    }

    fn releasedir(&self, handle: HandleId, reply: impl Reply<()>) {
        ReadOnlyFileSystem::releasedir(self, handle, reply);
    }

    fn statfs(&self, reply: impl Reply<Usage>) {
        ReadOnlyFileSystem::statfs(self, reply);
    }

    // Nothing that is open was written to.
    fn fsync(&self, _: HandleId, _: bool, reply: impl Reply<()>) {
        reply.ok(());
    }

    fn fsyncdir(&self, _: HandleId, reply: impl Reply<()>) {
        reply.ok(());
    }

    fn setattr(&self, _: NodeId, _: SetAttr, reply: impl Reply<FileAttr>) {
        reply.fail(READ_ONLY);
    }

    fn setxattr(&self, _: NodeId, _: &[u8], _: &[u8], _: SetXattr, reply: impl Reply<()>) {
        reply.fail(READ_ONLY);
    }

    fn removexattr(&self, _: NodeId, _: &[u8], reply: impl Reply<()>) {
        reply.fail(READ_ONLY);
    }

    fn make_file(&self, _: NodeId, _: &[u8], _: NewNode, reply: impl Reply<Entry>) {
        reply.fail(READ_ONLY);
    }

    fn create(&self, _: NodeId, _: &[u8], _: NewNode, _: Access, reply: impl Reply<Created>) {
        reply.fail(READ_ONLY);
    }

    fn mkdir(&self, _: NodeId, _: &[u8], _: NewNode, reply: impl Reply<Entry>) {
        reply.fail(READ_ONLY);
    }

    fn make_special(&self, _: NodeId, _: &[u8], _: Special, _: NewNode, reply: impl Reply<Entry>) {
        reply.fail(READ_ONLY);
    }

    fn symlink(&self, _: NodeId, _: &[u8], _: &[u8], _: NewNode, reply: impl Reply<Entry>) {
        reply.fail(READ_ONLY);
    }

    fn link(&self, _: NodeId, _: NodeId, _: &[u8], reply: impl Reply<Entry>) {
        reply.fail(READ_ONLY);
    }

    fn unlink(&self, _: NodeId, _: &[u8], reply: impl Reply<()>) {
        reply.fail(READ_ONLY);
    }

    fn rmdir(&self, _: NodeId, _: &[u8], reply: impl Reply<()>) {
        reply.fail(READ_ONLY);
    }

    fn rename(&self, _: (NodeId, &[u8]), _: (NodeId, &[u8]), _: bool, reply: impl Reply<()>) {
        reply.fail(READ_ONLY);
    }

    fn exchange(&self, _: (NodeId, &[u8]), _: (NodeId, &[u8]), reply: impl Reply<()>) {
        reply.fail(READ_ONLY);
    }

    fn write(&self, _: HandleId, _: u64, _: &[u8], _: bool, reply: impl Reply<usize>) {
        reply.fail(READ_ONLY);
    }

    fn allocate(&self, _: HandleId, _: Allocation, _: Range<u64>, reply: impl Reply<()>) {
        reply.fail(READ_ONLY);
    }
}
