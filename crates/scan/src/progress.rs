//! How long operations report their progress, and how they are cancelled.
//!
//! The operation counts, and shows the count to a [`Reporter`] as often as it likes. The reporter passes
//! on a few events: the first, one for every [`EVERY_ITEMS`] items or whenever [`EVERY`] has gone by, and
//! the last. If the listener cancels, the operation gets a [`Cancelled`] with what was done until then.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The phase of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reading directories.
    Scan,
    /// Reading and hashing files, uploading what the store lacks.
    Hash,
    /// Asking a store what it has.
    Check,
    /// Sending objects to a store.
    Upload,
    /// Fetching files from a store.
    Download,
    /// Turning the changes of a session into a manifest.
    Commit,
}

/// The progress of an operation. Totals that are not known yet are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressEvent {
    /// The phase.
    pub phase: Phase,
    /// Entries, files or objects finished in this phase.
    pub items_done: u64,
    /// How many of them needed no work: their hash was known, or the store had them.
    pub items_skipped: u64,
    /// How many there are.
    pub items_total: Option<u64>,
    /// Bytes finished in this phase.
    pub bytes_done: u64,
    /// How many of them needed no work.
    pub bytes_skipped: u64,
    /// How many there are.
    pub bytes_total: Option<u64>,
    /// Bytes a second since the phase began, without those that needed no work. 0 at first.
    pub bytes_per_second: u64,
    /// The name of the last finished item, escaped for a terminal.
    pub item: Option<String>,
}

impl ProgressEvent {
    /// Nothing is done yet, and no total is known.
    pub const fn of(phase: Phase) -> Self {
        Self {
            phase,
            items_done: 0,
            items_skipped: 0,
            items_total: None,
            bytes_done: 0,
            bytes_skipped: 0,
            bytes_total: None,
            bytes_per_second: 0,
            item: None,
        }
    }
}

impl ProgressEvent {
    /// What was done, in words: `3 of 10 files, 120 of 4000 bytes`.
    fn account(&self) -> String {
        let of = |done: u64, total: Option<u64>, what: &str| match total {
            Some(total) => format!("{done} of {total} {what}"),
            None => format!("{done} {what}"),
        };
        let items = match self.phase {
            Phase::Scan => "entries",
            Phase::Hash | Phase::Download | Phase::Commit => "files",
            Phase::Check => "objects",
            // Files of a folder, objects of a commit.
            Phase::Upload => "uploads",
        };
        let mut text = of(self.items_done, self.items_total, items);
        if self.items_skipped > 0 {
            text += &format!(" ({} of them known)", self.items_skipped);
        }
        if self.bytes_total.is_some_and(|total| total > 0) {
            text += &format!(", {}", of(self.bytes_done, self.bytes_total, "bytes"));
        }
        text
    }
}

/// Listens to the progress of an operation. Calls come now and then (see [`Reporter`]), and should
/// return quickly.
pub trait Progress: Send + Sync {
    /// Receives the progress. `Break` cancels the operation.
    fn update(&self, event: &ProgressEvent) -> ControlFlow<()>;
}

/// Ignores all progress, and never cancels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// The listener cancelled the operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cancelled after {}", so_far.account())]
pub struct Cancelled {
    /// What was done until then.
    pub so_far: Box<ProgressEvent>,
}

impl Cancelled {
    /// After this much.
    pub fn after(so_far: ProgressEvent) -> Self {
        Self {
            so_far: Box::new(so_far),
        }
    }
}

/// The longest time between two events, as long as the operation polls.
pub const EVERY: Duration = Duration::from_secs(1);

/// After how many more items there is an event before [`EVERY`] has gone by.
pub const EVERY_ITEMS: u64 = 50;

/// Passes the progress of one phase to one listener. The only place that decides how often.
pub struct Reporter<'a> {
    listener: &'a dyn Progress,
    began: Instant,
    told: Option<(Instant, u64)>,
}

impl std::fmt::Debug for Reporter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter")
            .field("began", &self.began)
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

impl<'a> Reporter<'a> {
    /// For a phase that begins now.
    pub const fn new(listener: &'a dyn Progress, now: Instant) -> Self {
        Self {
            listener,
            began: now,
            told: None,
        }
    }

