//! A folder becomes a manifest.

use std::path::{Path, PathBuf};

use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{ChunkSize, ContentHash, Snapshot};
use attachfs_scan::SymlinkPolicy;
use attachfs_session::FailureClass;
use attachfs_store::{DirectoryStore, Metadata};
use attachfs_transfer::{HashOptions, Progress, Summary, UploadOptions, snapshot};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cancel::Cancellable;
use crate::error::{Doing as _, Error};
use crate::exposed::Exposed;
use crate::manifest::{Hashing, PlacedManifest, Selection, SkippedPath, find};
use crate::store::OpenStore;
use crate::uploading::{Uploading, uploader};

/// How to make a snapshot.
#[derive(Debug, Clone)]
pub struct SnapshotOptions {
    /// The format of the manifest.
    pub format: Format,
    /// How large files are cut. 2023-03-03 does not cut.
    pub chunk_size: ChunkSize,
    /// What becomes of symbolic links. 2023-03-03 has none.
    pub symlinks: SymlinkPolicy,
    /// Which files count.
    pub selection: Selection,
    /// How they are hashed.
    pub hashing: Hashing,
    /// What earlier uploads remember of the store, if the files are sent to one.
    pub uploading: Uploading,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        let (format, chunk_size) = (Format::V2025_12, ChunkSize::DEFAULT);
        Self {
            format,
            chunk_size,
            symlinks: SymlinkPolicy::default(),
            selection: Selection::default(),
            hashing: Hashing::default(),
            uploading: Uploading::default(),
        }
    }
}

/// What a snapshot found and did.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotReport {
    /// The folder.
    pub root: PathBuf,
    /// The hash of the manifest's bytes.
    #[serde(serialize_with = "as_text")]
    pub manifest_hash: ContentHash,
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were read; the hashes of the others were remembered.
    pub read_files: u64,
    /// Objects that were sent.
    pub uploaded_objects: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Objects that the store had.
    pub present_objects: u64,
    /// Their bytes.
    pub present_bytes: u64,
    /// What a manifest cannot hold, and why.
    pub skipped: Vec<SkippedPath>,
    /// Files that usually hold secrets, and were taken because nothing was said about them; only where
    /// there is a store.
    pub exposed: Option<Exposed>,
    /// The account of the files, if there was a store.
    #[serde(flatten)]
    pub upload: Option<Summary>,
}

pub(crate) fn as_text<S: serde::Serializer>(hash: &ContentHash, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(hash)
}

/// A finished snapshot.
#[derive(Debug, Clone)]
pub struct TakenSnapshot {
    /// The snapshot: every path with its node and hashes.
    pub snapshot: Snapshot,
    /// The manifest.
    pub bytes: Vec<u8>,
    /// The account.
    pub report: SnapshotReport,
}

/// Hears what a snapshot is about to do.
pub trait Announce: Send + Sync {
    /// So many bytes are about to be copied into a store on the same machine, because the file system cannot
    /// share them.
    fn copying(&self, bytes: u64, store: &Path);

    /// These files usually hold secrets and are about to be uploaded, and nothing was said about them.
    fn exposing(&self, exposed: &Exposed);
}

