//! How many requests run at once.
//!
//! Few are best where answers come at once: more only wait for each other. Where each takes long, the
//! time goes by with waiting, and more at once fill it. What tells the two apart is the fastest of the
//! last answers: a server or a line that is busy delays most of them, distance delays all. The number
//! only grows: it is of the way to the store, which does not get shorter.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The time of a request for which the first number of slots is right; twice the time, twice the slots.
const NEAR: Duration = Duration::from_millis(5);

/// After so many answers the number is thought over.
const WINDOW: u32 = 64;

/// Slots for requests; as many run at once.
#[derive(Debug)]
pub(super) struct Slots {
    free: Semaphore,
    /// As many places as slots, for what has a file open from one request to the next.
    places: Semaphore,
    first: usize,
    most: usize,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    slots: usize,
    answers: u32,
    fastest: Duration,
}

impl Slots {
    /// `first` slots at first, and up to `most`.
    pub(super) fn new(first: usize, most: usize) -> Self {
        let first = first.max(1);
        Self {
            free: Semaphore::new(first),
            places: Semaphore::new(first),
            first,
            most: most.max(first),
            window: Mutex::new(Window {
                slots: first,
                answers: 0,
                fastest: Duration::MAX,
            }),
        }
    }

    /// Waits for a slot.
    pub(super) async fn take(&self) -> SemaphorePermit<'_> {
        let slot = self.free.acquire().await;
        slot.expect("the semaphore is never closed")
    }

    /// Waits for a place. To be taken before a slot.
    pub(super) async fn place(&self) -> SemaphorePermit<'_> {
        let place = self.places.acquire().await;
        place.expect("the semaphore is never closed")
    }

    /// A request that carries little took so long.
    pub(super) fn answered(&self, took: Duration) {
        let mut window = self.window.lock();
        window.fastest = window.fastest.min(took);
        window.answers += 1;
        if window.answers < WINDOW {
            return;
        }
        let wanted = wanted(window.fastest, self.first, self.most);
        let more = wanted.saturating_sub(window.slots);
        if more > 0 {
            self.free.add_permits(more);
            self.places.add_permits(more);
            tracing::debug!(fastest = ?window.fastest, slots = wanted, "more requests at once");
        }
        *window = Window {
            slots: window.slots + more,
            answers: 0,
            fastest: Duration::MAX,
        };
    }
}

fn wanted(fastest: Duration, first: usize, most: usize) -> usize {
    let ratio = fastest.as_secs_f64() / NEAR.as_secs_f64();
    ((first as f64 * ratio) as usize).clamp(first, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_slower_the_way_the_more_run_at_once() {
        for (fastest, expected) in [(0, 32), (1, 32), (10, 64), (20, 128), (300, 128)] {
            assert_eq!(wanted(ms(fastest), 32, 128), expected, "{fastest} ms");
        }
    }

    #[test]
    fn one_fast_answer_among_slow_ones_shows_that_the_way_is_short() {
        let slots = Slots::new(32, 128);
        for answer in 0..2 * WINDOW {
            slots.answered(if answer % WINDOW == 7 { ms(1) } else { ms(50) });
        }
        assert_eq!(slots.free.available_permits(), 32);
    }

    #[test]
    fn slots_are_added_once_the_way_is_known_to_be_long() {
        let slots = Slots::new(32, 128);
        for _ in 1..WINDOW {
            slots.answered(ms(25));
        }
        assert_eq!(slots.free.available_permits(), 32);
        for _ in 0..5 * WINDOW {
            slots.answered(ms(25));
        }
        assert_eq!(slots.free.available_permits(), 128);
    }
}
