//! Publishing a manifest: the last step of an upload, and the one that others see.

use attachfs_manifest::ContentHash;
use attachfs_store::{ManifestKey, ManifestStore, PutOutcome, StoreError};
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
}

/// Sends a manifest to a key. Whatever happened before: afterwards the store has these bytes there, or
/// it is an error. Bytes of others are never replaced. All that the manifest names must be in the store.
pub async fn publish_manifest(
    store: &dyn ManifestStore,
    key: &ManifestKey,
    bytes: Bytes,
) -> Result<(), PublishError> {
    let expected = ContentHash::of(&bytes);
    let failed = |source| PublishError::Store {
        key: key.clone(),
        source,
    };
    let sent = store.put_manifest_if_absent(key, bytes).await;
    if let Ok(PutOutcome::Created) = sent {
        return Ok(());
    }
    // Either it is there already, or the outcome is unknown: look.
    match store.get_manifest(key).await {
        Ok(stored) => {
            let found = ContentHash::of(&stored);
            if found == expected {
                Ok(())
            } else {
                Err(PublishError::Conflict {
                    key: key.clone(),
                    expected,
                    found,
                })
            }
        }
        Err(look) => Err(failed(match sent {
            Err(send) => send,
            Ok(_) => look,
        })),
    }
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

    #[tokio::test]
    async fn the_same_bytes_may_be_published_twice_and_others_may_not_replace_them() {
        let store = MemoryStore::new();
        for _ in 0..2 {
            publish_manifest(&store, &key(), "one".into())
                .await
                .unwrap();
        }
        let error = publish_manifest(&store, &key(), "two".into()).await;
        assert!(
            matches!(error, Err(PublishError::Conflict { found, .. }) if found == ContentHash::of(b"one"))
        );
        assert_eq!(store.get_manifest(&key()).await.unwrap(), "one");
    }

    #[tokio::test]
    async fn a_write_whose_answer_was_lost_is_found_to_have_happened() {
        let store = FaultStore::new(Arc::new(MemoryStore::new()));
        store.add(Rule::on(
            CallKind::PutManifest,
            Fault::After(Failure::Unreachable),
        ));
        publish_manifest(&store, &key(), "one".into())
            .await
            .unwrap();
    }
}
