//! Why one file of a download failed, and whether that concerns the others.

use std::io;

use attachfs_fetch::FetchError;
use attachfs_manifest::ManifestPath;

use super::error::DownloadError;
use crate::error::TransferError;

/// Why one file was not placed. Whose it is, the account says.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("cannot {doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{0}")]
    InTheWay(String),
}

impl FileError {
    /// Whether the store gave something else than it should have: it may do better if asked again.
    pub(super) fn is_about_bytes(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_about_bytes())
    }
}

/// Why an attempt at one file failed: because of the file, or of everything.
#[derive(Debug)]
pub(super) enum Failure {
    File(FileError),
    Stop(TransferError),
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::File(error.into())
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        Self::Stop(error)
    }
}

pub(super) type FileResult<T> = Result<T, Failure>;

/// A failure of the local disk at `path`.
pub(super) fn disk(path: &ManifestPath, doing: &'static str, source: io::Error) -> Failure {
    match source.kind() {
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::ReadOnlyFilesystem => Failure::Stop(
            DownloadError::Disk {
                path: path.clone(),
                source,
            }
            .into(),
        ),
        _ => Failure::File(FileError::Io { doing, source }),
    }
}
