//! Why a download stopped.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::DurableError;
use attachfs_manifest::{ContentHash, EscapedBytes, ManifestPath};
use attachfs_store::StoreError;

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
