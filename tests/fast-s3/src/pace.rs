//! How slow the server is: what a network and a real store would add.

use std::thread;
use std::time::{Duration, Instant};

/// The pace of answers; by default as fast as it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Between the end of a request and the first byte of its answer.
    pub delay: Duration,
    /// The most bytes a second that one connection carries in one direction; 0 is no limit.
    pub bytes_per_s: u64,
}

/// Bytes between two looks at the clock, where the rate is limited.
const PIECE: usize = 64 << 10;

/// One body on its way.
#[derive(Debug)]
pub(crate) struct Paced {
    bytes_per_s: u64,
    start: Instant,
    passed: u64,
}

impl Pace {
    pub(crate) fn wait(self) {
        if !self.delay.is_zero() {
            thread::sleep(self.delay);
        }
    }

    pub(crate) fn body(self) -> Paced {
        Paced {
            bytes_per_s: self.bytes_per_s,
            start: Instant::now(),
            passed: 0,
        }
    }
}

impl Paced {
    /// How many of these bytes may pass at once.
    pub(crate) fn piece(&self, bytes: usize) -> usize {
        if self.bytes_per_s == 0 {
            bytes
        } else {
            bytes.min(PIECE)
        }
    }

    /// Returns when so many bytes more are due.
    pub(crate) fn pass(&mut self, bytes: usize) {
        if self.bytes_per_s == 0 {
            return;
        }
        self.passed += bytes as u64;
        let due = Duration::from_secs_f64(self.passed as f64 / self.bytes_per_s as f64);
        thread::sleep(due.saturating_sub(self.start.elapsed()));
    }
}
