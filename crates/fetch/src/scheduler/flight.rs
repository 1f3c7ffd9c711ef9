//! Fetches under way: the one that leads, and the reads that wait for it.
//!
//! ```text
//!     Run       one task that brings consecutive parts      ends with the last Interest in it
//!      `- Flight   one of these parts                        ends when it has landed, failed or was given up
//!          `- Waiting   a read that wants it, with an Interest in the run
//! ```

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::{Fetched, PartKey, Scheduler};
use crate::budget::SharedPriority;
use crate::landed::Landed;
use crate::{FetchError, Priority};

/// The fetches of some parts.
#[derive(Debug, Default)]
pub(super) struct Flights(HashMap<PartKey, Arc<Flight>>);

/// Consecutive parts that one task brings.
#[derive(Debug)]
struct Run {
    priority: SharedPriority,
    /// Short and innermost.
    state: Mutex<Crew>,
    has_ended: AtomicBool,
}

#[derive(Debug, Default)]
struct Crew {
    interested: usize,
    task: Option<AbortHandle>,
}

/// One part of a run.
#[derive(Debug)]
pub(super) struct Flight {
    run: Arc<Run>,
    /// Short and innermost.
    outcome: Mutex<Option<Outcome>>,
    ended: Notify,
}

#[derive(Debug, Clone)]
enum Outcome {
    Fetched(Result<Landed, FetchError>),
    /// Its lead was dropped.
    GivenUp,
}

impl Flights {
    pub(super) fn join(&self, key: &PartKey, priority: Priority) -> Option<Waiting> {
        let flight = self.0.get(key)?;
        flight.run.priority.raise(priority);
        Some(Waiting::on(flight))
    }

    /// Begins the flight of a part as the next one of a run, and waits for it.
    pub(super) fn begin(&mut self, key: PartKey, lead: &mut Lead) -> Waiting {
        let flight = Arc::new(Flight {
            run: Arc::clone(&lead.run),
            outcome: Mutex::default(),
            ended: Notify::new(),
        });
        self.0.insert(key, Arc::clone(&flight));
        let waiting = Waiting::on(&flight);
        lead.flights.push_back((key, flight));
        waiting
    }

    pub(super) fn end(&mut self, key: &PartKey) {
        self.0.remove(key);
    }
}

impl Flight {
    /// Tells all reads that wait how it ended; `None` if it was given up.
    pub(super) fn tell(&self, outcome: Option<Result<Landed, FetchError>>) {
        let outcome = outcome.map_or(Outcome::GivenUp, Outcome::Fetched);
        *self.outcome.lock() = Some(outcome);
        self.ended.notify_waiters();
    }
}

/// The duty to bring the parts of a run, found on the disk or fetched. Dropping it gives up the parts that have not landed;
/// reads that wait for those look again.
#[derive(Debug)]
#[must_use = "the run is given up at once"]
pub(crate) struct Lead {
    run: Arc<Run>,
    /// The parts that have not landed.
    flights: VecDeque<(PartKey, Arc<Flight>)>,
    scheduler: Arc<Scheduler>,
}

impl Lead {
    pub(super) fn new(scheduler: &Arc<Scheduler>, priority: Priority) -> Self {
        let run = Arc::new(Run {
            priority: SharedPriority::new(priority),
            state: Mutex::default(),
            has_ended: AtomicBool::new(false),
        });
        Self {
            run,
            flights: VecDeque::new(),
            scheduler: Arc::clone(scheduler),
        }
    }

    /// The priority of the run, which a read that joins may raise.
    pub(crate) fn priority(&self) -> SharedPriority {
        self.run.priority.clone()
    }

    /// The part that is to land next.
    pub(crate) fn next(&self) -> Option<PartKey> {
        self.flights.front().map(|(key, _)| *key)
    }

    /// How many parts are still to land.
    pub(crate) fn left(&self) -> usize {
        self.flights.len()
    }

    /// Gives the next part to all reads that wait for it, and to the memory.
    pub(crate) fn land(&mut self, fetched: Fetched) {
        if let Some((key, flight)) = self.flights.pop_front() {
            self.scheduler.land(&key, &flight, Some(Ok(fetched)));
        }
    }

    /// Tells all reads that wait for the parts that have not landed that these failed.
    pub(crate) fn fail(&mut self, error: &FetchError) {
        for (key, flight) in std::mem::take(&mut self.flights) {
            self.scheduler.land(&key, &flight, Some(Err(error.clone())));
        }
    }

    /// An interest, which keeps the run going.
    pub(crate) fn interest(&self) -> Interest {
        Interest::of(&self.run)
    }

    /// Runs `bring` in a task of its own, which is aborted when the last [`Interest`] in the run is dropped.
    pub(crate) fn start<F>(self, runtime: &Handle, bring: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let run = Arc::clone(&self.run);
        let task = runtime.spawn(bring(self));
        run.state.lock().task = Some(task.abort_handle());
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.run.has_ended.store(true, Ordering::Release);
        for (key, flight) in std::mem::take(&mut self.flights) {
            self.scheduler.land(&key, &flight, None);
        }
    }
}

/// Keeps a run going. When the last one is dropped, the run's task ends.
#[derive(Debug)]
pub(crate) struct Interest(Arc<Run>);

impl Interest {
    fn of(run: &Arc<Run>) -> Self {
        run.state.lock().interested += 1;
        Self(Arc::clone(run))
    }

    /// Whether the run has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.has_ended.load(Ordering::Acquire)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let task = {
            let mut crew = self.0.state.lock();
            crew.interested -= 1;
            if crew.interested == 0 {
                crew.task.take()
            } else {
                None
            }
        };
        if let Some(task) = task {
            // Of one that has ended this does nothing.
            task.abort();
        }
    }
}

/// A read that waits for a part, and is interested in its run.
#[derive(Debug)]
pub(crate) struct Waiting {
    flight: Arc<Flight>,
    _interest: Interest,
}

impl Waiting {
    fn on(flight: &Arc<Flight>) -> Self {
        Self {
            flight: Arc::clone(flight),
            _interest: Interest::of(&flight.run),
        }
    }

    /// How the flight ended; `None` if it was given up, so that it is to be looked for again.
    pub(crate) async fn ended(&self) -> Option<Result<Landed, FetchError>> {
        loop {
            let mut ended = std::pin::pin!(self.flight.ended.notified());
            // From now on no notification is missed.
            ended.as_mut().enable();
            match &*self.flight.outcome.lock() {
                Some(Outcome::Fetched(outcome)) => return Some(outcome.clone()),
                Some(Outcome::GivenUp) => return None,
                None => {}
            }
            ended.await;
        }
    }
}
