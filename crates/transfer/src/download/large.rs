//! A file in blocks: ranges of its objects, several at once, verified in their order.
//!
//! ```text
//!     blocks     | 1 | 2 | 3 | 4 | 5 | 6 | ...        each is fetched, written and recorded by a task
//!                  '---.---'   '-------'
//!                 hashed, in     under way, at most as many as fit into memory
//!                 their order
//! ```
//!
//! The bytes of a block stay in memory from its request until they were hashed, so that nothing is read
//! back from the disk. A file takes memory for more than one block only if there is some left: one that has
//! a block under way never waits for memory, so no two files wait for each other.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use attachfs_fetch::HeldBytes;
use attachfs_manifest::ContentHash;
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::blocks::{Block, Counted, blocks_of, object_around};
use super::failure::{Failure, FileError, FileResult, disk};
use super::naming::Target;
use super::report::Outcome;
use super::shared::{Resumed, Shared};
use super::states::{InOrder, Partial, Proof};
use super::step::FileStep;
use crate::error::TransferError;

/// What there is of a file before any of it is fetched.
enum Begun {
    Some(Arc<Partial>, Vec<Option<ContentHash>>),
    /// All of it, and it is finished.
    All(Outcome),
}

/// Brings the file. Says how many bytes were left by an earlier run, too.
pub(super) async fn large(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    target: Target,
) -> FileResult<(Outcome, u64)> {
    let _turn = shared.supply.large_turn().await;
    if let [object] = step.file.content.hashes()
        && shared.supply.has_nearby()
        && let Some(outcome) = take_nearby(shared, step, *object, target).await?
    {
        return Ok((outcome, 0));
    }
    let blocks = blocks_of(step, shared.chunk_size, shared.supply.block_bytes)?;
    let blocks: Arc<[Block]> = blocks.into();
    let (partial, records) = match begin(shared, step, target, &blocks).await? {
        Begun::Some(partial, records) => (partial, records),
        Begun::All(outcome) => return Ok((outcome, step.file.size)),
    };
    // Whatever this or the last step fails by, what there is of it is left for another run.
    let (proof, resumed) = fetch(shared, step, &partial, &blocks, records).await?;
    let partial = Arc::into_inner(partial).expect("the tasks that write its blocks have ended");
    let finished = shared.in_place(step, move |shared, _, step| {
        shared.finish(partial.verified(proof), step, target, resumed)
    });
    Ok((finished.await?, resumed))
}

/// Goes on with what was left of the file, or makes room for it.
async fn begin(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    target: Target,
    blocks: &[Block],
) -> FileResult<Begun> {
    let ranges: Vec<_> = blocks.iter().map(Block::in_file).collect();
    shared
        .in_place(step, move |shared, dir, step| {
            let failed = |error| disk(&step.path, "make room for it", error);
            let partial = match shared.resume(step)? {
                Resumed::Nothing => Partial::of(step, dir, step.key()).map_err(failed)?,
                Resumed::Some(partial) => partial,
                Resumed::All(verified) => {
                    let size = step.file.size;
                    shared.meter.skip_bytes(size);
                    let finished = shared.finish(verified, step, target, size);
                    return finished.map(Begun::All);
                }
            };
            partial.reserve().map_err(failed)?;
            let records = partial.records(&ranges).map_err(failed)?;
            Ok(Begun::Some(Arc::new(partial), records))
        })
        .await
}

/// Blocks that are under way, the first one first. Dropping it ends them.
#[derive(Default)]
struct Window(VecDeque<JoinHandle<FileResult<Arrived>>>);

