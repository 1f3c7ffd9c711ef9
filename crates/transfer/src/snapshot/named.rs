//! Storing the files that a manifest names, where the manifest came first.
//!
//! A file is the manifest's if it has its size and time; its bytes are read only where the store lacks
//! them, and are sent only under the hashes that the manifest says. A file that is another is reported:
//! the manifest is not changed to fit.

use std::sync::Arc;

use attachfs_manifest::{ChunkSize, ContentHash, ManifestPath, Mtime};
use attachfs_scan::{Below, Phase, Progress};

use super::file::failed_before;
use super::item::{Done, Item};
use super::report::HashOptions;
use super::sending::store_all;
use super::shared::Shared;
use super::slices::in_slices;
use crate::error::TransferError;
use crate::meter::Meter;
use crate::summary::{Summary, Tally};
use crate::upload::{UploadReport, Uploader};

/// How far a file's time may be from the manifest's, in microseconds: the Python client writes times through
/// floating point.
const SAME_TIME: u64 = 1;

/// A file as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// Where it is below the root.
    pub path: ManifestPath,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
    /// The hash of the file, or of each of its chunks.
    pub hashes: Vec<ContentHash>,
    /// How its manifest cuts files.
    pub chunk_size: ChunkSize,
}

/// Stores the objects of these files that the store lacks. Files that are missing, are not what they are
/// said to be, or cannot be stored, are [`TransferError::Unfinished`] when all others are stored.
pub async fn upload_named(
    root: &Below,
    files: Vec<NamedFile>,
    store: &Uploader,
    progress: &dyn Progress,
) -> Result<(UploadReport, Summary), TransferError> {
    let mut total = Tally::default();
    for file in &files {
        total.add(file.size);
    }
    let meter = Meter::new(Phase::Upload, total.count, total.bytes);
    // Nothing is cut here: each file brings its hashes.
    let options = HashOptions::new(ChunkSize::WholeFile);
    let shared = Arc::new(Shared::new(options, Some(store), meter, true));
    let found = find(root, files, &shared, progress);
    store_all(&shared, total, found, progress, |_| {}).await
}

/// Looks for the files, and for what was seen of their objects. In the order of `files`.
async fn find(
    root: &Below,
    files: Vec<NamedFile>,
    shared: &Arc<Shared>,
    progress: &dyn Progress,
) -> Result<Vec<Result<Item, Done>>, TransferError> {
    let root = root.clone();
    in_slices(files, shared, progress, move |shared, slice| {
        let hashes: Vec<_> = slice.iter().flat_map(|file| file.hashes.clone()).collect();
        shared.objects.look_up_seen(&hashes);
        let items = slice.into_iter().map(|file| {
            let path = file.path.clone();
            look(&root, file).or_else(|error| failed_before(shared, path, error).map(Err))
        });
        items.collect()
    })
    .await
}

/// The file, if it is what the manifest says.
fn look(root: &Below, file: NamedFile) -> Result<Result<Item, Done>, TransferError> {
    let scanned = root.find(&file.path)?;
    let is_same = scanned.size == file.size && scanned.mtime.0.abs_diff(file.mtime.0) <= SAME_TIME;
    if !is_same {
        return Err(TransferError::Differs {
            path: scanned.source(),
        });
    }
    Ok(Ok(Item {
        path: file.path,
        scanned,
        known: Some(file.hashes),
        chunk_size: file.chunk_size,
        stored: Vec::new(),
    }))
}
