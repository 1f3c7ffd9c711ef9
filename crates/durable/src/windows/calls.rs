//! The calls of Windows that the standard library has no safe form of, each as a safe function.
//!
//! This, `security.rs` and `pipe.rs` are the files of the Windows half with `unsafe` in them. Everything takes open files and owned memory, so what
//! a call needs to hold is to be seen here: handles are borrowed for the call, buffers are as long as is said.
#![allow(unsafe_code, reason = "windows-sys has only unsafe functions")]
#![allow(
    clippy::cast_ptr_alignment,
    reason = "buffers for structures are made of eight-byte words"
)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _};
use std::ptr::{null, null_mut};

use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_DISPOSITION_INFORMATION_EX, FILE_DISPOSITION_POSIX_SEMANTICS, FILE_RENAME_INFORMATION,
    FILE_RENAME_INFORMATION_0, FILE_RENAME_POSIX_SEMANTICS, FILE_RENAME_REPLACE_IF_EXISTS,
    FileDispositionInformationEx, FileFsFullSizeInformation, FileRenameInformation,
    FileRenameInformationEx, NtCreateFile, NtQueryVolumeInformationFile, NtSetInformationFile,
};
use windows_sys::Wdk::System::SystemServices::FILE_FS_FULL_SIZE_INFORMATION;
use windows_sys::Win32::Foundation::{
    ERROR_MORE_DATA, ERROR_NO_MORE_FILES, NTSTATUS, OBJ_CASE_INSENSITIVE, RtlNtStatusToDosError,
    STATUS_INVALID_INFO_CLASS, STATUS_INVALID_PARAMETER, STATUS_NOT_IMPLEMENTED,
    STATUS_NOT_SUPPORTED, UNICODE_STRING,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_ALLOCATION_INFO, FILE_ATTRIBUTE_NORMAL,
    FILE_ATTRIBUTE_TAG_INFO, FILE_BASIC_INFO, FILE_DISPOSITION_INFO, FILE_FULL_DIR_INFO,
    FILE_INFO_BY_HANDLE_CLASS, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
    FILE_STANDARD_INFO, FILE_TYPE_CHAR, FileAllocationInfo, FileAttributeTagInfo, FileBasicInfo,
    FileDispositionInfo, FileFullDirectoryInfo, FileFullDirectoryRestartInfo, FileStandardInfo,
    GetFileInformationByHandle, GetFileInformationByHandleEx, GetFileType,
    GetFinalPathNameByHandleW, GetLogicalDrives, QueryDosDeviceW, SYNCHRONIZE,
    SetFileInformationByHandle,
};
use windows_sys::Win32::System::IO::{DeviceIoControl, IO_STATUS_BLOCK};
use windows_sys::Win32::System::Threading::{
    GetCurrentThread, SetThreadPriority, THREAD_PRIORITY_BELOW_NORMAL,
};

use super::security::Descriptor;

/// How something in a directory is opened or created.
#[derive(Clone, Copy)]
pub(super) struct Open<'a> {
    /// Rights, of those in `Win32::Storage::FileSystem`.
    pub(super) access: u32,
    /// `FILE_OPEN` or `FILE_CREATE`.
    pub(super) disposition: u32,
    /// Options beside `FILE_SYNCHRONOUS_IO_NONALERT`.
    pub(super) options: u32,
    /// Whose a new file is; what the directory hands down if there is none.
    pub(super) descriptor: Option<&'a Descriptor>,
}

fn checked(done: i32) -> io::Result<()> {
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

pub(super) fn lower_priority() -> io::Result<()> {
    // SAFETY: the handle of the thread that asks stands for itself, and need not be closed.
    checked(unsafe { SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_BELOW_NORMAL) })
}

fn checked_status(status: NTSTATUS) -> io::Result<()> {
    if status >= 0 {
        return Ok(());
    }
    // SAFETY: a pure function of a number.
    let code = unsafe { RtlNtStatusToDosError(status) };
    Err(io::Error::from_raw_os_error(code as i32))
}

