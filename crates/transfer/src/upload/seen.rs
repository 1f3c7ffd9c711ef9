//! Objects that an earlier upload saw in the bucket, believed after a sample.
//!
//! ```text
//!     hashes --look_up--> known --relies_on--> relied on --sample of 30 asked for--> there: all are
//!                                                                     '--> missing: forget, ask for all
//!     PUT or HEAD --confirmed--> rows
//! ```
//!
//! Rows are written about once a second, so that those of a killed upload lack what it sent last. One row more, for
//! the name of the directory of the objects, is there from the beginning of an upload until one ends well:
//! whoever finds it asks for everything.
//!
//! Objects vanish from buckets behind the cache's back: lifecycle rules, people. So nothing is believed until a
//! random sample of what this very upload relies on was asked for. One object that is missing or has
//! another length, and the rows of this bucket and prefix are forgotten and every object is asked for.
//! What this cannot find is a hole that the sample misses: of n objects with k missing, all of the
//! sample are there with a chance of about (1 - k/n)^30. `--force-s3-check` asks for all.
//!
//! Only uploads of folders and manifests believe; a commit confirms every object itself.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::SystemTime;

use attachfs_manifest::ContentHash;
use attachfs_scan::cache::S3CheckCache;
use attachfs_store::{BucketName, RootPrefix, data_key};
use parking_lot::Mutex;

use crate::summary::Tally;

/// How many objects are asked for before the others are believed
/// (`deadline-job-attachments` 0.1.5, `upload.py`).
const SAMPLE: usize = 30;

/// What was seen in one bucket below one prefix.
pub struct SeenObjects {
    cache: S3CheckCache,
    bucket: BucketName,
    prefix: RootPrefix,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is believed.
    is_doubted: bool,
    /// What the cache knows of the objects that were looked up.
    known: HashSet<ContentHash>,
    /// What somebody believed, and how long each should be.
    relied_on: HashMap<ContentHash, u64>,
    /// What the store confirmed.
    confirmed: Vec<ContentHash>,
    /// How many of them are rows.
    written: usize,
}

impl fmt::Debug for SeenObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeenObjects")
            .field("cache", &self.cache)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl SeenObjects {
    /// What the cache knows of this bucket and prefix. The cache must be of the same endpoint. `seed`
    /// chooses the sample; it should be another each time.
    pub fn new(cache: S3CheckCache, bucket: BucketName, prefix: RootPrefix, seed: u64) -> Self {
        Self {
            cache,
            bucket,
            prefix,
            seed,
            state: Mutex::default(),
        }
    }

    /// Believes nothing, and only keeps what the store confirms.
    #[must_use]
    pub fn doubted(self) -> Self {
        self.state.lock().is_doubted = true;
        self
    }

    fn key(&self, hash: ContentHash) -> String {
        format!("{}/{}", self.bucket, self.prefix.join(&data_key(hash)))
    }

    /// The row that is there while an upload runs. No object has this key.
    fn mark(&self) -> String {
        format!("{}/{}/", self.bucket, self.prefix.join("Data"))
    }

    /// Writes down that an upload runs. Gives whether an earlier one did not end well, or another runs at this
    /// time. Blocks.
    pub(super) fn begin(&self) -> bool {
        let (now, mark) = (SystemTime::now(), [self.mark()]);
        let is_there = self.cache.look_up(&mark, now)[0];
        self.cache.remember(&mark[0], now);
        self.cache.flush();
        is_there
    }

    /// The upload is complete. Blocks.
    pub(crate) fn complete(&self) {
        self.flush();
        self.cache.forget_one(&self.mark());
    }

    /// Whether nothing is believed.
    pub(super) fn is_doubted(&self) -> bool {
        self.state.lock().is_doubted
    }

    /// Finds out what the cache knows of these objects. Blocks.
    pub(crate) fn look_up(&self, hashes: &[ContentHash]) {
        if self.state.lock().is_doubted {
            return;
        }
        let keys: Vec<_> = hashes.iter().map(|&hash| self.key(hash)).collect();
        let found = self.cache.look_up(&keys, SystemTime::now());
        let known = hashes.iter().zip(found).filter(|&(_, found)| found);
        self.state.lock().known.extend(known.map(|(&hash, _)| hash));
    }

    /// Whether an object need not be asked for, if the sample is as it should be. It is in the sample
    /// from now on.
    pub(super) fn relies_on(&self, hash: ContentHash, len: u64) -> bool {
        let mut state = self.state.lock();
        let is_known = !state.is_doubted && state.known.contains(&hash);
        // An object has one length.
        is_known && *state.relied_on.entry(hash).or_insert(len) == len
    }

    /// The objects that are to be asked for before the others are believed, and their lengths.
    pub(super) fn sample(&self) -> Vec<(ContentHash, u64)> {
        let mut all: Vec<_> = {
            let state = self.state.lock();
            state.relied_on.iter().map(|(&h, &len)| (h, len)).collect()
        };
        // Equal seeds choose the same.
        all.sort_unstable();
        let mut random = fastrand::Rng::with_seed(self.seed);
        let count = all.len();
        for at in 0..count.min(SAMPLE) {
            all.swap(at, random.usize(at..count));
        }
        all.truncate(SAMPLE);
        all
    }

    /// What was believed: how many objects and bytes.
    pub(super) fn relied_on(&self) -> Tally {
        let mut tally = Tally::default();
        let state = self.state.lock();
        for &len in state.relied_on.values() {
            tally.add(len);
        }
        tally
    }

    /// Forgets what the cache knows of this bucket and prefix, and believes nothing any more. What the
    /// store confirmed meanwhile is kept. Blocks.
    pub(super) fn forget(&self) {
        self.cache
            .forget(self.bucket.as_str(), self.prefix.as_str());
        self.begin();
        let mut state = self.state.lock();
        state.is_doubted = true;
        state.relied_on.clear();
        state.written = 0;
    }

    /// The store has the object: it took it, or gave its right length.
    pub(super) fn confirmed(&self, hash: ContentHash) {
        self.state.lock().confirmed.push(hash);
    }

    /// Writes down what was confirmed. Blocks. Dropping does so too.
    pub(crate) fn flush(&self) {
        let fresh: Vec<_> = {
            let mut state = self.state.lock();
            let fresh = state.confirmed[state.written..].to_vec();
            state.written = state.confirmed.len();
            fresh
        };
        let now = SystemTime::now();
        for hash in fresh {
            self.cache.remember(&self.key(hash), now);
        }
        self.cache.flush();
    }
}

