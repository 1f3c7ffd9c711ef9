//! A number of bytes that may be in use at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit that is counted: a semaphore's permits are 32 bits wide for one taker.
const UNIT: u64 = 1024;

/// Bounds the bytes that are in use at once. Takers wait in the order in which they came.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    free: Arc<Semaphore>,
    total: u32,
}

/// Bytes of a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
#[must_use = "the bytes are given back at once"]
pub struct HeldBytes(#[expect(dead_code, reason = "held for its Drop")] OwnedSemaphorePermit);

impl ByteBudget {
    /// A budget of `bytes`, rounded to KiB, at most 1 TiB.
    pub fn new(bytes: u64) -> Self {
        let total = (bytes / UNIT).clamp(1, 1 << 30) as u32;
        Self {
            free: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits until `bytes` are free and takes them. More than the whole budget is the whole budget:
    /// a large taker is let through alone, not refused.
    pub async fn take(&self, bytes: u64) -> HeldBytes {
        let taken = Arc::clone(&self.free).acquire_many_owned(self.units(bytes));
        HeldBytes(taken.await.expect("the semaphore is never closed"))
    }

    /// [`take`](Self::take) if so many bytes are free now.
    pub fn try_take(&self, bytes: u64) -> Option<HeldBytes> {
        let taken = Arc::clone(&self.free).try_acquire_many_owned(self.units(bytes));
        taken.ok().map(HeldBytes)
    }

    fn units(&self, bytes: u64) -> u32 {
        bytes.div_ceil(UNIT).min(u64::from(self.total)) as u32
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn bytes_come_back_when_their_holder_is_dropped() {
        let budget = ByteBudget::new(10 * UNIT);
        let first = budget.take(6 * UNIT).now_or_never().unwrap();
        assert!(budget.take(6 * UNIT).now_or_never().is_none());
        assert!(budget.try_take(6 * UNIT).is_none());
        assert!(budget.try_take(4 * UNIT).is_some());
        drop(first);
        assert!(budget.take(6 * UNIT).now_or_never().is_some());
    }

    #[test]
    fn one_that_wants_more_than_there_is_gets_all_of_it() {
        let budget = ByteBudget::new(10 * UNIT);
        let all = budget.take(u64::MAX).now_or_never().unwrap();
        assert!(budget.take(1).now_or_never().is_none());
        drop(all);
    }
}
