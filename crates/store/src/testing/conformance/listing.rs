//! What a store promises of its lists.

use super::Suite;
use crate::{Folder, KeyPrefix, Listed, ListedName, ManifestKey};

impl Suite<'_> {
    /// All entries of a folder after a key.
    pub(super) async fn listed(&self, folder: &Folder, after: Option<&str>) -> Vec<Listed> {
        let mut all = Vec::new();
        let mut after = after.map(str::to_owned);
        loop {
            match self.store.list(folder, after.as_deref()).await {
                Ok(page) => {
                    all.extend(page.entries);
                    match page.next {
                        Some(next) => {
                            assert!(after.is_none_or(|after| after < next), "a page goes back");
                            after = Some(next);
                        }
                        None => return all,
                    }
                }
                Err(error) => panic!("list failed: {error:?}"),
            }
        }
    }

    pub(super) async fn a_listing_has_every_manifest_once_in_order(&self) {
        let (_, bytes) = self.content("listed", 7);
        let names = ["a-b", "a/b", "a/c/d", "a0", "\u{e9} +%20&=", "b: c/d"];
        let mut keys: Vec<_> = names
            .iter()
            .map(|name| self.key(&format!("list/{name}")))
            .collect();
        // More than a page of most stores in tests, less than a page of S3.
        keys.extend((0..250).map(|i| self.key(&format!("list/many/{i:03}"))));
        for key in &keys {
            self.write_manifest(key, &bytes).await;
        }
        keys.sort();
        let folder = Folder::Manifests(folder(&self.key("list")));
        let found = self.listed(&folder, None).await;
        let expected: Vec<_> = keys.iter().map(ManifestKey::object_key).collect();
        let found_keys: Vec<_> = found.iter().map(|entry| entry.key.clone()).collect();
        assert_eq!(found_keys, expected);
        for (entry, key) in found.iter().zip(keys) {
            assert_eq!((entry.len, &entry.name), (7, &ListedName::Manifest(key)));
            assert!(entry.modified.is_some(), "nobody knows when it was written");
        }
    }

    pub(super) async fn a_listing_goes_on_after_any_key(&self) {
        let (_, bytes) = self.content("after", 1);
        let keys = ["1", "2/a", "2/b", "3"].map(|name| self.key(&format!("after/{name}")));
        for key in &keys {
            self.write_manifest(key, &bytes).await;
        }
        let inside = Folder::Manifests(folder(&self.key("after")));
        let start = self.key("after").object_key();
        for (after, left) in [
            ("", 4),
            ("/1", 3),
            ("/2", 3),
            ("/2/a", 2),
            ("/2/az", 2),
            ("/9", 0),
        ] {
            let found = self.listed(&inside, Some(&format!("{start}{after}"))).await;
            assert_eq!(found.len(), left, "after {after:?}");
        }
    }

    pub(super) async fn a_listing_has_the_objects_with_their_lengths(&self) {
        let mut objects = Vec::new();
        for len in 0..5 {
            let (hash, bytes) = self.content("listed object", len);
            self.put_bytes(hash, &bytes).await;
            objects.push((hash, len as u64));
        }
        let found = self.listed(&Folder::Data, None).await;
        assert!(
            found.windows(2).all(|pair| pair[0].key < pair[1].key),
            "the objects are not in the order of keys"
        );
        for (hash, len) in objects {
            let name = ListedName::Object { hash, old: false };
            let entry = found.iter().find(|entry| entry.name == name);
            let entry = entry.unwrap_or_else(|| panic!("{hash} is not listed"));
            assert_eq!(entry.len, len);
            assert!(entry.modified.is_some(), "nobody knows when it was written");
        }
    }

    pub(super) async fn what_is_not_there_lists_as_empty(&self) {
        let nowhere = Folder::Manifests(folder(&self.key("nowhere")));
        assert_eq!(self.listed(&nowhere, None).await, []);
    }
}

/// A key's own folder.
fn folder(key: &ManifestKey) -> KeyPrefix {
    key.as_str().parse().expect("a key can be a prefix")
}