impl Drop for SeenObjects {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    fn hash(number: u32) -> ContentHash {
        ContentHash::of(&number.to_le_bytes())
    }

    fn seen(home: &TempDir, prefix: &str, seed: u64) -> SeenObjects {
        let cache = S3CheckCache::open(home.path(), Duration::from_secs(1)).unwrap();
        SeenObjects::new(
            cache,
            "bucket".parse().unwrap(),
            prefix.parse().unwrap(),
            seed,
        )
    }

    fn learn(seen: &SeenObjects, count: u32) -> Vec<ContentHash> {
        let hashes: Vec<_> = (0..count).map(hash).collect();
        for &hash in &hashes {
            seen.confirmed(hash);
        }
        seen.flush();
        hashes
    }

    #[test]
    fn what_was_confirmed_is_believed_by_the_next_upload_below_the_same_prefix() {
        let home = TempDir::new().unwrap();
        let hashes = learn(&seen(&home, "p", 0), 3);
        for (prefix, expected) in [("p", true), ("q", false), ("", false)] {
            let next = seen(&home, prefix, 0);
            next.look_up(&hashes);
            assert_eq!(next.relies_on(hashes[0], 4), expected, "{prefix:?}");
            assert!(!next.relies_on(hash(9), 4));
        }
    }

    #[test]
    fn the_sample_is_of_what_was_relied_on_and_another_for_another_seed() {
        let home = TempDir::new().unwrap();
        let hashes = learn(&seen(&home, "p", 0), 200);
        let sample = |seed| {
            let next = seen(&home, "p", seed);
            next.look_up(&hashes);
            for &hash in &hashes[..100] {
                assert!(next.relies_on(hash, 4));
            }
            next.sample()
        };
        let first = sample(1);
        assert_eq!(first.len(), SAMPLE);
        assert!(first.iter().all(|(hash, _)| hashes[..100].contains(hash)));
        let distinct: HashSet<_> = first.iter().collect();
        assert_eq!(distinct.len(), SAMPLE);
        assert_eq!(first, sample(1));
        assert_ne!(first, sample(2));
    }

    #[test]
    fn a_doubted_cache_is_not_believed_and_is_written_to() {
        let home = TempDir::new().unwrap();
        learn(&seen(&home, "p", 0), 1);
        let doubted = seen(&home, "p", 0).doubted();
        doubted.look_up(&[hash(0)]);
        assert!(!doubted.relies_on(hash(0), 4));
        doubted.confirmed(hash(1));
        drop(doubted);
        let next = seen(&home, "p", 0);
        next.look_up(&[hash(1)]);
        assert!(next.relies_on(hash(1), 4));
    }

    #[test]
    fn an_upload_that_did_not_end_is_noticed_by_the_next_below_the_same_prefix() {
        let home = TempDir::new().unwrap();
        let complete = seen(&home, "p", 0);
        assert!(!complete.begin());
        complete.complete();
        let killed = seen(&home, "p", 0);
        assert!(!killed.begin());
        killed.forget();
        std::mem::forget(killed);
        assert!(!seen(&home, "q", 0).begin());
        // One that fails at once has not asked for what the first one sent.
        assert!(seen(&home, "p", 0).begin());
        let next = seen(&home, "p", 0);
        assert!(next.begin());
        next.complete();
        assert!(!seen(&home, "p", 0).begin());
    }

    #[test]
    fn what_was_confirmed_by_this_upload_survives_the_forgetting() {
        let home = TempDir::new().unwrap();
        learn(&seen(&home, "p", 0), 2);
        let upload = seen(&home, "p", 0);
        upload.look_up(&[hash(0)]);
        assert!(upload.relies_on(hash(0), 4));
        upload.confirmed(hash(5));
        upload.forget();
        assert!(!upload.relies_on(hash(0), 4));
        drop(upload);
        let next = seen(&home, "p", 0);
        next.look_up(&[hash(0), hash(1), hash(5)]);
        let known: Vec<_> = [0, 1, 5].map(|i| next.relies_on(hash(i), 4)).into();
        assert_eq!(known, [false, false, true]);
    }
}