/// The size of a structure as the calls want it.
fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// Opens or creates `name` in an open directory: one name, or nothing for the directory itself.
pub(super) fn open_in(directory: &File, name: &[u16], open: Open<'_>) -> io::Result<File> {
    let bytes = u16::try_from(name.len() * 2).map_err(|_| io::ErrorKind::InvalidFilename)?;
    let object_name = UNICODE_STRING {
        Length: bytes,
        MaximumLength: bytes,
        Buffer: name.as_ptr().cast_mut(),
    };
    let attributes = OBJECT_ATTRIBUTES {
        Length: size::<OBJECT_ATTRIBUTES>(),
        RootDirectory: directory.as_raw_handle(),
        ObjectName: &raw const object_name,
        Attributes: OBJ_CASE_INSENSITIVE,
        SecurityDescriptor: open.descriptor.map_or(null(), |it| it.as_ptr().cast()),
        SecurityQualityOfService: null(),
    };
    let mut handle = null_mut();
    let mut status = IO_STATUS_BLOCK::default();
    // SAFETY: all pointers are to values that live until the call has returned; the name is only read, and its length in
    // bytes is `bytes`. On success `handle` is a new handle that nobody else owns.
    unsafe {
        checked_status(NtCreateFile(
            &raw mut handle,
            open.access | SYNCHRONIZE,
            &raw const attributes,
            &raw mut status,
            null(),
            FILE_ATTRIBUTE_NORMAL,
            FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
            open.disposition,
            open.options | super::FILE_SYNCHRONOUS_IO_NONALERT,
            null(),
            0,
        ))?;
        Ok(File::from_raw_handle(handle))
    }
}

/// A structure that a call fills in, of a type that may have any bytes.
fn query<T: Default>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS) -> io::Result<T> {
    let mut info = T::default();
    // SAFETY: `info` is as long as is said; each caller names the type that belongs to the class, plain numbers all.
    let done = unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            class,
            (&raw mut info).cast(),
            size::<T>(),
        )
    };
    checked(done)?;
    Ok(info)
}

/// What Windows says of an open file.
pub(super) struct Information {
    pub(super) by_handle: BY_HANDLE_FILE_INFORMATION,
    pub(super) basic: FILE_BASIC_INFO,
    pub(super) standard: FILE_STANDARD_INFO,
    /// 0 where there is none.
    pub(super) reparse_tag: u32,
}

pub(super) fn information(file: &File) -> io::Result<Information> {
    let mut by_handle = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the structure is the one that the call fills in.
    checked(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut by_handle) })?;
    let tag = if is_reparse_point(by_handle.dwFileAttributes) {
        query::<FILE_ATTRIBUTE_TAG_INFO>(file, FileAttributeTagInfo)?.ReparseTag
    } else {
        0
    };
    Ok(Information {
        by_handle,
        basic: query(file, FileBasicInfo)?,
        standard: query(file, FileStandardInfo)?,
        reparse_tag: tag,
    })
}

pub(super) fn is_reparse_point(attributes: u32) -> bool {
    attributes & windows_sys::Win32::Storage::FileSystem::FILE_ATTRIBUTE_REPARSE_POINT != 0
}

/// Whether it is a console, a printer or `NUL`.
pub(super) fn is_character_device(file: &File) -> bool {
    // SAFETY: the handle is open.
    unsafe { GetFileType(file.as_raw_handle()) == FILE_TYPE_CHAR }
}

/// A name in a directory.
pub(super) struct Entry {
    pub(super) name: Vec<u16>,
    pub(super) attributes: u32,
    /// 0 where there is none.
    pub(super) reparse_tag: u32,
}

/// All names in a directory, `.` and `..` too.
pub(super) fn list(directory: &File) -> io::Result<Vec<Entry>> {
    // In words of eight bytes, which is how the entries are aligned.
    let mut buffer = vec![0_u64; 8 << 10];
    let mut entries = Vec::new();
    let mut class = FileFullDirectoryRestartInfo;
    loop {
        // SAFETY: the buffer is as long as is said.
        let done = unsafe {
            GetFileInformationByHandleEx(
                directory.as_raw_handle(),
                class,
                buffer.as_mut_ptr().cast(),
                (buffer.len() * 8) as u32,
            )
        };
        match checked(done) {
            Err(error) if error.raw_os_error() == Some(ERROR_NO_MORE_FILES as i32) => {
                return Ok(entries);
            }
            done => done?,
        }
        class = FileFullDirectoryInfo;
        let mut at: *const u8 = buffer.as_ptr().cast();
        loop {
            // SAFETY: the call has filled the buffer with entries, each aligned to eight bytes and followed by its name;
            // the offset to the next one is 0 in the last. Only the part before the name is taken as a structure.
            let next = unsafe {
                let entry = &*at.cast::<FILE_FULL_DIR_INFO>();
                let name = at.add(offset_of!(FILE_FULL_DIR_INFO, FileName)).cast();
                let len = entry.FileNameLength as usize / 2;
                entries.push(Entry {
                    name: std::slice::from_raw_parts(name, len).to_vec(),
                    attributes: entry.FileAttributes,
                    reparse_tag: if is_reparse_point(entry.FileAttributes) {
                        entry.EaSize
                    } else {
                        0
                    },
                });
                entry.NextEntryOffset
            };
            if next == 0 {
                break;
            }
            // SAFETY: see above.
            at = unsafe { at.add(next as usize) };
        }
    }
}

