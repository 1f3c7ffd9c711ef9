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

use attachfs_fetch::{HeldBytes, Verifier};
use attachfs_manifest::{ContentHash, Hasher, Piece};
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::error::{Attempt, Trouble, disk};
use super::file::{Outcome, Target, layout_of};
use super::part::Part;
use super::plan::FileStep;
use super::run::Run;
use super::small::acquired;
use crate::meter::Meter;

/// Part of an object, and where in the file it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    piece: Piece,
    /// In the file.
    offset: u64,
}

impl Block {
    fn in_file(&self) -> Range<u64> {
        self.offset..self.offset + self.len()
    }

    fn len(&self) -> u64 {
        self.piece.range.end - self.piece.range.start
    }

    fn is_first(&self) -> bool {
        self.piece.range.start == 0
    }

    fn is_last(&self) -> bool {
        self.piece.range.end == self.piece.object_len
    }
}

/// A block that is here, and the memory that it takes.
struct Arrived {
    bytes: Bytes,
    version: Option<Arc<str>>,
    is_fetched: bool,
    _held: HeldBytes,
}

/// The blocks of a file that its meter has counted.
struct Counted {
    /// Whether it was fetched, of each that was.
    blocks: Vec<Option<bool>>,
    /// Bytes that were there.
    resumed: u64,
}

impl Counted {
    fn new(blocks: usize) -> Self {
        Self {
            blocks: vec![None; blocks],
            resumed: 0,
        }
    }

    fn add(&mut self, index: usize, block: &Block, is_fetched: bool, meter: &Meter) {
        self.blocks[index] = Some(is_fetched);
        if is_fetched {
            meter.add_bytes(block.len());
        } else {
            meter.skip_bytes(block.len());
            self.resumed += block.len();
        }
    }

    /// Of an object that is no good.
    fn take_back(&mut self, object: Range<usize>, blocks: &[Block], meter: &Meter) {
        for index in object {
            let len = blocks[index].len();
            match self.blocks[index].take() {
                Some(true) => meter.take_back(len),
                Some(false) => {
                    meter.take_back_skipped(len);
                    self.resumed -= len;
                }
                None => {}
            }
        }
    }
}

/// Blocks that are under way, the first one first. Dropping it ends them.
#[derive(Default)]
struct Window(VecDeque<JoinHandle<Attempt<Arrived>>>);

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

impl Run {
    pub(super) async fn large(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        target: Target,
    ) -> Attempt<(Outcome, u64)> {
        let _alone = acquired(&self.large).await?;
        if let [object] = step.file.content.hashes()
            && self.supply.has_nearby()
            && let Some(outcome) = self.large_nearby(step, *object, target).await?
        {
            return Ok((outcome, 0));
        }
        let blocks: Arc<[Block]> = blocks(step, self)?.into();
        let ranges: Vec<_> = blocks.iter().map(Block::in_file).collect();
        let (part, is_whole, records) = self
            .in_place(step, move |run, dir, step| {
                let failed = |error| disk(&step.path, "make room for it", error);
                let (part, is_whole) = match run.leftovers.take(&run.root, step) {
                    Some(part) => {
                        let is_whole = run.is_all_of_it(&part, step)?;
                        (part, is_whole)
                    }
                    None => {
                        let (size, runnable) = (step.file.size, step.file.runnable);
                        let part = Part::create(dir, key_of(step), size, runnable);
                        (part.map_err(failed)?, false)
                    }
                };
                part.reserve().map_err(failed)?;
                let records = part.records(&ranges).map_err(failed)?;
                Ok((Arc::new(part), is_whole, records))
            })
            .await?;
        // Whatever this or the last step fails by, what there is of it is left for another run.
        let resumed = if is_whole {
            self.meter.skip_bytes(step.file.size);
            step.file.size
        } else {
            self.blocks(step, &part, &blocks, records).await?
        };
        let finished = self.in_place(step, move |run, _, step| {
            run.finish(&part, step, target, resumed)
        });
        Ok((finished.await?, resumed))
    }

