//! Access times that programs set. They are told until the file system ends, and of the files that were set last.
//!
//! Reading changes none: most reads are the kernel's own, from its pages or from a file of the cache. A file whose access
//! time nobody set shows its modification time, as on a file system that is mounted with `relatime`.

use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_tree::{Ino, Timestamp};
use hashlink::LruCache;
use parking_lot::Mutex;

/// Of so many files the time is kept: some megabytes.
const MOST: usize = 1 << 16;

/// The access times that were set.
#[derive(Debug)]
pub(crate) struct AccessTimes {
    /// Whether there is one, so that nobody waits for the lock in a mount without them.
    any: AtomicBool,
    /// Held for single look-ups and insertions, with no other lock taken under it.
    times: Mutex<LruCache<Ino, Timestamp>>,
}

impl Default for AccessTimes {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            times: Mutex::new(LruCache::new(MOST)),
        }
    }
}

impl AccessTimes {
    pub(crate) fn set(&self, ino: Ino, time: Timestamp) {
        self.times.lock().insert(ino, time);
        self.any.store(true, Ordering::Release);
    }

    pub(crate) fn of(&self, ino: Ino) -> Option<Timestamp> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.times.lock().get(&ino).copied()
    }

    /// The inode is gone.
    pub(crate) fn forget(&self, ino: Ino) {
        if self.any.load(Ordering::Acquire) {
            self.times.lock().remove(&ino);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_that_were_set_last_are_kept() {
        let times = AccessTimes::default();
        let ino = |number: usize| Ino::from_raw(number as u64 + 1);
        let time = |seconds: usize| Timestamp {
            seconds: seconds as i64,
            nanoseconds: 0,
        };
        for number in 0..=MOST {
            times.set(ino(number), time(number));
        }
        assert_eq!(times.of(ino(0)), None);
        assert_eq!(times.of(ino(1)), Some(time(1)));
        assert_eq!(times.of(ino(MOST)), Some(time(MOST)));
        times.forget(ino(1));
        assert_eq!(times.of(ino(1)), None);
    }
}
