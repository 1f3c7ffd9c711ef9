//! One request and its retries. Direct requests and the SDK's go through the same loop:
//!
//! ```text
//!     place --> attempt --> answer
//!       ^          '--> FailedAttempt --failed()--> wait, if retry.rs gives one --.
//!       '-------------------------------------------------------------------'
//! ```

use std::sync::Arc;
use std::time::Duration;

use attachfs_store::StoreError;
use tokio::time::Instant;

use crate::concurrency::Slot;
use crate::credentials::{KeyRing, Keys};
use crate::error::Failure;
use crate::retry::{Again, Retries};

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    pub(crate) again: Again,
    pub(crate) failure: Failure,
}

impl FailedAttempt {
    pub(crate) fn without_answer(again: Again, error: StoreError) -> Self {
        let failure = Failure {
            status: None,
            error,
        };
        Self { again, failure }
    }
}

/// How a request went until now.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    retries: &'a Retries,
    /// How much time is left for all further attempts and waits.
    pub(crate) left: Duration,
    failed: u32,
    throttled: u32,
    renewed: bool,
    reset: bool,
    unconnected: Option<Instant>,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(retries: &'a Retries, time: Duration) -> Self {
        Self {
            retries,
            left: time,
            failed: 0,
            throttled: 0,
            renewed: false,
            reset: false,
            unconnected: None,
        }
    }

    /// What can be done about a failure of a request that was signed with these keys. Asks for
    /// other keys if those may help.
    pub(crate) async fn with_other_keys(
        &self,
        again: Again,
        ring: &KeyRing,
        keys: &Arc<Keys>,
    ) -> Again {
        let may_help = match again {
            Again::NewKeys => true,
            Again::ChangedKeys => ring.may_be_old(),
            _ => return again,
        };
        if !self.renewed && may_help && ring.replace(keys).await {
            Again::NewKeys
        } else {
            Again::Never
        }
    }

    /// The request succeeded.
    pub(crate) fn succeeded(&self, slot: &Slot) {
        slot.succeeded();
        self.retries.succeeded(self.failed);
    }

    /// An attempt failed: waits until it is time for the next, or gives the failure that the request
    /// ends with.
    pub(crate) async fn failed(
        &mut self,
        slot: Slot,
        failed: FailedAttempt,
    ) -> Result<(), Failure> {
        let again = match failed.again {
            Again::NewKeys if self.renewed => Again::Never,
            Again::OtherTime if self.reset => Again::Never,
            again => again,
        };
        match again {
            // The server works: this is its answer.
            Again::Never | Again::ChangedKeys if failed.failure.status.is_some() => {
                slot.succeeded();
            }
            Again::Never | Again::ChangedKeys => {}
            Again::Later => self.failed += 1,
            Again::Connected => {
                self.failed += 1;
                self.unconnected.get_or_insert_with(Instant::now);
            }
            Again::NewKeys => self.renewed = true,
            Again::OtherTime => self.reset = true,
            Again::Slower => {
                self.throttled += 1;
                slot.was_too_much();
            }
        }
        drop(slot);
        let outage = self
            .unconnected
            .map_or(Duration::ZERO, |since| since.elapsed());
        let wait = self
            .retries
            .wait(again, self.failed, self.throttled, outage);
        let Some(wait) = wait.filter(|wait| *wait < self.left) else {
            return Err(failed.failure);
        };
        self.left -= wait;
        self.retries.requests.note_retry();
        tracing::debug!(
            error = &failed.failure.error as &dyn std::error::Error,
            ?wait,
            "a request failed and is made again"
        );
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
