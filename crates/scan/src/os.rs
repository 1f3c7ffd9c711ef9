//! What a scan keeps of a file's metadata.

use attachfs_durable::FileStamp;
use attachfs_manifest::Mtime;

use crate::mtime_of;

/// The identity of a file or directory, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(found: &attachfs_durable::Facts) -> Self {
        Self {
            device: found.stamp.dev,
            inode: found.stamp.ino,
        }
    }
}

/// What a scan keeps of a regular file's metadata.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) mtime: Mtime,
    pub(crate) runnable: bool,
    pub(crate) stamp: FileStamp,
}

impl Facts {
    pub(crate) fn of(found: &attachfs_durable::Facts) -> Self {
        Self {
            mtime: mtime_of(&found.stamp),
            runnable: found.mode & 0o111 != 0,
            stamp: found.stamp,
        }
    }
}
