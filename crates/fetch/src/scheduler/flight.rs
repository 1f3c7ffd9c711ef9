//! Fetches under way: who leads one, and who waits for it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::{Fetched, PartKey, Scheduler};
use crate::budget::SharedPriority;
use crate::{FetchError, Priority};

/// The fetches of some parts.
#[derive(Debug, Default)]
pub(super) struct Flights(HashMap<PartKey, Arc<Flight>>);

/// One fetch.
#[derive(Debug)]
pub(super) struct Flight {
    priority: SharedPriority,
    /// Short and innermost.
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    task: Option<AbortHandle>,
    outcome: Option<Outcome>,
}

#[derive(Debug, Clone)]
enum Outcome {
    Fetched(Result<Bytes, FetchError>),
    /// Nobody leads it any more.
    GivenUp,
}

impl Flights {
    pub(super) fn join(&self, key: &PartKey, priority: Priority) -> Option<Waiting> {
        let flight = self.0.get(key)?;
        flight.priority.raise(priority);
        Some(Waiting::on(flight))
    }

    pub(super) fn lead(
        &mut self,
        key: &PartKey,
        priority: Priority,
        scheduler: &Arc<Scheduler>,
    ) -> Lead {
        let flight = Arc::new(Flight {
            priority: SharedPriority::new(priority),
            state: Mutex::default(),
            ended: Notify::new(),
        });
        self.0.insert(*key, Arc::clone(&flight));
        Lead {
            key: *key,
            flight,
            scheduler: Arc::clone(scheduler),
            landed: false,
        }
    }

    pub(super) fn end(&mut self, key: &PartKey) -> Option<Arc<Flight>> {
        self.0.remove(key)
    }
}

impl Flight {
    /// Tells everybody who waits how it ended; `None` if it was given up.
    pub(super) fn tell(&self, outcome: Option<Result<Bytes, FetchError>>) {
        let outcome = outcome.map_or(Outcome::GivenUp, Outcome::Fetched);
        self.state.lock().outcome = Some(outcome);
        self.ended.notify_waiters();
    }
}

/// Leads a flight: has to find the bytes, or to fetch them. Dropping it gives the flight up; whoever waits for
/// it looks again.
#[derive(Debug)]
#[must_use = "the flight is given up at once"]
pub(crate) struct Lead {
    key: PartKey,
    flight: Arc<Flight>,
    scheduler: Arc<Scheduler>,
    landed: bool,
}

impl Lead {
    /// Gives what was found to everybody.
    pub(crate) fn land(mut self, outcome: Result<Fetched, FetchError>) {
        self.landed = true;
        self.scheduler.land(&self.key, Some(outcome));
    }

    /// Fetches in a task of its own, which ends when nobody waits for it any more. Needs a tokio runtime.
    pub(crate) fn start<F>(self, fetch: impl FnOnce(SharedPriority) -> F) -> Waiting
    where
        F: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        let flight = Arc::clone(&self.flight);
        let waiting = Waiting::on(&flight);
        let fetch = fetch(flight.priority.clone());
        let task = tokio::spawn(async move {
            let outcome = fetch.await;
            self.land(outcome);
        });
        flight.state.lock().task = Some(task.abort_handle());
        waiting
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.landed {
            self.scheduler.land(&self.key, None);
        }
    }
}

/// Somebody who waits for a flight. When the last one is dropped, the flight's task ends.
#[derive(Debug)]
pub(crate) struct Waiting {
    flight: Arc<Flight>,
}

impl Waiting {
    fn on(flight: &Arc<Flight>) -> Self {
        flight.state.lock().waiting += 1;
        Self {
            flight: Arc::clone(flight),
        }
    }

    /// How the flight ended; `None` if it was given up, so that it is to be looked for again.
    pub(crate) async fn ended(&self) -> Option<Result<Bytes, FetchError>> {
        loop {
            let mut ended = std::pin::pin!(self.flight.ended.notified());
            // From now on it is told of what comes.
            ended.as_mut().enable();
            match &self.flight.state.lock().outcome {
                Some(Outcome::Fetched(outcome)) => return Some(outcome.clone()),
                Some(Outcome::GivenUp) => return None,
                None => {}
            }
            ended.await;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let task = {
            let mut state = self.flight.state.lock();
            state.waiting -= 1;
            if state.waiting == 0 {
                state.task.take()
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
