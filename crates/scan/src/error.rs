//! Why a folder cannot be scanned.

use std::io;
use std::path::{Path, PathBuf};

use attachfs_manifest::{EscapedBytes, PathError};

use crate::Cancelled;
use crate::os::path_bytes;

/// Why a scan, or opening a scanned file, failed. Every text names the path.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The root is not a directory.
    #[error("\"{}\" is not a folder", shown(.0))]
    NotADirectory(PathBuf),
    /// The system refused to read something.
    #[error("cannot {action} \"{}\"", shown(.path))]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A directory or file was replaced by something else since its name was read.
    #[error("\"{}\" was replaced by something else while it was being read", shown(.0))]
    Replaced(PathBuf),
    /// A name, a path or a link's target that no manifest can hold.
    #[error("\"{}\" cannot be in a manifest", shown(.path))]
    Unrepresentable {
        /// The file, directory or link.
        path: PathBuf,
        /// The cause.
        #[source]
        source: PathError,
    },
    /// [`Progress::update`](crate::Progress::update) asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl ScanError {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

fn shown(path: &Path) -> EscapedBytes<'_> {
    EscapedBytes(path_bytes(path))
}
