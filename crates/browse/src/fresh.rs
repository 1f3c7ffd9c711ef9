//! [`Fresh`]: something that is asked of the store once, and again and again while somebody uses it.
//!
//! ```text
//!     first look      asks, and waits
//!     while used      asked again every period, in the background: nobody waits, and what is shown is never older
//!     long unused     not asked any more; the next look asks, and waits
//! ```
//!
//! If asking fails, what was there before is shown, for one period at a time, and the failure is logged. If nothing was there, the
//! look fails, and the next one asks again.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use attachfs_vfs::{FsError, FsErrorKind};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// After so long without a look the background task stops asking.
const UNUSED: Duration = Duration::from_mins(10);

type Answer<T> = Result<Arc<T>, FsError>;
type Asking<T> = Shared<BoxFuture<'static, Answer<T>>>;
/// Asks; is given what was there before, and gives that back if nothing has changed.
type Ask<T> = Box<dyn Fn(Option<Arc<T>>) -> BoxFuture<'static, Answer<T>> + Send + Sync>;

/// Something that is asked for and kept.
pub(crate) struct Fresh<T> {
    ask: Ask<T>,
    period: Duration,
    /// Held in memory only; nothing is called under it.
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Option<Arc<T>>,
    /// When the listing began that gave the value; after a failure, when that failure came.
    since: Instant,
    used: Instant,
    asking: Option<Asking<T>>,
    is_watched: bool,
}

impl<T> fmt::Debug for Fresh<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fresh").finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Fresh<T> {
    pub(crate) fn new(period: Duration, ask: Ask<T>) -> Self {
        let now = Instant::now();
        Self {
            ask,
            period,
            state: Mutex::new(State {
                value: None,
                since: now,
                used: now,
                asking: None,
                is_watched: false,
            }),
        }
    }

    /// The value as it is known, or as soon as it was asked for. Must be called within a runtime.
    pub(crate) async fn get(self: &Arc<Self>) -> Answer<T> {
        let asking = {
            let mut state = self.state.lock();
            state.used = Instant::now();
            let is_young = state.since.elapsed() <= self.period;
            match &state.value {
                Some(value) if state.is_watched || is_young => return Ok(Arc::clone(value)),
                _ => self.asking(&mut state),
            }
        };
        asking.await
    }

    /// What is under way; it is begun if nothing is, and goes on also if nobody waits for it.
    fn asking(self: &Arc<Self>, state: &mut State<T>) -> Asking<T> {
        // A request that has ended takes itself out of the state, unless it panicked: then another one is begun.
        if let Some(asking) = state
            .asking
            .as_ref()
            .filter(|asking| asking.peek().is_none())
        {
            return asking.clone();
        }
        let task = Handle::current().spawn(Arc::clone(self).ask_once(state.value.clone()));
        let asking = async { task.await.unwrap_or(Err(FsErrorKind::Ended.into())) };
        let asking = asking.boxed().shared();
        state.asking = Some(asking.clone());
        asking
    }

    async fn ask_once(self: Arc<Self>, before: Option<Arc<T>>) -> Answer<T> {
        let begun = Instant::now();
        let answer = (self.ask)(before.clone()).await;
        let took = begun.elapsed();
        let mut state = self.state.lock();
        state.asking = None;
        let answer = match (answer, before) {
            (Ok(value), _) => {
                state.value = Some(Arc::clone(&value));
                state.since = begun;
                Ok(value)
            }
            (Err(error), Some(before)) => {
                tracing::warn!("what was there before is shown: {}", chain(&error));
                state.since = Instant::now();
                Ok(before)
            }
            (Err(error), None) => return Err(error),
        };
        if !state.is_watched {
            state.is_watched = true;
            let watched = Arc::downgrade(&self);
            Handle::current().spawn(watch(watched, self.period, begun, took));
        }
        answer
    }
}

/// An error and what caused it.
fn chain(error: &FsError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Asks again every period, until nobody has looked for a while. Between two listings there is a pause at least as long as the first of them took.
async fn watch<T: Send + Sync + 'static>(
    watched: Weak<Fresh<T>>,
    period: Duration,
    mut begun: Instant,
    mut took: Duration,
) {
    loop {
        tokio::time::sleep_until(begun + period.max(took * 2)).await;
        let Some(fresh) = watched.upgrade() else {
            return;
        };
        begun = Instant::now();
        let asking = {
            let mut state = fresh.state.lock();
            if state.used.elapsed() > UNUSED.max(period * 4) {
                state.is_watched = false;
                return;
            }
            fresh.asking(&mut state)
        };
        drop(fresh);
        // `ask_once` has logged a failure, if there was an earlier value to show; without one, the look that asked has the error.
        let _ = asking.await;
        took = begun.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    /// Counts how often it was asked; every answer takes a second. `fails` says which fail.
    fn counting(fails: fn(u32) -> bool) -> Arc<Fresh<u32>> {
        let asked = AtomicU32::new(0);
        let ask = move |_| {
            let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if fails(number) {
                    return Err(FsErrorKind::Io.into());
                }
                Ok(Arc::new(number))
            }
            .boxed()
        };
        Arc::new(Fresh::new(PERIOD, Box::new(ask)))
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_look_first_ask_once_and_nobody_waits_later() {
        let fresh = counting(|_| false);
        let first = futures::future::join_all((0..5).map(|_| fresh.get())).await;
        assert!(first.iter().all(|answer| **answer.as_ref().unwrap() == 1));
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let now = fresh.get().now_or_never().expect("nobody waits");
            now.unwrap();
        }
        // 150 s in periods of 10 s.
        let asked = *fresh.get().await.unwrap();
        assert!((14..=17).contains(&asked), "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_looks_at_is_not_asked_for_and_the_next_look_waits_for_the_present() {
        let fresh = counting(|_| false);
        fresh.get().await.unwrap();
        tokio::time::sleep(UNUSED * 3).await;
        let asked = fresh.get().await.unwrap();
        assert!(*asked < 70, "{asked}");
        let late = counting(|_| false);
        late.get().await.unwrap();
        tokio::time::sleep(UNUSED * 3).await;
        assert!(late.get().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_shows_what_was_there_or_fails_and_is_asked_again() {
        let fresh = counting(|number| number != 2);
        fresh.get().await.unwrap_err();
        assert_eq!(*fresh.get().await.unwrap(), 2);
        for _ in 0..10 {
            tokio::time::sleep(PERIOD).await;
            assert_eq!(*fresh.get().now_or_never().unwrap().unwrap(), 2);
        }
    }
}
