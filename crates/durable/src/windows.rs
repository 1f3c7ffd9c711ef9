//! What Windows does for this crate. Everything here has a plain-Rust caller that documents the guarantee; this file and
//! those below it only make the system calls.

mod blocks;
mod calls;
mod dir;
mod lease;
mod link;
mod pipe;
mod process;
mod security;
mod socket;
mod user_dirs;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStringExt as _;
use std::os::windows::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempPath;
use windows_sys::Wdk::Storage::FileSystem::FILE_SYNCHRONOUS_IO_NONALERT;
use windows_sys::Win32::Foundation as codes;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ADD_FILE, FILE_ATTRIBUTE_DIRECTORY, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_GENERIC_READ, FILE_GENERIC_WRITE, FILE_READ_ATTRIBUTES,
    READ_CONTROL, WRITE_DAC,
};

use crate::dir::parent_of;
use crate::own::Standing;
use crate::{Facts, FileStamp, Kind, Mounted, Refusal, Space};

pub(crate) use blocks::{
    allocate, copy_in_kernel, data_in, lengthen, punch_hole, reflink, reserve, reserve_beyond,
};
pub(crate) use calls::{Mapping, give_back, map};
pub(crate) use dir::Dir;
pub(crate) use lease::{ReadLease, writers_of};
pub(crate) use pipe::{Accepted, Connection, HangUp, accepted_from};
pub(crate) use process::{
    OpenFiles, StopSignal, ask_to_stop, give_back_memory, keep_little_freed_memory, lower_priority,
    raise_open_files, signal_of, user_numbers,
};
pub(crate) use security::Owner;
pub(crate) use socket::{Listener, SOCKET_KIND, SocketDir};
pub(crate) use user_dirs::{CACHE_DIR, DATA_DIR, STATE_DIR};

/// The 100 nanoseconds between 1601 and 1970.
const UNIX_EPOCH: i64 = 116_444_736_000_000_000;

/// Whether nobody but the owner is to have something of this mode.
fn is_private(mode: u32) -> bool {
    let others = mode & 0o077;
    others == 0
}

/// Opens whatever has a path, a directory too; a link itself if that is asked for.
fn open_any(path: &Path, access: u32, is_link_opened: bool) -> io::Result<File> {
    let link = if is_link_opened {
        FILE_FLAG_OPEN_REPARSE_POINT
    } else {
        0
    };
    let mut options = OpenOptions::new();
    options
        .access_mode(access)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | link);
    options.open(path)
}

pub(crate) fn facts(file: &File) -> io::Result<Facts> {
    if calls::is_character_device(file) {
        return Ok(Facts {
            kind: Kind::Other,
            mode: 0o600,
            names: 1,
            allocated: 0,
            stamp: FileStamp {
                dev: 0,
                ino: 0,
                size: 0,
                mtime_ns: 0,
                ctime_ns: 0,
            },
        });
    }
    let info = calls::information(file)?;
    let both = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let nanoseconds = |time: i64| i128::from(time - UNIX_EPOCH) * 100;
    let kind = kind_of(info.by_handle.dwFileAttributes, info.reparse_tag);
    Ok(Facts {
        kind,
        mode: if kind == Kind::Dir { 0o700 } else { 0o600 },
        names: info.standard.NumberOfLinks.into(),
        allocated: info.standard.AllocationSize.cast_unsigned(),
        stamp: FileStamp {
            dev: info.by_handle.dwVolumeSerialNumber.into(),
            ino: both(info.by_handle.nFileIndexHigh, info.by_handle.nFileIndexLow),
            size: info.standard.EndOfFile.cast_unsigned(),
            mtime_ns: nanoseconds(info.basic.LastWriteTime),
            ctime_ns: nanoseconds(info.basic.ChangeTime),
        },
    })
}

pub(crate) fn facts_at(path: &Path) -> io::Result<Facts> {
    facts(&open_any(path, FILE_READ_ATTRIBUTES, true)?)
}

