//! The directories of the lists, and the links in them.

use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::{OwnDir, read_link};

use super::error::SessionListError;

/// Opens the directory of a list; `None` before there was anything to list.
pub(super) fn open(dir: &Path) -> Result<Option<OwnDir>, SessionListError> {
    match OwnDir::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        dir => Ok(Some(dir?)),
    }
}

/// Where the link at a path leads; `None` if there is none.
pub(super) fn link_at(path: &Path) -> Result<Option<PathBuf>, SessionListError> {
    read_link(path).map_err(|source| SessionListError::Io {
        doing: "read the link",
        path: path.to_owned(),
        source,
    })
}
