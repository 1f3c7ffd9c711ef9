//! When a file is looked at: some time after its last change, and the later the more often it was looked at in vain or sent.
//!
//! ```text
//!     changed --2 s--> due        not sent yet
//!     changed --8 s--> due        sent once, or found open once
//!     changed -32 s--> due        twice; and so on, up to some minutes
//! ```
//!
//! So a picture that is written again and again is sent some times an hour, and not each time. What is written within the wait begins
//! the wait anew.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use attachfs_tree::Ino;

/// How much longer the wait is each time.
const FACTOR: u32 = 4;
/// How often it grows.
const MOST: u32 = 4;

/// The files that wait, in the order of their times.
#[derive(Debug)]
pub(crate) struct Settling {
    /// The first wait.
    quiet: Duration,
    due: HashMap<Ino, Instant>,
    order: BTreeSet<(Instant, Ino)>,
    /// How often files were sent, or found open.
    times: HashMap<Ino, u32>,
}

impl Settling {
    /// Files wait so long at first.
    pub(crate) fn new(quiet: Duration) -> Self {
        Self {
            quiet,
            due: HashMap::new(),
            order: BTreeSet::new(),
            times: HashMap::new(),
        }
    }

    /// A file changed at this time. One that waits for a later change is looked at after that.
    pub(crate) fn changed(&mut self, ino: Ino, at: Instant) {
        let times = self.times.get(&ino).copied().unwrap_or_default();
        let due = at + self.quiet * FACTOR.pow(times.min(MOST));
        if self.due.get(&ino).is_none_or(|&before| before < due) {
            self.wait_until(ino, due);
        }
    }

    /// A file was sent: after its next change it waits longer.
    pub(crate) fn sent(&mut self, ino: Ino) {
        *self.times.entry(ino).or_default() += 1;
    }

    /// A file was found open at this time, of which nobody hears when it is closed.
    pub(crate) fn found_open(&mut self, ino: Ino, now: Instant) {
        self.sent(ino);
        self.changed(ino, now);
    }

    /// A file that was due is looked at again at this time.
    pub(crate) fn wait_until(&mut self, ino: Ino, due: Instant) {
        if let Some(before) = self.due.insert(ino, due) {
            self.order.remove(&(before, ino));
        }
        self.order.insert((due, ino));
    }

    /// A file is gone.
    pub(crate) fn gone(&mut self, ino: Ino) {
        self.times.remove(&ino);
        if let Some(due) = self.due.remove(&ino) {
            self.order.remove(&(due, ino));
        }
    }

    /// Takes the files that are due, at most so many, the longest waiting first.
    pub(crate) fn take_due(&mut self, now: Instant, most: usize) -> Vec<Ino> {
        let due = self.order.iter().take_while(|(due, _)| *due <= now);
        let due: Vec<(Instant, Ino)> = due.take(most).copied().collect();
        for entry in &due {
            self.order.remove(entry);
            self.due.remove(&entry.1);
        }
        due.into_iter().map(|(_, ino)| ino).collect()
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Whether a file waits.
    pub(crate) fn has(&self, ino: Ino) -> bool {
        self.due.contains_key(&ino)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(2);

    fn ino(number: u64) -> Ino {
        Ino::from_digits(&format!("{number:016x}")).unwrap()
    }

    /// After so many seconds of waiting a file that just changed is due, and no sooner.
    fn assert_waits(settling: &mut Settling, seconds: u64, now: Instant) {
        settling.changed(ino(1), now);
        let due = now + Duration::from_secs(seconds);
        let just_before = due.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(settling.take_due(just_before, 9), []);
        assert_eq!(settling.next_due(), Some(due));
        assert_eq!(settling.take_due(due, 9), [ino(1)]);
        assert_eq!(settling.next_due(), None);
    }

    #[test]
    fn a_file_that_was_sent_waits_longer_each_time_and_not_for_ever() {
        let (mut settling, now) = (Settling::new(QUIET), Instant::now());
        for seconds in [2, 8, 32, 128, 512, 512] {
            assert_waits(&mut settling, seconds, now);
            settling.sent(ino(1));
        }
        settling.gone(ino(1));
        assert_waits(&mut settling, 2, now);
    }

    #[test]
    fn what_changes_while_it_waits_begins_the_wait_anew() {
        let (mut settling, now) = (Settling::new(QUIET), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        settling.changed(ino(1), later(0));
        settling.changed(ino(2), later(1));
        settling.changed(ino(1), later(2));
        // What was noted before it does not bring it forward.
        settling.changed(ino(1), later(0));
        assert_eq!(settling.take_due(later(3), 9), [ino(2)]);
        assert_eq!(settling.take_due(later(4), 9), [ino(1)]);
    }

    #[test]
    fn what_is_gone_is_not_due_and_those_that_wait_longest_come_first() {
        let (mut settling, now) = (Settling::new(QUIET), Instant::now());
        for number in 1..=4 {
            settling.changed(ino(number), now + Duration::from_millis(10 - number));
        }
        settling.gone(ino(3));
        assert!(!settling.has(ino(3)));
        let due = now + Duration::from_secs(3);
        assert_eq!(settling.take_due(due, 2), [ino(4), ino(2)]);
        assert_eq!(settling.len(), 1);
        settling.found_open(ino(4), due);
        assert_eq!(settling.take_due(due, 2), [ino(1)]);
        assert_eq!(settling.next_due(), Some(due + 4 * QUIET));
    }
}
