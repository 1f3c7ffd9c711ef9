//! Manifests and their metadata as files.
//!
//! ```text
//!     <root>/Manifests/<key>                       the bytes
//!     <root>/Metadata/<key>/<hash of the bytes>    their metadata as JSON, if there is any
//! ```
//!
//! A file of metadata is written before its manifest and belongs to a manifest of exactly these bytes. If its
//! writer died in between, or another writer was first, it is not taken for the metadata of another manifest
//! under the key. If two writers put the same bytes with different metadata under one key, the second one fails.
//! Both are plain files, so a store that is copied with any program is still whole.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use attachfs_durable::{DurableError, FileStamp, Sharing, Staged, create_dir, read_range};
use attachfs_manifest::ContentHash;
use bytes::Bytes;

use super::{Files, failed, is_missing, open_file, time_of, unwritable};
use crate::{LARGEST_MANIFEST, ManifestKey, Metadata, PutOutcome, StoreError, StoredManifest};

/// The largest file of metadata that is read: longer than any metadata with everything escaped.
const LARGEST_METADATA: u64 = 64 << 10;

impl Files {
    pub(super) fn get_manifest(&self, key: &ManifestKey) -> Result<StoredManifest, StoreError> {
        let object_key = key.object_key();
        let (file, stamp) = open_file(&self.root.join(&object_key))
            .map_err(|error| self.unreadable(&object_key, error))?;
        if stamp.size > LARGEST_MANIFEST {
            let error = io::Error::other("it is longer than a manifest may be");
            return Err(failed(self.what("reading", &object_key), error));
        }
        let bytes = read_range(&file, 0..stamp.size)
            .map_err(|error| failed(self.what("reading", &object_key), error))?;
        let metadata = self.metadata(key, ContentHash::of(&bytes))?;
        Ok(StoredManifest {
            bytes,
            metadata: metadata.unwrap_or_default(),
            modified: Some(time_of(&stamp)),
        })
    }

    pub(super) fn put_manifest_if_absent(
        &self,
        key: &ManifestKey,
        bytes: &[u8],
        metadata: &Metadata,
    ) -> Result<PutOutcome, StoreError> {
        let object_key = key.object_key();
        let path = self.root.join(&object_key);
        if path.is_file() {
            return Ok(PutOutcome::Exists);
        }
        let failed = |error| unwritable(self.what("storing", &object_key), error);
        let hash = ContentHash::of(bytes);
        let mut said = self.metadata(key, hash)?;
        if said.is_none() && !metadata.is_empty() {
            let text = serde_json::to_vec(metadata).map_err(|error| StoreError::Other {
                what: self.what("storing", &object_key),
                source: error.into(),
            })?;
            let file = self.metadata_file(key, hash);
            if self.publish_if_absent(&file, &text).map_err(failed)? {
                said = Some(metadata.clone());
            } else {
                said = self.metadata(key, hash)?;
            }
        }
        if said.unwrap_or_default() != *metadata {
            return Err(StoreError::Other {
                what: self.what("storing", &object_key),
                source: format!(
                    "someone stores the same bytes there with other metadata, or died doing it; \
                     if so, remove {}",
                    self.metadata_file(key, hash).display()
                )
                .into(),
            });
        }
        let created = self.publish_if_absent(&path, bytes).map_err(failed)?;
        Ok(if created {
            PutOutcome::Created
        } else {
            PutOutcome::Exists
        })
    }

    fn publish_if_absent(&self, path: &Path, bytes: &[u8]) -> Result<bool, DurableError> {
        let dir = path.parent().unwrap_or(&self.root);
        let sharing = Sharing::of_dir(&self.root)?;
        create_dir(dir, sharing)?;
        let staged = Staged::create_in(dir)?;
        staged.share(sharing)?;
        staged
            .file()
            .write_all(bytes)
            .map_err(|source| DurableError {
                doing: "write",
                path: path.to_owned(),
                source,
            })?;
        Ok(staged.publish_if_absent(path)?.is_some())
    }

