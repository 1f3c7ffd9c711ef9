//! Manifests become folders.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use attachfs_durable::{ObjectFiles, open_file, path_bytes, slashed_bytes};
use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{
    Change, ContentHash, Diff, DownloadFilter, EscapedBytes, ManifestPath, PathRef,
};
use attachfs_store::{ChunkStore, StoreAddress, data_key};
use attachfs_transfer::{
    Conflict, Copied, DownloadOptions, DownloadReport, Nearby, Permissions, Progress, Remark,
    Sources, Summary, TransferError, Wanted, download,
};
use attachfs_tree::{LayerError, LayerOptions, RootError, compose};
use serde::{Serialize, Serializer};
use tokio_util::sync::CancellationToken;

use crate::cancel::Cancellable;
use crate::error::{Classified, Doing as _, Error};
use crate::manifest::{Hashing, OperationError};
use crate::manifests::ManifestBytes;
use crate::opened::partition;
use crate::places::Places;
use crate::store::OpenStore;

/// Manifests that are placed together in one folder.
#[derive(Debug, Clone)]
pub struct PlacedManifests {
    /// The lowest layer first; or diffs alone, in the order in which they are applied.
    pub manifests: Vec<ManifestBytes>,
    /// The folder.
    pub root: PathBuf,
}

/// How manifests are downloaded.
#[derive(Debug, Clone, Default)]
pub struct DownloadRequest {
    /// How those of one folder are put together.
    pub layers: LayerOptions,
    /// Patterns of the paths to download; all paths, if there are none.
    pub include: Vec<Vec<u8>>,
    /// Patterns of the paths to leave out of these.
    pub exclude: Vec<Vec<u8>>,
    /// What becomes of a file whose place is taken by something else.
    pub conflict: Conflict,
    /// Leave what a diff deletes.
    pub no_deletes: bool,
    /// Of what is made.
    pub permissions: Permissions,
    /// Where the hashes of files that are there are remembered.
    pub hashing: Hashing,
    /// Have everything on the disk before it returns.
    pub sync: bool,
}

/// What became of one folder.
#[derive(Debug, Clone, Serialize)]
pub struct DownloadedRoot {
    /// The folder.
    #[serde(serialize_with = "as_text")]
    pub root: PathBuf,
    /// The account.
    pub summary: Summary,
    /// How many files, links and directories a diff deleted.
    pub deleted: u64,
    /// Paths that a diff deletes and that are still there, and paths that were left because they differ.
    pub left: Vec<Remark>,
    /// Files that were placed under another name.
    pub copied: Vec<Copied>,
}

/// A path as text for people and JSON, whatever bytes it has.
pub(crate) fn as_text<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&EscapedBytes(path_bytes(path)))
}

impl DownloadedRoot {
    fn new(root: PathBuf, report: DownloadReport) -> Self {
        Self {
            root,
            summary: report.summary,
            deleted: report.deleted,
            left: report.left,
            copied: report.copied,
        }
    }
}

/// What became of all folders.
#[derive(Debug, Clone)]
pub struct Downloads {
    /// Patterns were given, and they chose nothing of all manifests.
    pub nothing_matched: bool,
    /// All together.
    pub total: Summary,
    /// One by one; those that were not come to are missing.
    pub roots: Vec<DownloadedRoot>,
}

impl Downloads {
    /// Whether nothing was even looked at.
    fn is_nothing(&self) -> bool {
        self.total.total.count == 0 && self.roots.iter().all(|root| root.deleted == 0)
    }
}

/// A download that stopped on its way: the cause of the [`Error`].
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
#[non_exhaustive]
pub struct StoppedDownload {
    /// What was done until then; the last folder is the one where it stopped.
    pub downloads: Downloads,
    /// Why.
    pub source: TransferError,
}

/// Places manifests in folders, one folder after the other. Everything is read and checked before
/// anything is placed. What was done before it stopped is in the error's cause, a [`StoppedDownload`].
pub async fn download_manifests(
    placed: Vec<PlacedManifests>,
    request: &DownloadRequest,
    store: &OpenStore,
    places: &Places,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Downloads, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress
        .run(place(placed, request, store, places, &progress))
        .await
}

