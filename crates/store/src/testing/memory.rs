//! A store in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use attachfs_manifest::ContentHash;
use bytes::Bytes;
use parking_lot::RwLock;

use crate::{
    ChunkStore, Folder, ListStore, Listed, ManifestKey, ManifestStore, Metadata, ObjectMeta,
    ObjectPart, Page, Payload, PutOutcome, Store, StoreAddress, StoreError, StoredManifest,
    data_key, run_blocking,
};

/// How many entries a page of a listing has: few, so that tests see several.
const PAGE: usize = 100;

/// Objects and manifests in two maps.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// Locked for single map operations only.
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ContentHash, Object>,
    manifests: BTreeMap<ManifestKey, StoredManifest>,
    puts: u64,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    version: Arc<str>,
    modified: SystemTime,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores bytes under their own hash, which it gives back.
    pub fn insert(&self, bytes: impl Into<Bytes>) -> ContentHash {
        let bytes = bytes.into();
        let hash = ContentHash::of(&bytes);
        self.insert_as(hash, bytes);
        hash
    }

    /// Stores bytes under any hash: a damaged object, if the hash is not theirs.
    pub fn insert_as(&self, hash: ContentHash, bytes: impl Into<Bytes>) {
        let mut state = self.state.write();
        state.puts += 1;
        let version = state.puts.to_string().into();
        let object = Object {
            bytes: bytes.into(),
            version,
            modified: SystemTime::now(),
        };
        state.objects.insert(hash, object);
    }

    /// Forgets an object, and says whether there was one.
    pub fn remove(&self, hash: ContentHash) -> bool {
        self.state.write().objects.remove(&hash).is_some()
    }

    /// Forgets a manifest, and says whether there was one.
    pub fn remove_manifest(&self, key: &ManifestKey) -> bool {
        self.state.write().manifests.remove(key).is_some()
    }

    /// The hashes of all objects, in order.
    pub fn objects(&self) -> Vec<ContentHash> {
        self.state.read().objects.keys().copied().collect()
    }

    /// The keys of all manifests, in order.
    pub fn manifests(&self) -> Vec<ManifestKey> {
        self.state.read().manifests.keys().cloned().collect()
    }

    fn object(&self, hash: ContentHash) -> Result<Object, StoreError> {
        self.state
            .read()
            .objects
            .get(&hash)
            .cloned()
            .ok_or_else(|| StoreError::NotFound {
                what: data_key(hash),
            })
    }
}

#[async_trait]
impl ChunkStore for MemoryStore {
    async fn get(&self, chunk: ContentHash, range: Range<u64>) -> Result<ObjectPart, StoreError> {
        let Object { bytes, version, .. } = self.object(chunk)?;
        let len = bytes.len() as u64;
        let start = range.start.min(len);
        let end = range.end.clamp(start, len);
        Ok(ObjectPart {
            bytes: bytes.slice(start as usize..end as usize),
            object_len: len,
            version: Some(version),
        })
    }

    async fn head(&self, chunk: ContentHash) -> Result<ObjectMeta, StoreError> {
        let len = self.object(chunk)?.bytes.len() as u64;
        Ok(ObjectMeta { len })
    }

    async fn put(&self, chunk: ContentHash, payload: Payload) -> Result<(), StoreError> {
        let bytes = match payload {
            Payload::Bytes(bytes) => bytes,
            payload @ Payload::File { .. } => {
                run_blocking(move || {
                    let bytes = payload.read(0..payload.len())?;
                    payload.check_unchanged()?;
                    Ok(bytes)
                })
                .await?
            }
        };
        self.insert_as(chunk, bytes);
        Ok(())
    }
}

#[async_trait]
impl ManifestStore for MemoryStore {
    async fn get_manifest(&self, key: &ManifestKey) -> Result<StoredManifest, StoreError> {
        let state = self.state.read();
        let found = state.manifests.get(key).cloned();
        found.ok_or_else(|| StoreError::NotFound {
            what: key.object_key(),
        })
    }

    async fn put_manifest_if_absent(
        &self,
        key: &ManifestKey,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<PutOutcome, StoreError> {
        use std::collections::btree_map::Entry;
        match self.state.write().manifests.entry(key.clone()) {
            Entry::Occupied(_) => Ok(PutOutcome::Exists),
            Entry::Vacant(free) => {
                free.insert(StoredManifest {
                    bytes,
                    metadata: metadata.clone(),
                    modified: Some(SystemTime::now()),
                });
                Ok(PutOutcome::Created)
            }
        }
    }
}

#[async_trait]
impl ListStore for MemoryStore {
    async fn list(&self, folder: &Folder, after: Option<&str>) -> Result<Page, StoreError> {
        let start = folder.key_start();
        let state = self.state.read();
        let objects = state.objects.iter().map(|(&hash, object)| {
            let len = object.bytes.len() as u64;
            Listed::new(data_key(hash), len, Some(object.modified))
        });
        let manifests = state.manifests.iter().map(|(key, manifest)| {
            let len = manifest.bytes.len() as u64;
            Listed::new(key.object_key(), len, manifest.modified)
        });
        // Both maps are in the order of keys, and all objects come before all manifests.
        let mut entries: Vec<_> = objects
            .chain(manifests)
            .filter(|entry| entry.key.starts_with(&start))
            .filter(|entry| after.is_none_or(|after| *entry.key > *after))
            .take(PAGE + 1)
            .collect();
        let is_last = entries.len() <= PAGE;
        entries.truncate(PAGE);
        let next = entries.last().filter(|_| !is_last);
        Ok(Page {
            next: next.map(|entry| entry.key.clone()),
            entries,
        })
    }
}

impl Store for MemoryStore {
    /// A name for messages; no other process can find this store.
    fn address(&self) -> StoreAddress {
        StoreAddress::Directory(PathBuf::from("(memory)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_memory_store_conforms() {
        crate::conformance::run(Arc::new(MemoryStore::new())).await;
    }
}
