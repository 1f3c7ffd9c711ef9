//! What a successful operation replies, one reply type at a time.
//!
//! All changes go through this mount, so the kernel may remember names, attributes and the absence
//! of names for as long as it likes; what changes behind its back is invalidated explicitly.

use std::time::Duration;

use attachfs_vfs::{FileAttr, Opened};
use fuser::{
    Errno, FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite,
};

use super::attr::{kernel_attr, nothing};

/// How long the kernel may remember what it was told.
pub(super) const TTL: Duration = Duration::from_hours(24);
/// Inode numbers are never used twice, so one generation does.
pub(super) const GENERATION: Generation = Generation(0);

/// A reply that can say `T`.
pub(super) trait Answer<T> {
    fn success(self, value: T);
    fn failure(self, errno: Errno);
}

macro_rules! answer {
    ($reply:ty, $value:ty, |$this:ident, $it:ident| $success:expr) => {
        impl Answer<$value> for $reply {
            fn success(self, $it: $value) {
                let $this = self;
                $success;
            }

            fn failure(self, errno: Errno) {
                self.error(errno);
            }
        }
    };
}

answer!(ReplyEmpty, (), |reply, _done| reply.ok());
answer!(ReplyAttr, FileAttr, |reply, attr| reply
    .attr(&TTL, &kernel_attr(&attr)));
answer!(ReplyEntry, FileAttr, |reply, attr| reply.entry(
    &TTL,
    &kernel_attr(&attr),
    GENERATION
));
answer!(ReplyEntry, Option<FileAttr>, |reply, found| {
    let attr = found.map_or_else(nothing, |attr| kernel_attr(&attr));
    reply.entry(&TTL, &attr, GENERATION);
});
answer!(ReplyData, Vec<u8>, |reply, bytes| reply.data(&bytes));
answer!(ReplyWrite, usize, |reply, written| reply
    .written(written as u32));
answer!(ReplyOpen, (FileHandle, FopenFlags), |reply, opened| reply
    .opened(opened.0, opened.1));
answer!(ReplyCreate, (FileAttr, Opened), |reply, created| {
    let (attr, opened) = created;
    let handle = FileHandle(opened.handle.0);
    reply.created(
        &TTL,
        &kernel_attr(&attr),
        GENERATION,
        handle,
        FopenFlags::FOPEN_KEEP_CACHE,
    );
});
answer!(ReplyStatfs, FileSystemSize, |reply, size| {
    let block = u64::from(size.block_size);
    reply.statfs(
        size.total / block,
        size.free / block,
        size.available / block,
        size.files_total,
        size.files_free,
        size.block_size,
        255,
        size.block_size,
    );
});

/// What statfs says, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileSystemSize {
    pub(super) total: u64,
    pub(super) free: u64,
    pub(super) available: u64,
    pub(super) files_total: u64,
    pub(super) files_free: u64,
    /// Not 0.
    pub(super) block_size: u32,
}
