//! Folders as manifests, and manifests compared with folders.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use attachfs_durable::{CacheDir, path_of_bytes, slashed_bytes};
use attachfs_manifest::wire::{Format, Manifest};
use attachfs_manifest::{
    By, Changes, ChunkSize, Content, DiffOptions, File, GlobConfig, ManifestPath, Node, PathFilter,
    PathRef, Snapshot, SymlinkPolicy,
};
use attachfs_scan::cache::{Day, HashCacheOptions, HashCaches, LocalZone};
use attachfs_scan::{
    Collection, CrossMounts, EntryKind, FileList, Scan, ScanOptions, scan, scan_absolute,
    scan_listed,
};
use attachfs_transfer::{HashOptions, Progress, Unreadable, error_chain, snapshot};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::opened::{MadeManifest, OpenedManifest, OperationError};
use crate::cancel::Cancellable;
use crate::error::{Doing as _, Error};

/// Which files of a folder are meant.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// By patterns.
    pub globs: Option<GlobConfig>,
    /// Where there are no patterns: whether names that begin with a dot are taken. They are by default.
    pub hidden: Option<bool>,
    /// Which mounts in the folder are gone into.
    pub cross_mounts: CrossMounts,
    /// These files instead of those that a walk finds.
    pub files: Option<FileList>,
    /// Leave out what cannot be read and say so, instead of failing.
    pub skip_unreadable: bool,
}

impl Selection {
    /// Whether the caller chose files, instead of taking the whole folder.
    pub(crate) fn is_said(&self) -> bool {
        let names = |globs: &GlobConfig| globs.include != GlobConfig::default().include;
        self.hidden == Some(true) || self.files.is_some() || self.globs.as_ref().is_some_and(names)
    }

    pub(crate) fn filter(&self, root: &Path) -> Result<PathFilter, Error> {
        let visible = GlobConfig::default();
        let globs = match (&self.globs, self.hidden) {
            (Some(globs), _) => globs,
            (None, Some(false)) => &visible,
            (None, None | Some(true)) => return Ok(PathFilter::everything()),
        };
        let root = std::path::absolute(root).doing(|| format!("cannot find {}", root.display()))?;
        let root = slashed_bytes(&root);
        Ok(PathFilter::for_root(&root, &globs.include, &globs.exclude)?)
    }
}

/// Finds the selected files of a folder.
pub(crate) fn find(
    root: &Path,
    selection: &Selection,
    symlinks: SymlinkPolicy,
    progress: &dyn Progress,
) -> Result<Scan, Error> {
    let options = ScanOptions {
        symlinks,
        filter: selection.filter(root)?,
        skip_unreadable: selection.skip_unreadable,
        cross_mounts: selection.cross_mounts,
    };
    Ok(match &selection.files {
        None => scan(root, &options, progress)?,
        Some(files) => scan_listed(root, files, &options, progress)?,
    })
}

/// Something that is not in the manifest.
#[derive(Debug, Clone, Serialize)]
pub struct SkippedPath {
    /// Where.
    pub path: String,
    /// Why.
    pub reason: String,
}

pub(crate) fn skipped(found: &Scan) -> Vec<SkippedPath> {
    let skipped = found.skipped.iter().map(|skipped| SkippedPath {
        path: skipped.path.to_string(),
        reason: skipped.reason.to_string(),
    });
    skipped.collect()
}

/// Files whose bytes could not be read.
pub(crate) fn unreadable(files: &[Unreadable]) -> impl Iterator<Item = SkippedPath> {
    files.iter().map(|file| SkippedPath {
        path: file.path.to_string(),
        reason: error_chain(&file.error),
    })
}

/// The folders and files that a manifest is collected from.
#[derive(Debug, Clone)]
pub enum CollectedFrom {
    /// What lies below a folder, as paths from it.
    Folder(PathBuf),
    /// Folders and files from anywhere, as paths from `/`.
    Anywhere(Vec<PathBuf>),
}

/// A manifest of names, sizes and times: no byte of a file was read.
#[derive(Debug, Clone)]
pub struct Collected {
    /// The manifest.
    pub made: MadeManifest,
    /// How many files it has.
    pub files: u64,
    /// What a manifest cannot hold, and why.
    pub skipped: Vec<SkippedPath>,
}

