//! What was fetched before anybody asked for it, until somebody reads it.
//!
//! Bytes are added before the store is asked for them, so that a read which waits for them counts as a use. If fetching them fails or
//! is cancelled, they are taken out again.
//!
//! The unread bytes of a bounded number of objects are kept. Bytes of further objects count as fetched, and never as read.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use attachfs_manifest::{ContentHash, Piece};
use attachfs_store::Count;
use parking_lot::Mutex;

use super::ranges::RangeSet;

/// Of so many objects it is known at once what is unread: about 20 MB.
const MOST_OBJECTS: usize = 1 << 16;
/// Reads of different objects seldom wait for each other.
const SHARDS: usize = 32;

/// Bytes that were fetched ahead.
#[derive(Debug)]
pub(crate) struct Unread {
    /// Of these nothing was read yet. The first byte of a hash says where its object is.
    shards: [Mutex<HashMap<ContentHash, RangeSet>>; SHARDS],
    /// How many objects there are; reads of mounts that have none need no lock.
    count: AtomicUsize,
    most: usize,
    fetched: Count,
    read: Count,
}

impl Default for Unread {
    fn default() -> Self {
        Self {
            shards: Default::default(),
            count: AtomicUsize::new(0),
            most: MOST_OBJECTS,
            fetched: Count::default(),
            read: Count::default(),
        }
    }
}

/// Bytes that are being fetched ahead. Dropping it takes those out that nobody has read, unless they [came](Self::came).
#[derive(Debug)]
#[must_use = "the bytes are taken out at once"]
pub(crate) struct Claim<'a> {
    unread: &'a Unread,
    hash: ContentHash,
    /// Those that were added.
    ranges: Vec<Range<u64>>,
    /// All that is on its way.
    bytes: u64,
    has_come: bool,
}

impl Unread {
    /// Adds ranges of an object that are about to be fetched. What is in it already is not added again.
    pub(crate) fn claim(
        &self,
        hash: ContentHash,
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Claim<'_> {
        let mut objects = self.shard(hash).lock();
        let is_new = !objects.contains_key(&hash);
        if is_new && self.count.load(Ordering::Relaxed) >= self.most {
            return Claim {
                unread: self,
                hash,
                ranges: Vec::new(),
                bytes: ranges.into_iter().map(|range| len(&range)).sum(),
                has_come: false,
            };
        }
        let set = objects.entry(hash).or_default();
        let ranges: Vec<_> = ranges
            .into_iter()
            .flat_map(|range| set.insert(range))
            .collect();
        if set.is_empty() {
            objects.remove(&hash);
        } else if is_new {
            self.count.fetch_add(1, Ordering::Release);
        }
        let bytes = ranges.iter().map(len).sum();
        Claim {
            unread: self,
            hash,
            ranges,
            bytes,
            has_come: false,
        }
    }

    /// Notes a read. What it asks for is unread no more.
    pub(crate) fn note(&self, piece: &Piece) {
        if self.count.load(Ordering::Acquire) > 0 {
            self.read.add(self.take(piece.hash, &piece.range));
        }
    }

    fn shard(&self, hash: ContentHash) -> &Mutex<HashMap<ContentHash, RangeSet>> {
        &self.shards[usize::from(hash.as_bytes()[0]) % SHARDS]
    }

    fn take(&self, hash: ContentHash, range: &Range<u64>) -> u64 {
        let mut objects = self.shard(hash).lock();
        let Some(set) = objects.get_mut(&hash) else {
            return 0;
        };
        let taken = set.remove(range);
        if set.is_empty() {
            objects.remove(&hash);
            self.count.fetch_sub(1, Ordering::Release);
        }
        taken
    }

    /// Bytes that were fetched ahead, and those of them that were read since. What is on its way counts.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        // In this order: no more are read than were fetched.
        let read = self.read.get();
        (self.fetched.get().max(read), read)
    }
}

impl Claim<'_> {
    /// They came: so many.
    pub(crate) fn came(mut self) -> u64 {
        self.has_come = true;
        self.unread.fetched.add(self.bytes);
        self.bytes
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.has_come {
            return;
        }
        let unread = |range| self.unread.take(self.hash, range);
        let added: u64 = self.ranges.iter().map(len).sum();
        let left: u64 = self.ranges.iter().map(unread).sum();
        // Of these somebody waited for the fetch, and has counted them.
        self.unread.fetched.add(added - left);
    }
}

fn len(range: &Range<u64>) -> u64 {
    range.end - range.start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(range: Range<u64>) -> Piece {
        Piece {
            hash: ContentHash::from_bytes([1; 16]),
            object_len: 1000,
            range,
        }
    }

    #[test]
    fn bytes_that_are_read_after_they_were_fetched_ahead_count_once() {
        let unread = Unread::default();
        let hash = piece(0..0).hash;
        unread.note(&piece(0..10));
        let claim = unread.claim(hash, [0..100, 200..300]);
        assert_eq!(claim.bytes, 200);
        claim.came();
        assert_eq!(unread.so_far(), (200, 0));
        unread.note(&piece(50..250));
        unread.note(&piece(50..250));
        assert_eq!(unread.so_far(), (200, 100));
        unread.note(&piece(0..1000));
        assert_eq!(unread.so_far(), (200, 200));
        assert_eq!(unread.count.load(Ordering::Relaxed), 0);
        unread.note(&piece(0..1000));
        assert_eq!(unread.so_far(), (200, 200));
    }

    #[test]
    fn what_is_given_up_does_not_count_but_for_what_was_waited_for() {
        let unread = Unread::default();
        let hash = piece(0..0).hash;
        drop(unread.claim(hash, Some(0..100)));
        assert_eq!(unread.so_far(), (0, 0));
        let claim = unread.claim(hash, Some(0..100));
        let second = unread.claim(hash, Some(50..150));
        assert_eq!(second.bytes, 50, "the others are claimed");
        unread.note(&piece(0..10));
        drop(claim);
        second.came();
        assert_eq!(unread.so_far(), (60, 10));
    }

    #[test]
    fn what_is_unread_takes_no_more_memory_than_it_may_and_all_counts_as_fetched() {
        let unread = Unread {
            most: 2,
            ..Unread::default()
        };
        let claim = |object, range| {
            let ranges: Option<Range<u64>> = Some(range);
            unread.claim(ContentHash::from_bytes([object; 16]), ranges)
        };
        for object in 1..=4 {
            claim(object, 0..100).came();
        }
        let kept = || {
            let lens = unread.shards.iter().map(|shard| shard.lock().len());
            lens.sum::<usize>()
        };
        assert_eq!((kept(), unread.so_far()), (2, (400, 0)));
        drop(claim(5, 0..100));
        assert_eq!(claim(1, 100..150).came(), 50);
        assert_eq!((kept(), unread.so_far()), (2, (450, 0)));
        unread.note(&piece(0..150));
        assert_eq!((kept(), unread.so_far()), (1, (450, 150)));
        claim(6, 0..1).came();
        assert_eq!(kept(), 2);
    }
}