    fn metadata_file(&self, key: &ManifestKey, hash: ContentHash) -> PathBuf {
        let of_key = self.root.join("Metadata").join(key.as_str());
        of_key.join(hash.to_string())
    }

    /// The metadata of a manifest; `None` if there is none.
    fn metadata(
        &self,
        key: &ManifestKey,
        hash: ContentHash,
    ) -> Result<Option<Metadata>, StoreError> {
        let path = self.metadata_file(key, hash);
        let what = || format!("reading {}", path.display());
        let text = match open_file(&path).and_then(read_small) {
            Err(error) if is_missing(error.kind()) => return Ok(None),
            read => read.map_err(|error| failed(what(), error))?,
        };
        let metadata = serde_json::from_slice(&text).map_err(|error| StoreError::Other {
            what: what(),
            source: error.into(),
        })?;
        Ok(Some(metadata))
    }
}

fn read_small((file, stamp): (File, FileStamp)) -> io::Result<Bytes> {
    if stamp.size > LARGEST_METADATA {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is too long for metadata",
        ));
    }
    read_range(&file, 0..stamp.size)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;

    use super::*;
    use crate::{DirectoryStore, ManifestStore as _};

    fn said(value: &str) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.set("asset-root", value).unwrap();
        metadata
    }

    #[tokio::test]
    async fn metadata_goes_with_the_files_of_a_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::create(&dir.path().join("a")).unwrap();
        let key: ManifestKey = "farm/m".parse().unwrap();
        let metadata = said("/p");
        let put = store.put_manifest_if_absent(&key, Bytes::from_static(b"m"), &metadata);
        assert_eq!(put.await.unwrap(), PutOutcome::Created);
        let hash = ContentHash::of(b"m");
        for file in [
            "Manifests/farm/m".to_owned(),
            format!("Metadata/farm/m/{hash}"),
        ] {
            let copy = dir.path().join("b").join(&file);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::write(copy, fs::read(store.root().join(&file)).unwrap()).unwrap();
        }
        let copy = DirectoryStore::open(&dir.path().join("b")).unwrap();
        let found = copy.get_manifest(&key).await.unwrap();
        assert_eq!(found.metadata, said("/p"));
    }

    #[tokio::test]
    async fn metadata_of_a_dead_writer_is_not_used_for_another_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::create(dir.path()).unwrap();
        let key: ManifestKey = "m".parse().unwrap();
        let dead = ContentHash::of(b"dead");
        fs::create_dir_all(dir.path().join("Metadata/m")).unwrap();
        let left = dir.path().join(format!("Metadata/m/{dead}"));
        fs::write(left, r#"{"asset-root":"/dead"}"#).unwrap();
        let put = async |bytes: &'static [u8], metadata| {
            let bytes = Bytes::from_static(bytes);
            store.put_manifest_if_absent(&key, bytes, &metadata).await
        };
        // The same bytes with other metadata: the store cannot know which writer is right.
        let other = put(b"dead", said("/other")).await.unwrap_err();
        assert!(matches!(other, StoreError::Other { .. }), "{other}");
        assert_eq!(
            put(b"new", said("/new")).await.unwrap(),
            PutOutcome::Created
        );
        let found = store.get_manifest(&key).await.unwrap();
        assert_eq!(
            (&found.bytes[..], found.metadata),
            (&b"new"[..], said("/new"))
        );
    }

    #[tokio::test]
    async fn a_writer_that_died_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::create(dir.path()).unwrap();
        let key: ManifestKey = "m".parse().unwrap();
        let metadata = said("/p");
        let put = || store.put_manifest_if_absent(&key, Bytes::from_static(b"m"), &metadata);
        put().await.unwrap();
        fs::remove_file(dir.path().join("Manifests/m")).unwrap();
        assert_eq!(put().await.unwrap(), PutOutcome::Created);
        assert_eq!(store.get_manifest(&key).await.unwrap().metadata, said("/p"));
    }
}
