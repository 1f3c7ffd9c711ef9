//! Compacting the journal: a shorter one that gives the same state.
//!
//! ```text
//!     journal       | mutations, commits, opened, closed ...            | what is appended meanwhile
//!                     replayed                                            copied, record by record
//!     .staged-...   | state, deleted, commits, opened                   | the same
//!                     then synced, renamed to `journal`, the name synced
//! ```
//!
//! It is made from the journal alone, and not from the state of the running file system, except for one thing
//! that no record tells: which deleted files are not open any more. So it takes no lock of the namespace, and
//! is as correct as a recovery. It has a thread of its own, and others wait for the copying of little: what is appended while
//! the state is written and synced is copied in rounds, each of what came during the one before. The first rounds sync what
//! they copied. The next ones come after all other syncs, only copy, and are faster than anybody appends. After a kill or a
//! power loss at any point, one of the two journals is under the name, complete ([`Journal::give_way`](super::Journal)).

use std::collections::HashSet;

use attachfs_tree::Ino;

use super::replay::{Replay, has_scratch};
use super::successor::Successor;
use super::{
    BaseSource, CommitRecord, Journal, JournalError, Record, RecoveryError, Scratch, SyncError,
};

/// The most inodes in a record.
const MOST: usize = 1024;

/// Why a journal was not compacted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactionError {
    /// It cannot be read, or the shorter one cannot be written.
    #[error(transparent)]
    Replay(#[from] RecoveryError),
    /// The bytes that its records need cannot be made durable.
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

/// Writes a successor with the same state as the first `len` bytes of a journal, and most of what came since then. `closed` are inodes
/// that have no name and are not open, and `go_on` fails once it is to stop.
pub(super) fn summarize(
    journal: &Journal,
    len: u64,
    base: &BaseSource,
    scratch: &Scratch,
    closed: &HashSet<Ino>,
    go_on: &impl Fn() -> Result<(), CompactionError>,
) -> Result<Successor, CompactionError> {
    let mut from = journal.read_to(len)?;
    let mut replay = Replay::new(base.clone());
    while replay.next(&mut from, journal.path())? {
        go_on()?;
    }
    replay.forget(|ino| closed.contains(ino));
    let mut successor = Successor::new(journal.path(), from)?;
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
    if let Some(boot) = replay.boot {
        successor.put(&Record::Boot(boot))?;
    }
    successor.write()?;
    // Most of it is synced here, while no operation waits. That takes long: more comes meanwhile.
    successor.sync(journal.path())?;
    successor.catch_up::<CompactionError>(journal, |successor| {
        go_on()?;
        Ok(successor.sync(journal.path())?)
    })?;
    Ok(successor)
}

fn has_scratch_file(replay: &Replay, ino: Ino) -> bool {
    let mut inode = replay.namespace.inode(ino).into_iter();
    inode.any(|inode| has_scratch(&inode.kind))
}

/// The steps of commits that are still needed: with the clean files of the last published commit, and of one
/// that is not published yet.
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
