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
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_tree::Ino;

use super::replay::{Replay, has_scratch};
use super::successor::Successor;
use super::{
    BaseSource, CommitRecord, Journal, JournalError, ReadJournal, Record, RecoveryError, Scratch,
    SyncError,
};

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
    #[error("the session is being closed or deleted")]
    Stopped,
}

impl From<JournalError> for CompactionError {
    fn from(error: JournalError) -> Self {
        Self::Replay(error.into())
    }
}

/// Says in a successor what the first `len` bytes of a journal say. `closed` are inodes without a name that
/// nobody has open. Gives back the journal, to be read on from there.
pub(super) fn summarize(
    journal: &Journal,
    len: u64,
    base: &BaseSource,
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
    let mut successor = Successor::new(journal.path())?;
    for (number, &diff) in (1..).zip(&replay.layers) {
        successor.put(&Record::Layer { number, diff })?;
    }
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
