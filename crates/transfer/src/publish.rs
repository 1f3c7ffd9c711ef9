//! Publishing a manifest: the last step of an upload, and the one that others see.

use attachfs_manifest::ContentHash;
use attachfs_store::{ManifestKey, ManifestStore, Metadata, PutOutcome, StoreError};
use bytes::Bytes;

/// Why a manifest is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It could not be written or read back.
    #[error("the manifest could not be published as {key}")]
    Store {
        /// The key.
        key: ManifestKey,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// Another manifest has the key.
    #[error(
        "another manifest is in the store as {key}: its hash is {found}, this one's is {expected}; \
         nothing was overwritten"
    )]
    Conflict {
        /// The key.
        key: ManifestKey,
        /// Of what was to be published.
        expected: ContentHash,
        /// Of what is there.
        found: ContentHash,
    },
    /// The same manifest has the key, and other things are said of it.
    #[error(
        "this manifest is in the store as {key} with other metadata, that of another root perhaps; \
         it stays as it is"
    )]
    OtherMetadata {
        /// The key.
        key: ManifestKey,
    },
}

/// Sends a manifest to a key, and says whether it had been there. Whatever happened before: afterwards the
/// store has these bytes there with this metadata, or it is an error. What others wrote is never replaced.
/// All that the manifest names must be in the store.
pub async fn publish_manifest(
    store: &dyn ManifestStore,
    key: &ManifestKey,
    bytes: Bytes,
    metadata: &Metadata,
) -> Result<bool, PublishError> {
    let expected = ContentHash::of(&bytes);
    let sent = match store.put_manifest_if_absent(key, bytes, metadata).await {
        Ok(PutOutcome::Created) => return Ok(false),
        sent => sent,
    };
    // Either it is there already, or the outcome is unknown: look.
    let existed = sent.is_ok();
    let stored = match store.get_manifest(key).await {
        Ok(stored) => stored,
        Err(look) => {
            return Err(PublishError::Store {
                key: key.clone(),
                source: sent.err().unwrap_or(look),
            });
        }
    };
    let found = ContentHash::of(&stored.bytes);
    if found != expected {
        return Err(PublishError::Conflict {
            key: key.clone(),
            expected,
            found,
        });
    }
    if !stored.metadata.includes(metadata) {
        return Err(PublishError::OtherMetadata { key: key.clone() });
    }
    Ok(existed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
    use attachfs_store::{CallKind, MemoryStore};

    use super::*;

    fn key() -> ManifestKey {
        "a/b".parse().unwrap()
    }

    async fn published(
        store: &dyn ManifestStore,
        bytes: &'static str,
    ) -> Result<bool, PublishError> {
        publish_manifest(store, &key(), bytes.into(), &Metadata::new()).await
    }

    #[tokio::test]
    async fn the_same_bytes_may_be_published_twice_and_others_may_not_replace_them() {
        let store = MemoryStore::new();
        assert!(!published(&store, "one").await.unwrap());
        assert!(published(&store, "one").await.unwrap());
        let error = published(&store, "two").await;
        assert!(
            matches!(error, Err(PublishError::Conflict { found, .. }) if found == ContentHash::of(b"one"))
        );
        assert_eq!(store.get_manifest(&key()).await.unwrap().bytes, "one");
    }

    #[tokio::test]
    async fn the_same_bytes_of_another_root_are_not_the_same_manifest() {
        let store = MemoryStore::new();
        published(&store, "one").await.unwrap();
        let mut other = Metadata::new();
        other.set("asset-root", "/b").unwrap();
        let error = publish_manifest(&store, &key(), "one".into(), &other).await;
        assert!(matches!(error, Err(PublishError::OtherMetadata { .. })));
    }

    #[tokio::test]
    async fn a_write_whose_answer_was_lost_is_found_to_have_happened() {
        let store = FaultStore::new(Arc::new(MemoryStore::new()));
        store.add(Rule::on(
            CallKind::PutManifest,
            Fault::After(Failure::Unreachable),
        ));
        assert!(!published(&store, "one").await.unwrap());
    }
}
