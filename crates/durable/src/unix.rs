//! What Unix (that is, Linux) does for this crate. Everything here has a plain-Rust caller that
//! documents the guarantee; this file only makes the system calls.

mod acting;
mod dir;
mod lease;
mod mountinfo;
mod process;
mod socket;
mod user_dirs;
mod writers;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    Advice, FallocateFlags, FileType, OFlags, SeekFrom, Stat, Timespec, copy_file_range,
};
use rustix::io::Errno;

use tempfile::TempPath;

use crate::own::Standing;
use crate::{Allocation, Facts, FileStamp, Kind, Refusal, Space};

pub(crate) use acting::{act_as, permits_all};
pub(crate) use dir::{Dir, share_file};
pub(crate) use lease::ReadLease;
pub(crate) use mountinfo::{mounted, mounts_of_table};
pub(crate) use process::{
    OpenFiles, StopSignal, ask_to_stop, give_back_memory, keep_little_freed_memory, lower_priority,
    raise_open_files, signal_of, user_numbers,
};
pub(crate) use socket::{
    Accepted, Connection, HangUp, Listener, SOCKET_KIND, SocketDir, accepted_from,
};
pub(crate) use user_dirs::{CACHE_DIR, DATA_DIR, STATE_DIR};
pub(crate) use writers::writers_of;

pub(crate) fn facts(file: &File) -> io::Result<Facts> {
    Ok(facts_of(&rustix::fs::fstat(file)?))
}

pub(crate) fn facts_at(path: &Path) -> io::Result<Facts> {
    Ok(facts_of(&rustix::fs::lstat(path)?))
}

fn facts_of(stat: &Stat) -> Facts {
    let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Facts {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        mode: stat.st_mode & 0o7777,
        names: stat.st_nlink,
        // In units of 512 bytes, whatever the file system's block is (`stat(3type)`).
        allocated: (stat.st_blocks as u64).saturating_mul(512),
        stamp: FileStamp {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size as u64,
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
        },
    }
}

/// The number of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner(u32);

