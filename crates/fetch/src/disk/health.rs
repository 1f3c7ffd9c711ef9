//! Whether the disk under the cache works.
//!
//! A disk that is full, read-only or failing is left alone for a while; reads go to the store. It is said when that
//! begins and when it is over.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The longest time for which a failing disk is left alone, as a multiple of the first.
const LONGEST: u32 = 32;

#[derive(Debug)]
pub(super) struct Health {
    pub(super) dir: PathBuf,
    /// How long it is left alone after the first failure; twice as long after each further one.
    patience: Duration,
    is_failing: AtomicBool,
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug)]
struct Failing {
    next_try: Instant,
    wait: Duration,
}

impl Health {
    pub(super) fn new(dir: PathBuf, patience: Duration) -> Self {
        Self {
            dir,
            patience,
            is_failing: AtomicBool::new(false),
            failing: Mutex::new(None),
        }
    }

    /// Whether something may be written now.
    pub(super) fn may_write(&self) -> bool {
        if !self.is_failing.load(Ordering::Relaxed) {
            return true;
        }
        let failing = self.failing.lock();
        failing
            .as_ref()
            .is_none_or(|failing| failing.next_try <= Instant::now())
    }

    /// Notes that it could not be written to.
    pub(super) fn failed(&self, error: &(dyn Error + 'static)) {
        let mut failing = self.failing.lock();
        let wait = match &*failing {
            None => {
                tracing::warn!(dir = %self.dir.display(), error,
                    "the disk cache cannot be written to; mounts go on without it, and it is tried again later");
                self.patience
            }
            Some(failing) => {
                tracing::debug!(dir = %self.dir.display(), error, "the disk cache still cannot be written to");
                (failing.wait * 2).min(self.patience * LONGEST)
            }
        };
        *failing = Some(Failing {
            next_try: Instant::now() + wait,
            wait,
        });
        self.is_failing.store(true, Ordering::Relaxed);
    }

    /// Notes that it was written to.
    pub(super) fn worked(&self) {
        if self.is_failing.swap(false, Ordering::Relaxed) {
            *self.failing.lock() = None;
            tracing::info!(dir = %self.dir.display(), "the disk cache can be written to again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_failing_disk_is_left_alone_and_tried_again() {
        let patient = Health::new("cache".into(), Duration::from_hours(1));
        assert!(patient.may_write());
        patient.failed(&io::Error::from(io::ErrorKind::StorageFull));
        assert!(!patient.may_write());
        patient.worked();
        assert!(patient.may_write());
        let eager = Health::new("cache".into(), Duration::ZERO);
        eager.failed(&io::Error::from(io::ErrorKind::StorageFull));
        assert!(eager.may_write());
    }

    #[test]
    fn it_is_left_alone_longer_each_time_but_not_for_ever() {
        let health = Health::new("cache".into(), Duration::from_secs(10));
        let wait = || health.failing.lock().as_ref().unwrap().wait.as_secs();
        let mut waits = Vec::new();
        for _ in 0..7 {
            health.failed(&io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
            waits.push(wait());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 320]);
    }
}
