//! A file under a name that nobody can guess.
//!
//! It lies in the directory of its later name or above, locked by the process that has it. It gets its name by a
//! rename.

use std::fs::{File, TryLockError};
use std::io;

use attachfs_durable::{Facts, HeldDir, Kind, is_mine};
use attachfs_manifest::ContentHash;
use parking_lot::Mutex;

use crate::download::names::new_part_name;

/// What becomes of a file when it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has nothing that another run could use.
    Removed,
    /// Another run can go on with it.
    Left,
    /// It has another name by now.
    Placed,
}

/// A file that is held. When it is dropped without a name, it is left for another run or removed.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) dir: HeldDir,
    pub(super) name: Vec<u8>,
    pub(super) file: File,
    /// How long it will be.
    pub(super) size: u64,
    /// Short and innermost.
    fate: Mutex<Fate>,
}

impl Staged {
    /// Creates an empty one in `dir`. `key` says what it is going to be.
    pub(super) fn create(
        dir: HeldDir,
        key: ContentHash,
        size: u64,
        is_runnable: bool,
    ) -> io::Result<Self> {
        let mode = if is_runnable { 0o777 } else { 0o666 };
        loop {
            let name = new_part_name(key)?;
            let file = dir.create_file(&name, mode)?;
            // Who looks for what was left may have taken it for that before it was locked.
            let is_swept = matches!(file.try_lock(), Err(TryLockError::WouldBlock))
                || Facts::of(&file)?.names == 0;
            if !is_swept {
                return Ok(Self::held(dir, name, file, size, Fate::Removed));
            }
        }
    }

    /// One that is open and locked.
    pub(super) fn held(dir: HeldDir, name: Vec<u8>, file: File, size: u64, fate: Fate) -> Self {
        Self {
            dir,
            name,
            file,
            size,
            fate: Mutex::new(fate),
        }
    }

    pub(super) fn fate(&self) -> Fate {
        *self.fate.lock()
    }

    /// Has it stay when it is dropped.
    pub(super) fn keep(&self) {
        *self.fate.lock() = Fate::Left;
    }

    /// Has it removed when it is dropped.
    pub(super) fn discard(&self) {
        *self.fate.lock() = Fate::Removed;
    }

    /// Gives it a name in `dir` that is free; says whether it was.
    pub(super) fn rename_to_free(&self, dir: &HeldDir, name: &[u8]) -> io::Result<bool> {
        let placed = self.dir.rename_to_free(&self.name, dir, name)?;
        if placed {
            *self.fate.lock() = Fate::Placed;
        }
        Ok(placed)
    }

    /// Gives it a name in `dir`, in place of the file or link that has it.
    pub(super) fn rename_over(&self, dir: &HeldDir, name: &[u8]) -> io::Result<()> {
        self.dir.rename(&self.name, dir, name)?;
        *self.fate.lock() = Fate::Placed;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.fate() == Fate::Removed
            && let Err(error) = self.dir.remove_file(&self.name)
        {
            // The next run finds it.
            tracing::debug!(%error, "a file that was not finished stays behind");
        }
    }
}

/// Whether another process has it.
pub(super) fn is_in_use(dir: &HeldDir, name: &[u8]) -> bool {
    dir.open_file_to_write(name)
        .is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Opens and locks what an interrupted run left. `None` if it is not there any more, in use, or not what
/// this user alone has made.
pub(super) fn lock_left(dir: &HeldDir, name: &[u8]) -> io::Result<Option<File>> {
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
