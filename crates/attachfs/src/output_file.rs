//! Files that a person asked for by name: a mistyped path costs nobody a file.

use std::io;
use std::path::Path;

use attachfs_durable::{Reserved, Standing};

use crate::error::{Doing as _, Error};

/// A kind of file that is written.
pub(crate) struct OutputFile {
    /// What it is.
    pub(crate) what: &'static str,
    /// What to name instead of something that is no file.
    pub(crate) instead: &'static str,
    /// Whether a file of this length is one of these, which another one may replace. Nothing is decoded.
    pub(crate) is_one: fn(&Path, u64) -> io::Result<bool>,
}

impl OutputFile {
    /// Writes one durably; nobody ever sees half of it. Others can use it as the process's umask lets them. It takes the
    /// place of another one and of an empty file that belong to this process's user, and of nothing else: no link is followed or lost.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        use std::io::Write as _;
        self.check_replaced(path)?;
        Ok(attachfs_durable::publish_shared(path, |file| {
            file.write_all(bytes)
        })?)
    }

    /// Makes sure before long work that one can be written to `path` after it: takes room for `room` bytes. Fails as [`write`](Self::write) and
    /// [`check_place`](Self::check_place) do, always as a mistake of who named it.
    pub(crate) fn reserve(&self, path: &Path, room: u64) -> Result<Reserved, Error> {
        self.check_place(path)?;
        Reserved::at(path, room).map_err(|source| {
            let sentence = format!("cannot write the {} to {}", self.what, path.display());
            Error::usage(sentence).because(source)
        })
    }

    /// Fails if something else is at `path`, or a link.
    pub(crate) fn check_replaced(&self, path: &Path) -> Result<(), Error> {
        let Ok(meta) = std::fs::symlink_metadata(path) else {
            // Writing to it will succeed or give the error.
            return Ok(());
        };
        if meta.is_symlink() {
            let sentence = format!("{} is a symbolic link, and would be lost", path.display());
            return Err(
                Error::usage(sentence).advise("name the file that it leads to, or another one")
            );
        }
        if meta.is_dir() {
            // Writing to it gives the error.
            return Ok(());
        }
        if !meta.is_file() {
            let sentence = format!("{} is a pipe, a socket or a device", path.display());
            return Err(Error::usage(sentence).advise(self.instead));
        }
        let standing = Standing::at(path);
        let standing = standing.doing(|| format!("cannot look at {}", path.display()))?;
        // Root could replace it, which is no reason to.
        if !standing.is_mine() {
            let (path, owner) = (path.display(), standing.owner());
            let sentence = format!("{path} belongs to user {owner}, and would be replaced");
            return Err(Error::usage(sentence).advise("choose another name"));
        }
        if meta.len() == 0 {
            return Ok(());
        }
        let is_one = (self.is_one)(path, meta.len());
        if is_one.doing(|| format!("cannot look at {}", path.display()))? {
            return Ok(());
        }
        let sentence = format!(
            "{} is there already and is no {}",
            path.display(),
            self.what
        );
        Err(Error::usage(sentence).advise("choose another name, or remove it"))
    }

    /// Fails if none can be written to `path` because its directory is not there, or something else is in its place: always
    /// as a mistake of who named it.
    pub(crate) fn check_place(&self, path: &Path) -> Result<(), Error> {
        let what = self.what;
        if path.is_dir() {
            let sentence = format!("cannot write the {what} to {}", path.display());
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(Error::usage(sentence).because(source));
        }
        self.check_replaced(path)?;
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => return Ok(()),
        };
        let is_dir = std::fs::metadata(dir).and_then(|meta| {
            if meta.is_dir() {
                Ok(())
            } else {
                Err(io::ErrorKind::NotADirectory.into())
            }
        });
        is_dir.map_err(|source| {
            let sentence = format!("cannot write the {what} to a file in {}", dir.display());
            Error::usage(sentence).because(source)
        })
    }
}

/// Fails if a file or directory that a mount writes when it ends would lie in the mount itself or in its session.
pub(crate) fn check_is_elsewhere(
    what: &str,
    path: &Path,
    mount_point: &Path,
    dir: &Path,
) -> Result<(), Error> {
    for place in [mount_point, dir] {
        if path.starts_with(place) {
            let sentence = format!(
                "the {what} {} would lie in {}, which is the mount's own",
                path.display(),
                place.display()
            );
            return Err(Error::usage(sentence).advise("name a place elsewhere"));
        }
    }
    Ok(())
}
