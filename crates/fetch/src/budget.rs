//! A number of bytes that may be in use at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Who gets free bytes first. Those of one priority get them in the order in which they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Priority {
    /// Somebody waits for the bytes.
    #[default]
    Read,
    /// An open file is expected to be read there soon.
    ReadAhead,
    /// Nobody has opened the file yet.
    Prefetch,
}

/// A priority that may rise while its bytes are waited for.
#[derive(Debug, Clone)]
pub(crate) struct SharedPriority(Arc<AtomicU8>);

impl SharedPriority {
    pub(crate) fn new(priority: Priority) -> Self {
        Self(Arc::new(AtomicU8::new(priority as u8)))
    }

    /// Makes it at least as urgent as `priority`.
    pub(crate) fn raise(&self, priority: Priority) {
        self.0.fetch_min(priority as u8, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted: small takers cost more than their bytes.
const UNIT: u64 = 1024;

/// Bounds the bytes that are in use at once, in KiB.
#[derive(Debug, Clone)]
pub struct ByteBudget(Arc<SharedBudget>);

#[derive(Debug)]
struct SharedBudget {
    total: u64,
    /// Short and innermost: nothing is called while it is held.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: u64,
    /// In the order in which they came.
    waiting: Vec<Waiter>,
    next: u64,
}

/// Somebody who waits for bytes.
struct Waiter {
    number: u64,
    bytes: u64,
    priority: SharedPriority,
    grant: oneshot::Sender<HeldBytes>,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("bytes", &self.bytes)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}

/// Bytes of a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
#[must_use = "the bytes are given back at once"]
pub struct HeldBytes {
    budget: Arc<SharedBudget>,
    bytes: u64,
}

impl HeldBytes {
    /// How many.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes so many out of them, or all if there are not so many; `None` if there are none left.
    pub(crate) fn split(&mut self, bytes: u64) -> Option<Self> {
        let bytes = self.budget.counted(bytes).min(self.bytes);
        self.bytes -= bytes;
        (bytes > 0).then(|| self.budget.held(bytes))
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// How many requests may be under way at once. Those that nobody waits for leave some to those that somebody does.
#[derive(Debug)]
pub(crate) struct Turns {
    all: ByteBudget,
    ahead: ByteBudget,
}

/// One request under way.
#[derive(Debug)]
#[must_use = "the turn is over at once"]
pub(crate) struct Turn {
    _ahead: Option<HeldBytes>,
    _place: HeldBytes,
}

impl Turns {
    /// At most so many, at least two.
    pub(crate) fn new(most: u32) -> Self {
        // A request is counted as the least that a budget counts.
        let of = |requests: u32| ByteBudget::new(u64::from(requests) * UNIT);
        let most = most.max(2);
        Self {
            all: of(most),
            ahead: of(most - most.div_ceil(8)),
        }
    }

    /// How many requests are under way, and how many wait.
    pub(crate) fn now(&self) -> (u64, u64) {
        let (taken, waiting) = self.all.now();
        (taken / UNIT, waiting + self.ahead.now().1)
    }

    /// Waits for its turn, which comes in the order of priority.
    pub(crate) async fn take(&self, priority: &SharedPriority) -> Turn {
        let ahead = if priority.get() == Priority::Read as u8 {
            None
        } else {
            Some(self.ahead.queue(UNIT, priority).granted().await)
        };
        Turn {
            _ahead: ahead,
            _place: self.all.queue(UNIT, priority).granted().await,
        }
    }
}

/// A request for bytes that is in the queue. Dropping it takes it out.
#[derive(Debug)]
pub(crate) struct Queued {
    budget: Arc<SharedBudget>,
    number: u64,
    granted: oneshot::Receiver<HeldBytes>,
}

impl Queued {
    pub(crate) async fn granted(mut self) -> HeldBytes {
        (&mut self.granted)
            .await
            .expect("a taker stays in the queue until it is granted its bytes")
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        // Whoever was first may have held up others.
        let grants = {
            let mut state = self.budget.state.lock();
            state.waiting.retain(|taker| taker.number != self.number);
            self.budget.grants(&mut state)
        };
        send(grants);
    }
}

impl SharedBudget {
    fn counted(&self, bytes: u64) -> u64 {
        bytes
            .checked_next_multiple_of(UNIT)
            .map_or(self.total, |bytes| bytes.min(self.total))
    }

    fn held(self: &Arc<Self>, bytes: u64) -> HeldBytes {
        HeldBytes {
            budget: Arc::clone(self),
            bytes,
        }
    }

    fn give_back(self: &Arc<Self>, bytes: u64) {
        let grants = {
            let mut state = self.state.lock();
            state.free += bytes;
            self.grants(&mut state)
        };
        send(grants);
    }

    /// Takes out of the queue whoever can have bytes now.
    fn grants(self: &Arc<Self>, state: &mut State) -> Vec<(Waiter, HeldBytes)> {
        let mut grants = Vec::new();
        while let Some(first) = state.first() {
            let bytes = state.waiting[first].bytes;
            if bytes > state.free {
                break;
            }
            state.free -= bytes;
            grants.push((state.waiting.remove(first), self.held(bytes)));
        }
        grants
    }
}

impl State {
    /// Whose turn it is.
    fn first(&self) -> Option<usize> {
        // Of equals, the first one.
        (0..self.waiting.len()).min_by_key(|&at| self.waiting[at].priority.get())
    }
}

/// Bytes that nobody waits for any more are given back by being dropped.
fn send(grants: Vec<(Waiter, HeldBytes)>) {
    for (taker, held) in grants {
        drop(taker.grant.send(held));
    }
}

impl ByteBudget {
    /// A budget of `bytes`, rounded down to KiB, at least one.
    pub fn new(bytes: u64) -> Self {
        let total = (bytes / UNIT).max(1) * UNIT;
        let state = State {
            free: total,
            waiting: Vec::new(),
            next: 0,
        };
        Self(Arc::new(SharedBudget {
            total,
            state: Mutex::new(state),
        }))
    }

    /// Waits until `bytes` are free and takes them. More than the whole budget is the whole budget:
    /// a large taker is let through alone, not refused.
    pub async fn take(&self, bytes: u64) -> HeldBytes {
        let queued = self.queue(bytes, &SharedPriority::new(Priority::Read));
        queued.granted().await
    }

    /// [`take`](Self::take) if so many bytes are free now and nobody waits for them.
    pub fn try_take(&self, bytes: u64) -> Option<HeldBytes> {
        let bytes = self.0.counted(bytes);
        let mut state = self.0.state.lock();
        if !state.waiting.is_empty() || state.free < bytes {
            return None;
        }
        state.free -= bytes;
        Some(self.0.held(bytes))
    }

    /// Gets in line for bytes.
    pub(crate) fn queue(&self, bytes: u64, priority: &SharedPriority) -> Queued {
        let (grant, granted) = oneshot::channel();
        let (number, grants) = {
            let mut state = self.0.state.lock();
            let number = state.next;
            state.next += 1;
            state.waiting.push(Waiter {
                number,
                bytes: self.0.counted(bytes),
                priority: priority.clone(),
                grant,
            });
            (number, self.0.grants(&mut state))
        };
        send(grants);
        Queued {
            budget: Arc::clone(&self.0),
            number,
            granted,
        }
    }

    /// All of it, in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.0.total
    }

    /// How many bytes are taken, and how many wait for some.
    pub(crate) fn now(&self) -> (u64, u64) {
        let state = self.0.state.lock();
        (self.0.total - state.free, state.waiting.len() as u64)
    }

    /// Whether somebody waits who could go on if more was given back.
    pub(crate) fn is_short(&self) -> bool {
        !self.0.state.lock().waiting.is_empty()
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
        assert!(budget.take(UNIT).now_or_never().is_none());
        drop(all);
        assert!(budget.take(UNIT).now_or_never().is_some());
    }

    /// A taker in line, and whether it has its bytes.
    fn waiting(budget: &ByteBudget, bytes: u64, priority: Priority) -> (Queued, SharedPriority) {
        let priority = SharedPriority::new(priority);
        (budget.queue(bytes, &priority), priority)
    }

    fn has(queued: &mut Queued) -> Option<HeldBytes> {
        queued.granted.try_recv().ok()
    }

    #[test]
    fn a_read_gets_its_bytes_before_read_ahead_and_that_before_prefetch() {
        let budget = ByteBudget::new(10 * UNIT);
        let all = budget.try_take(10 * UNIT).unwrap();
        let (mut prefetch, _) = waiting(&budget, 10 * UNIT, Priority::Prefetch);
        let (mut ahead, _) = waiting(&budget, 10 * UNIT, Priority::ReadAhead);
        let (mut read, _) = waiting(&budget, 10 * UNIT, Priority::Read);
        drop(all);
        let held = has(&mut read).unwrap();
        assert!(has(&mut ahead).is_none());
        drop(held);
        let held = has(&mut ahead).unwrap();
        assert!(has(&mut prefetch).is_none());
        drop(held);
        drop(has(&mut prefetch).unwrap());
    }

    #[test]
    fn what_is_fetched_ahead_comes_first_once_a_read_waits_for_it() {
        let budget = ByteBudget::new(10 * UNIT);
        let all = budget.try_take(10 * UNIT).unwrap();
        let (mut other, _) = waiting(&budget, 10 * UNIT, Priority::ReadAhead);
        let (mut wanted, priority) = waiting(&budget, 10 * UNIT, Priority::Prefetch);
        priority.raise(Priority::Read);
        drop(all);
        assert!(has(&mut wanted).is_some());
        assert!(has(&mut other).is_some(), "once the read is done");
    }

    #[test]
    fn who_goes_away_lets_the_next_one_through() {
        let budget = ByteBudget::new(10 * UNIT);
        let some = budget.try_take(6 * UNIT).unwrap();
        let (large, _) = waiting(&budget, 10 * UNIT, Priority::Read);
        let (mut small, _) = waiting(&budget, 4 * UNIT, Priority::Read);
        assert!(has(&mut small).is_none(), "it has to wait for its turn");
        drop(large);
        drop(has(&mut small).unwrap());
        drop(some);
        assert!(budget.try_take(10 * UNIT).is_some());
    }

    #[test]
    fn requests_that_nobody_waits_for_leave_turns_to_those_that_somebody_does() {
        let turns = Turns::new(8);
        let [read, ahead] = [Priority::Read, Priority::ReadAhead].map(SharedPriority::new);
        let taken: Vec<_> = (0..8)
            .map_while(|_| turns.take(&ahead).now_or_never())
            .collect();
        assert_eq!(taken.len(), 7);
        let last = turns.take(&read).now_or_never();
        assert!(last.is_some());
        assert!(turns.take(&read).now_or_never().is_none());
    }

    #[test]
    fn held_bytes_can_be_given_back_one_by_one() {
        let budget = ByteBudget::new(3 * UNIT);
        let mut held = budget.try_take(3 * UNIT).unwrap();
        let first = held.split(UNIT).unwrap();
        let rest = held.split(u64::MAX).unwrap();
        assert_eq!((first.bytes(), rest.bytes()), (UNIT, 2 * UNIT));
        assert!(held.split(1).is_none());
        drop(rest);
        assert!(budget.try_take(2 * UNIT).is_some());
        assert!(budget.try_take(3 * UNIT).is_none());
    }
}