/// Scans, hashes and uploads a folder, and writes its manifest's bytes.
pub async fn take_snapshot(
    root: &Path,
    store: Option<&OpenStore>,
    announce: &dyn Announce,
    options: &SnapshotOptions,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<TakenSnapshot, Error> {
    let progress = Cancellable::new(progress, cancel);
    let taken = take(root, (store, None), announce, options, &progress);
    progress.run(taken).await
}

/// [`take_snapshot`] into the embedded store: shares the bytes where the file system can, else makes
/// sure first that a copy fits.
pub async fn take_embedded_snapshot(
    root: &Path,
    store: (&DirectoryStore, &OpenStore),
    announce: &dyn Announce,
    options: &SnapshotOptions,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<TakenSnapshot, Error> {
    let store = (Some(store.1), Some(store.0));
    let progress = Cancellable::new(progress, cancel);
    let taken = take(root, store, announce, options, &progress);
    progress.run(taken).await
}

async fn take(
    root: &Path,
    (store, embedded): (Option<&OpenStore>, Option<&DirectoryStore>),
    announce: &dyn Announce,
    options: &SnapshotOptions,
    progress: &dyn Progress,
) -> Result<TakenSnapshot, Error> {
    let (chunk_size, symlinks) = match options.format {
        Format::V2023_03_03 => (ChunkSize::WholeFile, SymlinkPolicy::CollapseAll),
        Format::V2025_12 | Format::V2025_12Absolute | Format::Draft2025_12_04 => {
            (options.chunk_size, options.symlinks)
        }
    };
    let found = find(root, &options.selection, symlinks, progress)?;
    let exposed = match store {
        Some(_) if !options.selection.is_said() => Exposed::among(&found),
        _ => None,
    };
    if let Some(exposed) = &exposed {
        announce.exposing(exposed);
    }
    let mut upload = UploadOptions::default();
    if let Some(store) = embedded
        && shares_blocks(&found, store, announce, chunk_size, progress).await?
    {
        // From the files and not from memory, so that small ones are shared too.
        upload = UploadOptions {
            small_file: 0,
            max_large_in_flight: upload.max_in_flight,
            ..upload
        };
    }
    let uploader = store.map(|open| uploader(open, upload, &options.uploading));
    let hashing = HashOptions {
        caches: options.hashing.caches.clone(),
        force_rehash: options.hashing.force_rehash,
        skip_unreadable: options.selection.skip_unreadable,
        ..HashOptions::new(chunk_size)
    };
    let (snapshot, hashed) = snapshot(&found, &hashing, uploader.as_ref(), progress).await?;
    let done = hashed.upload;
    let bytes = encode_snapshot(&snapshot, options.format)?;
    let mut skipped = crate::manifest::skipped(&found);
    skipped.extend(crate::manifest::unreadable(&hashed.unreadable));
    let report = SnapshotReport {
        root: found.root.clone(),
        manifest_hash: ContentHash::of(&bytes),
        files: found.file_count() - hashed.unreadable.len() as u64,
        bytes: snapshot.total_size(),
        read_files: hashed.hashed.count,
        uploaded_objects: done.uploaded.count,
        uploaded_bytes: done.uploaded.bytes,
        present_objects: done.already_there.count,
        present_bytes: done.already_there.bytes,
        skipped,
        exposed,
        upload: store.is_some().then_some(hashed.summary),
    };
    Ok(TakenSnapshot {
        snapshot,
        bytes,
        report,
    })
}

/// Room that a copy leaves free: a full disk harms other programs too.
const LEAVE_FREE: u64 = 256 << 20;

/// Whether the store can share the blocks of the folder's files. If not, makes sure that a copy fits.
async fn shares_blocks(
    found: &attachfs_scan::Scan,
    store: &DirectoryStore,
    announce: &dyn Announce,
    chunk_size: ChunkSize,
    progress: &dyn Progress,
) -> Result<bool, Error> {
    let mut needed = found.byte_count();
    let staging = store.staging().doing(|| unusable(store))?;
    let sample = found.entries.iter().find_map(|entry| match &entry.kind {
        attachfs_scan::EntryKind::File(file) if file.size > 0 => Some(file),
        _ => None,
    });
    let Some(sample) = sample else {
        return Ok(false);
    };
    let (file, _) = sample.open()?;
    if attachfs_durable::can_reflink(&file, staging)? {
        return Ok(true);
    }
    let available = attachfs_durable::space(staging)?.available;
    if available < needed.saturating_add(LEAVE_FREE) {
        // Some of it may be there from an earlier time: only then is it worth the hashing.
        needed = missing_bytes(found, chunk_size, store, progress).await?;
    }
    if needed > 0 && available < needed.saturating_add(LEAVE_FREE) {
        let sentence = format!(
            "the store {} has room for {available} bytes, {needed} are to be copied",
            store.root().display()
        );
        return Err(Error::new(FailureClass::Store, sentence));
    }
    announce.copying(needed, store.root());
    Ok(false)
}

/// Publishes a snapshot's manifest in its store, under a key made of its hash, so that a diff made
/// from it can be mounted again wherever it is found. Gives its place.
pub async fn publish_snapshot(
    bytes: &[u8],
    store: &OpenStore,
    cancel: &CancellationToken,
) -> Result<String, Error> {
    let key = format!("attachfs/snapshots/{}.manifest", ContentHash::of(bytes));
    let manifest = PlacedManifest {
        key: key.parse()?,
        bytes: bytes.to_vec().into(),
        metadata: Metadata::new(),
    };
    manifest.put(store, cancel).await?;
    Ok(store.address_of(&manifest.key))
}

fn unusable(store: &DirectoryStore) -> String {
    format!("cannot use the store {}", store.root().display())
}

async fn missing_bytes(
    found: &attachfs_scan::Scan,
    chunk_size: ChunkSize,
    store: &DirectoryStore,
    progress: &dyn Progress,
) -> Result<u64, Error> {
    use attachfs_manifest::{ChunkLayout, Node};
    use attachfs_store::{ChunkStore as _, StoreError};
    let (hashed, _) = snapshot(found, &HashOptions::new(chunk_size), None, progress).await?;
    let mut seen = std::collections::HashSet::new();
    let mut missing = 0;
    for (path, node) in hashed.entries() {
        let Node::File(file) = node else { continue };
        let layout = ChunkLayout::new(file.size, chunk_size, &file.content);
        let layout = layout.doing(|| format!("\"{path}\" cannot be cut into chunks"))?;
        for piece in layout
            .pieces(0..file.size)
            .filter(|piece| seen.insert(piece.hash))
        {
            match store.head(piece.hash).await {
                Ok(meta) if meta.len == piece.object_len => {}
                Ok(_) | Err(StoreError::NotFound { .. }) => missing += piece.object_len,
                Err(error) => return Err(error).doing(|| unusable(store)),
            }
        }
    }
    Ok(missing)
}
