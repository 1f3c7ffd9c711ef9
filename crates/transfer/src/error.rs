//! Why something was not hashed or stored.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_manifest::{ContentHash, EscapedBytes, SnapshotError};
use attachfs_scan::{Cancelled, ScanError};
use attachfs_store::StoreError;

use crate::download::error::DownloadError;
use crate::hash::MOST_CHUNKS;
use crate::summary::Summary;

/// Why hashing or uploading stopped. What concerns a file names it.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A file could not be opened.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A file could not be read.
    #[error("cannot read \"{}\"", shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file is not what it was when it was hashed, or changed each time it was read.
    #[error("\"{}\" changed while it was being read", shown(path))]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file is too large to be stored.
    #[error(
        "\"{}\" has {size} bytes: it would be more than {MOST_CHUNKS} chunks, or an object of more than 48.8 TiB",
        shown(path)
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
    /// A file is not what a manifest says of it.
    #[error("\"{}\" changed since the manifest was made", shown(path))]
    Differs {
        /// The file.
        path: PathBuf,
    },
    /// Some files were not stored; the others were. There is no manifest of such an upload.
    #[error("{}", unfinished(.0))]
    Unfinished(Box<Summary>),
    /// The store did not take an object.
    #[error("cannot store \"{}\"", shown(path))]
    Store {
        /// The file that the object is a part of.
        path: PathBuf,
        /// What the store says, of the object: the same to each of its files.
        #[source]
        source: Arc<StoreError>,
    },
    /// The store could not be asked for an object.
    #[error("cannot ask the store for object {hash}")]
    Ask {
        /// The object.
        hash: ContentHash,
        /// What the store says.
        #[source]
        source: Arc<StoreError>,
    },
    /// One of two stores failed for one object after the other: it is gone, or refuses.
    #[error("cannot {doing} object {hash}")]
    Copy {
        /// What was being done.
        doing: &'static str,
        /// The last object of them.
        hash: ContentHash,
        /// What the store says.
        #[source]
        source: StoreError,
    },
    /// There is no room for what is on its way from one store to another.
    #[error("cannot keep objects in {} on their way", dir.display())]
    Scratch {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Objects that should be in the store are not, or have another length.
    #[error(
        "{count} objects are not in the store as they should be, the first is {first}: \
         {expected} bytes expected, {}",
        found.map_or_else(|| "not found".to_owned(), |found| format!("{found} found"))
    )]
    Unconfirmed {
        /// How many.
        count: u64,
        /// One of them.
        first: ContentHash,
        /// How long it should be.
        expected: u64,
        /// How long it is; `None` if it is not there.
        found: Option<u64>,
    },
    /// What was found makes no manifest.
    #[error("the folder makes no manifest")]
    Snapshot(#[from] SnapshotError),
    /// A download stopped.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// [`Progress::update`](crate::Progress::update) asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl TransferError {
    /// That a file could not be read.
    pub fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn changed(path: &Path) -> Self {
        Self::Changed {
            path: path.to_owned(),
        }
    }

    /// Whether it says something of one file, and nothing of others. A lack of memory or of file
    /// descriptors does not.
    pub(crate) fn is_of_one_file(&self) -> bool {
        match self {
            Self::Scan(error) => {
                error.skip_reason().is_some() || matches!(error, ScanError::Outside { .. })
            }
            Self::Read { source, .. } => source.kind() != io::ErrorKind::OutOfMemory,
            Self::Changed { .. } | Self::Differs { .. } | Self::TooLarge { .. } => true,
            Self::Unfinished(_)
            | Self::Store { .. }
            | Self::Ask { .. }
            | Self::Copy { .. }
            | Self::Scratch { .. }
            | Self::Unconfirmed { .. }
            | Self::Snapshot(_)
            | Self::Download(_)
            | Self::Cancelled(_) => false,
        }
    }
}

fn unfinished(summary: &Summary) -> String {
    let (failed, total) = (summary.errors.len(), summary.total.count);
    match summary.errors.first() {
        None => format!("0 of {total} files could not be uploaded"),
        Some(first) => format!(
            "{failed} of {total} files could not be uploaded; the first is \"{}\": {}",
            first.path, first.error
        ),
    }
}

fn shown(path: &Path) -> EscapedBytes<'_> {
    EscapedBytes(path.as_os_str().as_encoded_bytes())
}