/// A junction leads elsewhere as a symbolic link does: their tags say so (`IsReparseTagNameSurrogate`). Files that are
/// compressed, deduplicated or kept by a cloud have other tags, and are files.
fn kind_of(attributes: u32, reparse_tag: u32) -> Kind {
    if calls::is_reparse_point(attributes) && reparse_tag & 0x2000_0000 != 0 {
        Kind::Link
    } else if attributes & FILE_ATTRIBUTE_DIRECTORY != 0 {
        Kind::Dir
    } else {
        Kind::File
    }
}

pub(crate) fn standing(file: &File) -> io::Result<Standing> {
    let me = security::user()?;
    if calls::is_character_device(file) {
        return Ok(Standing {
            kind: Kind::Other,
            is_device: true,
            owner: me.clone(),
            me,
            writers: None,
            keeps_names: false,
            names: 1,
        });
    }
    let facts = facts(file)?;
    let protection = security::protection(file)?;
    let writers = protection.writers.join(", ");
    Ok(Standing {
        kind: facts.kind,
        is_device: false,
        owner: protection.owner,
        me,
        writers: (!writers.is_empty()).then(|| format!("({writers})")),
        keeps_names: protection.keeps_names,
        names: facts.names,
    })
}

/// Of what the path names, a link itself.
pub(crate) fn standing_at(path: &Path) -> io::Result<Standing> {
    standing(&open_any(path, FILE_READ_ATTRIBUTES | READ_CONTROL, true)?)
}

/// Whether a link was not read because there is something else.
pub(crate) fn is_of_no_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(codes::ERROR_NOT_A_REPARSE_POINT as i32)
}

pub(crate) fn space(path: &Path) -> io::Result<Space> {
    space_of(&open_any(path, FILE_READ_ATTRIBUTES, false)?)
}

fn space_of(file: &File) -> io::Result<Space> {
    let info = calls::space(file)?;
    let unit = u64::from(info.SectorsPerAllocationUnit) * u64::from(info.BytesPerSector);
    let bytes = |units: i64| units.cast_unsigned().saturating_mul(unit);
    Ok(Space {
        total: bytes(info.TotalAllocationUnits),
        free: bytes(info.ActualAvailableAllocationUnits),
        available: bytes(info.CallerAvailableAllocationUnits),
        files_total: 0,
        files_free: 0,
        block_size: unit,
    })
}

pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    security::protect(file, is_private(mode))
}

pub(crate) fn set_mode_at(path: &Path, mode: u32) -> io::Result<()> {
    set_mode(&open_any(path, READ_CONTROL | WRITE_DAC, true)?, mode)
}

#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
pub(crate) fn share_file(_file: &File, _add_mode: u32, _group: Option<u32>) -> io::Result<()> {
    Ok(())
}

/// The directory that holds a path, and the name in it.
fn split(path: &Path) -> io::Result<(Dir, &[u8])> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let dir = Dir::open_following_links(parent_of(path))?;
    Ok((dir, name.as_encoded_bytes()))
}

/// Fails if anything has the name. Open for reading and writing.
pub(crate) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let (dir, name) = split(path)?;
    dir.create_file(name, mode)
}

/// 0700 if only its owner has rights, else 0755.
pub(crate) fn dir_mode(path: &Path) -> io::Result<u32> {
    Ok(Dir::open_following_links(path)?.facts()?.mode)
}

pub(crate) fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    let (dir, name) = split(path)?;
    dir.create_dir(name, mode)
}

pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    let opened = open_any(path, FILE_READ_ATTRIBUTES | FILE_ADD_FILE, false);
    flushed(opened.and_then(|dir| dir.sync_all()))
}

