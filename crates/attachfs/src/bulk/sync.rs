//! Filling one store from another by manifests: objects first, then the manifests that all objects came over of.

use std::collections::HashMap;
use std::path::Path;

use attachfs_manifest::ContentHash;
use attachfs_manifest::wire::DecodeError;
use attachfs_store::{ManifestKey, StoreError};
use attachfs_transfer::{Failed, Progress, Summary, copy_objects, error_chain};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cancel::Cancellable;
use crate::error::{Doing as _, Error};
use crate::manifest::{PlacedManifest, UNHASHED, needed, open_manifest, unhashed};
use crate::manifests::{ManifestBytes, ReadManifestError};
use crate::store::OpenStore;

/// What to bring over.
#[derive(Debug, Default)]
pub struct SyncRequest {
    /// Manifests whose objects are wanted.
    pub manifests: Vec<SyncedManifest>,
    /// Manifests that could not be had.
    failed: Vec<Failed>,
}

impl SyncRequest {
    /// Adds a manifest. An invalid or missing manifest is listed among the failures, and the others are
    /// brought over; any other error comes back.
    pub fn add(&mut self, name: &str, read: Result<SyncedManifest, Error>) -> Result<(), Error> {
        match read {
            Ok(manifest) => self.manifests.push(manifest),
            Err(error) if is_of_one(&error) => self.failed.push(Failed {
                path: name.to_owned(),
                error: error_chain(&error),
            }),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Whether an error concerns one manifest, and not the store or what was asked.
fn is_of_one(error: &Error) -> bool {
    let is_missing = matches!(
        error.cause(),
        Some(
            ReadManifestError::File { .. }
                | ReadManifestError::Store {
                    source: StoreError::NotFound { .. },
                    ..
                }
        )
    );
    is_missing || error.cause::<DecodeError>().is_some()
}

/// A manifest whose objects are brought over.
#[derive(Debug, Clone)]
pub struct SyncedManifest {
    /// What it is called, and its bytes.
    pub bytes: ManifestBytes,
    /// The key under which it is copied to the other store as well, and its metadata; `None` for one that is only a list.
    pub place: Option<PlacedManifest>,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SyncReport {
    /// The account of objects; its errors are those of manifests, too.
    #[serde(flatten)]
    pub summary: Summary,
    /// Manifests that are in the second store now.
    pub manifests: Vec<ManifestKey>,
}

/// Brings over what `to` lacks of the manifests' objects, then the manifests that have a place. A manifest of
/// which an object did not come over is not brought over: the same call goes on. `scratch` holds what is on
/// its way.
pub async fn sync_store(
    from: &OpenStore,
    to: &OpenStore,
    request: &SyncRequest,
    scratch: &Path,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<SyncReport, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress
        .run(sync(from, to, request, scratch, &progress))
        .await
}

async fn sync(
    from: &OpenStore,
    to: &OpenStore,
    request: &SyncRequest,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<SyncReport, Error> {
    let mut wanted: HashMap<ContentHash, u64> = HashMap::new();
    let mut contradicting = Vec::new();
    let mut lists = Vec::with_capacity(request.manifests.len());
    let mut readable = Vec::with_capacity(request.manifests.len());
    let mut unreadable = request.failed.clone();
    for manifest in &request.manifests {
        let opened = match open_manifest(&manifest.bytes, false) {
            Ok(opened) => opened,
            Err(error) if is_of_one(&error) => {
                unreadable.push(Failed {
                    path: manifest.bytes.name.clone(),
                    error: error_chain(&error),
                });
                continue;
            }
            Err(error) => return Err(error),
        };
        readable.push(manifest);
        let (needed, contradictions) = needed(&opened.manifest);
        let objects = needed.iter().map(|(&hash, &(len, _))| (hash, len));
        let mut objects: Vec<_> = objects.collect();
        objects.sort_unstable();
        let mut errors: Vec<_> = contradictions
            .into_iter()
            .map(|found| {
                format!(
                    "object {} of \"{}\": {}",
                    found.object, found.path, found.reason
                )
            })
            .collect();
        if let Some(path) = unhashed(&opened.manifest).first() {
            errors.push(format!("\"{path}\": {UNHASHED}"));
        }
        for &(hash, len) in &objects {
            let first = *wanted.entry(hash).or_insert(len);
            if first != len {
                errors.push(format!(
                    "object {hash} has {len} bytes here, and {first} in another manifest"
                ));
            }
        }
        contradicting.push(errors);
        lists.push(objects);
    }
    let mut objects: Vec<_> = wanted.into_iter().collect();
    objects.sort_unstable();
    std::fs::create_dir_all(scratch).doing(|| format!("cannot create {}", scratch.display()))?;
    let (of, to_chunks) = (from.store.clone(), to.store.clone());
    let copied = copy_objects(of, to_chunks, objects, scratch, progress).await?;
    let mut report = SyncReport {
        summary: copied.summary,
        manifests: Vec::new(),
    };
    report.summary.errors.extend(unreadable);
    for ((manifest, objects), errors) in readable.into_iter().zip(lists).zip(contradicting) {
        let name = &manifest.bytes.name;
        let lacks = objects
            .iter()
            .filter(|(hash, _)| copied.failed.binary_search(hash).is_ok())
            .count();
        let mut failed = |error: String| {
            report.summary.errors.push(Failed {
                path: name.clone(),
                error,
            });
        };
        if let Some(error) = errors.into_iter().next() {
            failed(error);
            continue;
        }
        let Some(place) = &manifest.place else {
            continue;
        };
        if lacks > 0 {
            failed(format!(
                "{lacks} of its objects did not come over; it waits for them"
            ));
            continue;
        }
        match place.put_now(to).await {
            Ok(_) => report.manifests.push(place.key.clone()),
            Err(error) => failed(error_chain(&error)),
        }
    }
    Ok(report)
}
