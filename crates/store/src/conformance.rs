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
use futures::future::join_all;

use crate::{ManifestKey, Payload, PutOutcome, SourceStamp, Store, StoreError};

/// Larger than any size at which a store changes its way of storing.
const LARGE: usize = 20 << 20;

/// How much of an object's content is made anew.
const BLOCK: usize = 64 << 10;

/// Holds a store against everything that the traits promise.
pub async fn run(store: Arc<dyn Store>) {
    let suite = Suite {
        store: &*store,
        run: ContentHash::of(format!("{:?}", std::time::SystemTime::now()).as_bytes()),
    };
    suite.what_is_not_there_is_not_found().await;
    suite.what_was_put_is_read_by_ranges().await;
    suite.an_empty_object_is_an_object().await;
    suite.a_large_object_comes_back_whole().await;
    suite.putting_again_replaces().await;
    suite.a_range_of_a_file_is_put().await;
    suite.a_file_that_changed_is_not_put().await;
    suite.a_file_that_became_shorter_is_not_put().await;
    suite
        .many_puts_of_one_object_at_once_leave_one_whole_object()
        .await;
    suite.a_cancelled_put_leaves_all_or_nothing().await;
    suite.a_manifest_is_read_as_it_was_written().await;
    suite.the_first_manifest_under_a_key_stays().await;
    suite.of_many_manifests_at_once_one_is_written().await;
    suite.a_key_is_no_folder_of_another().await;
}

struct Suite<'a> {
    store: &'a dyn Store,
    /// Makes content and keys differ between runs.
    run: ContentHash,
}

impl Suite<'_> {
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
        match self.store.put_manifest_if_absent(key, bytes.clone()).await {
            Ok(outcome) => outcome,
            Err(error) => panic!("put_manifest_if_absent failed: {error:?}"),
        }
    }

    async fn check_manifest(&self, key: &ManifestKey, want: &Bytes) {
        match self.store.get_manifest(key).await {
            Ok(bytes) => assert!(bytes == want, "get_manifest gives other bytes"),
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
