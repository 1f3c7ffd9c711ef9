//! Opening what was found, and nothing else.
//!
//! Everything is opened relative to a directory that is held open, with openat2's `RESOLVE_BENEATH`
//! and `RESOLVE_NO_SYMLINKS`: a link that took the place of a file or of a directory above it since
//! is refused by the kernel, wherever it leads. Where there is no openat2 (Linux before 5.6, some
//! sandboxes) the path is opened component by component, each without following links.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::os::{Facts, path_bytes};
use crate::{ScanError, ScannedFile};

/// How often the kernel is asked again when it says that a rename came between (`EAGAIN`).
const TRIES: u32 = 16;

/// A directory that is held open: the root of a scan, or `/` for what lies outside of it.
#[derive(Debug)]
pub(crate) struct Anchor {
    real: PathBuf,
    fd: OwnedFd,
    links: Links,
}

/// Which links on the way to a file are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    None,
    /// Those that stay below the directory.
    Below,
}

impl Anchor {
    /// `real` is absolute and has no links in it.
    pub(crate) fn new(real: PathBuf) -> Result<Self, ScanError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let fd = match beneath_flags(CWD, path_bytes(&real), flags, ResolveFlags::NO_SYMLINKS) {
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::open(&real, flags | OFlags::CLOEXEC, Mode::empty())
            }
            other => other,
        };
        let fd = fd.map_err(|error| opening_failed("open the folder", &real, error))?;
        Ok(Self {
            real,
            fd,
            links: Links::None,
        })
    }

    /// The same, and links that stay below it are followed.
    pub(crate) fn following_below(real: PathBuf) -> Result<Self, ScanError> {
        Ok(Self {
            links: Links::Below,
            ..Self::new(real)?
        })
    }

    /// The absolute path of what lies at `below`, a path relative to this directory.
    pub(crate) fn path(&self, below: &[u8]) -> PathBuf {
        match below {
            b"" => self.real.clone(),
            _ => self.real.join(OsStr::from_bytes(below)),
        }
    }

    /// Opens what lies at `below`, a path relative to this directory; empty means the directory.
    pub(crate) fn open(&self, below: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let below = if below.is_empty() { b"." } else { below };
        let (flags, resolve) = match self.links {
            Links::None => (
                flags | OFlags::NOFOLLOW,
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            ),
            // Below `/` is everything, and no link of the system leads out of it.
            Links::Below if self.real == Path::new("/") => (flags, ResolveFlags::IN_ROOT),
            Links::Below => (flags, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS),
        };
        match beneath_flags(self.fd.as_fd(), below, flags, resolve) {
            // Without help of the kernel no link is followed.
            Err(Errno::NOSYS | Errno::PERM) => step_by_step(self.fd.as_fd(), below, flags),
            other => other,
        }
    }
}

fn beneath_flags(
    directory: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            other => return other,
        }
    }
}

/// Opens a path whose components are not links, without openat2.
fn step_by_step(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let always = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut current: Option<OwnedFd> = None;
    let mut rest = path;
    while let Some(slash) = rest.iter().position(|&byte| byte == b'/') {
        let from = current.as_ref().map_or(directory, AsFd::as_fd);
        let through = OFlags::PATH | OFlags::DIRECTORY | always;
        current = Some(rustix::fs::openat(
            from,
            &rest[..slash],
            through,
            Mode::empty(),
        )?);
        rest = &rest[slash + 1..];
    }
    let from = current.as_ref().map_or(directory, AsFd::as_fd);
    rustix::fs::openat(from, rest, flags | always, Mode::empty())
}

/// What a failed opening means: something else is there by now, or the system refuses.
pub(crate) fn opening_failed(action: &'static str, path: &Path, error: Errno) -> ScanError {
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::XDEV => {
            ScanError::Replaced(path.to_owned())
        }
        other => ScanError::io(action, path, other),
    }
}

/// A directory as its files know it: where it is, and their names one after the other.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) anchor: std::sync::Arc<Anchor>,
    /// Relative to the anchor, without links.
    pub(crate) below: Box<[u8]>,
    pub(crate) names: Box<[u8]>,
}

impl ScannedFile {
    /// The file itself: absolute, no component of it is a symbolic link. Lies outside of the root if
    /// a link was replaced by what it points to.
    pub fn source(&self) -> PathBuf {
        self.folder.anchor.path(&self.below())
    }

    /// The path from the anchor.
    fn below(&self) -> Vec<u8> {
        let name = self.name();
        match &*self.folder.below {
            b"" => name.to_vec(),
            directory => [directory, b"/", name].concat(),
        }
    }

    /// The file's own name, which is another than the manifest's where a link was replaced.
    pub(crate) fn name(&self) -> &[u8] {
        &self.folder.names[self.name_start..][..usize::from(self.name_len)]
    }

    /// Opens the file for reading and says what it is now; compare [`ScannedFile::stamp`] to learn
    /// whether it changed since. Fails if any component of the path is a symbolic link by now, or the
    /// file is no regular file.
    pub fn open(&self) -> Result<(File, Self), ScanError> {
        let failed = |error| opening_failed("open", &self.source(), error);
        // NONBLOCK: a FIFO in the file's place must not make this wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let fd = self
            .folder
            .anchor
            .open(&self.below(), flags)
            .map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ScanError::Replaced(self.source()));
        }
        Ok((File::from(fd), self.with(&Facts::of(&stat))))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    type Open = fn(&Anchor, &[u8]) -> Result<OwnedFd, Errno>;

    #[test]
    fn both_ways_of_opening_refuse_links_and_find_the_rest() {
        let temp = TempDir::new().unwrap();
        let real = temp.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("d/e")).unwrap();
        fs::write(real.join("d/e/f"), "f").unwrap();
        symlink("d", real.join("link")).unwrap();
        symlink("f", real.join("d/e/link")).unwrap();
        let anchor = Anchor::new(real).unwrap();
        let ways: [Open; 2] = [
            |anchor, path| anchor.open(path, OFlags::RDONLY),
            |anchor, path| step_by_step(anchor.fd.as_fd(), path, OFlags::RDONLY),
        ];
        for open in ways {
            assert!(open(&anchor, b"d/e/f").is_ok());
            assert!(open(&anchor, b"d").is_ok());
            assert_eq!(open(&anchor, b"d/e/link").unwrap_err(), Errno::LOOP);
            let through = open(&anchor, b"link/e/f").unwrap_err();
            assert!(matches!(through, Errno::LOOP | Errno::NOTDIR), "{through}");
            assert_eq!(open(&anchor, b"d/none").unwrap_err(), Errno::NOENT);
        }
    }

    #[test]
    fn an_anchor_is_not_reached_through_a_link() {
        let temp = TempDir::new().unwrap();
        let real = temp.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("d/e")).unwrap();
        symlink("d", real.join("link")).unwrap();
        let error = Anchor::new(real.join("link/e")).unwrap_err();
        assert!(matches!(error, ScanError::Replaced(_)), "{error}");
    }
}
