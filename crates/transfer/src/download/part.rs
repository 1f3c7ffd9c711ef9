//! A file that is not whole yet.
//!
//! It lies in the directory of its later name, under a name that nobody can guess, locked by the process
//! that fills it. It gets its name by a rename once all of its bytes were verified.
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
//!
//! A whole one that waits for its name is not held open, so not locked: that something waits in a directory
//! is said by one more part there, which stays locked ([`mark`]).

use std::fs::File;
use std::io;
use std::ops::Range;

use attachfs_durable::{
    Facts, FileStamp, HeldDir, Kind, is_mine, random_bytes, read_range, reserve, write_with_holes,
};
use attachfs_manifest::ContentHash;
use bytes::Bytes;
use parking_lot::Mutex;

use super::names::{key_of_part, part_name};
use super::tree::is_unchanged;

const RECORD: usize = 32;

/// What becomes of a part when it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It has nothing that another run could use.
    Removed,
    /// It has blocks.
    Left,
    /// It has another name by now.
    Placed,
}

/// A file that is being filled. When it is dropped without a name, it is left for another run if it has
/// blocks that were recorded, and else removed.
#[derive(Debug)]
pub(super) struct Part {
    dir: HeldDir,
    name: Vec<u8>,
    file: File,
    size: u64,
    /// Short and innermost.
    fate: Mutex<Fate>,
}

impl Part {
    /// Creates an empty one in `dir`. `key` says what it is going to be.
    pub(super) fn create(
        dir: HeldDir,
        key: ContentHash,
        size: u64,
        is_runnable: bool,
    ) -> io::Result<Self> {
        let mode = if is_runnable { 0o777 } else { 0o666 };
        loop {
            let name = new_name(key)?;
            let file = dir.create_file(&name, mode)?;
            // Who looks for what was left may have taken it for that before it was locked.
            let is_swept = matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
                || Facts::of(&file)?.names == 0;
            if !is_swept {
                return Ok(Self {
                    dir,
                    name,
                    file,
                    size,
                    fate: Mutex::new(Fate::Removed),
                });
            }
        }
    }

    /// Takes over what an interrupted run left in `dir`. `None` if it is in use, or not this user's alone.
    pub(super) fn take_over(dir: HeldDir, name: &[u8], size: u64) -> io::Result<Option<Self>> {
        let Some(file) = lock_left(&dir, name)? else {
            return Ok(None);
        };
        if Facts::of(&file)?.stamp.size < size {
            file.set_len(size)?;
        }
        Ok(Some(Self {
            dir,
            name: name.to_vec(),
            file,
            size,
            fate: Mutex::new(Fate::Removed),
        }))
    }

    /// Moves it into another directory of the same file system.
    pub(super) fn move_to(&mut self, dir: HeldDir) -> io::Result<()> {
        if !self.dir.rename_to_free(&self.name, &dir, &self.name)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.dir = dir;
        Ok(())
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn dir(&self) -> &HeldDir {
        &self.dir
    }

    /// Its name until it has its own.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Has it stay when it is dropped, to be [taken up](Self::take_up) again or for another run.
    pub(super) fn put_by(&self) {
        *self.fate.lock() = Fate::Left;
    }

    /// Has it removed when it is dropped, unless it has its name.
    pub(super) fn discard(&self) {
        let mut fate = self.fate.lock();
        if *fate == Fate::Left {
            *fate = Fate::Removed;
        }
    }

    /// Takes up a whole one that was put by when it had this stamp. It stays if it is dropped without a
    /// name. Where files cannot be locked, or show another owner than the one who made them, that is no
    /// reason to refuse: it is known by its stamp.
    pub(super) fn take_up(
        dir: HeldDir,
        name: &[u8],
        size: u64,
        stamp: FileStamp,
    ) -> io::Result<Self> {
        let file = dir.open_file_to_write(name)?;
        let is_in_use = matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock));
        if is_in_use || !is_unchanged(&FileStamp::of(&file)?, &stamp) {
            return Err(io::Error::other("it was changed after it was fetched"));
        }
        Ok(Self {
            dir,
            name: name.to_vec(),
            file,
            size,
            fate: Mutex::new(Fate::Left),
        })
    }

    /// Takes the room that the bytes need.
    pub(super) fn reserve(&self) -> io::Result<()> {
        reserve(&self.file, self.size)
    }

    /// Writes bytes of the file. Long runs of zeros take no room.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_with_holes(&self.file, bytes, offset)
    }

    /// Writes block `index` and notes that it is there.
    pub(super) fn write_block(&self, index: usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(bytes, offset)?;
        let mut record = [0; RECORD];
        record[..8].copy_from_slice(&offset.to_le_bytes());
        record[8..16].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        record[16..].copy_from_slice(ContentHash::of(bytes).as_bytes());
        self.write(&record, self.size + (index * RECORD) as u64)?;
        self.keep();
        Ok(())
    }

    fn keep(&self) {
        let mut fate = self.fate.lock();
        if *fate == Fate::Removed {
            *fate = Fate::Left;
        }
    }

    fn remove(&self) {
        if let Err(error) = self.dir.remove_file(&self.name) {
            // The next run finds it.
            tracing::debug!(%error, "a file that was not finished stays behind");
        }
    }

    /// The hashes of the blocks that should be there. `blocks` are all blocks of the file.
    pub(super) fn records(&self, blocks: &[Range<u64>]) -> io::Result<Vec<Option<ContentHash>>> {
        let end = self.size + (blocks.len() * RECORD) as u64;
        let bytes = read_range(&self.file, self.size..end)?;
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
    pub(super) fn read_block(
        &self,
        range: Range<u64>,
        hash: ContentHash,
    ) -> io::Result<Option<Bytes>> {
        let len = range.end - range.start;
        let bytes = read_range(&self.file, range)?;
        let is_sound = bytes.len() as u64 == len && ContentHash::of(&bytes) == hash;
        Ok(is_sound.then_some(bytes))
    }

    /// Forgets that these blocks are there. Nobody may be writing one of them.
    pub(super) fn forget(&self, indices: Range<usize>) -> io::Result<()> {
        let none = vec![0; indices.len() * RECORD];
        self.write(&none, self.size + (indices.start * RECORD) as u64)
    }

    /// Has it removed when it is dropped, unless it has a block. `blocks` are all blocks of the file.
    pub(super) fn keep_if_of_use(&self, blocks: &[Range<u64>]) -> io::Result<()> {
        if self.records(blocks)?.iter().all(Option::is_none) {
            *self.fate.lock() = Fate::Removed;
        }
        Ok(())
    }

    /// Cuts off what is not the file's.
    pub(super) fn cut(&self) -> io::Result<()> {
        if *self.fate.lock() == Fate::Left {
            self.file.set_len(self.size)?;
        }
        Ok(())
    }

    /// Whether nothing is cut off that is not the file's.
    pub(super) fn is_cut(&self) -> io::Result<bool> {
        Ok(FileStamp::of(&self.file)?.size == self.size)
    }

    /// Gives it a name in `dir` that is free; says whether it was.
    pub(super) fn place_if_free(&self, dir: &HeldDir, name: &[u8]) -> io::Result<bool> {
        let placed = self.dir.rename_to_free(&self.name, dir, name)?;
        if placed {
            *self.fate.lock() = Fate::Placed;
        }
        Ok(placed)
    }

    /// Gives it a name in `dir`, in place of the file or link that has it.
    pub(super) fn place_over(&self, dir: &HeldDir, name: &[u8]) -> io::Result<()> {
        self.dir.rename(&self.name, dir, name)?;
        *self.fate.lock() = Fate::Placed;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if *self.fate.lock() == Fate::Removed {
            self.remove();
        }
    }
}

