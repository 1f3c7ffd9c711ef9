//! What was fetched before anybody asked for it, until somebody reads it.
//!
//! Whoever fetches ahead adds the bytes before they are asked for, so that a read which waits for them counts as a use. What
//! fails, or is given up, is taken out again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_manifest::{ContentHash, Piece};
use attachfs_store::Count;
use parking_lot::Mutex;

use super::ranges::RangeSet;

/// Bytes that were fetched ahead.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// Of these nothing was read yet.
    objects: Mutex<HashMap<ContentHash, RangeSet>>,
    /// Whether there are any; reads of other mounts need no lock.
    has_some: AtomicBool,
    fetched: Count,
    read: Count,
}

/// Bytes that are being fetched ahead. Dropping it takes those out that nobody has read, unless they [came](Self::came).
#[derive(Debug)]
#[must_use = "the bytes are taken out at once"]
pub(crate) struct Claim<'a> {
    unread: &'a Unread,
    hash: ContentHash,
    ranges: Vec<Range<u64>>,
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
        let mut objects = self.objects.lock();
        let set = objects.entry(hash).or_default();
        let ranges: Vec<_> = ranges
            .into_iter()
            .flat_map(|range| set.insert(range))
            .collect();
        if set.is_empty() {
            objects.remove(&hash);
        }
        self.has_some.store(!objects.is_empty(), Ordering::Release);
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
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
        if self.has_some.load(Ordering::Acquire) {
            self.read.add(self.take(piece.hash, &piece.range));
        }
    }

    fn take(&self, hash: ContentHash, range: &Range<u64>) -> u64 {
        let mut objects = self.objects.lock();
        let Some(set) = objects.get_mut(&hash) else {
            return 0;
        };
        let taken = set.remove(range);
        if set.is_empty() {
            objects.remove(&hash);
            self.has_some.store(!objects.is_empty(), Ordering::Release);
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
        let left: u64 = self.ranges.iter().map(unread).sum();
        // Of these somebody waited for the fetch, and has counted them.
        self.unread.fetched.add(self.bytes - left);
    }
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
        assert!(!unread.has_some.load(Ordering::Relaxed));
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
}
