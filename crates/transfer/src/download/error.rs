//! Why a download stopped, and why one file of it failed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::DurableError;
use attachfs_fetch::FetchError;
use attachfs_manifest::{ContentHash, EscapedBytes, ManifestPath};
use attachfs_store::StoreError;

use crate::TransferError;

/// Why a download stopped. What concerns one file only is in the account of a download instead.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The folder cannot be made or opened.
    #[error("cannot {doing} the folder \"{}\"", shown(path))]
    Root {
        /// What was being done.
        doing: &'static str,
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The free space cannot be told.
    #[error(transparent)]
    Space(#[from] DurableError),
    /// There is not enough room. Nothing was fetched.
    #[error(
        "there is not enough room in \"{}\": {needed} bytes are to be written, {available} are available",
        shown(root)
    )]
    NoRoom {
        /// The folder.
        root: PathBuf,
        /// Bytes that would be written.
        needed: u64,
        /// Bytes that this user may still write.
        available: u64,
    },
    /// Paths that cannot be here. Nothing was fetched.
    #[error(
        "{count} paths are too long to be in \"{}\": {}",
        shown(root),
        listed(paths)
    )]
    TooLong {
        /// The folder.
        root: PathBuf,
        /// How many.
        count: usize,
        /// The first of them.
        paths: Vec<ManifestPath>,
    },
    /// What was placed may not be on the disk yet.
    #[error("cannot write everything to the disk")]
    Sync {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store can be reached no more, or refuses.
    #[error("cannot read object {hash}")]
    Store {
        /// The object.
        hash: ContentHash,
        /// What the store says.
        #[source]
        source: Arc<StoreError>,
    },
    /// The disk takes nothing more.
    #[error("cannot write \"{path}\"")]
    Disk {
        /// The file.
        path: ManifestPath,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn shown(path: &std::path::Path) -> EscapedBytes<'_> {
    EscapedBytes(path.as_os_str().as_encoded_bytes())
}

fn listed(paths: &[ManifestPath]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| format!("\"{path}\"")).collect();
    shown.join(", ")
}

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
pub(super) enum Trouble {
    File(FileError),
    Stop(TransferError),
}

impl From<FileError> for Trouble {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Self::File(error.into())
    }
}

impl From<TransferError> for Trouble {
    fn from(error: TransferError) -> Self {
        Self::Stop(error)
    }
}

pub(super) type Attempt<T> = Result<T, Trouble>;

/// A failure of the local disk at `path`.
pub(super) fn disk(path: &ManifestPath, doing: &'static str, source: io::Error) -> Trouble {
    match source.kind() {
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::ReadOnlyFilesystem => Trouble::Stop(
            DownloadError::Disk {
                path: path.clone(),
                source,
            }
            .into(),
        ),
        _ => Trouble::File(FileError::Io { doing, source }),
    }
}