    /// Fetches what is not there, and verifies all of it. Says how many bytes were there.
    async fn blocks(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        part: &Arc<Part>,
        blocks: &Arc<[Block]>,
        mut records: Vec<Option<ContentHash>>,
    ) -> Attempt<u64> {
        let mut counted = Counted::new(blocks.len());
        let mut window = Window::default();
        let (mut at, mut next) = (0, 0);
        let Some(first) = blocks.first() else {
            return Ok(0);
        };
        let mut verifier = verifier_of(first);
        // Where the object begins that is being fetched again.
        let mut again: Option<usize> = None;
        while at < blocks.len() {
            while next < blocks.len() {
                let len = blocks[next].len();
                let held = if window.0.is_empty() {
                    self.supply.fetcher.room(len).await
                } else {
                    match self.supply.fetcher.room_now(len) {
                        Some(held) => held,
                        None => break,
                    }
                };
                let task = Arc::clone(self).block(
                    Arc::clone(step),
                    Arc::clone(part),
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
            if block.is_first() {
                verifier = verifier_of(block);
            }
            let arrived = match arrived {
                Ok(arrived) => arrived,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(crate::TransferError::from(self.meter.cancelled()).into()),
                },
            };
            let checked = arrived.and_then(|arrived| {
                counted.add(at, block, arrived.is_fetched, &self.meter);
                let verified = verifier.add(&arrived.bytes, arrived.version.as_ref());
                verified.map_err(Trouble::from)
            });
            match checked {
                Ok(()) => at += 1,
                Err(Trouble::File(error)) if error.is_about_bytes() => {
                    // One that is being written must be neither recorded nor written over what comes.
                    window.end().await;
                    let object = object_around(blocks, at);
                    counted.take_back(object.clone(), blocks, &self.meter);
                    self.forget(step, part, blocks, object.clone()).await?;
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
        Ok(counted.resumed)
    }

    /// Forgets what there is of an object, and lets go of a part in which nothing else is.
    async fn forget(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        part: &Arc<Part>,
        blocks: &[Block],
        object: Range<usize>,
    ) -> Attempt<()> {
        let part = Arc::clone(part);
        let ranges: Vec<_> = blocks.iter().map(Block::in_file).collect();
        self.in_place(step, move |_, _, step| {
            part.forget(object)
                .and_then(|()| part.keep_if_of_use(&ranges))
                .map_err(|error| disk(&step.path, "write it", error))
        })
        .await
    }

    /// One block: from what an interrupted run left, or from the store.
    async fn block(
        self: Arc<Self>,
        step: Arc<FileStep>,
        part: Arc<Part>,
        (index, blocks): (usize, Arc<[Block]>),
        record: Option<ContentHash>,
        held: HeldBytes,
    ) -> Attempt<Arrived> {
        let block = &blocks[index];
        if let Some(hash) = record {
            let (part, range) = (Arc::clone(&part), block.in_file());
            let there = self.blocking(move || part.read_block(range, hash));
            if let Ok(Some(bytes)) = there.await? {
                return Ok(Arrived {
                    bytes,
                    version: None,
                    is_fetched: false,
                    _held: held,
                });
            }
        }
        let got = self.supply.get(&block.piece, &held).await?;
        let (bytes, offset) = (got.bytes.clone(), block.offset);
        let _writer = acquired(&self.writers).await?;
        self.blocking(move || {
            let written = part.write_block(index, &bytes, offset);
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
    async fn large_nearby(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        object: ContentHash,
        target: Target,
    ) -> Attempt<Option<Outcome>> {
        self.in_place(step, move |run, dir, step| {
            let size = step.file.size;
            let Some(near) = run.supply.nearby(object, size) else {
                return Ok(None);
            };
            let failed = |error| disk(&step.path, "write it", error);
            let key = step.part_key(object);
            let part = Part::create(dir, key, size, step.file.runnable).map_err(failed)?;
            if !run.supply.reflink(&near, &part, size) || !run.has_bytes(part.file(), step)? {
                return Ok(None);
            }
            run.supply.had_nearby();
            run.meter.add_bytes(size);
            run.finish(&part, step, target, 0).map(Some)
        })
        .await
    }
}

/// The blocks of a file, in order.
fn blocks(step: &FileStep, run: &Run) -> Attempt<Vec<Block>> {
    let block_bytes = run.options.block_bytes.max(1);
    let size = step.file.size;
    let mut blocks = Vec::new();
    let mut start = 0;
    for piece in layout_of(step, run.chunk_size)?.pieces(0..size) {
        let mut at = 0;
        while at < piece.object_len {
            let end = piece.object_len.min(at + block_bytes);
            blocks.push(Block {
                piece: Piece {
                    range: at..end,
                    ..piece.clone()
                },
                offset: start + at,
            });
            at = end;
        }
        start += piece.object_len;
    }
    Ok(blocks)
}

/// Of the object that a block is part of.
fn verifier_of(block: &Block) -> Verifier {
    Verifier::new(block.piece.hash, block.piece.object_len)
}

/// The blocks of the object that block `at` belongs to.
fn object_around(blocks: &[Block], at: usize) -> Range<usize> {
    let start = (0..=at).rev().find(|&i| blocks[i].is_first());
    let end = (at..blocks.len()).find(|&i| blocks[i].is_last());
    start.unwrap_or(0)..end.map_or(blocks.len(), |end| end + 1)
}

impl FileStep {
    /// By what a part is known that is written at once, of one object. Only one that waits is of use to another run.
    pub(super) fn part_key(&self, object: ContentHash) -> ContentHash {
        if self.swap.is_some() {
            key_of(self)
        } else {
            object
        }
    }
}

/// What a file is going to be: its place, its bytes, its permissions.
pub(super) fn key_of(step: &FileStep) -> ContentHash {
    let mut hasher = Hasher::new();
    hasher.update(step.path.as_bytes());
    hasher.update(&[0, step.file.runnable.into()]);
    hasher.update(&step.file.size.to_le_bytes());
    for hash in step.file.content.hashes() {
        hasher.update(hash.as_bytes());
    }
    hasher.finish()
}
