//! Whether something is still what it was.

use attachfs_durable::FileStamp;
use attachfs_manifest::Mtime;

pub(super) fn is_same_inode(now: &FileStamp, then: &FileStamp) -> bool {
    (now.dev, now.ino) == (then.dev, then.ino)
}

/// Whether nobody wrote to it. Its other names may have been deleted meanwhile, which changes its ctime.
pub(super) fn is_unchanged(now: &FileStamp, then: &FileStamp) -> bool {
    is_same_inode(now, then) && (now.size, now.mtime_ns) == (then.size, then.mtime_ns)
}

/// Whether two times may be the same to somebody who cannot set them better: the Python client sets them through
/// a floating point number, which moves them by up to a microsecond.
pub(super) fn is_near(one: Mtime, other: Mtime) -> bool {
    one.0.abs_diff(other.0) <= 1
}
