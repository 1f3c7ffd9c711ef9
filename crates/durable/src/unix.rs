//! What Unix (that is, Linux) does for this crate. Everything here has a plain-Rust caller that
//! documents the guarantee; this file only makes the system calls.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, copy_file_range};
use rustix::io::Errno;

use crate::{FileStamp, Space};

pub(crate) fn stamp(file: &File) -> io::Result<FileStamp> {
    let meta = file.metadata()?;
    let nanoseconds = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
    Ok(FileStamp {
        dev: meta.dev(),
        ino: meta.ino(),
        size: meta.size(),
        mtime_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
        ctime_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
    })
}

pub(crate) fn space(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space {
        total: bytes(stat.f_blocks),
        free: bytes(stat.f_bfree),
        available: bytes(stat.f_bavail),
        files_total: stat.f_files,
        files_free: stat.f_favail,
        block_size: stat.f_frsize,
    })
}

pub(crate) fn permissions(mode: u32) -> Permissions {
    Permissions::from_mode(mode)
}

pub(crate) fn dir_mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.mode() & 0o777)
}

/// Creates one directory with exactly this mode, whatever the umask is.
pub(crate) fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)?;
    if dir_mode(path)? != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // The file system does not know what syncing a directory is (some network ones).
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        result => result,
    }
}

fn lock_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Never through a link that someone left, and never waiting for the other end of a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags.bits() as i32);
    options
}

pub(crate) fn open_lock_file(path: &Path) -> io::Result<File> {
    lock_file_options().create(true).truncate(false).open(path)
}

pub(crate) fn open_lock_file_if_exists(path: &Path) -> io::Result<File> {
    lock_file_options().open(path)
}

pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits() as i32);
    options.open(path)
}

/// Whether it is a directory or a regular file that this user alone may write to.
pub(crate) fn is_own(meta: &Metadata, dir: bool) -> bool {
    let is_kind = if dir { meta.is_dir() } else { meta.is_file() };
    is_kind && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0
}

pub(crate) fn is_unlinked(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() == 0)
}

pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Appends up to `len` bytes from `offset` on to `bytes`, which has room for them.
pub(crate) fn read_at(file: &File, bytes: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<()> {
    let start = bytes.len();
    while bytes.len() - start < len {
        let at = offset + (bytes.len() - start) as u64;
        match rustix::io::pread(file, spare_capacity(bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(start + len);
    Ok(())
}

/// Reads from `offset` on until `bytes` are full or the file ends, and says how many bytes that were.
pub(crate) fn fill_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::io::pread(file, &mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

/// Copies what the kernel will copy, from the start of the range on, and says how many bytes that
/// were; the caller copies the rest and finds out why there is one.
pub(crate) fn copy_in_kernel(source: &File, range: Range<u64>, target: &File, offset: u64) -> u64 {
    // One call never copies more than 2 GiB; less keeps a killed process from lingering in it.
    const BLOCK: u64 = 64 << 20;
    let (mut from, mut to) = (range.start, offset);
    while from < range.end {
        let want = (range.end - from).min(BLOCK) as usize;
        match copy_file_range(source, Some(&mut from), target, Some(&mut to), want) {
            // Two file systems, one that cannot, the end of the source, a real failure: reading and
            // writing goes on from here and meets what is wrong again, if anything is.
            Ok(1..) | Err(Errno::INTR) => {}
            Ok(0) | Err(_) => break,
        }
    }
    from - range.start
}

/// The first run of data in a range that is not empty; an empty one at its end if all of it is a hole. What
/// lies behind the end of the file counts as data: reading it tells that there is nothing.
pub(crate) fn data_in(file: &File, range: Range<u64>) -> io::Result<Range<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(range.start)) {
        Ok(start) if start < range.end => {
            let hole = rustix::fs::seek(file, SeekFrom::Hole(start));
            Ok(start..hole.unwrap_or(range.end).min(range.end))
        }
        // No data up to the end of the file, or none in the range.
        Ok(_) | Err(Errno::NXIO) => {
            let len = file.metadata()?.len();
            Ok(len.clamp(range.start, range.end)..range.end)
        }
        // The file system, or what stands here for a file, does not tell holes.
        Err(_) => Ok(range),
    }
}

/// Gives back the blocks of a range, which reads as zeros from then on. The file keeps its length.
pub(crate) fn punch_hole(file: &File, range: Range<u64>) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(
        file,
        flags,
        range.start,
        range.end - range.start,
    )?)
}

/// The argument of `FICLONERANGE`, `struct file_clone_range` in `linux/fs.h`.
#[repr(C)]
#[derive(Debug)]
struct CloneRange {
    source: i64,
    source_offset: u64,
    len: u64,
    target_offset: u64,
}

const FICLONERANGE: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<CloneRange>(0x94, 13);

pub(crate) fn reflink(source: &File, range: Range<u64>, target: &File) -> bool {
    use std::os::fd::AsRawFd as _;
    let argument = CloneRange {
        source: i64::from(source.as_raw_fd()),
        source_offset: range.start,
        len: range.end - range.start,
        target_offset: 0,
    };
    // SAFETY: the opcode is FICLONERANGE of linux/fs.h, whose argument is a pointer to a
    // `struct file_clone_range`, which `CloneRange` is; the kernel only reads it, and the
    // descriptor in it stays open for the call because `source` is borrowed.
    #[allow(unsafe_code, reason = "rustix has no safe form of this ioctl")]
    let cloned = unsafe {
        rustix::ioctl::ioctl(
            target,
            rustix::ioctl::Setter::<FICLONERANGE, CloneRange>::new(argument),
        )
    };
    cloned.is_ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clone_call_has_the_number_that_the_kernel_knows() {
        assert_eq!(super::FICLONERANGE, 0x4020_940D);
    }
}
