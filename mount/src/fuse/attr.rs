//! Conversions between the kernel's types and those of a file system.

use std::time::{Duration, SystemTime};

use attachfs_tree::{Kind, Special, Timestamp};
use attachfs_vfs::{
    Access, Allocation, Entry, FileAttr, FsErrorKind, NewNode, NodeId, SeekTo, SetTime,
};
use fuser::{FileType, INodeNo, OpenAccMode, OpenFlags, Request, TimeOrNow};
use rustix::fs::{FallocateFlags, FileType as ModeType, OFlags};

/// The unit in which programs are told to read and write, in bytes: a page.
const BLOCK_SIZE: u32 = 4096;

/// The node that the kernel means.
pub(super) fn node(number: INodeNo) -> NodeId {
    NodeId(number.0)
}

/// What a file is opened for.
pub(super) fn access(flags: OpenFlags) -> Access {
    let mode = flags.acc_mode();
    Access {
        read: mode != OpenAccMode::O_WRONLY,
        write: mode != OpenAccMode::O_RDONLY,
        // O_SYNC is more than O_DSYNC, and has its bit.
        sync: flags.0 & OFlags::DSYNC.bits() as i32 != 0,
    }
}

/// Whether a file is cut to length 0 as it is opened.
pub(super) fn truncates(flags: OpenFlags) -> bool {
    flags.0 & OFlags::TRUNC.bits() as i32 != 0
}

/// What mknod(2) is asked for.
pub(super) enum Made {
    File,
    Special(Special),
    /// A device, also the one with the number 0 that overlayfs takes for a deleted file: there are none in a mount.
    Device,
}

pub(super) fn made(mode: u32) -> Made {
    match ModeType::from_raw_mode(mode) {
        ModeType::RegularFile => Made::File,
        ModeType::Fifo => Made::Special(Special::Fifo),
        ModeType::Socket => Made::Special(Special::Socket),
        // mknod(2): 0 is a regular file.
        _ if mode & 0o170_000 == 0 => Made::File,
        _ => Made::Device,
    }
}

/// Mode and owner for a new node that this request makes.
pub(super) fn new_node(request: &Request, mode: u32) -> NewNode {
    NewNode {
        mode,
        uid: request.uid(),
        gid: request.gid(),
    }
}

/// What fallocate(2) is asked for; `None` for what no file here has: ranges that are moved or shared.
pub(super) fn allocation(mode: i32) -> Option<Allocation> {
    let mode = FallocateFlags::from_bits(mode.cast_unsigned())?;
    let keep = FallocateFlags::KEEP_SIZE;
    let keeps_len = mode.contains(keep);
    match mode - keep {
        rest if rest.is_empty() => Some(Allocation::Room { keeps_len }),
        FallocateFlags::ZERO_RANGE => Some(Allocation::Zeros { keeps_len }),
        // The kernel asks for no hole that would change the length.
        FallocateFlags::PUNCH_HOLE if keeps_len => Some(Allocation::Hole),
        _ => None,
    }
}

/// What lseek(2) looks for, and from where on.
pub(super) fn seek_to(offset: i64, whence: i32) -> Result<(u64, SeekTo), FsErrorKind> {
    // `SEEK_DATA` and `SEEK_HOLE` of `linux/fs.h`; the kernel does the others by itself.
    let to = match whence {
        3 => SeekTo::Data,
        4 => SeekTo::Hole,
        _ => return Err(FsErrorKind::Invalid),
    };
    let offset = u64::try_from(offset).map_err(|_| FsErrorKind::BeyondEnd)?;
    Ok((offset, to))
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Dir => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Special(Special::Fifo) => FileType::NamedPipe,
        Kind::Special(Special::Socket) => FileType::Socket,
    }
}

/// The attributes in the kernel's form. No birth time is kept: it shows the modification time.
pub(super) fn kernel_attr(attr: &FileAttr) -> fuser::FileAttr {
    let mtime = system_time(attr.mtime);
    fuser::FileAttr {
        ino: INodeNo(attr.ino.raw()),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
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

/// The attributes of an entry for fuser 0.18: with the node instead of the inode number.
pub(super) fn entry_attr(entry: &Entry) -> fuser::FileAttr {
    fuser::FileAttr {
        ino: INodeNo(entry.node.0),
        ..kernel_attr(&entry.attr)
    }
}

/// The entry that means "nothing has this name", which the kernel may cache: inode number 0.
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

/// Corrects a time of fuser 0.18. Before 1970 it *subtracts* the nanoseconds that the kernel counts
/// forward from the second, so they are added again here.
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
