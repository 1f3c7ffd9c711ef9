//! A shorter journal that says the same.
//!
//! ```text
//!     journal       | mutations, commits, opened, closed ...            | what is appended meanwhile
//!                     replayed                                            copied, record by record
//!     .staged-...   | state, deleted, commits, opened                   | the same
//!                     then synced, renamed to `journal`, the name synced
//! ```
//!
//! It is made of the journal itself and of nothing that the running file system holds, but for one thing that
//! no record says: which deleted files nobody has open any more. So it takes no lock of the namespace, and is
//! as right as a recovery is. Killed or without power at any point, there is one of the two under the name,
//! whole ([`Journal::give_way`](super::Journal)).

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_durable::Staged;
use attachfs_durable::steps::{Step, perform};
use attachfs_tree::{BaseTree, Ino};

use super::format::{MAGIC, encode};
use super::journal::{dir_of, failed};
use super::replay::{Replay, has_scratch};
use super::{
    CommitRecord, Journal, JournalError, ReadJournal, Record, RecoveryError, Scratch, SyncError,
};

/// Written at once.
const BUFFER: usize = 256 << 10;
/// At most so many inodes are in a record.
const MOST: usize = 1024;

/// Why a journal was not compacted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactionError {
    /// It cannot be read, or the shorter one cannot be written.
    #[error(transparent)]
    Replay(#[from] RecoveryError),
    /// What it speaks of cannot be made durable.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The session is being closed or deleted.
    #[error("there is no time for it")]
    Stopped,
}

impl From<JournalError> for CompactionError {
    fn from(error: JournalError) -> Self {
        Self::Replay(error.into())
    }
}

/// A journal that is being filled and has no name of its own yet.
#[derive(Debug)]
pub(super) struct Successor {
    staged: Staged,
    written: u64,
    number: u64,
    record: Vec<u8>,
    pending: Vec<u8>,
}

impl Successor {
    fn new(dir: &Path) -> Result<Self, JournalError> {
        Ok(Self {
            staged: Staged::create_in(dir)?,
            written: 0,
            number: 0,
            record: Vec::new(),
            pending: MAGIC.to_vec(),
        })
    }

    fn put(&mut self, record: &Record) -> Result<(), JournalError> {
        encode(record, self.number, &mut self.record)?;
        self.number += 1;
        self.pending.extend_from_slice(&self.record);
        if self.pending.len() >= BUFFER {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), JournalError> {
        let written = self.staged.file().write_all_at(&self.pending, self.written);
        written.map_err(failed("write", self.staged.path()))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Takes what is in the first `len` bytes of the journal before, and was not read yet.
    pub(super) fn take_rest(
        &mut self,
        from: &mut ReadJournal,
        len: u64,
    ) -> Result<(), JournalError> {
        from.read_on_to(len);
        while let Some(record) = from.next_record()? {
            self.put(&record)?;
        }
        self.write()
    }

    /// Makes what it has durable.
    pub(super) fn sync(&self, path: &Path) -> Result<(), JournalError> {
        let sync = || self.staged.file().sync_data();
        let synced = perform(
            Step::CompactedContent,
            || self.staged.path().to_owned(),
            sync,
        );
        synced.map_err(failed("sync what is to replace", path))
    }

    /// Gives it the name: its file, its length and the number of its next record.
    pub(super) fn place(self, path: &Path) -> Result<(File, u64, u64), JournalError> {
        Ok((self.staged.place(path)?, self.written, self.number))
    }
}

/// Says in a successor what the first `len` bytes of a journal say. `closed` are inodes without a name that
/// nobody has open. Gives back the journal, to be read on from there.
pub(super) fn summarize(
    journal: &Journal,
    len: u64,
    base: &Arc<BaseTree>,
    scratch: &Scratch,
    closed: &HashSet<Ino>,
    stopped: &AtomicBool,
) -> Result<(Successor, ReadJournal), CompactionError> {
    let go_on = || {
        if stopped.load(Ordering::Relaxed) {
            return Err(CompactionError::Stopped);
        }
        Ok(())
    };
    let mut from = journal.read_to(len)?;
    let mut replay = Replay::new(base.clone());
    while replay.next(&mut from, journal.path())? {
        go_on()?;
    }
    replay.forget(|ino| closed.contains(ino));
    let mut successor = Successor::new(dir_of(journal.path()))?;
    for part in replay.namespace.state() {
        go_on()?;
        successor.put(&Record::State(part))?;
    }
    let deleted = scratch.inodes().map_err(RecoveryError::Scratch)?;
    let deleted: Vec<Ino> = deleted
        .into_iter()
        .filter(|ino| replay.made.contains(ino) && !has_scratch_file(&replay, *ino))
        .collect();
    for some in deleted.chunks(MOST) {
        successor.put(&Record::Deleted(some.to_vec()))?;
    }
    for step in needed(replay.commits) {
        successor.put(&Record::Commit(step))?;
    }
    let is_there = |ino: &&Ino| replay.namespace.kind(**ino).is_some();
    for &ino in replay.open.iter().filter(is_there) {
        successor.put(&Record::Opened(ino))?;
    }
    successor.write()?;
    // Most of it reaches the disk while nobody waits.
    successor.sync(journal.path())?;
    Ok((successor, from))
}

fn has_scratch_file(replay: &Replay, ino: Ino) -> bool {
    let mut inode = replay.namespace.inode(ino).into_iter();
    inode.any(|inode| has_scratch(&inode.kind))
}

/// The steps of commits, and what is clean according to the last commit that was published and to the one that
/// is not yet.
fn needed(mut commits: Vec<CommitRecord>) -> Vec<CommitRecord> {
    let is_intent = |step: &CommitRecord| matches!(step, CommitRecord::Intent { .. });
    let published = commits.iter().rposition(|step| !is_intent(step));
    let last = published.and_then(|at| commits[..at].iter().rposition(is_intent));
    for step in &mut commits[..last.unwrap_or_default()] {
        if let CommitRecord::Intent { clean, .. } = step {
            clean.clear();
        }
    }
    commits
}