    /// Sends an event to the listener, if it is time for one. `items_done` is that of the event;
    /// `event` is called only then, and need not set the rate.
    pub fn poll(
        &mut self,
        now: Instant,
        items_done: u64,
        event: impl FnOnce() -> ProgressEvent,
    ) -> Result<(), Cancelled> {
        let due = self.told.is_none_or(|(at, items)| {
            now.saturating_duration_since(at) >= EVERY
                || items_done.saturating_sub(items) >= EVERY_ITEMS
        });
        if due { self.tell(now, event()) } else { Ok(()) }
    }

    /// Sends an event to the listener in any case: the end of the phase, for example.
    pub fn tell(&mut self, now: Instant, mut event: ProgressEvent) -> Result<(), Cancelled> {
        self.told = Some((now, event.items_done));
        event.bytes_per_second = rate(
            event.bytes_done.saturating_sub(event.bytes_skipped),
            now.saturating_duration_since(self.began),
        );
        match self.listener.update(&event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Cancelled::after(event)),
        }
    }
}

fn rate(bytes: u64, time: Duration) -> u64 {
    let per_second = u128::from(bytes) * 1_000_000_000 / time.as_nanos().max(1);
    if time.is_zero() {
        0
    } else {
        u64::try_from(per_second).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps all events, and cancels after a number of them.
    struct Heard(Mutex<Vec<ProgressEvent>>, usize);

    impl Heard {
        fn patient() -> Self {
            Self(Mutex::default(), usize::MAX)
        }

        fn items(&self) -> Vec<u64> {
            let heard = self.0.lock().unwrap();
            heard.iter().map(|event| event.items_done).collect()
        }
    }

    impl Progress for Heard {
        fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
            let mut heard = self.0.lock().unwrap();
            heard.push(event.clone());
            if heard.len() >= self.1 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }

    fn items(items_done: u64) -> ProgressEvent {
        ProgressEvent {
            items_done,
            bytes_done: 10 * items_done,
            ..ProgressEvent::of(Phase::Hash)
        }
    }

    #[test]
    fn a_cancelled_operation_says_how_far_it_came() {
        let so_far = ProgressEvent {
            items_done: 3,
            items_skipped: 1,
            items_total: Some(10),
            bytes_done: 120,
            bytes_total: Some(4000),
            ..ProgressEvent::of(Phase::Hash)
        };
        assert_eq!(
            Cancelled::after(so_far).to_string(),
            "cancelled after 3 of 10 files (1 of them known), 120 of 4000 bytes"
        );
        let scan = Cancelled::after(ProgressEvent::of(Phase::Scan));
        assert_eq!(scan.to_string(), "cancelled after 0 entries");
    }

    #[test]
    fn many_items_in_no_time_are_one_event_for_fifty_and_the_last() {
        let (heard, now) = (Heard::patient(), Instant::now());
        let mut reporter = Reporter::new(&heard, now);
        for done in 0..=120 {
            reporter.poll(now, done, || items(done)).unwrap();
        }
        reporter.tell(now, items(120)).unwrap();
        assert_eq!(heard.items(), [0, 50, 100, 120]);
    }

    #[test]
    fn a_slow_item_is_one_event_a_second() {
        let (heard, began) = (Heard::patient(), Instant::now());
        let mut reporter = Reporter::new(&heard, began);
        for tick in 0..=25 {
            let now = began + Duration::from_millis(100) * tick;
            reporter.poll(now, 0, || items(0)).unwrap();
        }
        assert_eq!(heard.items().len(), 3, "at 0, 1 and 2 seconds");
    }

    #[test]
    fn the_rate_counts_only_bytes_that_needed_work() {
        let (heard, began) = (Heard::patient(), Instant::now());
        let mut reporter = Reporter::new(&heard, began);
        let event = ProgressEvent {
            bytes_done: 5000,
            bytes_skipped: 2000,
            ..items(1)
        };
        reporter.tell(began, event.clone()).unwrap();
        reporter
            .tell(began + Duration::from_millis(500), event)
            .unwrap();
        let heard = heard.0.lock().unwrap();
        assert_eq!(heard[0].bytes_per_second, 0);
        assert_eq!(heard[1].bytes_per_second, 6000);
    }

    #[test]
    fn a_listener_that_cancels_gets_the_progress_so_far() {
        let (heard, now) = (Heard(Mutex::default(), 2), Instant::now());
        let mut reporter = Reporter::new(&heard, now);
        reporter.poll(now, 0, || items(0)).unwrap();
        reporter.poll(now, 20, || items(20)).unwrap();
        let cancelled = reporter.poll(now, 60, || items(60)).unwrap_err();
        assert_eq!(
            (cancelled.so_far.items_done, cancelled.so_far.bytes_done),
            (60, 600)
        );
    }
}
