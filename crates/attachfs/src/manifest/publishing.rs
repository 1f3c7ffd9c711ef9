//! Manifests into a store and out of it, with their metadata.

use attachfs_manifest::ContentHash;
use attachfs_store::{ManifestKey, Metadata};
use attachfs_transfer::{ObjectFault, Progress, check_objects};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::ObjectTrouble;
use super::checking::{UNHASHED, needed, reason, unhashed};
use super::opened::open_manifest;
use crate::cancel::{Cancellable, unless_cancelled};
use crate::error::Error;
use crate::manifests::{ManifestBytes, stored};
use crate::store::OpenStore;

/// Where a manifest goes.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// Its key.
    pub key: ManifestKey,
    /// What is said of it.
    pub metadata: Metadata,
    /// Do not ask whether the store has its objects.
    pub unchecked: bool,
}

/// What came of publishing.
#[derive(Debug, Clone, Serialize)]
pub struct Publication {
    /// Where it is, or would be.
    pub address: String,
    /// The hash of its bytes.
    pub hash: String,
    /// What is said of it.
    pub metadata: Metadata,
    /// Whether the same manifest with the same metadata was there already.
    pub existed: bool,
    /// Objects that the store does not have as they should be: then nothing was published.
    pub bad_objects: Vec<ObjectTrouble>,
}

/// Puts a manifest into a store, after asking whether it has all objects of it. What has the key already
/// stays: the same bytes with the same metadata are this manifest, anything else is an error.
pub async fn publish_manifest(
    bytes: &ManifestBytes,
    store: &OpenStore,
    request: &PublishRequest,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Publication, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress
        .run(publish(bytes, store, request, &progress))
        .await
}

async fn publish(
    bytes: &ManifestBytes,
    store: &OpenStore,
    request: &PublishRequest,
    progress: &dyn Progress,
) -> Result<Publication, Error> {
    let mut publication = Publication {
        address: store.address_of(&request.key),
        hash: ContentHash::of(&bytes.bytes).to_string(),
        metadata: request.metadata.clone(),
        existed: false,
        bad_objects: Vec::new(),
    };
    // A manifest that no reader could decode is not published.
    let opened = open_manifest(bytes, false)?;
    if !request.unchecked {
        let (needed, contradictions) = needed(&opened.manifest);
        let objects = needed
            .iter()
            .map(|(&hash, &(len, _))| (hash, len))
            .collect();
        let chunks: std::sync::Arc<dyn attachfs_store::ChunkStore> = store.store.clone();
        let faults = check_objects(chunks, objects, false, progress).await?;
        let faults = faults.into_iter().map(|(hash, fault)| ObjectTrouble {
            object: hash.to_string(),
            path: needed[&hash].1.to_string(),
            reason: reason(&fault, needed[&hash].0),
            missing: matches!(fault, ObjectFault::Missing),
        });
        let unhashed = unhashed(&opened.manifest).into_iter();
        let unhashed = unhashed.map(|path| ObjectTrouble {
            object: "-".to_owned(),
            path: path.to_string(),
            reason: UNHASHED.to_owned(),
            missing: true,
        });
        publication.bad_objects = faults.chain(contradictions).chain(unhashed).collect();
        publication.bad_objects.sort_by(|a, b| a.path.cmp(&b.path));
        if !publication.bad_objects.is_empty() {
            return Ok(publication);
        }
    }
    let manifest = PlacedManifest {
        key: request.key.clone(),
        bytes: bytes.bytes.clone().into(),
        metadata: request.metadata.clone(),
    };
    publication.existed = manifest.put_now(store).await?;
    Ok(publication)
}

/// A manifest with its key and its metadata.
#[derive(Debug, Clone)]
pub struct PlacedManifest {
    /// Its key.
    pub key: ManifestKey,
    /// As they are stored.
    pub bytes: bytes::Bytes,
    /// What is said of it.
    pub metadata: Metadata,
}

impl PlacedManifest {
    /// Puts it into a store that has all of its objects, and says whether it was there already. What else has
    /// the key is an error, and stays.
    pub async fn put(&self, store: &OpenStore, cancel: &CancellationToken) -> Result<bool, Error> {
        unless_cancelled(cancel, self.put_now(store)).await
    }

    pub(crate) async fn put_now(&self, store: &OpenStore) -> Result<bool, Error> {
        let (bytes, metadata) = (self.bytes.clone(), &self.metadata);
        let put = attachfs_transfer::publish_manifest(&*store.store, &self.key, bytes, metadata);
        Ok(put.await?)
    }
}

/// A manifest out of a store.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// As they are stored.
    pub bytes: ManifestBytes,
    /// What is said of it.
    pub metadata: Metadata,
    /// When it was written, in microseconds since 1970, if the store tells.
    pub modified: Option<i64>,
}

/// Reads a manifest and its metadata, and checks that it is a manifest.
pub async fn fetch_manifest(
    key: &ManifestKey,
    store: &OpenStore,
    cancel: &CancellationToken,
) -> Result<FetchedManifest, Error> {
    let found = unless_cancelled(cancel, stored(key, store)).await?;
    let bytes = ManifestBytes {
        name: store.address_of(key),
        bytes: found.bytes.to_vec(),
        at: None,
    };
    bytes.decode()?;
    let since = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).ok();
    let modified = found.modified.and_then(since);
    Ok(FetchedManifest {
        bytes,
        metadata: found.metadata,
        modified: modified.and_then(|since| i64::try_from(since.as_micros()).ok()),
    })
}
