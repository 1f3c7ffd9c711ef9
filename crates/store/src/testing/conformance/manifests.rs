//! What a store promises of manifests.

use bytes::Bytes;
use futures::future::join_all;

use super::{LARGE, Suite};
use crate::{ManifestKey, Metadata, PutOutcome, StoreError};

impl Suite<'_> {
    pub(super) async fn write_manifest(&self, key: &ManifestKey, bytes: &Bytes) -> PutOutcome {
        self.write_said(key, bytes, &Metadata::new()).await
    }

    pub(super) async fn write_said(
        &self,
        key: &ManifestKey,
        bytes: &Bytes,
        said: &Metadata,
    ) -> PutOutcome {
        let put = self.store.put_manifest_if_absent(key, bytes.clone(), said);
        match put.await {
            Ok(outcome) => outcome,
            Err(error) => panic!("put_manifest_if_absent failed: {error:?}"),
        }
    }

    pub(super) async fn check_manifest(&self, key: &ManifestKey, want: &Bytes) {
        match self.store.get_manifest(key).await {
            Ok(found) => assert!(found.bytes == want, "get_manifest gives other bytes"),
            Err(error) => panic!("get_manifest failed: {error:?}"),
        }
    }

    pub(super) async fn a_manifest_is_read_as_it_was_written(&self) {
        for (name, len) in [
            ("empty", 0),
            ("small", 300),
            ("a b: c+d%20é=&", 10),
            ("large", LARGE),
        ] {
            let (_, bytes) = self.content(name, len);
            let key = self.key(name);
            assert_eq!(self.write_manifest(&key, &bytes).await, PutOutcome::Created);
            self.check_manifest(&key, &bytes).await;
        }
    }

    pub(super) async fn the_first_manifest_under_a_key_stays(&self) {
        let key = self.key("first");
        let (_, first) = self.content("first", 100);
        let (_, second) = self.content("second", 50);
        assert_eq!(self.write_manifest(&key, &first).await, PutOutcome::Created);
        for again in [&second, &first] {
            assert_eq!(
                self.write_manifest(&key, again).await,
                PutOutcome::Exists,
                "writing under a taken key"
            );
            self.check_manifest(&key, &first).await;
        }
    }

    pub(super) async fn of_many_manifests_at_once_one_is_written(&self) {
        let key = self.key("race");
        let contents: Vec<Bytes> = (0..8)
            .map(|i| self.content(&format!("race {i}"), 10_000).1)
            .collect();
        let writes = contents
            .iter()
            .map(|bytes| self.write_manifest(&key, bytes));
        let outcomes = join_all(writes).await;
        let created: Vec<usize> = (0..8)
            .filter(|i| outcomes[*i] == PutOutcome::Created)
            .collect();
        assert_eq!(created.len(), 1, "how many of 8 writers were the first");
        self.check_manifest(&key, &contents[created[0]]).await;
    }

    pub(super) async fn a_key_is_no_folder_of_another(&self) {
        let (_, bytes) = self.content("in a folder", 10);
        self.write_manifest(&self.key("folder/file"), &bytes).await;
        let folder = self.store.get_manifest(&self.key("folder")).await;
        assert!(
            matches!(folder, Err(StoreError::NotFound { .. })),
            "get_manifest of the beginning of a key gives {folder:?}"
        );
        let below = self
            .store
            .get_manifest(&self.key("folder/file/below"))
            .await;
        assert!(
            matches!(below, Err(StoreError::NotFound { .. })),
            "get_manifest below a manifest gives {below:?}"
        );
    }

    pub(super) async fn what_is_said_of_a_manifest_is_kept(&self) {
        let (_, bytes) = self.content("said", 100);
        let many = said(&[
            ("asset-root", "C:\\a \"b\", c"),
            ("asset-root-json", r#""/h\u00e9""#),
            ("file-system-location-name", "Loc 1"),
            ("empty", ""),
        ]);
        // As much as there can be.
        let most = said(&[("n", &"~".repeat(2047))]);
        for (number, metadata) in [Metadata::new(), many, most].iter().enumerate() {
            let key = self.key(&format!("said/{number}"));
            let outcome = self.write_said(&key, &bytes, metadata).await;
            assert_eq!(outcome, PutOutcome::Created);
            match self.store.get_manifest(&key).await {
                Ok(found) => {
                    assert!(
                        found.is(&bytes, metadata),
                        "not what was written: {found:?}"
                    );
                    assert!(found.modified.is_some(), "nobody knows when it was written");
                }
                Err(error) => panic!("get_manifest failed: {error:?}"),
            }
        }
    }

    pub(super) async fn of_two_writers_the_first_is_recognised(&self) {
        let key = self.key("said/twice");
        let (_, bytes) = self.content("said twice", 100);
        let (first, second) = (said(&[("who", "first")]), said(&[("who", "second")]));
        self.write_said(&key, &bytes, &first).await;
        for again in [&first, &second] {
            let outcome = self.write_said(&key, &bytes, again).await;
            assert_eq!(outcome, PutOutcome::Exists);
        }
        match self.store.get_manifest(&key).await {
            Ok(found) => {
                assert!(
                    found.is(&bytes, &first),
                    "the first writer's metadata is not there"
                );
                assert!(!found.is(&bytes, &second), "both have the same metadata");
            }
            Err(error) => panic!("get_manifest failed: {error:?}"),
        }
    }
}

fn said(pairs: &[(&str, &str)]) -> Metadata {
    let mut metadata = Metadata::new();
    for (name, value) in pairs {
        metadata.set(name, value).expect("a name and plain text");
    }
    metadata
}
