//! Which process a request comes from, as far as `/proc` tells.
//!
//! The process waits for its answer, so it is there as long as that is not given. Nothing is read of it that it could hold back: its memory
//! map, for one, may be locked while it waits.

use std::fs;
use std::time::{Duration, Instant};

use attachfs_vfs::Asker;
use parking_lot::Mutex;

/// A thread that asks again within this time is not looked up again: to look costs as much as the request. Its process may
/// have become another program meanwhile, so it is short.
const GOOD_FOR: Duration = Duration::from_millis(100);

/// The threads that asked last, by the last digits of their numbers.
#[derive(Debug)]
pub(super) struct Askers {
    recent: [Mutex<Option<Known>>; 64],
    good_for: Duration,
}

#[derive(Debug)]
struct Known {
    thread: u32,
    since: Instant,
    asker: Option<Asker>,
}

impl Default for Askers {
    fn default() -> Self {
        Self {
            recent: std::array::from_fn(|_| Mutex::default()),
            good_for: GOOD_FOR,
        }
    }
}

impl Askers {
    /// The process of a thread. The kernel names the thread that asks; 0 is one that cannot be seen from here.
    pub(super) fn of(&self, thread: u32) -> Option<Asker> {
        let slot = &self.recent[thread as usize % self.recent.len()];
        if let Some(known) = &*slot.lock()
            && known.thread == thread
            && known.since.elapsed() < self.good_for
        {
            return known.asker.clone();
        }
        let known = Known {
            thread,
            since: Instant::now(),
            asker: look_up(thread),
        };
        let asker = known.asker.clone();
        *slot.lock() = Some(known);
        asker
    }
}

fn look_up(thread: u32) -> Option<Asker> {
    let status = fs::read(format!("/proc/{thread}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    let pid = process?.trim().parse().ok()?;
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(Asker {
        pid,
        name: String::from_utf8_lossy(name.trim_ascii_end()).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_told_by_its_process() {
        let told = std::thread::spawn(|| {
            let thread = rustix::thread::gettid().as_raw_pid();
            Askers::default().of(thread.cast_unsigned())
        });
        let asker = told.join().unwrap().unwrap();
        assert_eq!(asker.pid, std::process::id());
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(asker.name, name.trim_end());
    }

    #[test]
    fn a_thread_that_asks_again_soon_is_not_looked_up_again() {
        let asked_after_its_end = |good_for| {
            let askers = Askers {
                good_for,
                ..Askers::default()
            };
            let gettid = || rustix::thread::gettid().as_raw_pid().cast_unsigned();
            let first = std::thread::scope(|scope| {
                let thread = scope.spawn(|| (gettid(), askers.of(gettid())));
                thread.join().unwrap()
            });
            let (thread, asker) = first;
            assert!(asker.is_some());
            while look_up(thread).is_some() {
                std::thread::yield_now();
            }
            askers.of(thread)
        };
        assert!(asked_after_its_end(Duration::from_hours(1)).is_some());
        assert!(asked_after_its_end(Duration::ZERO).is_none());
    }

    #[test]
    fn a_process_that_cannot_be_seen_is_not_told() {
        assert_eq!(Askers::default().of(0), None);
    }
}
