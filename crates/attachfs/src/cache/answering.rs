//! Work on a cache's disk: it takes as long as it goes on, can be cancelled, and ends if the disk does not answer.

use std::ops::ControlFlow;
use std::time::Duration;

use attachfs_durable::CacheDir;
use attachfs_session::FailureClass;
use attachfs_transfer::{Progress, ProgressEvent};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cancel::Cancellable;
use crate::error::{Doing as _, Error};

/// How long a disk may take for one step: to list a 256th of the cache, or to remove a file.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Does work that blocks, on a thread of its own, which is left behind if the disk does not answer. Tells how far it is
/// after each step.
pub(super) async fn on_disk<T: Send + 'static>(
    cache: &CacheDir,
    progress: &dyn Progress,
    cancel: &CancellationToken,
    work: impl FnOnce(&CacheDir, &dyn Progress) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress.run(answered(cache, &progress, work)).await
}

/// As [`on_disk`], of a listener that can be cancelled.
pub(super) async fn answered<T: Send + 'static>(
    cache: &CacheDir,
    progress: &dyn Progress,
    work: impl FnOnce(&CacheDir, &dyn Progress) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (events, mut told) = unbounded_channel();
    let (answer, answered) = oneshot::channel();
    let of_thread = cache.clone();
    let thread = std::thread::Builder::new().name("attachfs-upkeep".to_owned());
    let work = move || {
        let events = Relay(events);
        // The caller has given up waiting if the work took too long.
        let _ = answer.send(work(&of_thread, &events));
    };
    thread
        .spawn(work)
        .doing(|| "cannot start a thread".to_owned())?;
    while let Some(event) = in_time(cache, told.recv()).await? {
        if progress.update(&event).is_break() {
            // The thread hears of it at its next step.
            told.close();
        }
    }
    match in_time(cache, answered).await? {
        Ok(done) => done,
        // It has panicked, which was reported there.
        Err(closed) => Err(
            Error::new(FailureClass::Other, "the work on the cache ended early").because(closed),
        ),
    }
}

/// What the disk answers, if it does.
async fn in_time<T>(cache: &CacheDir, answer: impl Future<Output = T>) -> Result<T, Error> {
    let answer = timeout(ANSWERS_WITHIN, answer).await;
    answer.map_err(|_elapsed| does_not_answer(cache))
}

/// The error of work that was given up because the disk does not answer.
pub(super) fn does_not_answer(cache: &CacheDir) -> Error {
    let dir = cache.path().display();
    Error::new(
        FailureClass::Busy,
        format!("the disk of the cache {dir} does not answer"),
    )
}

/// Sends progress events to the caller who waits for the work. Answers `Break` when that caller has given up.
struct Relay(UnboundedSender<ProgressEvent>);

impl Progress for Relay {
    fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
        match self.0.send(event.clone()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use attachfs_transfer::{Phase, Silent};

    use super::*;

    fn cache() -> CacheDir {
        CacheDir::new("/cache")
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_ends_the_work() {
        let (_release, held) = channel::<()>();
        let never = CancellationToken::new();
        let hanging = move |_: &CacheDir, _: &dyn Progress| {
            let _ = held.recv();
            Ok(())
        };
        let error = on_disk(&cache(), &Silent, &never, hanging)
            .await
            .unwrap_err();
        assert_eq!(error.class(), FailureClass::Busy);
        assert!(
            error.to_string().contains("/cache does not answer"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn work_that_goes_on_ends_when_it_is_cancelled() {
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let (ended, end) = oneshot::channel();
        let endless = move |_: &CacheDir, progress: &dyn Progress| {
            token.cancel();
            while progress
                .update(&ProgressEvent::of(Phase::Scan))
                .is_continue()
            {}
            let _ = ended.send(());
            Ok(())
        };
        on_disk(&cache(), &Silent, &cancel, endless).await.unwrap();
        end.await.unwrap();
    }
}
