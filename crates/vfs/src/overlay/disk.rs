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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use attachfs_durable::DurableError;
use attachfs_durable::steps::{Step as DurableStep, perform};
use attachfs_tree::Ino;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::compaction::{CompactionError, summarize};
use super::{BaseSource, Journal, JournalError, Record, Scratch};

/// A journal that is shorter is not compacted.
const LARGE: u64 = 4 << 20;
/// Nor one that is not so many times as long as it was when it was compacted last.
const TIMES: u64 = 4;

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
    /// What the journal begins from.
    base: BaseSource,
    /// Inodes that nobody can ask for any more, since the journal was compacted.
    forgotten: Mutex<HashSet<Ino>>,
    /// How long the journal was when it was compacted last, or that was tried.
    compacted: AtomicU64,
    /// Held by whoever compacts. Taken before `turn`.
    compacting: Mutex<()>,
    stopped: AtomicBool,
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

impl Disk {
    /// `first`: whose bytes come before what the journal says already.
    pub(crate) fn new(
        journal: Journal,
        scratch: Scratch,
        base: BaseSource,
        first: HashSet<Ino>,
    ) -> Arc<Self> {
        Arc::new(Self {
            scratch,
            journal,
            first: Mutex::new(first),
            order: RwLock::default(),
            turn: Mutex::default(),
            base,
            forgotten: Mutex::default(),
            compacted: AtomicU64::new(0),
            compacting: Mutex::default(),
            stopped: AtomicBool::new(false),
        })
    }

    /// Begins a step that no sync may divide.
    pub(crate) fn step(&self) -> Step<'_> {
        self.order.read()
    }

    /// Waits until no step is under way, and lets none begin. Taken before the namespace. For whoever shortens a scratch file: bytes
    /// that a step has written and not yet recorded would go.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.order.write()
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
        self.journal.is_synced(self.journal.appended())
    }

    /// Makes everything appended so far durable, and before it what it speaks of.
    pub(crate) fn sync(&self) -> Result<(), SyncError> {
        let appended = self.journal.appended();
        if self.journal.is_synced(appended) {
            return Ok(());
        }
        // One at a time: what another one is still syncing is not durable.
        let _turn = self.turn.lock();
        if self.journal.is_synced(appended) {
            return Ok(());
        }
        self.after_all_else(Journal::sync)
    }

    /// Makes records durable, when what they speak of is. Whoever calls this has the turn.
    fn after_all_else(
        &self,
        records: impl FnOnce(&Journal) -> Result<(), JournalError>,
    ) -> Result<(), SyncError> {
        // The long part, while others go on.
        self.sync_bytes()?;
        self.scratch.sync_names()?;
        let _order = self.order.write();
        // What came meanwhile.
        self.sync_bytes()?;
        self.scratch.sync_names()?;
        Ok(records(&self.journal)?)
    }

    /// Nobody has these inodes open any more, and they have no name.
    pub(crate) fn forgot(&self, inodes: impl IntoIterator<Item = Ino>) {
        self.forgotten.lock().extend(inodes);
    }

    /// Compacts the journal if it is large, and much larger than it would be then.
    pub(crate) fn compact_if_large(&self) {
        let before = self.journal.len();
        if before < LARGE || before / TIMES < self.compacted.load(Ordering::Relaxed) {
            return;
        }
        let compacted = self.compact();
        // If it failed it is not tried again soon.
        self.compacted.store(self.journal.len(), Ordering::Relaxed);
        match compacted {
            Ok(()) => tracing::debug!(
                before,
                after = self.journal.len(),
                "the journal was compacted"
            ),
            Err(CompactionError::Stopped) => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                path = %self.journal.path().display(),
                "the journal is not compacted"
            ),
        }
    }

    /// Replaces the journal by a shorter one that says the same. Who writes goes on meanwhile, but for a moment
    /// that is as long as the last part of a sync.
    pub(crate) fn compact(&self) -> Result<(), CompactionError> {
        let _compacting = self.compacting.lock();
        let closed = std::mem::take(&mut *self.forgotten.lock());
        let compacted = self.try_compact(&closed);
        if compacted.is_err() {
            self.forgotten.lock().extend(closed);
        }
        compacted
    }

    fn try_compact(&self, closed: &HashSet<Ino>) -> Result<(), CompactionError> {
        let len = self.journal.len();
        // A state does not say which bytes come before it: all of them are durable first.
        self.sync()?;
        let (successor, mut from) = summarize(
            &self.journal,
            len,
            &self.base,
            &self.scratch,
            closed,
            &self.stopped,
        )?;
        let _turn = self.turn.lock();
        if self.stopped.load(Ordering::Relaxed) {
            return Err(CompactionError::Stopped);
        }
        Ok(self.after_all_else(|journal| journal.give_way(successor, &mut from))?)
    }

    /// Ends a compaction that is under way, and has none begin: when this returns, none makes a file.
    pub(crate) fn stop_compacting(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        drop(self.compacting.lock());
    }

    fn sync_bytes(&self) -> Result<(), SyncError> {
        let mut first: Vec<Ino> = std::mem::take(&mut *self.first.lock())
            .into_iter()
            .collect();
        while let Some(ino) = first.pop() {
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
            let sync = || file.sync_data();
            if let Err(error) = perform(DurableStep::ScratchFirst, || self.scratch.path(ino), sync)
            {
                // The kernel does not say twice that it lost something.
                self.journal.fail();
                return Err(failed(error));
            }
        }
        Ok(())
    }

    /// Removes a scratch file of a deleted file. The deletion was synced.
    pub(crate) fn remove(&self, ino: Ino) {
        if let Err(error) = self.scratch.remove(ino) {
            tracing::warn!(%error, path = %self.scratch.path(ino).display(), "cannot remove a scratch file");
        }
    }

    /// Shortens a scratch file to what still counts of it. The record that says so was synced.
    pub(crate) fn shorten(&self, ino: Ino, file: &std::fs::File, len: u64) {
        let shorten = || file.set_len(len);
        if let Err(error) = perform(
            DurableStep::ScratchShorten,
            || self.scratch.path(ino),
            shorten,
        ) {
            // What is cut off does not count, wherever it is.
            tracing::warn!(%error, path = %self.scratch.path(ino).display(), "cannot shorten a scratch file");
        }
    }
}
