//! What Unix (that is, Linux) does for this crate. Everything here has a plain-Rust caller that
//! documents the guarantee; this file only makes the system calls.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, copy_file_range};
use rustix::io::Errno;

use crate::{FileStamp, Mounted, Space};

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
    Ok(space_of(&rustix::fs::statvfs(path)?))
}

pub(crate) fn space_of(stat: &rustix::fs::StatVfs) -> Space {
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Space {
        total: bytes(stat.f_blocks),
        free: bytes(stat.f_bfree),
        available: bytes(stat.f_bavail),
        files_total: stat.f_files,
        files_free: stat.f_favail,
        block_size: stat.f_frsize,
    }
}

pub(crate) fn permissions(mode: u32) -> Permissions {
    Permissions::from_mode(mode)
}

pub(crate) fn dir_mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.mode() & 0o777)
}

/// Creates one directory with exactly this mode, whatever the umask is. In a directory that others can write
/// to they may put something else in its place at once: that is never given the mode.
pub(crate) fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits() as i32);
    let created = options.open(path)?;
    let meta = created.metadata()?;
    if meta.mode() & 0o777 != mode && meta.uid() == me() {
        created.set_permissions(Permissions::from_mode(mode))?;
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

/// The bytes of a path, which need not be text.
pub fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// The path with these bytes.
pub fn path_of_bytes(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
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

pub(crate) fn open_to_append(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits() as i32);
    options.open(path)
}

/// This process's user.
pub(crate) fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(crate) fn owner(meta: &Metadata) -> u32 {
    meta.uid()
}

pub(crate) fn mode(meta: &Metadata) -> u32 {
    meta.mode() & 0o7777
}

/// How many names it has.
pub(crate) fn names(meta: &Metadata) -> u64 {
    meta.nlink()
}

pub(crate) fn is_character_device(meta: &Metadata) -> bool {
    meta.file_type().is_char_device()
}

/// Twelve random letters and digits.
pub(crate) fn random_name() -> io::Result<[u8; 12]> {
    const LETTERS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZab";
    let mut name = [0; 12];
    rustix::rand::getrandom(&mut name, rustix::rand::GetRandomFlags::empty())?;
    Ok(name.map(|byte| LETTERS[usize::from(byte & 63)]))
}

/// Fails if anything has the name: a link there is not followed.
pub(crate) fn create_to_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(true).mode(0o600).open(path)
}

pub(crate) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
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

/// See proc_pid_mountinfo(5).
pub(crate) fn mounted() -> io::Result<Vec<Mounted>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let lines = table.split(|&byte| byte == b'\n');
    // The kernel writes no line that is not understood, but for the empty one at the end.
    Ok(lines.filter_map(mount_of_line).collect())
}

fn mount_of_line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|&byte| byte == b' ').skip(2);
    let device = String::from_utf8_lossy(fields.next()?).into_owned();
    let point = unescaped(fields.nth(1)?).into();
    // Any number of optional fields, up to a hyphen.
    fields.find(|field| *field == b"-")?;
    let kind = unescaped(fields.next()?).to_string_lossy().into_owned();
    Some(Mounted {
        point,
        device,
        kind,
    })
}

/// Turns `\ooo` back into the byte that it stands for.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| first == b'\\');
        let byte =
            digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_mount_table_is_understood() {
        let line =
            br"36 35 98:0 /mnt1 /a\040b\134c rw,noatime master:1 shared:7 - fuse.sshfs me@host: rw";
        let expected = Mounted {
            point: "/a b\\c".into(),
            device: "98:0".to_owned(),
            kind: "fuse.sshfs".to_owned(),
        };
        assert_eq!(mount_of_line(line), Some(expected));
        assert_eq!(mount_of_line(b""), None);
    }

    #[test]
    fn the_mount_table_has_the_root() {
        let all = mounted().unwrap();
        assert!(all.iter().any(|one| one.point == Path::new("/")));
    }

    #[test]
    fn the_clone_call_has_the_number_that_the_kernel_knows() {
        assert_eq!(super::FICLONERANGE, 0x4020_940D);
    }
}
