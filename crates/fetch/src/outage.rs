//! An outage of the store: from the first failed request to the first one that is answered again.
//!
//! Each reader gets its own failure. The end of the outage is logged here, once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::FetchError;

/// Whether the store fails at the moment.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// Whether `going` is set, for a quick check without the lock.
    is_going: AtomicBool,
    going: Mutex<Option<Going>>,
}

/// The numbers for the log line at the end.
#[derive(Debug)]
pub(crate) struct Going {
    since: Instant,
    /// Requests and reads that failed.
    pub(crate) failed: u64,
}

impl Outage {
    /// Notes a failure, if the store as a whole failed.
    pub(crate) fn note(&self, error: &FetchError) {
        if error.is_of_the_store() {
            let mut going = self.going.lock();
            let since = Instant::now();
            going.get_or_insert(Going { since, failed: 0 }).failed += 1;
            self.is_going.store(true, Ordering::Relaxed);
        }
    }

    /// The store answered. Ends an outage, logs that, and returns its numbers.
    pub(crate) fn over(&self) -> Option<Going> {
        if !self.is_going.load(Ordering::Relaxed) {
            return None;
        }
        let ended = {
            let mut going = self.going.lock();
            self.is_going.store(false, Ordering::Relaxed);
            going.take()?
        };
        tracing::warn!(
            failed = ended.failed,
            seconds = ended.since.elapsed().as_secs(),
            "the store answers again"
        );
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use attachfs_manifest::ContentHash;
    use attachfs_store::StoreError;

    use super::*;

    #[test]
    fn the_end_of_an_outage_is_logged_once() {
        let hash = ContentHash::of(b"object");
        let outage = Outage::default();
        assert!(outage.over().is_none());
        let missing = StoreError::NotFound { what: "a".into() };
        outage.note(&FetchError::Missing {
            hash,
            source: Arc::new(missing),
        });
        assert!(outage.over().is_none(), "one object says nothing of others");
        let after = Duration::from_mins(1);
        for _ in 0..3 {
            outage.note(&FetchError::TimedOut { hash, after });
        }
        assert_eq!(outage.over().unwrap().failed, 3);
        assert!(outage.over().is_none());
    }
}