/// NTFS keeps a log of what happens to names, which this writes to the disk. File systems that do not flush directories,
/// and users who may not, are left to it.
fn flushed(done: io::Result<()>) -> io::Result<()> {
    let code = |error: &io::Error| error.raw_os_error().map(i32::cast_unsigned);
    match done {
        Err(error)
            if matches!(
                code(&error),
                Some(
                    codes::ERROR_ACCESS_DENIED
                        | codes::ERROR_INVALID_FUNCTION
                        | codes::ERROR_INVALID_HANDLE
                        | codes::ERROR_NOT_SUPPORTED
                )
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Surrogates that stand alone are encoded as other characters are (WTF-8), which is how the standard library keeps
/// them; everything else that is not UTF-8 is replaced.
pub(crate) fn path_of_bytes(bytes: Vec<u8>) -> PathBuf {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return text.into(),
        Err(error) => error.into_bytes(),
    };
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let valid = match str::from_utf8(rest) {
            Ok(text) => text,
            Err(error) => str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default(),
        };
        units.extend(valid.encode_utf16());
        rest = &rest[valid.len()..];
        match *rest {
            [0xED, second @ 0xA0..=0xBF, third @ 0x80..=0xBF, ..] => {
                units.push(0xD000 | u16::from(second & 0x3F) << 6 | u16::from(third & 0x3F));
                rest = &rest[3..];
            }
            [_, ..] => {
                units.push(0xFFFD);
                rest = &rest[1..];
            }
            [] => {}
        }
    }
    OsString::from_wide(&units).into()
}

fn text_of(units: &[u16]) -> OsString {
    OsString::from_wide(units)
}

fn open_without_link(path: &Path, access: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .access_mode(access)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS);
    options.open(path)
}

