//! How fast the store gives, of late.
//!
//! Reading ahead fills the way from the store. Where that is narrow, what a reader waits for would share it with
//! what nobody waits for yet: so nobody reads further ahead than what comes in about a second.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The least time over which a rate is believed.
const SAMPLE: Duration = Duration::from_millis(30);
/// A pause in which nobody asked the store: it says nothing about the store.
const PAUSE: Duration = Duration::from_millis(500);

/// Measures all that comes from a store.
#[derive(Debug, Default)]
pub(crate) struct Link(Mutex<Option<Measure>>);

#[derive(Debug)]
struct Measure {
    since: Instant,
    last: Instant,
    bytes: u64,
    /// In bytes a second.
    rate: Option<f64>,
}

impl Link {
    /// So many bytes came.
    pub(crate) fn came(&self, bytes: usize) {
        let now = Instant::now();
        let mut measure = self.0.lock();
        let measure = measure.get_or_insert(Measure {
            since: now,
            last: now,
            bytes: 0,
            rate: None,
        });
        if now - measure.last > PAUSE {
            measure.since = now;
            measure.bytes = 0;
        }
        measure.last = now;
        measure.bytes += bytes as u64;
        let over = now - measure.since;
        if over >= SAMPLE {
            let rate = measure.bytes as f64 / over.as_secs_f64();
            // It is at least what it gives; how much more it could give is seen only when it is asked.
            let before = measure.rate.unwrap_or(rate);
            measure.rate = Some(rate.max(before / 2.0 + rate / 2.0));
            measure.since = now;
            measure.bytes = 0;
        }
    }

    /// Bytes a second; `None` if nobody knows yet.
    pub(crate) fn rate(&self) -> Option<u64> {
        let measure = self.0.lock();
        Some(measure.as_ref()?.rate? as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn give(link: &Link, bytes_a_second: usize, seconds: u32) {
        for _ in 0..seconds * 10 {
            tokio::time::advance(Duration::from_millis(100)).await;
            link.came(bytes_a_second / 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_what_the_store_gives() {
        let link = Link::default();
        assert_eq!(link.rate(), None);
        give(&link, 1_000_000, 1).await;
        let narrow = link.rate().unwrap();
        assert!((900_000..=1_200_000).contains(&narrow), "{narrow}");
        give(&link, 100_000_000, 1).await;
        assert!(link.rate().unwrap() > 90_000_000);
        give(&link, 1_000_000, 2).await;
        assert!(link.rate().unwrap() < 2_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_says_nothing() {
        let link = Link::default();
        give(&link, 1_000_000, 1).await;
        tokio::time::advance(Duration::from_hours(1)).await;
        give(&link, 1_000_000, 1).await;
        assert!(link.rate().unwrap() > 900_000);
    }
}
