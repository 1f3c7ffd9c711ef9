//! Runs many jobs, a bounded number at a time, while somebody watches.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_scan::{Progress, Reporter};
use tokio::task::{JoinError, JoinSet};

use crate::error::TransferError;
use crate::meter::Meter;

/// How often the count is looked at when no job ends.
const TICK: Duration = Duration::from_millis(100);

/// Runs `jobs` as tasks, at most `limit` at a time, and gives each result to `done`. The first failure,
/// or the listener's wish, ends all of them; when this returns none is running any more, except for a
/// blocking step that has yet to notice.
pub(crate) async fn run_all<T, J>(
    jobs: impl IntoIterator<Item = J, IntoIter: Send>,
    limit: usize,
    meter: &Arc<Meter>,
    progress: &dyn Progress,
    mut done: impl FnMut(T),
) -> Result<(), TransferError>
where
    T: Send + 'static,
    J: Future<Output = Result<T, TransferError>> + Send + 'static,
{
    let mut stop = StopWhenDropped(Some(Arc::clone(meter)));
    let mut jobs = jobs.into_iter();
    let mut running = JoinSet::new();
    let mut tick = tokio::time::interval(TICK);
    let mut reporter = Reporter::new(progress, meter.began());
    let outcome = loop {
        while running.len() < limit.max(1) {
            let Some(job) = jobs.next() else { break };
            running.spawn(job);
        }
        tokio::select! {
            ended = running.join_next() => match ended.map(|ended| result_of(ended, meter)) {
                None => break Ok(()),
                Some(Ok(result)) => done(result),
                Some(Err(error)) => break Err(error),
            },
            _ = tick.tick() => {}
        }
        let count = meter.items_done();
        if let Err(cancelled) = reporter.poll(Instant::now(), count, || meter.event()) {
            break Err(cancelled.into());
        }
    };
    let outcome = outcome.and_then(|()| Ok(reporter.tell(Instant::now(), meter.event())?));
    match outcome {
        // Nothing is running that would have to be told, and there may be more to do.
        Ok(()) => stop.0 = None,
        Err(_) => meter.stop(),
    }
    running.abort_all();
    while let Some(ended) = running.join_next().await {
        // Those that ended before count all the same.
        if let Ok(Ok(result)) = ended {
            done(result);
        }
    }
    outcome
}

/// [`run_all`] for one job.
pub(crate) async fn run_one<T, J>(
    job: J,
    meter: &Arc<Meter>,
    progress: &dyn Progress,
) -> Result<T, TransferError>
where
    T: Send + 'static,
    J: Future<Output = Result<T, TransferError>> + Send + 'static,
{
    let mut result = None;
    run_all([job], 1, meter, progress, |done| result = Some(done)).await?;
    result.ok_or_else(|| meter.cancelled().into())
}

fn result_of<T>(
    ended: Result<Result<T, TransferError>, JoinError>,
    meter: &Meter,
) -> Result<T, TransferError> {
    ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // Only a runtime that is shutting down ends a task of ours.
        Err(_) => Err(meter.cancelled().into()),
    })
}

/// Runs a step that blocks: reading and hashing.
pub(crate) async fn blocking<T: Send + 'static>(
    meter: &Meter,
    step: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    result_of(tokio::task::spawn_blocking(step).await, meter)
}

/// Blocking steps cannot be aborted; this tells them when their caller has gone away.
struct StopWhenDropped(Option<Arc<Meter>>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        if let Some(meter) = &self.0 {
            meter.stop();
        }
    }
}
