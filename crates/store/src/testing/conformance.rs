//! What every store promises, as one suite that every implementation runs.
//!
//! [`run`] panics with a sentence if a promise is not kept. It may run more than once over the same
//! store: it stores new content each time.

mod listing;
mod manifests;
mod objects;

use std::ops::Range;
use std::sync::Arc;

use attachfs_manifest::ContentHash;
use bytes::Bytes;

use crate::{ManifestKey, Payload, Store, StoreError};

/// Larger than any size at which a store changes its way of storing.
const LARGE: usize = 20 << 20;

/// How many bytes of an object's content are random.
const BLOCK: usize = 64 << 10;

/// Checks everything that the traits promise.
pub async fn run(store: Arc<dyn Store>) {
    let suite = Suite::new(&*store);
    suite.all_but_races().await;
    suite.of_many_manifests_at_once_one_is_written().await;
}

/// The same without one promise: that of several manifests written at the same moment under one key only
/// one is kept. On a server without conditional writes a store cannot promise that.
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
}
