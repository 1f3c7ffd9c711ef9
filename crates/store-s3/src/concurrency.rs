//! How many requests are under way at a time, and how many bytes of bodies in memory.
//!
//! When a server answers *slow down*, the number of requests under way is halved, and grows again
//! by one for each round of requests that succeed. So a store finds by itself how many requests the
//! server can take, and all callers share that number. Only the server's answers change it, and
//! [`S3Access::max_connections`](attachfs_store::S3Access::max_connections), above which it never
//! grows.
//!
//! ```text
//!     limit 64 --SlowDown--> 32 --32 successes--> 33 --33 successes--> 34 ...
//!        \__ the other 63 answers of the same storm change nothing: those requests were sent
//!            before the cut
//! ```

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots for requests.
#[derive(Debug, Clone)]
pub(crate) struct Concurrency(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    slots: Semaphore,
    /// No other lock is taken while this one is held.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    most: usize,
    limit: usize,
    /// Slots that are to be removed as soon as their requests are done.
    owed: usize,
    /// Successes since the limit was last changed.
    successes: usize,
    cut: Option<Instant>,
}

impl Concurrency {
    /// Slots for at most this many requests, and at least one.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            slots: Semaphore::new(most),
            state: Mutex::new(State {
                most,
                limit: most,
                owed: 0,
                successes: 0,
                cut: None,
            }),
        }))
    }

    /// Waits for a slot, in the order of arrival.
    pub(crate) async fn take(&self) -> Slot {
        // Acquiring fails only if the semaphore is closed, which never happens.
        if let Ok(place) = self.0.slots.acquire().await {
            place.forget();
        }
        Slot {
            concurrency: self.clone(),
            begun: Instant::now(),
        }
    }

    /// How many requests may be under way now.
    #[cfg(test)]
    pub(crate) fn limit(&self) -> usize {
        self.0.state.lock().limit
    }
}

/// A request under way. Its slot is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    concurrency: Concurrency,
    begun: Instant,
}

impl Slot {
    /// The server did what it was asked.
    pub(crate) fn succeeded(&self) {
        let shared = &self.concurrency.0;
        let mut state = shared.state.lock();
        if state.limit == state.most {
            return;
        }
        state.successes += 1;
        if state.successes < state.limit {
            return;
        }
        state.successes = 0;
        state.limit += 1;
        if state.owed > 0 {
            state.owed -= 1;
        } else {
            shared.slots.add_permits(1);
        }
    }

    /// The server asked for slower requests.
    pub(crate) fn was_too_much(&self) {
        let shared = &self.concurrency.0;
        let mut state = shared.state.lock();
        if state.cut.is_some_and(|cut| self.begun <= cut) {
            return;
        }
        let limit = (state.limit / 2).max(1);
        let gone = state.limit - limit;
        state.limit = limit;
        state.successes = 0;
        state.cut = Some(Instant::now());
        state.owed += gone - shared.slots.forget_permits(gone);
        tracing::debug!(
            limit,
            "the server asks for slower requests; fewer are made at a time"
        );
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let shared = &self.concurrency.0;
        let mut state = shared.state.lock();
        if state.owed > 0 {
            state.owed -= 1;
        } else {
            shared.slots.add_permits(1);
        }
    }
}

/// Memory for bodies that are sent. Bodies that are received are accounted for by the caller.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Arc<Semaphore>);

/// What memory is counted in: a small object is one unit.
const UNIT: u64 = 64 << 10;

/// All memory for bodies: eight parts of 8 MiB, which fill a fast connection.
const UNITS: u32 = 1024;

impl Memory {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(UNITS as usize)))
    }

    /// Waits until there is room for a body of this length. A body longer than all of the memory
    /// gets all of it.
    pub(crate) async fn take(&self, len: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(len.div_ceil(UNIT)).map_or(UNITS, |units| units.min(UNITS));
        // Acquiring fails only if the semaphore is closed, which never happens.
        Arc::clone(&self.0).acquire_many_owned(units).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_storm_halves_the_limit_once() {
        let concurrency = Concurrency::new(8);
        let mut under_way = Vec::new();
        for _ in 0..8 {
            under_way.push(concurrency.take().await);
        }
        for slot in &under_way {
            slot.was_too_much();
        }
        assert_eq!(concurrency.limit(), 4);
        under_way.truncate(4);
        assert_eq!(concurrency.0.slots.available_permits(), 0);
        under_way.clear();
        assert_eq!(concurrency.0.slots.available_permits(), 4);
    }

    #[tokio::test]
    async fn each_round_of_successes_gives_one_slot_back() {
        let concurrency = Concurrency::new(4);
        concurrency.take().await.was_too_much();
        assert_eq!(concurrency.limit(), 2);
        for _ in 0..2 {
            concurrency.take().await.succeeded();
        }
        assert_eq!(concurrency.limit(), 3);
        for _ in 0..100 {
            concurrency.take().await.succeeded();
        }
        assert_eq!(concurrency.limit(), 4);
        assert_eq!(concurrency.0.slots.available_permits(), 4);
    }

    #[tokio::test]
    async fn one_request_is_always_possible() {
        let concurrency = Concurrency::new(2);
        for _ in 0..5 {
            concurrency.take().await.was_too_much();
        }
        assert_eq!(concurrency.limit(), 1);
        drop(concurrency.take().await);
        assert_eq!(concurrency.0.slots.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_body_longer_than_all_memory_still_gets_its_turn() {
        let memory = Memory::new();
        let all = memory.take(u64::MAX).await;
        assert_eq!(memory.0.available_permits(), 0);
        drop(all);
        assert!(memory.take(1).await.is_some());
    }
}
