//! What the system says of names: a directory's list, one entry's metadata. No link is followed.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use attachfs_durable::FileStamp;
use attachfs_manifest::Mtime;
use rustix::fs::{AtFlags, Dir, FileType, Stat};
use rustix::io::Errno;

/// Which file or directory something is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
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
    pub(crate) fn of(stat: &Stat) -> Self {
        let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            mtime: Mtime::from_unix(stat.st_mtime, stat.st_mtime_nsec as i64),
            runnable: stat.st_mode & 0o111 != 0,
            stamp: FileStamp {
                dev: stat.st_dev,
                ino: stat.st_ino,
                size: stat.st_size as u64,
                mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
                ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
            },
        }
    }
}

pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// The metadata of `name` itself in a directory.
pub(crate) fn stat_at(directory: impl AsFd, name: &CStr) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The names in a directory, read all at once: what is not there completely is not there at all.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Each name with its NUL.
    bytes: Vec<u8>,
    /// Where each name ends, and what the directory says it is; `Unknown` on some file systems.
    ends: Vec<(usize, FileType)>,
}

impl Names {
    pub(crate) fn read(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut names = Self::default();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if !matches!(name, b".\0" | b"..\0") {
                names.bytes.extend_from_slice(name);
                names.ends.push((names.bytes.len(), entry.file_type()));
            }
        }
        Ok(names)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&CStr, FileType)> {
        let mut start = 0;
        self.ends.iter().filter_map(move |&(end, kind)| {
            let name = &self.bytes[std::mem::replace(&mut start, end)..end];
            CStr::from_bytes_with_nul(name)
                .ok()
                .map(|name| (name, kind))
        })
    }
}
