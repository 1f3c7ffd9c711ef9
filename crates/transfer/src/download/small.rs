//! A file that is one object of at most a block: one request, one write. One that waits for its place can be taken
//! over by another run.

use std::sync::Arc;

use attachfs_durable::read_range;
use attachfs_fetch::HeldBytes;
use attachfs_manifest::{ContentHash, Piece};
use bytes::Bytes;

use super::failure::{Failure, FileResult, disk};
use super::naming::Target;
use super::report::Outcome;
use super::shared::{Resumed, Shared};
use super::states::{Partial, Proof};
use super::step::FileStep;

/// Brings the file. Says how many bytes were left by an earlier run, too.
pub(super) async fn small(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    object: ContentHash,
    target: Target,
) -> FileResult<(Outcome, u64)> {
    let size = step.file.size;
    if size == 0 {
        let made = write(shared, step, object, Bytes::new(), target).await?;
        return Ok((made, 0));
    }
    if let Some(outcome) = resume(shared, step, target).await? {
        return Ok((outcome, size));
    }
    // For its bytes, wherever they come from: they are never here twice.
    let room = shared.supply.fetcher.room(size).await;
    if shared.supply.has_nearby()
        && let Some(outcome) = take_nearby(shared, step, object, target).await?
    {
        return Ok((outcome, 0));
    }
    let fetched = match fetch(shared, step, object, target, &room).await {
        Err(Failure::File(error)) if error.is_about_bytes() => {
            tracing::warn!(path = %step.path, error = &error as &dyn std::error::Error,
                "an object is fetched again");
            fetch(shared, step, object, target, &room).await
        }
        outcome => outcome,
    };
    Ok((fetched?, 0))
}

/// From what an interrupted run left, if that is all of it.
async fn resume(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    target: Target,
) -> FileResult<Option<Outcome>> {
    if !shared.leftovers.has(step) {
        return Ok(None);
    }
    let _turn = shared.threads.turn().await;
    shared
        .in_place(step, move |shared, _, step| {
            let Resumed::All(verified) = shared.resume(step)? else {
                return Ok(None);
            };
            let size = step.file.size;
            shared.meter.skip_bytes(size);
            shared.finish(verified, step, target, size).map(Some)
        })
        .await
}

/// From the store.
async fn fetch(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    object: ContentHash,
    target: Target,
    room: &HeldBytes,
) -> FileResult<Outcome> {
    let size = step.file.size;
    let whole = Piece {
        hash: object,
        object_len: size,
        range: 0..size,
    };
    let got = {
        let _turn = shared.supply.request_turn().await;
        shared.supply.get(&whole, room).await?
    };
    let outcome = write(shared, step, object, got.bytes, target).await?;
    shared.meter.add_bytes(size);
    Ok(outcome)
}

/// Verifies bytes and writes them.
async fn write(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    object: ContentHash,
    bytes: Bytes,
    target: Target,
) -> FileResult<Outcome> {
    let _turn = shared.threads.turn().await;
    shared
        .in_place(step, move |shared, dir, step| {
            let proof = Proof::of_bytes(object, &bytes)?;
            let failed = |error| disk(&step.path, "write it", error);
            let partial = Partial::of(step, dir, step.key_at_once(object)).map_err(failed)?;
            partial.write(&bytes, 0).map_err(failed)?;
            shared.finish(partial.verified(proof), step, target, 0)
        })
        .await
}

/// From a file on this machine, if there is one that is sound.
async fn take_nearby(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    object: ContentHash,
    target: Target,
) -> FileResult<Option<Outcome>> {
    let _turn = shared.threads.turn().await;
    shared
        .in_place(step, move |shared, dir, step| {
            let size = step.file.size;
            let Some((near, at)) = shared.supply.nearby(object, size) else {
                return Ok(None);
            };
            // What cannot be read, or is something else, the store has.
            let Ok(bytes) = read_range(&near, at..at + size) else {
                return Ok(None);
            };
            let Ok(proof) = Proof::of_bytes(object, &bytes) else {
                return Ok(None);
            };
            let failed = |error| disk(&step.path, "write it", error);
            let partial = Partial::of(step, dir, step.key_at_once(object)).map_err(failed)?;
            let proof = if shared.supply.reflink(&near, at..at + size, partial.file()) {
                drop(bytes);
                // Somebody may have written to it since it was read.
                let linked = read_range(partial.file(), 0..size).map_err(failed)?;
                Proof::of_bytes(object, &linked)?
            } else {
                partial.write(&bytes, 0).map_err(failed)?;
                proof
            };
            shared.supply.had_nearby();
            shared.meter.add_bytes(size);
            let verified = partial.verified(proof);
            shared.finish(verified, step, target, 0).map(Some)
        })
        .await
}
