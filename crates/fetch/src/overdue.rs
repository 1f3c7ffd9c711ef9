//! Remembers for a moment which ranges timed out.
//!
//! A kernel that asked for many pages at once and did not get them asks again for the one that a
//! reader waits for. Without this memory the reader would wait for the deadline twice.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use attachfs_manifest::{ContentHash, Piece};
use parking_lot::Mutex;
use tokio::time::Instant;

/// For how long a read of a range that timed out fails at once. Longer than the kernel takes to ask
/// again, shorter than a person takes to try again.
const REMEMBERED: Duration = Duration::from_secs(5);
/// The most ranges that are remembered; the oldest is dropped first.
const MOST: usize = 256;

#[derive(Debug)]
struct Entry {
    hash: ContentHash,
    range: Range<u64>,
    until: Instant,
}

/// The ranges of objects that timed out last, in order of time.
#[derive(Debug, Default)]
pub(crate) struct Overdue(Mutex<VecDeque<Entry>>);

impl Overdue {
    /// Remembers that `piece` timed out.
    pub(crate) fn note(&self, piece: &Piece) {
        let mut entries = self.0.lock();
        if entries.len() == MOST {
            entries.pop_front();
        }
        entries.push_back(Entry {
            hash: piece.hash,
            range: piece.range.clone(),
            until: Instant::now() + REMEMBERED,
        });
    }

    /// Whether all of `piece` timed out a moment ago.
    pub(crate) fn has(&self, piece: &Piece) -> bool {
        let mut entries = self.0.lock();
        if entries.is_empty() {
            return false;
        }
        let now = Instant::now();
        while entries.front().is_some_and(|entry| entry.until <= now) {
            entries.pop_front();
        }
        entries.iter().any(|entry| {
            entry.hash == piece.hash
                && entry.range.start <= piece.range.start
                && piece.range.end <= entry.range.end
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use attachfs_store::fault::{Fault, FaultStore, Rule};
    use attachfs_store::{CallKind, MemoryStore};

    use super::*;
    use crate::{FetchError, FetchOptions, Fetcher};

    const LEN: u64 = 100;

    /// A fetcher of one object whose first request hangs, and a piece of that object.
    fn hanging_once() -> (Fetcher, impl Fn(Range<u64>) -> Piece) {
        let memory = MemoryStore::new();
        let hash = memory.insert(vec![7; LEN as usize]);
        let store = FaultStore::new(Arc::new(memory));
        store.add(Rule::on(CallKind::Get, Fault::Hang).times(1));
        let fetcher = Fetcher::new(Arc::new(store), None, FetchOptions::default());
        let piece = move |range| Piece {
            hash,
            object_len: LEN,
            range,
        };
        (fetcher, piece)
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_a_range_that_timed_out_is_not_waited_for_again() {
        let (fetcher, piece) = hanging_once();
        fetcher.read(&piece(0..50)).await.unwrap_err();
        let again = Instant::now();
        let read = fetcher.read(&piece(10..20)).await;
        assert!(matches!(read, Err(FetchError::TimedOut { .. })));
        assert_eq!(again.elapsed(), Duration::ZERO);
        assert_eq!(fetcher.counters().timed_out, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_range_that_did_not_time_out_is_fetched() {
        let (fetcher, piece) = hanging_once();
        fetcher.read(&piece(0..50)).await.unwrap_err();
        assert_eq!(fetcher.read(&piece(40..60)).await.unwrap(), [7; 20][..]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_is_forgotten() {
        let (fetcher, piece) = hanging_once();
        fetcher.read(&piece(0..50)).await.unwrap_err();
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(fetcher.read(&piece(0..50)).await.unwrap(), [7; 50][..]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_bounded_number_is_remembered() {
        let overdue = Overdue::default();
        let hash = ContentHash::of(b"object");
        let piece = |at| Piece {
            hash,
            object_len: 1 << 20,
            range: at..at + 1,
        };
        for at in 0..=MOST as u64 {
            overdue.note(&piece(at));
        }
        assert_eq!(overdue.0.lock().len(), MOST);
        assert!(!overdue.has(&piece(0)) && overdue.has(&piece(1)));
    }
}
