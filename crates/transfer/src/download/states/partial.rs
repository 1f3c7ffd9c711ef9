//! A file whose bytes are coming.
//!
//! A large file keeps account of what it has, so that an interrupted run is gone on with:
//!
//! ```text
//!     0                                     size
//!     | bytes, each block when it arrived | record | record | ...      32 bytes for each block
//!                                           '-> offset, length (8 bytes each), hash of the block (16)
//! ```
//!
//! A block counts only if the bytes that are there have the hash that its record says. Nothing is synced:
//! what a power loss leaves is found out in this way too. The records are cut off when nothing is left to do
//! but to set the time and to rename. What is as long as the file will be and has no records is read: it may
//! be all of it.

use std::fs::File;
use std::io;
use std::ops::Range;

use attachfs_durable::{Facts, FileStamp, HeldDir, read_range, reserve, write_with_holes};
use attachfs_manifest::ContentHash;
use bytes::Bytes;

use super::proof::Proof;
use super::staged::{Fate, Staged, lock_left};
use super::verified::Verified;
use crate::download::step::FileStep;

const RECORD: usize = 32;

/// A file that is being filled. When it is dropped, it is left for another run if it has blocks that were
/// recorded, and else removed.
#[derive(Debug)]
pub(in crate::download) struct Partial(Staged);

impl Partial {
    /// Creates an empty one in `dir`. `key` says what it is going to be.
    pub(in crate::download) fn create(
        dir: HeldDir,
        key: ContentHash,
        size: u64,
        is_runnable: bool,
    ) -> io::Result<Self> {
        Ok(Self(Staged::create(dir, key, size, is_runnable)?))
    }

    /// Creates an empty one for the file of a step.
    pub(in crate::download) fn of(
        step: &FileStep,
        dir: HeldDir,
        key: ContentHash,
    ) -> io::Result<Self> {
        Self::create(dir, key, step.file.size, step.file.runnable)
    }

    /// Takes over what an interrupted run left in `dir`. `None` if it is in use, or not this user's alone.
    pub(in crate::download) fn take_over(
        dir: HeldDir,
        name: &[u8],
        size: u64,
    ) -> io::Result<Option<Self>> {
        let Some(file) = lock_left(&dir, name)? else {
            return Ok(None);
        };
        if Facts::of(&file)?.stamp.size < size {
            file.set_len(size)?;
        }
        let staged = Staged::held(dir, name.to_vec(), file, size, Fate::Removed);
        Ok(Some(Self(staged)))
    }

    /// Moves it into another directory of the same file system.
    pub(in crate::download) fn move_to(&mut self, dir: HeldDir) -> io::Result<()> {
        let staged = &mut self.0;
        if !staged
            .dir
            .rename_to_free(&staged.name, &dir, &staged.name)?
        {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        staged.dir = dir;
        Ok(())
    }

    pub(in crate::download) fn file(&self) -> &File {
        &self.0.file
    }

    /// Has it stay when it is dropped, for another run.
    pub(in crate::download) fn keep(&self) {
        self.0.keep();
    }

    /// Has it removed when it is dropped.
    pub(in crate::download) fn discard(&self) {
        self.0.discard();
    }

    /// The same file, all of whose bytes are here and right.
    pub(in crate::download) fn verified(self, _: Proof) -> Verified {
        Verified::new(self.0)
    }

    /// Takes the room that the bytes need.
    pub(in crate::download) fn reserve(&self) -> io::Result<()> {
        reserve(&self.0.file, self.0.size)
    }

    /// Writes bytes of the file. Long runs of zeros take no room.
    pub(in crate::download) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_with_holes(&self.0.file, bytes, offset)
    }

    /// Writes block `index` and notes that it is there.
    pub(in crate::download) fn write_block(
        &self,
        index: usize,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        self.write(bytes, offset)?;
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&offset.to_le_bytes());
        record[8..16].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        record[16..].copy_from_slice(ContentHash::of(bytes).as_bytes());
        self.write(&record, self.0.size + (index * RECORD) as u64)?;
        self.keep();
        Ok(())
    }

    /// The hashes of the blocks that should be there. `blocks` are all blocks of the file.
    pub(in crate::download) fn records(
        &self,
        blocks: &[Range<u64>],
    ) -> io::Result<Vec<Option<ContentHash>>> {
        let end = self.0.size + (blocks.len() * RECORD) as u64;
        let bytes = read_range(&self.0.file, self.0.size..end)?;
        if !bytes.is_empty() {
            self.keep();
        }
        let (records, _) = bytes.as_chunks::<RECORD>();
        let mut known = vec![None; blocks.len()];
        for ((record, block), known) in records.iter().zip(blocks).zip(&mut known) {
            let (offset, rest) = record.split_at(8);
            let (len, hash) = rest.split_at(8);
            if offset == block.start.to_le_bytes()
                && len == (block.end - block.start).to_le_bytes()
                && let Ok(hash) = hash.try_into()
            {
                *known = Some(ContentHash::from_bytes(hash));
            }
        }
        Ok(known)
    }

    /// A block, if it is there and has this hash.
    pub(in crate::download) fn read_block(
        &self,
        range: Range<u64>,
        hash: ContentHash,
    ) -> io::Result<Option<Bytes>> {
        let len = range.end - range.start;
        let bytes = read_range(&self.0.file, range)?;
        let is_sound = bytes.len() as u64 == len && ContentHash::of(&bytes) == hash;
        Ok(is_sound.then_some(bytes))
    }

    /// Forgets that these blocks are there. Nobody may be writing one of them.
    pub(in crate::download) fn forget(&self, indices: Range<usize>) -> io::Result<()> {
        let none = vec![0; indices.len() * RECORD];
        self.write(&none, self.0.size + (indices.start * RECORD) as u64)
    }

    /// Has it removed when it is dropped, unless it has a block. `blocks` are all blocks of the file.
    pub(in crate::download) fn keep_if_of_use(&self, blocks: &[Range<u64>]) -> io::Result<()> {
        if self.records(blocks)?.iter().all(Option::is_none) {
            self.discard();
        }
        Ok(())
    }

    /// Whether it is as long as the file will be, and so has no records.
    pub(in crate::download) fn is_cut(&self) -> io::Result<bool> {
        Ok(FileStamp::of(&self.0.file)?.size == self.0.size)
    }
}

#[cfg(test)]
impl Partial {
    /// Its name until it has its own.
    pub(in crate::download) fn name(&self) -> &[u8] {
        &self.0.name
    }
}