fn is_unknown_class(status: NTSTATUS) -> bool {
    matches!(
        status,
        STATUS_INVALID_INFO_CLASS
            | STATUS_INVALID_PARAMETER
            | STATUS_NOT_IMPLEMENTED
            | STATUS_NOT_SUPPORTED
    )
}

/// Gives an open file, which has the right `DELETE`, a name in an open directory. What has the name is replaced if that
/// is asked for, while others have it open too; where the file system has no such renames, only if nobody has.
pub(super) fn rename(file: &File, to: &File, name: &[u16], replaces: bool) -> io::Result<()> {
    let flags = FILE_RENAME_POSIX_SEMANTICS
        | if replaces {
            FILE_RENAME_REPLACE_IF_EXISTS
        } else {
            0
        };
    let by_flags = FILE_RENAME_INFORMATION_0 { Flags: flags };
    let status = set_name(file, to, name, by_flags, FileRenameInformationEx);
    if !is_unknown_class(status) {
        return checked_status(status);
    }
    let plainly = FILE_RENAME_INFORMATION_0 {
        Flags: u32::from(replaces),
    };
    checked_status(set_name(file, to, name, plainly, FileRenameInformation))
}

fn set_name(
    file: &File,
    to: &File,
    name: &[u16],
    how: FILE_RENAME_INFORMATION_0,
    class: i32,
) -> NTSTATUS {
    let offset = offset_of!(FILE_RENAME_INFORMATION, FileName);
    let len = offset + name.len() * 2;
    let mut buffer = vec![
        0_u64;
        len.div_ceil(8)
            .max(size_of::<FILE_RENAME_INFORMATION>() / 8)
    ];
    let info: *mut FILE_RENAME_INFORMATION = buffer.as_mut_ptr().cast();
    let mut status = IO_STATUS_BLOCK::default();
    // SAFETY: the buffer is aligned for the structure and long enough for it and the name behind its last field.
    unsafe {
        (*info).Anonymous = how;
        (*info).RootDirectory = to.as_raw_handle();
        (*info).FileNameLength = (name.len() * 2) as u32;
        let place: *mut u16 = info.cast::<u8>().add(offset).cast();
        place.copy_from_nonoverlapping(name.as_ptr(), name.len());
        NtSetInformationFile(
            file.as_raw_handle(),
            &raw mut status,
            info.cast(),
            len.max(size_of::<FILE_RENAME_INFORMATION>()) as u32,
            class,
        )
    }
}

/// Removes the name that an open file, which has the right `DELETE`, was opened by: at once, or where the file system
/// cannot when the last one closes it.
pub(super) fn delete(file: &File) -> io::Result<()> {
    // FILE_DISPOSITION_DELETE, which windows-sys has for another call only.
    let info = FILE_DISPOSITION_INFORMATION_EX {
        Flags: 1 | FILE_DISPOSITION_POSIX_SEMANTICS,
    };
    let mut status = IO_STATUS_BLOCK::default();
    // SAFETY: the structure belongs to the class and is as long as is said.
    let done = unsafe {
        NtSetInformationFile(
            file.as_raw_handle(),
            &raw mut status,
            (&raw const info).cast(),
            size::<FILE_DISPOSITION_INFORMATION_EX>(),
            FileDispositionInformationEx,
        )
    };
    if !is_unknown_class(done) {
        return checked_status(done);
    }
    let info = FILE_DISPOSITION_INFO { DeleteFile: true };
    set(file, FileDispositionInfo, &info)
}

fn set<T>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS, info: &T) -> io::Result<()> {
    // SAFETY: each caller gives the structure that belongs to the class; it is only read.
    let done = unsafe {
        SetFileInformationByHandle(
            file.as_raw_handle(),
            class,
            std::ptr::from_ref(info).cast(),
            size::<T>(),
        )
    };
    checked(done)
}