async fn place(
    placed: Vec<PlacedManifests>,
    request: &DownloadRequest,
    store: &OpenStore,
    places: &Places,
    progress: &dyn Progress,
) -> Result<Downloads, Error> {
    let filter = DownloadFilter::new(&request.include, &request.exclude);
    let mut wanted = Vec::with_capacity(placed.len());
    for PlacedManifests { manifests, root } in placed {
        let whole = together(manifests, &request.layers).map_err(for_download)?;
        wanted.push((chosen(whole, &filter, &root)?, root));
    }
    place_all(wanted, request, store, places, progress).await
}

/// Places manifests of which the patterns have chosen, one folder after the other.
pub(crate) async fn place_all(
    wanted: Vec<(Manifest, PathBuf)>,
    request: &DownloadRequest,
    store: &OpenStore,
    places: &Places,
    progress: &dyn Progress,
) -> Result<Downloads, Error> {
    let began = Instant::now();
    let is_nothing = |(manifest, _): &(Manifest, _)| match manifest {
        Manifest::Snapshot(snapshot) => snapshot.is_empty(),
        Manifest::Diff(diff) => diff.is_empty(),
    };
    let has_patterns = !request.include.is_empty() || !request.exclude.is_empty();
    let nothing_matched = has_patterns && wanted.iter().all(is_nothing);
    let chunks: Arc<dyn ChunkStore> = store.store.clone();
    let sources = Sources {
        store: chunks,
        nearby: nearby(store, places),
    };
    let options = DownloadOptions {
        conflict: request.conflict,
        deletes: !request.no_deletes,
        permissions: request.permissions,
        caches: request.hashing.caches.clone(),
        force_rehash: request.hashing.force_rehash,
        sync: request.sync,
        ..DownloadOptions::default()
    };
    let mut downloads = Downloads {
        nothing_matched,
        total: Summary::default(),
        roots: Vec::with_capacity(wanted.len()),
    };
    for (manifest, root) in wanted {
        let wanted = match &manifest {
            Manifest::Snapshot(snapshot) => Wanted::Snapshot(snapshot),
            Manifest::Diff(diff) => Wanted::Diff(diff),
        };
        let downloaded = download(&root, wanted, sources.clone(), &options, progress).await;
        let (report, stopped) = match downloaded {
            Ok(report) => (report, None),
            Err(stopped) => (*stopped.report, Some(stopped.source)),
        };
        downloads.total.add(&report.summary);
        downloads.total.elapsed = began.elapsed();
        downloads.roots.push(DownloadedRoot::new(root, report));
        match stopped {
            None => {}
            Some(source) if downloads.is_nothing() => return Err(source.into()),
            Some(source) => {
                let class = source.class();
                return Err(Error::of(class, StoppedDownload { downloads, source }));
            }
        }
    }
    Ok(downloads)
}

/// Manifests of one folder as one: layers, or diffs alone.
fn together(manifests: Vec<ManifestBytes>, layers: &LayerOptions) -> Result<Manifest, Error> {
    let Some(first) = manifests.first() else {
        return Err(Error::usage("there is no manifest to download"));
    };
    let (_, kind) = first.decode()?;
    if let Manifest::Snapshot(_) = kind {
        let layered = manifests.iter().map(ManifestBytes::layer);
        let layered = layered.collect::<Result<_, _>>()?;
        return Ok(Manifest::Snapshot(compose(layered, layers)?.snapshot));
    }
    let mut all: Option<Diff> = None;
    for next in &manifests {
        let refused = |source: OperationError| source.of(&next.name);
        let Manifest::Diff(diff) = next.decode_shown(layers.root.as_ref())? else {
            return Err(refused(OperationError::NotADiff));
        };
        all = Some(match all {
            None => diff,
            Some(before) => before.then(&diff).map_err(|error| refused(error.into()))?,
        });
    }
    all.map(Manifest::Diff)
        .ok_or_else(|| Error::usage("there is no manifest to download"))
}

