//! Attributes and times, in the kernel's words and in ours.

use std::time::{Duration, SystemTime};

use attachfs_tree::{Ino, Kind, Timestamp};
use attachfs_vfs::{FileAttr, SetTime};
use fuser::{FileType, INodeNo, TimeOrNow};

/// The unit in which programs are told to read and write, in bytes: a page.
const BLOCK_SIZE: u32 = 4096;

/// An inode number, which is the kernel's node id as it is.
pub(super) fn ino(number: INodeNo) -> Ino {
    Ino::from_raw(number.0)
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Dir => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
    }
}

/// The attributes in the kernel's words. No access or birth time is kept: both show the
/// modification.
pub(super) fn kernel_attr(attr: &FileAttr) -> fuser::FileAttr {
    let mtime = system_time(attr.mtime);
    fuser::FileAttr {
        ino: INodeNo(attr.ino.raw()),
        size: attr.size,
        blocks: attr.blocks,
        atime: mtime,
        mtime,
        ctime: system_time(attr.ctime),
        crtime: mtime,
        kind: file_type(attr.kind),
        perm: (attr.perm & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// The entry that says "nothing has this name", which the kernel may remember: inode number 0.
pub(super) fn nothing() -> fuser::FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    fuser::FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// A time that no `SystemTime` can hold shows as 1970.
fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let second = if time.seconds < 0 {
        epoch.checked_sub(whole)
    } else {
        epoch.checked_add(whole)
    };
    second
        .and_then(|second| second.checked_add(Duration::from_nanos(time.nanoseconds.into())))
        .unwrap_or(epoch)
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(requested_time(time)),
    }
}

/// A time as fuser 0.18 hands it over. Before 1970 it *subtracts* the nanoseconds that the kernel
/// counts forward from the second, so they are taken back the same way.
fn requested_time(time: SystemTime) -> Timestamp {
    let (seconds, nanoseconds) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => (
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            since.subsec_nanos(),
        ),
        Err(before) => {
            let before = before.duration();
            (
                0i64.saturating_sub_unsigned(before.as_secs()),
                before.subsec_nanos(),
            )
        }
    };
    Timestamp {
        seconds,
        nanoseconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_arrives_as_the_kernel_meant_it() {
        // utimensat(-1.5 s) is -2 s and 500,000,000 ns, of which fuser makes -(2 s + 0.5 s).
        let from_fuser = SystemTime::UNIX_EPOCH - Duration::new(2, 500_000_000);
        let meant = Timestamp {
            seconds: -2,
            nanoseconds: 500_000_000,
        };
        assert_eq!(requested_time(from_fuser), meant);
        assert_eq!(
            system_time(meant),
            SystemTime::UNIX_EPOCH - Duration::from_millis(1500)
        );
    }

    #[test]
    fn times_that_cannot_be_shown_do_no_harm() {
        for seconds in [i64::MIN, i64::MAX] {
            system_time(Timestamp {
                seconds,
                nanoseconds: 999_999_999,
            });
        }
    }
}
