//! The calls to the system: listing a directory, opening a file, both without following links.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use attachfs_durable::FileStamp;
use attachfs_manifest::Mtime;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::{ScanError, ScannedFile};

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

/// What a name in a directory stands for.
#[derive(Debug)]
pub(crate) enum Listed {
    Dir(Identity),
    File(ScannedFile),
    /// With the link's text.
    Symlink(Vec<u8>),
    Special,
}

pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Lists a directory, if it still is the one that was meant.
pub(crate) fn list(path: &Path, expected: Identity) -> Result<Vec<(Vec<u8>, Listed)>, ScanError> {
    let failed = |source: Errno| ScanError::io("read the folder", path, source);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        Errno::LOOP | Errno::NOTDIR => ScanError::Replaced(path.to_owned()),
        other => failed(other),
    })?;
    if Identity::of(&rustix::fs::fstat(&fd).map_err(failed)?) != expected {
        return Err(ScanError::Replaced(path.to_owned()));
    }
    let mut listed = Vec::new();
    for entry in Dir::read_from(&fd).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let child = path.join(OsStr::from_bytes(name.to_bytes()));
        let stat = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| ScanError::io("look at", &child, source))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Listed::Dir(Identity::of(&stat)),
            FileType::RegularFile => Listed::File(describe(&child, &stat)),
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(fd.as_fd(), name, Vec::new())
                    .map_err(|source| ScanError::io("read the symbolic link", &child, source))?;
                Listed::Symlink(text.into_bytes())
            }
            _ => Listed::Special,
        };
        listed.push((name.to_bytes().to_vec(), kind));
    }
    Ok(listed)
}

/// What a path that has no link in it stands for.
pub(crate) fn look(path: &Path) -> Result<Listed, ScanError> {
    let stat = rustix::fs::lstat(path).map_err(|source| ScanError::io("look at", path, source))?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Listed::Dir(Identity::of(&stat)),
        FileType::RegularFile => Listed::File(describe(path, &stat)),
        FileType::Symlink => return Err(ScanError::Replaced(path.to_owned())),
        _ => Listed::Special,
    })
}

fn describe(path: &Path, stat: &Stat) -> ScannedFile {
    ScannedFile {
        source: path.to_owned(),
        size: stat.st_size as u64,
        mtime: Mtime::from_unix(stat.st_mtime, stat.st_mtime_nsec as i64),
        runnable: stat.st_mode & 0o111 != 0,
        stamp: stamp(stat),
    }
}

fn stamp(stat: &Stat) -> FileStamp {
    let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    FileStamp {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: stat.st_size as u64,
        mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
        ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
    }
}

impl ScannedFile {
    /// Opens the file for reading and says what it is now; compare [`ScannedFile::stamp`] to learn
    /// whether it changed since. Fails if any component of the path is a symbolic link by now, or the
    /// file is no regular file.
    pub fn open(&self) -> Result<(File, Self), ScanError> {
        let path = &self.source;
        let failed = |source: Errno| match source {
            Errno::LOOP | Errno::NXIO => ScanError::Replaced(path.clone()),
            other => ScanError::io("open", path, other),
        };
        // NONBLOCK: a FIFO in the file's place must not make this wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS;
        let fd = match rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve) {
            // Kernels before 5.6 and some sandboxes: the last component is protected still.
            Err(Errno::NOSYS | Errno::PERM) => rustix::fs::open(path, flags, Mode::empty()),
            other => other,
        }
        .map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ScanError::Replaced(path.clone()));
        }
        Ok((File::from(fd), describe(path, &stat)))
    }
}
