//! A file that is one object of at most a block: one request, one write. One that waits for its place can be taken
//! over by another run.

use std::sync::Arc;

use attachfs_fetch::{HeldBytes, Verifier};
use attachfs_manifest::{ContentHash, Piece};
use bytes::Bytes;

use super::error::{Attempt, Trouble, disk};
use super::file::{Outcome, Target};
use super::part::Part;
use super::plan::FileStep;
use super::run::Run;
use crate::TransferError;

impl Run {
    /// Says how many bytes were left by an earlier run, too.
    pub(super) async fn small(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        object: ContentHash,
        target: Target,
    ) -> Attempt<(Outcome, u64)> {
        let size = step.file.size;
        if size == 0 {
            let made = self.write(step, object, Bytes::new(), target).await?;
            return Ok((made, 0));
        }
        if let Some(outcome) = self.small_left(step, target).await? {
            return Ok((outcome, size));
        }
        // For its bytes, wherever they come from: they are never here twice.
        let room = self.supply.fetcher.room(size).await;
        if self.supply.has_nearby()
            && let Some(outcome) = self.small_nearby(step, object, target).await?
        {
            return Ok((outcome, 0));
        }
        let fetched = match self.small_once(step, object, target, &room).await {
            Err(Trouble::File(error)) if error.is_about_bytes() => {
                tracing::warn!(path = %step.path, error = &error as &dyn std::error::Error,
                    "an object is fetched again");
                self.small_once(step, object, target, &room).await
            }
            outcome => outcome,
        };
        Ok((fetched?, 0))
    }

    /// From what an interrupted run left, if that is all of it.
    async fn small_left(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        target: Target,
    ) -> Attempt<Option<Outcome>> {
        if !self.leftovers.has(step) {
            return Ok(None);
        }
        let _reader = acquired(&self.writers).await?;
        self.in_place(step, move |run, _, step| {
            let Some(part) = run.leftovers.take(&run.root, step) else {
                return Ok(None);
            };
            if !run.is_all_of_it(&part, step)? {
                return Ok(None);
            }
            run.meter.skip_bytes(step.file.size);
            run.finish(&part, step, target, step.file.size).map(Some)
        })
        .await
    }

    async fn small_once(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        object: ContentHash,
        target: Target,
        room: &HeldBytes,
    ) -> Attempt<Outcome> {
        let size = step.file.size;
        let whole = Piece {
            hash: object,
            object_len: size,
            range: 0..size,
        };
        let part = {
            let _slot = acquired(&self.supply.requests).await?;
            self.supply.get(&whole, room).await?
        };
        let outcome = self.write(step, object, part.bytes, target).await?;
        self.meter.add_bytes(size);
        Ok(outcome)
    }

    /// Verifies bytes and writes them.
    async fn write(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        object: ContentHash,
        bytes: Bytes,
        target: Target,
    ) -> Attempt<Outcome> {
        let _writer = acquired(&self.writers).await?;
        self.in_place(step, move |run, dir, step| {
            check(object, &bytes)?;
            let failed = |error| disk(&step.path, "write it", error);
            let (size, runnable) = (step.file.size, step.file.runnable);
            let part = Part::create(dir, step.part_key(object), size, runnable).map_err(failed)?;
            part.write(&bytes, 0).map_err(failed)?;
            run.finish(&part, step, target, 0)
        })
        .await
    }

    /// From a file on this machine, if there is one that is sound.
    async fn small_nearby(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        object: ContentHash,
        target: Target,
    ) -> Attempt<Option<Outcome>> {
        let _writer = acquired(&self.writers).await?;
        self.in_place(step, move |run, dir, step| {
            let size = step.file.size;
            let Some(near) = run.supply.nearby(object, size) else {
                return Ok(None);
            };
            // What cannot be read, or is something else, the store has.
            let sound = attachfs_durable::read_range(&near, 0..size)
                .ok()
                .filter(|bytes| bytes.len() as u64 == size && ContentHash::of(bytes) == object);
            let Some(bytes) = sound else {
                return Ok(None);
            };
            let failed = |error| disk(&step.path, "write it", error);
            let key = step.part_key(object);
            let part = Part::create(dir, key, size, step.file.runnable).map_err(failed)?;
            if run.supply.reflink(&near, &part, size) {
                drop(bytes);
                // Somebody may have written to it since it was read.
                let shared = attachfs_durable::read_range(part.file(), 0..size).map_err(failed)?;
                check(object, &shared)?;
            } else {
                part.write(&bytes, 0).map_err(failed)?;
            }
            run.supply.had_nearby();
            run.meter.add_bytes(size);
            run.finish(&part, step, target, 0).map(Some)
        })
        .await
    }
}

fn check(expected: ContentHash, bytes: &[u8]) -> Attempt<()> {
    let mut verifier = Verifier::new(expected, bytes.len() as u64);
    Ok(verifier.add(bytes, None)?)
}

/// A permit of a semaphore that is never closed.
pub(super) async fn acquired(
    semaphore: &tokio::sync::Semaphore,
) -> Result<tokio::sync::SemaphorePermit<'_>, TransferError> {
    Ok(semaphore
        .acquire()
        .await
        .expect("the semaphore is never closed"))
}