/// Here the option that names a directory in the manifest has another name than where it is mounted.
fn for_download(error: Error) -> Error {
    let ((Some(LayerError::Root(root)), _) | (_, Some(root))) = (error.cause(), error.cause())
    else {
        return error;
    };
    match root {
        RootError::Missing(common) => Error::usage(format!(
            "the manifest has absolute paths; say which directory of them is to become the folder, with \
             `--from {common}`"
        )),
        RootError::Relative => Error::usage(
            "`--from` is for manifests of absolute paths, and this one has relative ones",
        ),
        RootError::NoDirectory(_) | RootError::Outside { .. } | RootError::Link { .. } => error,
    }
}

/// What the patterns choose.
pub(crate) fn chosen(
    manifest: Manifest,
    filter: &DownloadFilter,
    root: &Path,
) -> Result<Manifest, Error> {
    if filter.is_everything() {
        return Ok(manifest);
    }
    let real = real_folder(root)?;
    let mut whole = slashed_bytes(&real).into_owned();
    if !whole.ends_with(b"/") {
        whole.push(b'/');
    }
    let root_len = whole.len();
    let mut keep = |path: PathRef<'_>| {
        whole.truncate(root_len);
        whole.extend_from_slice(path.as_bytes());
        filter.matches(&whole)
    };
    Ok(match manifest {
        Manifest::Snapshot(all) => Manifest::Snapshot(all.filter(|path, _| keep(path))),
        Manifest::Diff(all) => {
            let in_the_way = in_the_way(&all, &mut keep);
            Manifest::Diff(all.filter(|path, change| {
                keep(path) || *change == Change::DeleteFile && in_the_way.contains(&path.to_owned())
            }))
        }
    })
}

/// Files and links that a diff deletes to put a directory there in which something is that the patterns
/// choose: they have to go whatever they are called themselves.
fn in_the_way(diff: &Diff, mut keep: impl FnMut(PathRef<'_>) -> bool) -> HashSet<ManifestPath> {
    let deleted = diff
        .changes()
        .filter(|(_, change)| *change == Change::DeleteFile)
        .map(|(path, _)| path.to_owned());
    let deleted: HashSet<ManifestPath> = deleted.collect();
    let puts = diff.changes();
    let puts = puts.filter(|(_, change)| change.as_put().is_some_and(|node| !node.is_dir()));
    let kept = puts.map(|(path, _)| path).filter(|path| keep(*path));
    kept.flat_map(|path| path.to_owned().ancestors().collect::<Vec<_>>())
        .filter(|above| deleted.contains(above))
        .collect()
}

/// The one name of a folder, however it is spelled: without `..` and links, as far as it is there.
pub fn real_folder(folder: &Path) -> Result<PathBuf, Error> {
    let doing = || format!("cannot find {}", folder.display());
    let mut real = PathBuf::new();
    for step in std::path::absolute(folder).doing(doing)?.components() {
        if step == Component::ParentDir {
            real.pop();
            continue;
        }
        real.push(step);
        match real.canonicalize() {
            Ok(found) => real = found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).doing(doing),
        }
    }
    Ok(real)
}

/// Objects that are files on this machine.
#[derive(Debug)]
enum Near {
    Store(PathBuf),
    Cache(ObjectFiles),
}

impl Nearby for Near {
    fn find(&self, object: ContentHash, len: u64) -> Option<(File, u64)> {
        match self {
            Self::Cache(cache) => cache.find(*object.as_bytes(), len),
            Self::Store(root) => {
                // Opening neither waits nor follows a link, whatever kind of file stands there.
                let file = open_file(&root.join(data_key(object))).ok()?;
                (file.metadata().ok()?.len() == len).then_some((file, 0))
            }
        }
    }
}

/// Where objects of the store may be on this machine: in the store itself, or in the cache of mounts.
pub(crate) fn nearby(store: &OpenStore, places: &Places) -> Option<Arc<dyn Nearby>> {
    match store.store.address() {
        StoreAddress::Directory(root) => Some(Arc::new(Near::Store(root))),
        StoreAddress::S3 { .. } => match places.cache.objects_there(partition(store)) {
            Ok(objects) => Some(Arc::new(Near::Cache(objects?))),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "going on without the disk cache"
                );
                None
            }
        },
    }
}
