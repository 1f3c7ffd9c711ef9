//! What every store promises, as one suite that every implementation runs.
//!
//! [`run`] panics with a sentence if a promise is not kept. It may be run more than once over the
//! same store: what it stores is new each time.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::FileStamp;
use attachfs_manifest::ContentHash;
use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join_all;

use crate::{
    Folder, KeyPrefix, Listed, ListedName, ManifestKey, Metadata, Payload, PutOutcome, SourceStamp,
    Store, StoreError,
};

/// Larger than any size at which a store changes its way of storing.
const LARGE: usize = 20 << 20;

/// How much of an object's content is made anew.
const BLOCK: usize = 64 << 10;

/// Holds a store against everything that the traits promise.
pub async fn run(store: Arc<dyn Store>) {
    let suite = Suite::new(&*store);
    suite.all_but_races().await;
    suite.of_many_manifests_at_once_one_is_written().await;
}

/// The same but for one thing: that of manifests which are written at the same moment under one key only
/// one is. A store cannot promise that on a server without conditional writes.
pub async fn run_without_races(store: Arc<dyn Store>) {
    Suite::new(&*store).all_but_races().await;
}

struct Suite<'a> {
    store: &'a dyn Store,
    /// Makes content and keys differ between runs.
    run: ContentHash,
}

impl<'a> Suite<'a> {
    fn new(store: &'a dyn Store) -> Self {
        Self {
            store,
            run: ContentHash::of(format!("{:?}", std::time::SystemTime::now()).as_bytes()),
        }
    }

    async fn all_but_races(&self) {
        self.what_is_not_there_is_not_found().await;
        self.what_was_put_is_read_by_ranges().await;
        self.an_empty_object_is_an_object().await;
        self.a_large_object_comes_back_whole().await;
        self.putting_again_replaces().await;
        self.a_range_of_a_file_is_put().await;
        self.a_file_that_changed_is_not_put().await;
        self.a_file_that_became_shorter_is_not_put().await;
        self.many_puts_of_one_object_at_once_leave_one_whole_object()
            .await;
        self.a_cancelled_put_leaves_all_or_nothing().await;
        self.a_manifest_is_read_as_it_was_written().await;
        self.the_first_manifest_under_a_key_stays().await;
        self.a_key_is_no_folder_of_another().await;
        self.what_is_said_of_a_manifest_is_kept().await;
        self.of_two_writers_the_first_is_recognised().await;
        self.a_listing_has_every_manifest_once_in_order().await;
        self.a_listing_goes_on_after_any_key().await;
        self.a_listing_has_the_objects_with_their_lengths().await;
        self.what_is_not_there_lists_as_empty().await;
    }

