//! The limit on bytes a second that both directions share.
//!
//! Bytes are booked one after another on one line of time: a transfer of `n` bytes waits until the
//! bytes booked before it have had their time. Time that was not used during the last [`BURST`] can
//! still be used, so a connection may catch up a little.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How far the line of time may lag behind the clock.
const BURST: Duration = Duration::from_millis(100);

/// A limit on bytes a second, or none.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    limit: Option<Limit>,
    /// A limit that holds, too.
    within: Option<Arc<Bandwidth>>,
}

#[derive(Debug)]
struct Limit {
    bytes_per_second: NonZeroU64,
    /// Until when the line is booked. The lock is held for a few instructions.
    booked: Mutex<Instant>,
}

impl Bandwidth {
    pub(crate) fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self {
            limit: bytes_per_second.map(|bytes_per_second| Limit {
                bytes_per_second,
                booked: Mutex::new(Instant::now()),
            }),
            within: None,
        }
    }

    /// A limit of a part of what another one bounds.
    pub(crate) fn within(outer: &Arc<Self>, bytes_per_second: NonZeroU64) -> Self {
        Self {
            within: Some(Arc::clone(outer)),
            ..Self::new(Some(bytes_per_second))
        }
    }

    /// Books bytes that moved or will. The next ones may move at the time that is returned; `None`:
    /// at once.
    pub(crate) fn book(&self, bytes: u64) -> Option<Instant> {
        let outer = self.within.as_ref().and_then(|outer| outer.book(bytes));
        outer.max(self.book_here(bytes))
    }

    fn book_here(&self, bytes: u64) -> Option<Instant> {
        let limit = self.limit.as_ref()?;
        let rate = u128::from(limit.bytes_per_second.get());
        let nanos = u128::from(bytes) * 1_000_000_000 / rate;
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut booked = limit.booked.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *booked = (*booked).max(earliest) + takes;
        (*booked > now).then_some(*booked)
    }

    /// The most bytes that should be booked at a time, so that the flow is even.
    pub(crate) fn step(&self, most: usize) -> usize {
        let most = self.within.as_ref().map_or(most, |outer| outer.step(most));
        match &self.limit {
            None => most,
            Some(limit) => {
                let tenth = usize::try_from(limit.bytes_per_second.get() / 10);
                tenth.unwrap_or(most).max(1024).min(most)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time() {
        let bandwidth = Bandwidth::new(NonZeroU64::new(1000));
        let begun = Instant::now();
        for _ in 0..50 {
            if let Some(free) = bandwidth.book(100) {
                tokio::time::sleep_until(free).await;
            }
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(4800), "{took:?}");
        assert!(took <= Duration::from_millis(5100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_is_not_saved_up() {
        let bandwidth = Bandwidth::new(NonZeroU64::new(1000));
        tokio::time::advance(Duration::from_mins(1)).await;
        let free = bandwidth.book(1100).unwrap();
        assert!(free - Instant::now() >= Duration::from_millis(999));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_a_limit_is_bounded_by_both() {
        let outer = Arc::new(Bandwidth::new(NonZeroU64::new(1000)));
        let part = Bandwidth::within(&outer, NonZeroU64::new(100).unwrap());
        let begun = Instant::now();
        let free = part.book(50).unwrap();
        assert!(
            free - begun >= Duration::from_millis(400),
            "{:?}",
            free - begun
        );
        // The others wait for what of them the part takes, and no longer.
        let free = outer.book(1000).unwrap();
        let took = free - begun;
        assert!(
            took >= Duration::from_millis(900) && took <= Duration::from_millis(1100),
            "{took:?}"
        );
        let free = part.book(1).unwrap();
        assert!(free - begun >= Duration::from_millis(900));
    }

    #[tokio::test]
    async fn without_a_limit_nobody_waits() {
        assert_eq!(Bandwidth::new(None).book(u64::MAX), None);
    }
}
