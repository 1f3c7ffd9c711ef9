//! So many bytes a second, for who copies files and may wait.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long to sleep before looking whether the bytes are wanted any more.
const LOOK: Duration = Duration::from_millis(100);

/// A limit that all copies share.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: NonZeroU64,
    /// Until when the bytes that were let go take. The lock is held for a few instructions.
    booked: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            bytes_per_second,
            booked: Mutex::new(Instant::now()),
        }
    }

    /// How many bytes go at once, so that the flow is even: those of a tenth of a second.
    pub(super) fn step(&self, most: u64) -> u64 {
        (self.bytes_per_second.get() / 10).max(4096).min(most)
    }

    /// Waits until so many bytes have had their time, or nobody wants them any more.
    pub(super) fn wait(&self, bytes: u64, cancelled: &AtomicBool) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let free_at = {
            let mut booked = self.booked.lock();
            let begins = (*booked).max(Instant::now());
            *booked = begins.checked_add(takes).unwrap_or(begins);
            *booked
        };
        loop {
            let rest = free_at.saturating_duration_since(Instant::now());
            if rest.is_zero() || cancelled.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(rest.min(LOOK));
        }
    }
}