/// Opens a file, and creates it for its owner alone if nothing has the name.
fn open_or_create(path: &Path, access: u32) -> io::Result<File> {
    match open_without_link(path, access) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match create_new(path, 0o600) {
        Ok(_) => open_without_link(path, access),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            open_without_link(path, access)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn open_lock_file(path: &Path) -> io::Result<File> {
    open_or_create(path, FILE_GENERIC_READ | FILE_GENERIC_WRITE)
}

pub(crate) fn open_lock_file_if_exists(path: &Path) -> io::Result<File> {
    open_without_link(path, FILE_GENERIC_READ | FILE_GENERIC_WRITE)
}

pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open_without_link(
        path,
        FILE_GENERIC_READ | windows_sys::Win32::Storage::FileSystem::FILE_WRITE_ATTRIBUTES,
    )
    .or_else(|_| open_without_link(path, FILE_GENERIC_READ))
}

/// The rights of a file that is only appended to: without the one to write elsewhere.
const APPENDING: u32 = FILE_GENERIC_WRITE
    & !windows_sys::Win32::Storage::FileSystem::FILE_WRITE_DATA
    | FILE_READ_ATTRIBUTES
    | READ_CONTROL;

pub(crate) fn open_to_read_through_links(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Always: Windows has no permission bits, and attachfs makes no mounts for other users there.
#[allow(clippy::unnecessary_wraps, reason = "as on other platforms")]
pub(crate) fn permits_all(_path: &Path, _is_last: bool) -> io::Result<bool> {
    Ok(true)
}

/// Never.
#[allow(clippy::unnecessary_wraps, reason = "as on other platforms")]
pub(crate) fn act_as(_user: Option<u32>) -> io::Result<bool> {
    Ok(false)
}

pub(crate) fn open_to_append(path: &Path) -> io::Result<File> {
    open_or_create(path, APPENDING)
}

/// Fails if anything has the name: a link there is not followed.
pub(crate) fn create_to_append(path: &Path) -> io::Result<File> {
    drop(create_new(path, 0o600)?);
    open_without_link(path, APPENDING)
}

pub(crate) fn is_unlinked(file: &File) -> io::Result<bool> {
    let standard = calls::information(file)?.standard;
    Ok(standard.DeletePending || standard.NumberOfLinks == 0)
}

pub(crate) fn set_modified(file: &File, seconds: i64, nanoseconds: u32) -> io::Result<()> {
    let beyond = Duration::from_nanos(nanoseconds.into());
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    let time = time.and_then(|time| time.checked_add(beyond));
    file.set_modified(time.ok_or(io::ErrorKind::InvalidInput)?)
}

pub(crate) fn refusal(code: i32) -> Refusal {
    match code.cast_unsigned() {
        codes::ERROR_FILE_NOT_FOUND | codes::ERROR_PATH_NOT_FOUND => Refusal::NotThere,
        codes::ERROR_DIRECTORY => Refusal::NotADirectory,
        codes::ERROR_STOPPED_ON_SYMLINK | codes::ERROR_CANT_RESOLVE_FILENAME => Refusal::Link,
        codes::ERROR_NOT_SAME_DEVICE => Refusal::Outside,
        codes::ERROR_BAD_PIPE => Refusal::NoPeer,
        codes::ERROR_FILE_INVALID => Refusal::Stale,
        codes::ERROR_FILENAME_EXCED_RANGE => Refusal::NameTooLong,
        codes::ERROR_TOO_MANY_OPEN_FILES => Refusal::TooManyOpenFiles,
        codes::ERROR_NOT_ENOUGH_MEMORY | codes::ERROR_OUTOFMEMORY => Refusal::NoMemory,
        _ => Refusal::Other,
    }
}

pub(crate) fn code_of(refusal: Refusal) -> i32 {
    let code = match refusal {
        Refusal::NotThere => codes::ERROR_FILE_NOT_FOUND,
        Refusal::NotADirectory => codes::ERROR_DIRECTORY,
        Refusal::Link => codes::ERROR_STOPPED_ON_SYMLINK,
        Refusal::Outside => codes::ERROR_NOT_SAME_DEVICE,
        Refusal::NoPeer => codes::ERROR_BAD_PIPE,
        Refusal::Stale => codes::ERROR_FILE_INVALID,
        Refusal::NameTooLong => codes::ERROR_FILENAME_EXCED_RANGE,
        Refusal::TooManyOpenFiles => codes::ERROR_TOO_MANY_OPEN_FILES,
        Refusal::NoMemory => codes::ERROR_NOT_ENOUGH_MEMORY,
        Refusal::Other => codes::ERROR_GEN_FAILURE,
    };
    code.cast_signed()
}

/// Handles are bounded by memory alone.
pub(crate) fn open_files_limit() -> Option<u64> {
    None
}

/// The standard library's rename replaces a file that others have open, which the one of tempfile does not.
pub(crate) fn persist(mut name: TempPath, to: &Path) -> io::Result<()> {
    std::fs::rename(&name, to)?;
    name.disable_cleanup(true);
    Ok(())
}

/// Windows writes what is in its cache by itself, soon.
pub(crate) fn begin_writing(_file: &File, _offset: u64, _len: u64) {}

pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(bytes, offset)
}

/// Appends up to `len` bytes from `offset` on to `bytes`, which has room for them.
pub(crate) fn read_at(file: &File, bytes: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<()> {
    let start = bytes.len();
    bytes.resize(start + len, 0);
    let filled = fill_at(file, &mut bytes[start..], offset)?;
    bytes.truncate(start + filled);
    Ok(())
}

/// Reads from `offset` on until `bytes` are full or the file ends, and says how many bytes that were.
pub(crate) fn fill_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.seek_read(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

pub(crate) fn mounted() -> io::Result<Vec<Mounted>> {
    let drives = calls::drives();
    if drives == 0 {
        return Err(io::Error::last_os_error());
    }
    let mut mounts = Vec::new();
    for letter in ('A'..='Z').filter(|&letter| drives >> (letter as u32 - 'A' as u32) & 1 == 1) {
        let name: Vec<u16> = format!("{letter}:\0").encode_utf16().collect();
        // A drive that has gone since.
        let Ok(device) = calls::device_of_drive(&name) else {
            continue;
        };
        mounts.push(Mounted {
            id: mounts.len() as u64,
            parent: 0,
            device: String::from_utf16_lossy(&device),
            mount_point: format!("{letter}:\\").into(),
            fs_type: String::new(),
            source: OsString::new(),
            options: OsString::new(),
        });
    }
    Ok(mounts)
}

pub(crate) fn mounts_of_table(_table: &[u8]) -> Vec<Mounted> {
    Vec::new()
}
