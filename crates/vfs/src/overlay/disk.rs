//! What is durable, and in which order it becomes so.
//!
//! A record that is durable before the bytes that it speaks of is worse than one that is lost: after a
//! power loss the name has its new file, without content, and the old one is gone. So these bytes come
//! first ([`bytes_first`](Disk::bytes_first)):
//!
//! ```text
//!     a file that takes the place of another one      rename over a name
//!     a file that was emptied and written again       on its last close
//!     parts of an input that are overwritten          with each write
//! ```
//!
//! That is what ext4 does for whoever does not sync (`auto_da_alloc`, `data=ordered`). [`sync`](Disk::sync) makes such bytes durable,
//! then the names of scratch files, then the journal. Whoever appends a record that needs something before it
//! holds a [`Step`] from before the one to after the other: no sync lies between them. What is to be
//! destroyed, a scratch file or its end, is destroyed after the sync of the record that says so.
//!
//! The kernel writes the journal back by itself, half a minute after it changed, and knows of no order. The
//! [`Reaper`](super::Reaper) syncs it long before that.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::DurableError;
use attachfs_tree::Ino;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::{Journal, JournalError, Record, Scratch};

/// A session's journal and scratch files, as far as a disk is concerned.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) scratch: Scratch,
    journal: Journal,
    /// Whose bytes come before the records.
    first: Mutex<HashSet<Ino>>,
    /// Held for writing at the end of a sync, for reading during a [`Step`]. Taken before the namespace.
    order: RwLock<()>,
    /// Held by whoever syncs, from the beginning. Taken before `order`.
    turn: Mutex<()>,
    #[cfg(test)]
    done: Mutex<Vec<Done>>,
}

/// Why something is not durable.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The names of scratch files.
    #[error(transparent)]
    Names(#[from] DurableError),
    /// The bytes of a file that come before the journal.
    #[error("cannot sync the scratch file {}", path.display())]
    Bytes {
        /// The scratch file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// While it lives, nothing is synced. Whoever has one does not sync and does not ask for another.
pub(crate) type Step<'a> = RwLockReadGuard<'a, ()>;

/// A step towards the disk, for the log and for tests of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Bytes(Ino),
    Names,
    Journal,
    Remove(Ino),
    Shorten(Ino),
}

impl Disk {
    /// `first`: whose bytes come before what the journal says already.
    pub(crate) fn new(journal: Journal, scratch: Scratch, first: HashSet<Ino>) -> Arc<Self> {
        Arc::new(Self {
            scratch,
            journal,
            first: Mutex::new(first),
            order: RwLock::default(),
            turn: Mutex::default(),
            #[cfg(test)]
            done: Mutex::default(),
        })
    }

    /// Begins a step that no sync may divide.
    pub(crate) fn step(&self) -> Step<'_> {
        self.order.read()
    }

    /// The bytes of this file are to be durable before the record that is appended next in this step.
    pub(crate) fn bytes_first(&self, _: &Step<'_>, ino: Ino) {
        self.first.lock().insert(ino);
    }

    /// The bytes of this file are to be durable before anything that is not so yet.
    pub(crate) fn bytes_too(&self, ino: Ino) {
        self.first.lock().insert(ino);
    }

    /// Appends a record, which then outlives this process.
    pub(crate) fn append(&self, record: &Record) -> Result<(), JournalError> {
        self.journal.append(record)
    }

    /// Whether everything that was appended is durable.
    pub(crate) fn is_synced(&self) -> bool {
        self.journal.is_synced(self.journal.end())
    }

    /// Makes everything appended so far durable, and before it what it speaks of.
    pub(crate) fn sync(&self) -> Result<(), SyncError> {
        let end = self.journal.end();
        if self.journal.is_synced(end) {
            return Ok(());
        }
        // One at a time: what another one is still syncing is not durable.
        let _turn = self.turn.lock();
        if self.journal.is_synced(end) {
            return Ok(());
        }
        // The long part, while others go on.
        self.sync_bytes()?;
        self.sync_names()?;
        let _order = self.order.write();
        // What came meanwhile.
        self.sync_bytes()?;
        self.sync_names()?;
        self.note(Done::Journal);
        Ok(self.journal.sync()?)
    }

    fn sync_names(&self) -> Result<(), DurableError> {
        self.note(Done::Names);
        self.scratch.sync_names()
    }

    fn sync_bytes(&self) -> Result<(), SyncError> {
        let mut first: Vec<Ino> = std::mem::take(&mut *self.first.lock())
            .into_iter()
            .collect();
        while let Some(ino) = first.pop() {
            self.note(Done::Bytes(ino));
            let failed = |source| {
                let path = self.scratch.path(ino);
                SyncError::Bytes { path, source }
            };
            // Windows syncs only what is open for writing.
            let file = match self.scratch.open_file(ino) {
                Ok(file) => file,
                // It was deleted since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Nothing is lost by that, when too many files are open for example: the next sync tries again.
                Err(error) => {
                    first.push(ino);
                    self.first.lock().extend(first);
                    return Err(failed(error));
                }
            };
            if let Err(error) = file.sync_data() {
                // The kernel does not say twice that it lost something.
                self.journal.fail();
                return Err(failed(error));
            }
        }
        Ok(())
    }

    /// Removes a scratch file of a deleted file. The deletion was synced.
    pub(crate) fn remove(&self, ino: Ino) {
        self.note(Done::Remove(ino));
        if let Err(error) = self.scratch.remove(ino) {
            tracing::warn!(%error, path = %self.scratch.path(ino).display(), "cannot remove a scratch file");
        }
    }

    /// Shortens a scratch file to what still counts of it. The record that says so was synced.
    pub(crate) fn shorten(&self, ino: Ino, file: &std::fs::File, len: u64) {
        self.note(Done::Shorten(ino));
        if let Err(error) = file.set_len(len) {
            // What is cut off does not count, wherever it is.
            tracing::warn!(%error, path = %self.scratch.path(ino).display(), "cannot shorten a scratch file");
        }
    }

    #[cfg_attr(
        not(test),
        expect(clippy::unused_self, reason = "tests keep what was done")
    )]
    fn note(&self, done: Done) {
        #[cfg(test)]
        self.done.lock().push(done);
        tracing::trace!(?done);
    }

    /// What was done so far; what was done twice in a row once.
    #[cfg(test)]
    pub(crate) fn done(&self) -> Vec<Done> {
        let mut done = self.done.lock().clone();
        done.dedup();
        done
    }
}
