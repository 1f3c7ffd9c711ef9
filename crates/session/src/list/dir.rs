//! The directories of the lists, and the links in them.

use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::OwnDir;

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
    match path.read_link() {
        Ok(target) => Ok(Some(target)),
        // readlink(2) calls what is no link an invalid argument.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::NotFound
            ) =>
        {
            Ok(None)
        }
        Err(source) => Err(SessionListError::Io {
            doing: "read the link",
            path: path.to_owned(),
            source,
        }),
    }
}
