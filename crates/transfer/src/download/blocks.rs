//! How a large file is cut into blocks, and what of them is counted.

use std::ops::Range;

use attachfs_manifest::{ChunkSize, Piece};

use super::failure::FileResult;
use super::step::FileStep;
use crate::meter::Meter;

/// Part of an object, and where in the file it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) piece: Piece,
    /// In the file.
    pub(super) offset: u64,
}

impl Block {
    pub(super) fn in_file(&self) -> Range<u64> {
        self.offset..self.offset + self.len()
    }

    pub(super) fn len(&self) -> u64 {
        self.piece.range.end - self.piece.range.start
    }

    fn is_first(&self) -> bool {
        self.piece.range.start == 0
    }

    fn is_last(&self) -> bool {
        self.piece.range.end == self.piece.object_len
    }
}

/// The blocks of a file, in order. Each lies in one object, and has at most `block_bytes`.
pub(super) fn blocks_of(
    step: &FileStep,
    chunk_size: ChunkSize,
    block_bytes: u64,
) -> FileResult<Vec<Block>> {
    let block_bytes = block_bytes.max(1);
    let size = step.file.size;
    let mut blocks = Vec::new();
    let mut start = 0;
    for piece in step.layout(chunk_size)?.pieces(0..size) {
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

/// The blocks of the object that block `at` belongs to.
pub(super) fn object_around(blocks: &[Block], at: usize) -> Range<usize> {
    let start = (0..=at).rev().find(|&i| blocks[i].is_first());
    let end = (at..blocks.len()).find(|&i| blocks[i].is_last());
    start.unwrap_or(0)..end.map_or(blocks.len(), |end| end + 1)
}

/// The blocks of a file that its meter has counted.
pub(super) struct Counted {
    /// Whether it was fetched, of each that was.
    blocks: Vec<Option<bool>>,
    /// Bytes that were there.
    pub(super) resumed: u64,
}

impl Counted {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            blocks: vec![None; blocks],
            resumed: 0,
        }
    }

    pub(super) fn add(&mut self, index: usize, block: &Block, is_fetched: bool, meter: &Meter) {
        self.blocks[index] = Some(is_fetched);
        if is_fetched {
            meter.add_bytes(block.len());
        } else {
            meter.skip_bytes(block.len());
            self.resumed += block.len();
        }
    }

    /// Of an object that is no good.
    pub(super) fn take_back(&mut self, object: Range<usize>, blocks: &[Block], meter: &Meter) {
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
