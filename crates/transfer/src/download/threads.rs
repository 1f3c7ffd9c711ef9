//! The threads on which a download reads and writes.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::TransferError;
use crate::meter::Meter;
use crate::run::blocking;

/// More steps that block than there ever are at once.
const MOST_STEPS: u32 = 1 << 20;

/// Runs steps that block.
#[derive(Debug)]
pub(super) struct Threads {
    meter: Arc<Meter>,
    /// Held by every step that blocks: who is cancelled waits for those that were begun.
    running: Arc<Semaphore>,
    /// Of steps that read or write files: more of them at once only wait for each other.
    turns: Semaphore,
}

impl Threads {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            meter,
            running: Arc::new(Semaphore::new(MOST_STEPS as usize)),
            turns: Semaphore::new(2 * threads),
        }
    }

    /// Runs a step that blocks, to its end even if nobody waits for it any more.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TransferError> {
        let running = Arc::clone(&self.running).acquire_owned().await;
        blocking(&self.meter, move || {
            let done = step();
            drop(running);
            Ok(done)
        })
        .await
    }

    /// Waits for the turn to read or write a file.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        acquired(&self.turns).await
    }

    /// Waits until no step that blocks is running.
    pub(super) async fn wait_idle(&self) {
        // The semaphore is never closed.
        let _ = self.running.acquire_many(MOST_STEPS).await;
    }
}

#[cfg(test)]
impl Threads {
    /// Takes all turns.
    pub(super) async fn all_turns(&self) -> SemaphorePermit<'_> {
        let all = self.turns.available_permits() as u32;
        self.turns.acquire_many(all).await.unwrap()
    }

    /// Whether no step that blocks is running.
    pub(super) fn are_idle(&self) -> bool {
        self.running.available_permits() == MOST_STEPS as usize
    }
}

/// A permit of a semaphore that is never closed.
pub(super) async fn acquired(semaphore: &Semaphore) -> SemaphorePermit<'_> {
    let permit = semaphore.acquire().await;
    permit.expect("the semaphore is never closed")
}
