//! Opening exactly the files that were found.
//!
//! Everything is opened relative to a directory that is held open ([`HeldDir`]): if a file, or a
//! directory above it, has been replaced by a link since, opening it fails, wherever the link leads.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::{Follow, HeldDir, Kind, Opening, Refusal, path_of_bytes};
use attachfs_manifest::PathRef;

use crate::os::Facts;
use crate::{ScanError, ScannedFile};

/// A directory that is held open: the root of a scan, or `/` for what lies outside of it.
#[derive(Debug)]
pub(crate) struct Anchor {
    real: PathBuf,
    dir: HeldDir,
    follow: Follow,
}

impl Anchor {
    /// `real` is absolute and has no links in it.
    pub(crate) fn new(real: PathBuf) -> Result<Self, ScanError> {
        let dir = HeldDir::open(&real)
            .map_err(|error| opening_failed("open the folder", &real, error))?;
        Ok(Self {
            real,
            dir,
            follow: Follow::None,
        })
    }

    /// The same, and links that stay below it are followed.
    pub(crate) fn following_below(real: PathBuf) -> Result<Self, ScanError> {
        let follow = if real == Path::new("/") {
            // No link leads out of `/`.
            Follow::FromRoot
        } else {
            Follow::Below
        };
        Ok(Self {
            follow,
            ..Self::new(real)?
        })
    }

    /// The absolute path of what lies at `below`, a path relative to this directory.
    pub(crate) fn path(&self, below: &[u8]) -> PathBuf {
        match below {
            b"" => self.real.clone(),
            _ => self.real.join(path_of_bytes(below)),
        }
    }

    /// Opens what lies at `below`, a path relative to this directory; empty means the directory.
    pub(crate) fn open(&self, below: &[u8], opening: Opening) -> io::Result<File> {
        self.dir.open_below(below, opening, self.follow)
    }

    /// Opens the directory at `below`, to be listed.
    pub(crate) fn dir_to_list(&self, below: &[u8]) -> io::Result<HeldDir> {
        self.dir.dir_to_list(below, self.follow)
    }
}

/// The error for a failed opening: something else is at the path now, or the system refused.
pub(crate) fn opening_failed(action: &'static str, path: &Path, error: io::Error) -> ScanError {
    match Refusal::of(&error) {
        Some(Refusal::Link | Refusal::NotADirectory | Refusal::NoPeer | Refusal::Outside) => {
            ScanError::Replaced(path.to_owned())
        }
        _ => ScanError::io(action, path, error),
    }
}

/// The directory of some files: its path, and the names of the files one after the other.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) anchor: Arc<Anchor>,
    /// Relative to the anchor, without links.
    pub(crate) below: Box<[u8]>,
    pub(crate) names: Box<[u8]>,
}

impl Folder {
    /// The directory of one file, and where in its names that file's is.
    pub(crate) fn of_one(anchor: &Arc<Anchor>, path: PathRef<'_>) -> (Arc<Self>, (usize, u8)) {
        let (below, name) = match path.parent() {
            Some(parent) => (parent.as_bytes(), path.name()),
            None => (&b""[..], path.as_bytes()),
        };
        let folder = Self {
            anchor: Arc::clone(anchor),
            below: below.into(),
            names: name.into(),
        };
        // No name of a path has more than 255 bytes.
        (Arc::new(folder), (0, name.len() as u8))
    }
}

impl ScannedFile {
    /// The path of the file: absolute, without symbolic links. It lies outside of the root if a link
    /// was replaced by what it points to.
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

    /// The file's own name. It differs from the name in the manifest where a link was replaced.
    pub(crate) fn name(&self) -> &[u8] {
        &self.folder.names[self.name_start..][..usize::from(self.name_len)]
    }

    /// Opens the file for reading, and returns its current state; it has changed since the scan if
    /// that differs from [`ScannedFile::stamp`]. Fails if a component of the path is a symbolic link
    /// now, or the file is no regular file any more.
    pub fn open(&self) -> Result<(File, Self), ScanError> {
        let failed = |error| opening_failed("open", &self.source(), error);
        let anchor = &self.folder.anchor;
        let file = anchor.open(&self.below(), Opening::Read).map_err(failed)?;
        let found = attachfs_durable::Facts::of(&file).map_err(failed)?;
        if found.kind != Kind::File {
            return Err(ScanError::Replaced(self.source()));
        }
        Ok((file, self.with(&Facts::of(&found))))
    }
}
