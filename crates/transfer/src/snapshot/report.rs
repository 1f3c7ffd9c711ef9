//! What a snapshot is asked for, and its account.

use std::sync::Arc;

use attachfs_manifest::{ChunkSize, ManifestPath};
use attachfs_scan::cache::HashCaches;

use crate::error::TransferError;
use crate::summary::{Summary, Tally};
use crate::upload::UploadReport;

/// How files are hashed.
#[derive(Debug, Clone)]
pub struct HashOptions {
    /// How large files are cut.
    pub chunk_size: ChunkSize,
    /// What is known from an earlier time, and where what is found out is kept.
    pub caches: Option<Arc<HashCaches>>,
    /// Reads every file, whatever the caches know, and keeps what it finds.
    pub force_rehash: bool,
    /// Leaves out files that vanished or cannot be read, and says so in [`HashReport::unreadable`].
    pub skip_unreadable: bool,
}

impl HashOptions {
    /// Without caches; what cannot be read is an error.
    pub const fn new(chunk_size: ChunkSize) -> Self {
        Self {
            chunk_size,
            caches: None,
            force_rehash: false,
            skip_unreadable: false,
        }
    }
}

/// What hashing a scan did.
#[derive(Debug, Default)]
pub struct HashReport {
    /// Files that were read.
    pub hashed: Tally,
    /// Files whose hashes were known.
    pub known: Tally,
    /// What became of the objects. Nothing without a store.
    pub upload: UploadReport,
    /// What became of the files. Nothing without a store.
    pub summary: Summary,
    /// Files that are not in the manifest, in the order of their paths.
    pub unreadable: Vec<Unreadable>,
}

/// A file that could not be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Where it would be in the manifest.
    pub path: ManifestPath,
    /// Why it is not.
    pub error: TransferError,
}