impl Owner {
    /// A user who may do everything anyway.
    pub(crate) fn is_system(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn kind_of(kind: FileType) -> Kind {
    match kind {
        FileType::Directory => Kind::Dir,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

pub(crate) fn standing(file: &File) -> io::Result<Standing> {
    Ok(standing_of(&rustix::fs::fstat(file)?))
}

/// Of what the path names, a link itself.
pub(crate) fn standing_at(path: &Path) -> io::Result<Standing> {
    Ok(standing_of(&rustix::fs::lstat(path)?))
}

fn standing_of(stat: &Stat) -> Standing {
    let mode = stat.st_mode & 0o7777;
    let writers = || format!("(mode {mode:04o}); `chmod go-w` takes that away");
    Standing {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        is_device: FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice,
        owner: Owner(stat.st_uid),
        me: Owner(rustix::process::geteuid().as_raw()),
        writers: (mode & 0o022 != 0).then(writers),
        keeps_names: mode & 0o1000 != 0,
        names: stat.st_nlink,
    }
}

/// Whether a link was not read because there is something else.
pub(crate) fn is_of_no_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
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

pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

pub(crate) fn set_mode_at(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Fails if anything has the name. Open for reading and writing.
pub(crate) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    options.mode(mode).open(path)
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
    if meta.mode() & 0o777 != mode && meta.uid() == rustix::process::geteuid().as_raw() {
        created.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // The file system does not support syncing a directory (some network ones).
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        result => result,
    }
}

pub(crate) fn path_of_bytes(bytes: Vec<u8>) -> PathBuf {
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

pub(crate) fn open_to_read_through_links(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let flags = OFlags::NONBLOCK.bits() as i32;
    options.read(true).custom_flags(flags).open(path)
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

/// Fails if anything has the name: a link there is not followed.
pub(crate) fn create_to_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(true).mode(0o600).open(path)
}

pub(crate) fn is_unlinked(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() == 0)
}

pub(crate) fn set_modified(file: &File, seconds: i64, nanoseconds: u32) -> io::Result<()> {
    let times = rustix::fs::Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.into(),
        },
    };
    Ok(rustix::fs::futimens(file, &times)?)
}

pub(crate) fn reserve(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn reserve_beyond(file: &File, offset: u64, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, len) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Tells the disk to begin with bytes that were written, and waits for nothing. A file system that cannot does nothing.
pub(crate) fn begin_writing(file: &File, offset: u64, len: u64) {
    // What is dirty is not dropped from the page cache, whatever the name says, but sent to the disk (`posix_fadvise(2)`).
    let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(len), Advice::DontNeed);
}

pub(crate) type Mapping = memmap2::Mmap;

pub(crate) fn map(file: &File) -> io::Result<Mapping> {
    // SAFETY: the caller maps files in directories of this user's own, which were written whole before they got their names and are not
    // written to after that (`own_dir/mapped.rs`).
    #[allow(unsafe_code, reason = "what is mapped may change")]
    let mapping = unsafe { memmap2::Mmap::map(file)? };
    // It is read from the beginning to the end.
    let _ = mapping.advise(memmap2::Advice::Sequential);
    Ok(mapping)
}

/// Lets go of the pages of a mapping. They are read again where somebody looks.
pub(crate) fn give_back(mapping: &Mapping) {
    // SAFETY: the mapping is of a file and nobody writes through it, so the bytes are the same afterwards (`madvise(2)`).
    #[allow(
        unsafe_code,
        reason = "of memory without a file it would lose the bytes"
    )]
    let given_back = unsafe { mapping.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    // They are kept where that fails.
    let _ = given_back;
}

pub(crate) fn refusal(code: i32) -> Refusal {
    match Errno::from_raw_os_error(code) {
        Errno::NOENT => Refusal::NotThere,
        Errno::NOTDIR => Refusal::NotADirectory,
        Errno::LOOP => Refusal::Link,
        Errno::XDEV => Refusal::Outside,
        Errno::NXIO => Refusal::NoPeer,
        Errno::STALE => Refusal::Stale,
        Errno::NAMETOOLONG => Refusal::NameTooLong,
        Errno::MFILE | Errno::NFILE => Refusal::TooManyOpenFiles,
        Errno::NOMEM => Refusal::NoMemory,
        _ => Refusal::Other,
    }
}

pub(crate) fn code_of(refusal: Refusal) -> i32 {
    let errno = match refusal {
        Refusal::NotThere => Errno::NOENT,
        Refusal::NotADirectory => Errno::NOTDIR,
        Refusal::Link => Errno::LOOP,
        Refusal::Outside => Errno::XDEV,
        Refusal::NoPeer => Errno::NXIO,
        Refusal::Stale => Errno::STALE,
        Refusal::NameTooLong => Errno::NAMETOOLONG,
        Refusal::TooManyOpenFiles => Errno::MFILE,
        Refusal::NoMemory => Errno::NOMEM,
        Refusal::Other => Errno::IO,
    };
    errno.raw_os_error()
}

pub(crate) fn open_files_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

pub(crate) fn persist(name: TempPath, to: &Path) -> io::Result<()> {
    name.persist(to).map_err(|failed| failed.error)
}

pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
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
            // Two file systems, a file system that cannot copy, the end of the source, or a real
            // failure: the caller reads and writes the rest, and meets the same failure, if there
            // is one.
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

/// Reserves room for a range, or makes it zero.
pub(crate) fn allocate(file: &File, how: Allocation, range: Range<u64>) -> io::Result<()> {
    let flags = match how {
        Allocation::Room { keeps_len: false } => FallocateFlags::empty(),
        Allocation::Room { keeps_len: true } => FallocateFlags::KEEP_SIZE,
        Allocation::Hole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        Allocation::Zeros { keeps_len: false } => FallocateFlags::ZERO_RANGE,
        Allocation::Zeros { keeps_len: true } => {
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE
        }
    };
    let len = range.end - range.start;
    match rustix::fs::fallocate(file, flags, range.start, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
        done => Ok(done?),
    }
}

/// Makes a file longer, by a hole.
pub(crate) fn lengthen(file: &File, len: u64) -> io::Result<()> {
    file.set_len(len)
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

pub(crate) fn reflink(source: &File, range: Range<u64>, target: &File, offset: u64) -> bool {
    use std::os::fd::AsRawFd as _;
    let argument = CloneRange {
        source: i64::from(source.as_raw_fd()),
        source_offset: range.start,
        len: range.end - range.start,
        target_offset: offset,
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