impl Window {
    /// Waits for all of them. They are still ended if nobody waits to the end.
    async fn end(&mut self) {
        while let Some(task) = self.0.front_mut() {
            // What it gives is not needed.
            let _ = task.await;
            self.0.pop_front();
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// A block that is here, and the memory that it takes.
struct Arrived {
    bytes: Bytes,
    version: Option<Arc<str>>,
    is_fetched: bool,
    _held: HeldBytes,
}

/// Fetches what is not there, and verifies all of it. Says how many bytes were there. When it succeeds none of its
/// tasks has the file any more.
async fn fetch(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    partial: &Arc<Partial>,
    blocks: &Arc<[Block]>,
    mut records: Vec<Option<ContentHash>>,
) -> FileResult<(Proof, u64)> {
    let meter = &shared.meter;
    let mut counted = Counted::new(blocks.len());
    let mut window = Window::default();
    let (mut at, mut next) = (0, 0);
    let mut verifying = InOrder::default();
    // Where the object begins that is being fetched again.
    let mut again: Option<usize> = None;
    while at < blocks.len() {
        while next < blocks.len() {
            let len = blocks[next].len();
            let held = if window.0.is_empty() {
                shared.supply.fetcher.room(len).await
            } else {
                match shared.supply.fetcher.room_now(len) {
                    Some(held) => held,
                    None => break,
                }
            };
            let task = block(
                Arc::clone(shared),
                Arc::clone(step),
                Arc::clone(partial),
                (next, Arc::clone(blocks)),
                records[next],
                held,
            );
            window.0.push_back(tokio::spawn(task));
            next += 1;
        }
        // It stays in the window: what is dropped while it is waited for must end it too.
        let Some(task) = window.0.front_mut() else {
            break;
        };
        let arrived = task.await;
        window.0.pop_front();
        let block = &blocks[at];
        let arrived = match arrived {
            Ok(arrived) => arrived,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only a runtime that is shutting down ends a task of ours.
                Err(_) => Err(TransferError::from(meter.cancelled()).into()),
            },
        };
        let checked = arrived.and_then(|arrived| {
            counted.add(at, block, arrived.is_fetched, meter);
            let version = arrived.version.as_ref();
            let verified = verifying.add(&block.piece, block.offset, &arrived.bytes, version);
            verified.map_err(Failure::from)
        });
        match checked {
            Ok(()) => at += 1,
            Err(Failure::File(error)) if error.is_about_bytes() => {
                // One that is being written must be neither recorded nor written over what comes.
                window.end().await;
                let object = object_around(blocks, at);
                counted.take_back(object.clone(), blocks, meter);
                forget(shared, step, partial, blocks, object.clone()).await?;
                if again == Some(object.start) {
                    return Err(error.into());
                }
                tracing::warn!(path = %step.path, error = &error as &dyn std::error::Error,
                    "an object is fetched again");
                records[object.clone()].fill(None);
                again = Some(object.start);
                (at, next) = (object.start, object.start);
            }
            Err(error) => return Err(error),
        }
    }
    let proof = verifying.end(step.file.size);
    let proof =
        proof.ok_or_else(|| FileError::InTheWay("not all of its bytes have come".to_owned()))?;
    Ok((proof, counted.resumed))
}

/// Forgets what there is of an object, and lets go of a file of which nothing else is there.
async fn forget(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    partial: &Arc<Partial>,
    blocks: &[Block],
    object: Range<usize>,
) -> FileResult<()> {
    let partial = Arc::clone(partial);
    let ranges: Vec<_> = blocks.iter().map(Block::in_file).collect();
    shared
        .in_place(step, move |_, _, step| {
            partial
                .forget(object)
                .and_then(|()| partial.keep_if_of_use(&ranges))
                .map_err(|error| disk(&step.path, "write it", error))
        })
        .await
}

/// One block: from what an interrupted run left, or from the store.
async fn block(
    shared: Arc<Shared>,
    step: Arc<FileStep>,
    partial: Arc<Partial>,
    (index, blocks): (usize, Arc<[Block]>),
    record: Option<ContentHash>,
    held: HeldBytes,
) -> FileResult<Arrived> {
    let block = &blocks[index];
    if let Some(hash) = record {
        let (partial, range) = (Arc::clone(&partial), block.in_file());
        let there = shared
            .threads
            .blocking(move || partial.read_block(range, hash));
        if let Ok(Some(bytes)) = there.await? {
            return Ok(Arrived {
                bytes,
                version: None,
                is_fetched: false,
                _held: held,
            });
        }
    }
    let got = shared.supply.get(&block.piece, &held).await?;
    let (bytes, offset) = (got.bytes.clone(), block.offset);
    let _turn = shared.threads.turn().await;
    shared
        .threads
        .blocking(move || {
            let written = partial.write_block(index, &bytes, offset);
            written.map_err(|error| disk(&step.path, "write it", error))
        })
        .await??;
    Ok(Arrived {
        bytes: got.bytes,
        version: got.version,
        is_fetched: true,
        _held: held,
    })
}

/// From a file on this machine, if there is one whose blocks can be shared.
async fn take_nearby(
    shared: &Arc<Shared>,
    step: &Arc<FileStep>,
    object: ContentHash,
    target: Target,
) -> FileResult<Option<Outcome>> {
    shared
        .in_place(step, move |shared, dir, step| {
            let size = step.file.size;
            let Some((near, at)) = shared.supply.nearby(object, size) else {
                return Ok(None);
            };
            let partial = Partial::of(step, dir, step.key_at_once(object));
            let partial = partial.map_err(|error| disk(&step.path, "write it", error))?;
            if !shared.supply.reflink(&near, at..at + size, partial.file()) {
                return Ok(None);
            }
            let read = shared.naming.comparison.proof_of(partial.file(), step)?;
            let Some(proof) = read else {
                return Ok(None);
            };
            shared.supply.had_nearby();
            shared.meter.add_bytes(size);
            let verified = partial.verified(proof);
            shared.finish(verified, step, target, 0).map(Some)
        })
        .await
}
