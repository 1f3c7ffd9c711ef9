//! How a use case is stopped before its end.
//!
//! The caller keeps a clone of the [`CancellationToken`] that it gave, and cancels that from another thread or task. Then
//!
//! 1. the use case learns of it where it counts what it did, and ends by itself, with the count in its error;
//! 2. what has not ended [`ENDS_WITHIN`] later, because a store or another process does not answer, is dropped.
//!
//! Either way the error is of the class [`Cancelled`](crate::FailureClass::Cancelled), and what is left is what a kill
//! would have left: the same call, made again, goes on from there. A listener that answers `Break` to an event
//! ([`Progress::update`]) cancels in the first way.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use attachfs_commit::{CommitStep, Observer};
use attachfs_session::FailureClass;
use attachfs_transfer::{Cancelled, Progress, ProgressEvent, TransferError};
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// How long a use case that was cancelled may take to end by itself. What counts looks once a second at least.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// A listener of a use case that can be cancelled, and the token that does it.
pub(crate) struct Cancellable<'a, P: ?Sized> {
    listener: &'a P,
    cancel: &'a CancellationToken,
    last: Mutex<Option<ProgressEvent>>,
}

impl<'a, P: Progress + ?Sized> Cancellable<'a, P> {
    pub(crate) fn new(listener: &'a P, cancel: &'a CancellationToken) -> Self {
        Self {
            listener,
            cancel,
            last: Mutex::new(None),
        }
    }

    /// Does the work, which has this for its listener, unless the token is cancelled before it ends.
    pub(crate) async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        let mut work = pin!(work);
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = self.cancel.cancelled() => {}
        }
        match tokio::time::timeout(ENDS_WITHIN, work).await {
            Ok(result) => result,
            Err(_elapsed) => {
                let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                Err(last.clone().map_or_else(cancelled, |last| {
                    TransferError::from(Cancelled::after(last)).into()
                }))
            }
        }
    }
}

impl<P: Progress + ?Sized> Progress for Cancellable<'_, P> {
    fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.clone());
        let told = self.listener.update(event);
        if self.cancel.is_cancelled() {
            return ControlFlow::Break(());
        }
        told
    }
}

impl<P: Observer + ?Sized> Observer for Cancellable<'_, P> {
    fn step(&self, step: CommitStep) {
        self.listener.step(step);
    }

    fn note(&self, text: &str) {
        self.listener.note(text);
    }
}

/// Does work that counts nothing, and drops it when the token is cancelled.
pub(crate) async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    if cancel.is_cancelled() {
        return Err(cancelled());
    }
    // What has ended is not thrown away.
    tokio::select! {
        biased;
        result = work => result,
        () = cancel.cancelled() => Err(cancelled()),
    }
}

/// The error of a use case that was cancelled before it had a result to report.
pub(crate) fn cancelled() -> Error {
    Error::new(FailureClass::Cancelled, "cancelled")
}

#[cfg(test)]
mod tests {
    use attachfs_transfer::{Phase, Silent};

    use super::*;

    fn event() -> ProgressEvent {
        ProgressEvent {
            items_done: 3,
            ..ProgressEvent::of(Phase::Hash)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_counts_learns_of_the_token_and_ends_by_itself() {
        let cancel = CancellationToken::new();
        let listener = Cancellable::new(&Silent, &cancel);
        let work = async {
            assert!(listener.update(&event()).is_continue());
            cancel.cancel();
            tokio::task::yield_now().await;
            assert!(listener.update(&event()).is_break());
            Err::<(), _>(Error::usage("its own account"))
        };
        let error = listener.run(work).await.unwrap_err();
        assert_eq!(error.to_string(), "its own account");
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_dropped_with_its_last_count() {
        let cancel = CancellationToken::new();
        let listener = Cancellable::new(&Silent, &cancel);
        let work = async {
            let _ = listener.update(&event());
            cancel.cancel();
            std::future::pending::<Result<(), Error>>().await
        };
        let error = listener.run(work).await.unwrap_err();
        assert_eq!(error.class(), FailureClass::Cancelled);
        assert_eq!(error.to_string(), "cancelled after 3 files");
    }

    #[tokio::test]
    async fn what_counts_nothing_is_dropped_at_once() {
        let cancel = CancellationToken::new();
        let never = async {
            cancel.cancel();
            std::future::pending::<Result<(), Error>>().await
        };
        let error = unless_cancelled(&cancel, never).await.unwrap_err();
        assert_eq!(error.class(), FailureClass::Cancelled);
    }

    #[tokio::test]
    async fn what_is_cancelled_before_it_begins_does_nothing() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let listener = Cancellable::new(&Silent, &cancel);
        let work = || async { panic!("it was begun") };
        let counted = listener.run::<()>(work()).await.unwrap_err();
        let uncounted = unless_cancelled::<()>(&cancel, work()).await.unwrap_err();
        for error in [counted, uncounted] {
            assert_eq!(error.class(), FailureClass::Cancelled);
        }
    }
}