/// Lists folders and files as a 2025-12 manifest without hashes.
pub fn collect_manifest(
    source: &CollectedFrom,
    selection: &Selection,
    symlinks: SymlinkPolicy,
    chunk_size: ChunkSize,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Collected, Error> {
    let progress = Cancellable::new(progress, cancel);
    let (found, format) = match source {
        CollectedFrom::Folder(root) => (
            find(root, selection, symlinks, &progress)?,
            Format::V2025_12,
        ),
        CollectedFrom::Anywhere(paths) => (
            find_anywhere(paths, selection, symlinks, &progress)?,
            Format::V2025_12Absolute,
        ),
    };
    let listed = listed(&found, chunk_size)?;
    Ok(Collected {
        made: MadeManifest::new(Manifest::Snapshot(listed), format)?,
        files: found.file_count(),
        skipped: skipped(&found),
    })
}

fn find_anywhere(
    paths: &[PathBuf],
    selection: &Selection,
    symlinks: SymlinkPolicy,
    progress: &dyn Progress,
) -> Result<Scan, Error> {
    let options = ScanOptions {
        symlinks,
        filter: selection.filter(Path::new("/"))?,
        skip_unreadable: selection.skip_unreadable,
        cross_mounts: selection.cross_mounts,
    };
    let (directories, mut files): (Vec<_>, Vec<_>) =
        paths.iter().cloned().partition(|path| path.is_dir());
    let mut optional_files = Vec::new();
    if let Some(listed) = &selection.files {
        files.extend(listed.required.iter().cloned());
        optional_files.extend(listed.optional.iter().cloned());
    }
    let collection = Collection {
        directories,
        files,
        optional_files,
    };
    Ok(scan_absolute(&collection, &options, progress)?)
}

/// The scanned entries, as a snapshot without hashes.
fn listed(found: &Scan, chunk_size: ChunkSize) -> Result<Snapshot, Error> {
    let nodes = found.entries.iter().map(|entry| {
        let node = match &entry.kind {
            EntryKind::Dir => Node::Dir,
            EntryKind::Symlink(target) => Node::Symlink(target.clone()),
            EntryKind::File(file) => Node::File(File {
                size: file.size,
                mtime: file.mtime,
                runnable: file.runnable,
                content: Content::Unhashed,
            }),
        };
        (entry.path.clone(), node)
    });
    Ok(Snapshot::new(chunk_size, None, nodes).map_err(attachfs_transfer::TransferError::from)?)
}

/// How files are hashed.
#[derive(Debug, Clone, Default)]
pub struct Hashing {
    /// The hashes that are remembered of files.
    pub caches: Option<Arc<HashCaches>>,
    /// Read every file all the same.
    pub force_rehash: bool,
}

/// Where hashes are remembered.
#[derive(Debug, Clone)]
pub struct HashingPlaces {
    /// The directory of our own cache, made if it is missing.
    pub cache: CacheDir,
    /// An identifier of this machine, for a directory that several machines share.
    pub machine: String,
    /// The directory of the deadline client's caches, if it is to be shared.
    pub deadline: Option<PathBuf>,
}

/// Opens the caches of hashes. One that cannot be used is left out with a warning: it costs time only.
pub fn open_hash_caches(places: &HashingPlaces) -> Arc<HashCaches> {
    let own = HashCacheOptions::new(
        places.cache.hashes(),
        places.machine.clone(),
        Day::of(SystemTime::now()),
    );
    let deadline = places.deadline.as_deref();
    let deadline = deadline.map(|directory| (directory, LocalZone::system()));
    Arc::new(HashCaches::open(Some(&own), deadline))
}

/// A manifest whose files have hashes.
#[derive(Debug, Clone)]
pub struct Hashed {
    /// The manifest.
    pub made: MadeManifest,
    /// Files that were hashed, from memory or by reading.
    pub files: u64,
    /// How many of them were read.
    pub read: u64,
    /// Files that could not be read and have no hash still.
    pub skipped: Vec<SkippedPath>,
}

/// Hashes the files of a manifest that have no hash. They are looked for below `root`; what an absolute
/// manifest says is below `/` if there is none. A file that is not as long or as old as the manifest
/// says is an error.
pub async fn hash_manifest(
    opened: &OpenedManifest,
    root: Option<&Path>,
    hashing: &Hashing,
    skip_unreadable: bool,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Hashed, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress
        .run(hash(opened, root, hashing, skip_unreadable, &progress))
        .await
}

async fn hash(
    opened: &OpenedManifest,
    root: Option<&Path>,
    hashing: &Hashing,
    skip_unreadable: bool,
    progress: &dyn Progress,
) -> Result<Hashed, Error> {
    let base = opened.snapshot()?;
    let root = match (root, opened.format.is_absolute()) {
        (Some(root), _) => root,
        (None, true) => Path::new("/"),
        (None, false) => {
            return Err(Error::usage(format!(
                "{} has paths relative to a folder: say which with --root",
                opened.name
            )));
        }
    };
    let wanted: Vec<PathBuf> = base.unhashed().map(os_path).collect();
    if wanted.is_empty() {
        return Ok(Hashed {
            made: MadeManifest::new(opened.manifest.clone(), opened.written_format())?,
            files: 0,
            read: 0,
            skipped: Vec::new(),
        });
    }
    let list = FileList {
        required: wanted,
        optional: Vec::new(),
    };
    // Where the manifest has a file, the folder may have a link to it.
    let selection = Selection {
        files: Some(list),
        skip_unreadable,
        // The manifest says which files are meant.
        cross_mounts: CrossMounts::All,
        ..Selection::default()
    };
    let found = find(root, &selection, SymlinkPolicy::CollapseAll, progress)?;
    let options = HashOptions {
        caches: hashing.caches.clone(),
        force_rehash: hashing.force_rehash,
        skip_unreadable,
        ..HashOptions::new(base.chunk_size())
    };
    let (hashed, report) = snapshot(&found, &options, None, progress).await?;
    let left_out: HashSet<&ManifestPath> = (found.skipped.iter().map(|skipped| &skipped.path))
        .chain(report.unreadable.iter().map(|file| &file.path))
        .collect();
    let mut entries = Vec::with_capacity(base.len());
    for (path, node) in base.entries() {
        let path = path.to_owned();
        let node = filled(opened, &path, node, &hashed, left_out.contains(&path))?;
        entries.push((path, node));
    }
    let filled = Snapshot::new(base.chunk_size(), base.parent(), entries);
    let filled = Manifest::Snapshot(filled.map_err(|error| opened.refused(error))?);
    let mut skipped = skipped(&found);
    skipped.extend(unreadable(&report.unreadable));
    Ok(Hashed {
        made: MadeManifest::new(filled, opened.written_format())?,
        files: report.hashed.count + report.known.count,
        read: report.hashed.count,
        skipped,
    })
}

fn os_path(path: PathRef<'_>) -> PathBuf {
    path_of_bytes(path.as_bytes())
}

/// The node with the hashes that were found for it. What could not be read stays without a hash, and is reported.
fn filled(
    opened: &OpenedManifest,
    path: &ManifestPath,
    node: Node,
    hashed: &Snapshot,
    is_left_out: bool,
) -> Result<Node, Error> {
    let mut file = match node {
        Node::File(file) if file.content == Content::Unhashed => file,
        node => return Ok(node),
    };
    match hashed.get(path) {
        Some(Node::File(found)) => {
            let (there, here) = ((file.size, file.mtime.0), (found.size, found.mtime.0));
            if there != here {
                return Err(opened.refused(OperationError::Changed {
                    path: path.clone(),
                    there,
                    here,
                }));
            }
            file.content = found.content;
        }
        None if is_left_out => {}
        None | Some(Node::Dir | Node::Symlink(_)) => {
            return Err(opened.refused(OperationError::NoFile(path.clone())));
        }
    }
    Ok(Node::File(file))
}

/// How a folder is compared with its snapshot.
#[derive(Debug, Clone, Default)]
pub struct FolderDiff {
    /// Which files of the folder count.
    pub selection: Selection,
    /// Compare bytes rather than sizes and times.
    pub by_hash: bool,
    /// How they are hashed then.
    pub hashing: Hashing,
}

/// What changed in a folder.
#[derive(Debug, Clone)]
pub struct FolderChanges {
    /// As lists.
    pub changes: Changes,
    /// What could not be read.
    pub skipped: Vec<SkippedPath>,
}

/// Says what changed in a folder since its snapshot: by size and time, or by content. As in the Python
/// library, what the selection leaves out of the folder counts as deleted.
pub async fn diff_folder(
    opened: &OpenedManifest,
    root: &Path,
    options: &FolderDiff,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<FolderChanges, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress.run(diff(opened, root, options, &progress)).await
}

async fn diff(
    opened: &OpenedManifest,
    root: &Path,
    options: &FolderDiff,
    progress: &dyn Progress,
) -> Result<FolderChanges, Error> {
    let base = opened.snapshot()?;
    if opened.format.is_absolute() {
        return Err(Error::usage(format!(
            "{} has absolute paths: take out the folder with `subtree` first",
            opened.name
        )));
    }
    // A manifest of a format without links was made by following them.
    let symlinks = match opened.format {
        Format::V2023_03_03 => SymlinkPolicy::CollapseAll,
        _ => SymlinkPolicy::CollapseEscaping,
    };
    let found = find(root, &options.selection, symlinks, progress)?;
    let mut skipped = skipped(&found);
    let (now, compare) = if options.by_hash {
        let hash = HashOptions {
            caches: options.hashing.caches.clone(),
            force_rehash: true,
            skip_unreadable: options.selection.skip_unreadable,
            ..HashOptions::new(base.chunk_size())
        };
        let (now, report) = snapshot(&found, &hash, None, progress).await?;
        skipped.extend(unreadable(&report.unreadable));
        (now, By::Hash)
    } else {
        (listed(&found, base.chunk_size())?, By::SizeAndMtime)
    };
    let compared = DiffOptions {
        compare,
        preserve_runnable: opened.format == Format::V2023_03_03,
    };
    let mut changes = Changes::of(&now.diff_by(base, None, compared), base);
    if opened.format == Format::V2023_03_03 {
        // It lists no directories of their own, so none is new or gone.
        changes.new_directories.clear();
        changes.deleted_directories.clear();
    }
    Ok(FolderChanges { changes, skipped })
}