/// Takes room on the disk for so many bytes of a file. A file that is longer is cut off.
pub(super) fn allocate(file: &File, len: u64) -> io::Result<()> {
    let info = FILE_ALLOCATION_INFO {
        AllocationSize: len.cast_signed(),
    };
    set(file, FileAllocationInfo, &info)
}

pub(super) fn space(file: &File) -> io::Result<FILE_FS_FULL_SIZE_INFORMATION> {
    let mut info = FILE_FS_FULL_SIZE_INFORMATION::default();
    let mut status = IO_STATUS_BLOCK::default();
    // SAFETY: the structure belongs to the class and is as long as is said.
    let done = unsafe {
        NtQueryVolumeInformationFile(
            file.as_raw_handle(),
            &raw mut status,
            (&raw mut info).cast(),
            size::<FILE_FS_FULL_SIZE_INFORMATION>(),
            FileFsFullSizeInformation,
        )
    };
    checked_status(done)?;
    Ok(info)
}

/// A request to the file system, with plain numbers as its argument and `room` bytes for the answer. An answer that did
/// not fit is cut off.
pub(super) fn control<T>(
    file: &File,
    code: u32,
    argument: Option<&T>,
    room: usize,
) -> io::Result<Vec<u8>> {
    let mut answer = vec![0_u8; room];
    let mut len = 0;
    // SAFETY: both buffers are as long as is said, and each caller gives the structure that belongs to the code.
    let done = unsafe {
        DeviceIoControl(
            file.as_raw_handle(),
            code,
            argument.map_or(null(), |argument| std::ptr::from_ref(argument).cast()),
            argument.map_or(0, |_| size::<T>()),
            answer.as_mut_ptr().cast::<c_void>(),
            answer.len() as u32,
            &raw mut len,
            null_mut(),
        )
    };
    match checked(done) {
        Err(error) if error.raw_os_error() != Some(ERROR_MORE_DATA as i32) => Err(error),
        _ => {
            answer.truncate(len as usize);
            Ok(answer)
        }
    }
}

/// The path of an open file, in the form that begins with `\\?\`.
pub(super) fn path_of(file: &File) -> io::Result<Vec<u16>> {
    text(|buffer, len| {
        // SAFETY: the buffer is as long as is said.
        unsafe { GetFinalPathNameByHandleW(file.as_raw_handle(), buffer, len, 0) }
    })
}

/// The name of the device behind a drive, whose name ends in a colon and a zero.
pub(super) fn device_of_drive(drive: &[u16]) -> io::Result<Vec<u16>> {
    debug_assert_eq!(drive.last(), Some(&0));
    let names = text(|buffer, len| {
        // SAFETY: the drive's name ends in a zero, and the buffer is as long as is said.
        unsafe { QueryDosDeviceW(drive.as_ptr(), buffer, len) }
    })?;
    // Several, each with a zero behind it; the first one counts.
    let first = names.split(|&unit| unit == 0).next();
    Ok(first.unwrap_or_default().to_vec())
}

/// A bit for each drive, the lowest for `A:`.
pub(super) fn drives() -> u32 {
    // SAFETY: it takes nothing.
    unsafe { GetLogicalDrives() }
}

/// A text that a call writes into a buffer of so many units, saying how long it is.
fn text(write: impl FnOnce(*mut u16, u32) -> u32) -> io::Result<Vec<u16>> {
    // The longest path there is.
    let mut buffer = vec![0_u16; 32 << 10];
    let len = write(buffer.as_mut_ptr(), buffer.len() as u32) as usize;
    if len == 0 {
        return Err(io::Error::last_os_error());
    }
    if len > buffer.len() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    buffer.truncate(len);
    Ok(buffer)
}

pub(crate) type Mapping = memmap2::Mmap;

/// While a file is mapped, Windows neither cuts it off nor removes it.
pub(crate) fn map(file: &File) -> io::Result<Mapping> {
    // SAFETY: the caller maps files in directories of this user's own, which were written whole before they got their names and are not
    // written to after that (`own_dir/mapped.rs`).
    unsafe { memmap2::Mmap::map(file) }
}

/// Windows takes back what it needs by itself.
pub(crate) fn give_back(_mapping: &Mapping) {}
