//! What the work on a cache tells: how far it is, and which objects are not as they should be.

use std::ops::ControlFlow;
use std::time::Instant;

use attachfs_transfer::{Cancelled, Phase, Progress, ProgressEvent, Reporter, TransferError};
use serde::Serialize;

use crate::error::Error;

/// An object in a cache that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct CacheTrouble {
    /// Its hash.
    pub object: String,
    /// A file that needs it, if a manifest says which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is wrong.
    pub reason: String,
}

/// Passes counts on to a listener, and remembers that the listener cancelled.
pub(super) struct Reporting<'a> {
    phase: Phase,
    reporter: Reporter<'a>,
    cancelled: Option<Cancelled>,
}

impl<'a> Reporting<'a> {
    pub(super) fn new(phase: Phase, progress: &'a dyn Progress) -> Self {
        Self {
            phase,
            reporter: Reporter::new(progress, Instant::now()),
            cancelled: None,
        }
    }

    pub(super) fn at(
        &mut self,
        items: u64,
        items_total: Option<u64>,
        bytes: u64,
        bytes_total: Option<u64>,
    ) -> ControlFlow<()> {
        let event = || ProgressEvent {
            items_done: items,
            items_total,
            bytes_done: bytes,
            bytes_total,
            ..ProgressEvent::of(self.phase)
        };
        match self.reporter.poll(Instant::now(), items, event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(cancelled) => {
                self.cancelled = Some(cancelled);
                ControlFlow::Break(())
            }
        }
    }

    /// Fails if the listener cancelled.
    pub(super) fn ended(&mut self) -> Result<(), Error> {
        match self.cancelled.take() {
            None => Ok(()),
            Some(cancelled) => Err(TransferError::from(cancelled).into()),
        }
    }
}