/// A name of something unfinished that nobody can guess.
pub(super) fn new_name(key: ContentHash) -> io::Result<Vec<u8>> {
    Ok(part_name(key, u64::from_le_bytes(random_bytes()?)))
}

/// Makes what says, as long as it is held, that something waits in `dir`. Blocks.
pub(super) fn mark(dir: HeldDir) -> io::Result<Part> {
    Part::create(dir, mark_key(), 0, false)
}

fn mark_key() -> ContentHash {
    ContentHash::of(b"something waits here")
}

/// The names and keys of what interrupted runs left in a directory and nobody uses. Blocks.
pub(super) fn left_in(dir: &HeldDir) -> io::Result<Vec<(ContentHash, Vec<u8>)>> {
    let parts = || -> io::Result<Vec<_>> {
        let names = dir.names()?.into_iter();
        Ok(names
            .filter_map(|name| Some((key_of_part(&name)?, name)))
            .collect())
    };
    let mut left = parts()?;
    left.retain(|(_, name)| !is_in_use(dir, name));
    if left.is_empty() {
        return Ok(left);
    }
    // Looked for after that: who puts something by marks the directory first.
    let is_marked = parts()?
        .iter()
        .any(|(key, name)| *key == mark_key() && is_in_use(dir, name));
    if is_marked {
        left.clear();
    }
    Ok(left)
}

fn is_in_use(dir: &HeldDir, name: &[u8]) -> bool {
    dir.open_file_to_write(name)
        .is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Opens and locks what an interrupted run left. `None` if it is not there any more, in use, or not what
/// this user alone has made.
fn lock_left(dir: &HeldDir, name: &[u8]) -> io::Result<Option<File>> {
    let file = match dir.open_file_to_write(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let facts = Facts::of(&file)?;
    let is_ours = facts.kind == Kind::File && facts.names == 1 && is_mine(&file)?;
    if !is_ours || file.try_lock().is_err() {
        return Ok(None);
    }
    // Whoever had it may have finished it meanwhile: then this is no name of it any more.
    let still = dir.look(name)?.map(|facts| facts.stamp.ino);
    Ok((still == Some(facts.stamp.ino)).then_some(file))
}

/// The room that a part which an interrupted run left has already, if it can be gone on with; at most
/// `most` bytes.
pub(super) fn room_of_left(dir: &HeldDir, name: &[u8], most: u64) -> Option<u64> {
    let file = lock_left(dir, name).ok().flatten()?;
    Some(Facts::of(&file).ok()?.allocated.min(most))
}

/// Removes one that was put by when it had this stamp, unless another run can take it over.
pub(super) fn let_go(dir: &HeldDir, name: &[u8], stamp: &FileStamp) -> io::Result<()> {
    if matches!(lock_left(dir, name), Ok(Some(_))) {
        return Ok(());
    }
    match dir.look(name)? {
        Some(facts) if is_unchanged(&facts.stamp, stamp) => dir.remove_file(name),
        _ => Ok(()),
    }
}

/// Removes what an interrupted run left, if nobody uses it: a part, or a link or an empty directory that
/// did not get its name.
pub(super) fn remove_left(dir: &HeldDir, name: &[u8]) -> io::Result<()> {
    let Some(facts) = dir.look(name)? else {
        return Ok(());
    };
    let is_ours = dir.is_mine(name)?;
    match facts.kind {
        Kind::Link if is_ours => dir.remove_file(name),
        Kind::Dir if is_ours => dir.remove_dir(name),
        Kind::File => match lock_left(dir, name)? {
            Some(_locked) => dir.remove_file(name),
            None => Ok(()),
        },
        Kind::Link | Kind::Dir | Kind::Other => Ok(()),
    }
}

#[cfg(test)]
mod tests;
