//! What would go wrong with a submission, here or on the workers: found before anything is sent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use attachfs_durable::{path_of_bytes, space};
use attachfs_manifest::{
    CaseOptions, ChunkSize, Content, ContentHash, File, ManifestPath, Mtime, NameProblem, Node,
    Snapshot, case_report,
};
use attachfs_paths::PathFormat;
use attachfs_scan::cache::{BUSY_TIMEOUT, S3CheckCache};
use attachfs_store::{StoreAddress, data_key};
use attachfs_transfer::{LackingObject, Progress, TransferError, UploadOptions};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::gathering::{GatheredAssets, GatheredRoot};
use super::sending::Inputs;
use crate::cancel::Cancellable;
use crate::error::Error;
use crate::manifest::Hashing;
use crate::store::OpenStore;
use crate::uploading::{Uploading, uploader};

/// What is looked at besides the paths.
#[derive(Debug, Clone, Default)]
pub struct PreflightRequest {
    /// Where Windows workers have the roots, if the job runs on any: paths are measured and named below it.
    pub windows_root: Option<String>,
    /// The directory of the cache that remembers hashes: it needs room.
    pub cache: PathBuf,
    /// Hash the files, and ask the store for their objects.
    pub deep: bool,
    /// How they are hashed.
    pub hashing: Hashing,
    /// What earlier uploads remember of the store.
    pub uploading: Uploading,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckFinding {
    /// An input that cannot be used.
    Input,
    /// A disk has too little room.
    Room,
    /// A path is too long for Windows.
    LongPath,
    /// Two names differ only in case, which some disks take for one.
    CaseClash,
    /// A name that Windows cannot hold.
    BadName,
    /// An object that was in the store is gone.
    Gone,
    /// An object has another length than it should.
    Damaged,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What.
    pub kind: CheckFinding,
    /// Where: a path, or the hash of an object.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Sorted by kind and path.
    pub findings: Vec<Finding>,
    /// Inputs that can be used.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that the store has; only if it was asked.
    pub present_objects: Option<u64>,
    /// Objects that would be sent; only if the store was asked.
    pub missing_objects: Option<u64>,
}

impl Findings {
    /// Whether bytes in the store are not what they should be.
    pub fn is_damaged(&self) -> bool {
        let mut all = self.findings.iter();
        all.any(|of| of.kind == CheckFinding::Damaged)
    }
}

/// The room that a remembered hash takes at most, with its path.
const ROW: u64 = 512;
/// UTF-16 units between a root and a path below it.
const SEPARATOR: usize = 1;

/// Looks at everything that was gathered, and lists all that is wrong.
pub async fn check_submission(
    assets: &GatheredAssets,
    store: Option<&OpenStore>,
    request: &PreflightRequest,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Findings, Error> {
    let progress = Cancellable::new(progress, cancel);
    let checked = check(assets, store, request, &progress);
    progress.run(checked).await
}

async fn check(
    assets: &GatheredAssets,
    store: Option<&OpenStore>,
    request: &PreflightRequest,
    progress: &dyn Progress,
) -> Result<Findings, Error> {
    let mut found = Findings {
        files: assets.roots.iter().map(|root| root.files).sum(),
        bytes: assets.roots.iter().map(|root| root.bytes).sum(),
        ..Findings::default()
    };
    for fault in &assets.faults {
        found.findings.push(Finding {
            kind: CheckFinding::Input,
            path: fault.path.clone(),
            reason: fault.reason.clone(),
        });
    }
    found.findings.extend(room(&request.cache, found.files)?);
    for root in &assets.roots {
        found.findings.extend(names(root, request)?);
    }
    if let (true, Some(store)) = (request.deep, store) {
        objects(assets, store, request, progress, &mut found).await?;
    }
    found.findings.sort();
    Ok(found)
}

/// Whether the hashes of so many files fit into the cache.
fn room(cache: &Path, files: u64) -> Result<Option<Finding>, Error> {
    let Some(there) = cache.ancestors().find(|at| at.exists()) else {
        return Ok(None);
    };
    let (needed, available) = (files.saturating_mul(ROW), space(there)?.available);
    Ok((available < needed).then(|| Finding {
        kind: CheckFinding::Room,
        path: cache.display().to_string(),
        reason: format!(
            "the hashes of the files take up to {needed} bytes, and {available} are free"
        ),
    }))
}

/// Names that workers may not be able to hold.
fn names(root: &GatheredRoot, request: &PreflightRequest) -> Result<Vec<Finding>, Error> {
    let windows_root = match root.of.root.format() {
        PathFormat::Windows => Some(root.root.as_str()),
        PathFormat::Posix => request.windows_root.as_deref(),
    };
    let before = windows_root.map_or(0, |above| above.encode_utf16().count());
    let options = CaseOptions {
        prefix_units: windows_root.map_or(0, |_| before + SEPARATOR),
    };
    let found = case_report(&tree(root)?, options).into_iter();
    let found = found.filter_map(|bad| {
        let kind = match &bad.problem {
            NameProblem::Case { .. } => CheckFinding::CaseClash,
            _ if windows_root.is_none() => return None,
            NameProblem::TooLong { .. } => CheckFinding::LongPath,
            _ => CheckFinding::BadName,
        };
        Some(Finding {
            kind,
            path: format!("{}: {}", root.root, bad.path),
            reason: bad.problem.to_string(),
        })
    });
    Ok(found.collect())
}

/// The names of a root's inputs.
fn tree(root: &GatheredRoot) -> Result<Snapshot, Error> {
    let above = root.of.root.components().count();
    let entries = root.of.inputs.iter().filter_map(|input| {
        let names: Vec<&[u8]> = input.components().skip(above).collect();
        let path = ManifestPath::new(&names.join(&b'/')).ok()?;
        let meta = std::fs::metadata(path_of_bytes(input.as_bytes())).ok()?;
        let node = Node::File(File {
            size: meta.len(),
            // Only the names are looked at.
            mtime: Mtime(0),
            runnable: false,
            content: Content::Unhashed,
        });
        Some((path, node))
    });
    let tree = Snapshot::new(ChunkSize::WholeFile, None, entries);
    Ok(tree.map_err(TransferError::from)?)
}

/// Asks the store for the objects of all files.
async fn objects(
    assets: &GatheredAssets,
    store: &OpenStore,
    request: &PreflightRequest,
    progress: &dyn Progress,
    found: &mut Findings,
) -> Result<(), Error> {
    let mut objects: BTreeMap<ContentHash, (u64, String)> = BTreeMap::new();
    for root in &assets.roots {
        let Some(inputs) = Inputs::find(&root.of, progress)? else {
            continue;
        };
        let (hashed, _) = inputs.hash(&request.hashing, None, progress).await?;
        for (path, node) in hashed.entries() {
            let Node::File(file) = node else { continue };
            for hash in file.content.hashes() {
                let path = || (file.size, format!("{}: {path}", root.root));
                objects.entry(*hash).or_insert_with(path);
            }
        }
    }
    let asked: Vec<_> = objects
        .iter()
        .map(|(&hash, &(len, _))| (hash, len))
        .collect();
    // What is asked of it confirms nothing for a later upload.
    let asking = Uploading::default();
    let lacking = uploader(store, UploadOptions::default(), &asking);
    let lacking = lacking.lacking(&asked, progress).await?;
    found.present_objects = Some((asked.len() - lacking.len()) as u64);
    found.missing_objects = Some(lacking.len() as u64);
    let seen = seen(store, &request.uploading, &lacking);
    for (lacking, was_seen) in lacking.iter().zip(seen) {
        let LackingObject {
            hash,
            expected,
            found: len,
        } = lacking;
        let (kind, reason) = match len {
            Some(len) => (
                CheckFinding::Damaged,
                format!("its object {hash} has {len} bytes in the store instead of {expected}"),
            ),
            None if was_seen => (
                CheckFinding::Gone,
                format!("its object {hash} was in the store, and is gone; it would be sent again"),
            ),
            // It was never there.
            None => continue,
        };
        let path = objects.get(hash).map(|(_, path)| path.clone());
        found.findings.push(Finding {
            kind,
            path: path.unwrap_or_else(|| hash.to_string()),
            reason,
        });
    }
    Ok(())
}

/// Which of these objects earlier uploads saw in the store.
fn seen(store: &OpenStore, uploading: &Uploading, objects: &[LackingObject]) -> Vec<bool> {
    let nothing = || vec![false; objects.len()];
    let (Some(places), StoreAddress::S3 { bucket, prefix }) =
        (&uploading.seen, store.store.address())
    else {
        return nothing();
    };
    let directory = places.directory(store.bucket_url.as_deref());
    match S3CheckCache::open(&directory, BUSY_TIMEOUT) {
        Ok(cache) => {
            let keys = objects.iter();
            let keys: Vec<String> = keys
                .map(|of| format!("{bucket}/{}", prefix.join(&data_key(of.hash))))
                .collect();
            cache.look_up(&keys, SystemTime::now())
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "it is not known which objects were seen"
            );
            nothing()
        }
    }
}