    /// Bytes that nobody stored before, and their hash.
    fn content(&self, name: &str, len: usize) -> (ContentHash, Bytes) {
        let mut state = u64::from_le_bytes(
            *ContentHash::of(format!("{}{name}", self.run).as_bytes())
                .as_bytes()
                .first_chunk()
                .expect("a hash has 16 bytes"),
        );
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK.min(len) {
            // splitmix64, by Sebastiano Vigna (public domain).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            block.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        // Further blocks differ from the first in a number, so that none can take another's place.
        let mut bytes = Vec::with_capacity(len + BLOCK);
        for number in 0..len.div_ceil(BLOCK) as u64 {
            let start = bytes.len();
            bytes.extend_from_slice(&block);
            for (byte, change) in bytes[start..].iter_mut().zip(number.to_le_bytes()) {
                *byte ^= change;
            }
        }
        bytes.truncate(len);
        (ContentHash::of(&bytes), bytes.into())
    }

    fn key(&self, name: &str) -> ManifestKey {
        format!("conformance/{}/{name}", self.run)
            .parse()
            .expect("a hash and a plain name are a key")
    }

    async fn put(&self, hash: ContentHash, payload: Payload) {
        if let Err(error) = self.store.put(hash, payload).await {
            panic!("put failed: {error:?}");
        }
    }

    async fn put_bytes(&self, hash: ContentHash, bytes: &Bytes) {
        self.put(hash, Payload::Bytes(bytes.clone())).await;
    }

    async fn check_read(&self, hash: ContentHash, range: Range<u64>, want: &[u8], len: u64) {
        match self.store.get(hash, range.clone()).await {
            Ok(part) => {
                assert!(part.bytes == want, "get of {range:?} gives other bytes");
                assert_eq!(part.object_len, len, "object_len in get of {range:?}");
            }
            Err(error) => panic!("get of {range:?} failed: {error:?}"),
        }
        let stream = match self.store.stream(hash, range.clone()).await {
            Ok(stream) => stream,
            Err(error) => panic!("the stream of {range:?} failed: {error:?}"),
        };
        assert_eq!(
            stream.object_len, len,
            "object_len in a stream of {range:?}"
        );
        let pieces: Result<Vec<Bytes>, _> = stream.pieces.try_collect().await;
        match pieces {
            Ok(pieces) => assert!(
                pieces.concat() == want,
                "a stream of {range:?} gives other bytes"
            ),
            Err(error) => panic!("the stream of {range:?} broke off: {error:?}"),
        }
    }

    async fn check_whole(&self, hash: ContentHash, bytes: &Bytes) {
        let len = bytes.len() as u64;
        self.check_read(hash, 0..len, bytes, len).await;
        match self.store.head(hash).await {
            Ok(meta) => assert_eq!(meta.len, len, "the length in head"),
            Err(error) => panic!("head failed: {error:?}"),
        }
    }

    async fn check_missing(&self, hash: ContentHash, when: &str) {
        let head = self.store.head(hash).await;
        assert!(
            matches!(head, Err(StoreError::NotFound { .. })),
            "{when}, head gives {head:?}"
        );
        let get = self.store.get(hash, 0..1).await;
        assert!(
            matches!(get, Err(StoreError::NotFound { .. })),
            "{when}, get gives {get:?}"
        );
        let stream = self.store.stream(hash, 0..1).await;
        assert!(
            matches!(stream, Err(StoreError::NotFound { .. })),
            "{when}, stream gives {stream:?}"
        );
    }

    async fn what_is_not_there_is_not_found(&self) {
        let (hash, _) = self.content("never put", 10);
        self.check_missing(hash, "when nothing was put").await;
        let manifest = self.store.get_manifest(&self.key("never put")).await;
        assert!(
            matches!(manifest, Err(StoreError::NotFound { .. })),
            "get_manifest of a free key gives {manifest:?}"
        );
    }

    async fn what_was_put_is_read_by_ranges(&self) {
        let (hash, bytes) = self.content("ranges", 1000);
        self.put_bytes(hash, &bytes).await;
        self.check_whole(hash, &bytes).await;
        for range in [0..1_usize, 0..999, 1..1000, 500..501, 999..1000] {
            let want = &bytes[range.clone()];
            let range = range.start as u64..range.end as u64;
            self.check_read(hash, range, want, 1000).await;
        }
        self.check_read(hash, 990..2000, &bytes[990..], 1000).await;
        self.check_read(hash, 0..u64::MAX, &bytes, 1000).await;
        self.check_read(hash, 1000..1001, b"", 1000).await;
        self.check_read(hash, 5000..6000, b"", 1000).await;
        self.check_read(hash, 0..0, b"", 1000).await;
    }

    async fn an_empty_object_is_an_object(&self) {
        let (hash, bytes) = self.content("empty", 0);
        self.put_bytes(hash, &bytes).await;
        self.check_whole(hash, &bytes).await;
        self.check_read(hash, 0..1, b"", 0).await;
        self.check_read(hash, 7..9, b"", 0).await;
    }

    async fn a_large_object_comes_back_whole(&self) {
        let (hash, bytes) = self.content("large", LARGE + 1);
        self.put_bytes(hash, &bytes).await;
        self.check_whole(hash, &bytes).await;
        let last = LARGE as u64..LARGE as u64 + 1;
        self.check_read(hash, last.clone(), &bytes[LARGE..], last.end)
            .await;

        let (hash, bytes) = self.content("large file", LARGE);
        let (_file, payload) = file_payload(&bytes, 0..LARGE as u64);
        self.put(hash, payload).await;
        self.check_whole(hash, &bytes).await;
    }

    async fn putting_again_replaces(&self) {
        let (hash, bytes) = self.content("twice", 5000);
        self.put_bytes(hash, &bytes.slice(..10)).await;
        self.put_bytes(hash, &bytes).await;
        self.check_whole(hash, &bytes).await;
        self.put_bytes(hash, &bytes).await;
        self.check_whole(hash, &bytes).await;
    }

    async fn a_range_of_a_file_is_put(&self) {
        let (_, bytes) = self.content("a file", 100_000);
        for range in [0..100_000_usize, 0..4096, 4096..100_000, 17..18, 50..50] {
            let part = bytes.slice(range.clone());
            let hash = ContentHash::of(&part);
            let (_file, payload) = file_payload(&bytes, range.start as u64..range.end as u64);
            self.put(hash, payload).await;
            self.check_whole(hash, &part).await;
        }
    }

    async fn a_file_that_changed_is_not_put(&self) {
        for len in [1000, LARGE] {
            let (hash, bytes) = self.content("changing", len);
            let (mut file, payload) = file_payload(&bytes, 0..len as u64);
            // A file's times move in steps of the kernel's clock.
            loop {
                file.seek(SeekFrom::Start(0)).expect("a file can seek");
                file.write_all(b"other")
                    .expect("a temporary file is written");
                if payload.check_unchanged().is_err() {
                    break;
                }
            }
            let put = self.store.put(hash, payload).await;
            assert!(
                matches!(put, Err(StoreError::SourceChanged { .. })),
                "put of a changed file gives {put:?}"
            );
            self.check_missing(hash, "after the put of a changed file")
                .await;
        }
    }

    async fn a_file_that_became_shorter_is_not_put(&self) {
        for len in [1000, LARGE] {
            let (hash, bytes) = self.content("shrinking", len);
            let (file, payload) = file_payload(&bytes, 0..len as u64);
            file.set_len(len as u64 / 2).expect("a file can be cut");
            let put = self.store.put(hash, payload).await;
            assert!(
                matches!(put, Err(StoreError::SourceChanged { .. })),
                "put of a shortened file gives {put:?}"
            );
            self.check_missing(hash, "after the put of a shortened file")
                .await;
        }
    }

    async fn many_puts_of_one_object_at_once_leave_one_whole_object(&self) {
        let (hash, bytes) = self.content("at once", 200_000);
        join_all((0..8).map(|_| self.put_bytes(hash, &bytes))).await;
        self.check_whole(hash, &bytes).await;
    }

    async fn a_cancelled_put_leaves_all_or_nothing(&self) {
        for polls in [1_usize, 2, 5] {
            let (hash, bytes) = self.content(&format!("cancelled {polls}"), LARGE);
            let mut put = self.store.put(hash, Payload::Bytes(bytes.clone()));
            for _ in 0..polls {
                if futures::poll!(&mut put).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(put);
            match self.store.get(hash, 0..u64::MAX).await {
                Ok(part) => assert!(part.bytes == bytes, "a cancelled put left other bytes"),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => panic!("get after a cancelled put failed: {error:?}"),
            }
            self.put_bytes(hash, &bytes).await;
            self.check_whole(hash, &bytes).await;
        }
    }

    async fn write_manifest(&self, key: &ManifestKey, bytes: &Bytes) -> PutOutcome {
        self.write_said(key, bytes, &Metadata::new()).await
    }

    async fn write_said(&self, key: &ManifestKey, bytes: &Bytes, said: &Metadata) -> PutOutcome {
        let put = self.store.put_manifest_if_absent(key, bytes.clone(), said);
        match put.await {
            Ok(outcome) => outcome,
            Err(error) => panic!("put_manifest_if_absent failed: {error:?}"),
        }
    }

    async fn check_manifest(&self, key: &ManifestKey, want: &Bytes) {
        match self.store.get_manifest(key).await {
            Ok(found) => assert!(found.bytes == want, "get_manifest gives other bytes"),
            Err(error) => panic!("get_manifest failed: {error:?}"),
        }
    }

    async fn a_manifest_is_read_as_it_was_written(&self) {
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

    async fn the_first_manifest_under_a_key_stays(&self) {
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

    async fn of_many_manifests_at_once_one_is_written(&self) {
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

    async fn a_key_is_no_folder_of_another(&self) {
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

    async fn what_is_said_of_a_manifest_is_kept(&self) {
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

    async fn of_two_writers_the_first_is_recognised(&self) {
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
                    "the first one's words are not there"
                );
                assert!(!found.is(&bytes, &second), "both said the same");
            }
            Err(error) => panic!("get_manifest failed: {error:?}"),
        }
    }

    /// All that a folder has after a key.
    async fn listed(&self, folder: &Folder, after: Option<&str>) -> Vec<Listed> {
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

    async fn a_listing_has_every_manifest_once_in_order(&self) {
        let (_, bytes) = self.content("listed", 7);
        let names = ["a-b", "a/b", "a/c/d", "a0", "\u{e9} +%20&=", "b: c/d"];
        let mut keys: Vec<_> = names
            .iter()
            .map(|name| self.key(&format!("list/{name}")))
            .collect();
        // Longer than a page of most stores' tests, and not of S3.
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

    async fn a_listing_goes_on_after_any_key(&self) {
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

    async fn a_listing_has_the_objects_with_their_lengths(&self) {
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

    async fn what_is_not_there_lists_as_empty(&self) {
        let nowhere = Folder::Manifests(folder(&self.key("nowhere")));
        assert_eq!(self.listed(&nowhere, None).await, []);
    }
}

fn said(pairs: &[(&str, &str)]) -> Metadata {
    let mut metadata = Metadata::new();
    for (name, value) in pairs {
        metadata.set(name, value).expect("a name and plain text");
    }
    metadata
}

/// A key's own folder.
fn folder(key: &ManifestKey) -> KeyPrefix {
    key.as_str().parse().expect("a key can be a prefix")
}

/// A file with these bytes, and the payload that is `range` of it.
fn file_payload(bytes: &[u8], range: Range<u64>) -> (File, Payload) {
    let made = || -> std::io::Result<(File, File, FileStamp)> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        let reading = file.try_clone()?;
        let stamp = FileStamp::of(&file)?;
        Ok((file, reading, stamp))
    };
    let (file, reading, stamp) = made().expect("a temporary file can be made");
    let payload = Payload::File {
        file: Arc::new(reading),
        range,
        stamp: SourceStamp {
            path: PathBuf::from("(temporary file)"),
            stamp,
        },
    };
    (file, payload)
}
