//! The order in which bytes, names and records become durable.
//!
//! If a record is durable before the bytes that it needs, a power loss does more harm than if the
//! record were lost too: the name has its new file, without content, and the old file is gone. So
//! these bytes come first ([`bytes_first`](Disk::bytes_first)):
//!
//! ```text
//!     a file that takes the place of another one      rename over a name
//!     a file that was emptied and written again       on its last close
//!     parts of an input that are overwritten          with each write
//! ```
//!
//! ext4 does the same for programs that do not sync (`auto_da_alloc`, `data=ordered`). [`sync`](Disk::sync) makes
//! such bytes durable, then the names of scratch files, then the journal. A thread that appends a record which needs
//! such bytes holds a [`SyncHold`] around both, so that no sync comes between them. A scratch file, or its end, is
//! removed only after the sync of the record that says so.
//!
//! The kernel would write the journal back by itself half a minute after a change, in no particular order.
//! The [`Reaper`](super::Reaper) syncs it long before that.

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
use super::successor::CopiedLast;
use super::{BaseSource, Journal, JournalError, Record, Scratch};

/// A journal that is shorter is not compacted.
const LARGE: u64 = 4 << 20;
/// Nor one that is not so many times as long as it was when it was compacted last.
const TIMES: u64 = 4;

/// A session's journal and scratch files, and the order in which they become durable.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) scratch: Scratch,
    journal: Journal,
    /// Inodes whose bytes have to be durable before the records.
    first: Mutex<HashSet<Ino>>,
    /// Locked for writing at the end of a sync, for reading during a [`SyncHold`]. Taken before the
    /// namespace.
    order: RwLock<()>,
    /// Locked during a whole sync. Taken before `order`.
    turn: Mutex<()>,
    /// The base that the journal's records are about.
    base: BaseSource,
    /// Inodes that were forgotten since the journal was compacted.
    forgotten: Mutex<HashSet<Ino>>,
    /// The length of the journal after the last compaction, or the last attempt.
    compacted: AtomicU64,
    /// Locked during a compaction. Taken before `turn`.
    pub(crate) compacting: Mutex<()>,
    /// No compaction begins any more, and a running one ends.
    pub(crate) stopped: AtomicBool,
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
    /// The bytes of a file that have to be durable before the journal.
    #[error("cannot sync the scratch file {}", path.display())]
    Bytes {
        /// The scratch file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Prevents the end of a sync as long as it exists. A thread that has one must neither sync nor
/// take another.
pub(crate) type SyncHold<'a> = RwLockReadGuard<'a, ()>;

impl Disk {
    /// `first`: inodes whose bytes have to be durable before the records that the journal has
    /// already.
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

    /// Prevents the end of a sync until the guard is dropped: for bytes and the record about them, which no sync may divide.
    pub(crate) fn hold_sync(&self) -> SyncHold<'_> {
        self.order.read()
    }

    /// Waits until no thread has a [`SyncHold`], and lets none begin. Taken before the namespace. Needed to shorten a scratch
    /// file: bytes that another thread has written and not yet recorded would be lost.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.order.write()
    }

    /// The bytes of this file are to be durable before the record that is appended next under this
    /// guard.
    pub(crate) fn bytes_first(&self, _: &SyncHold<'_>, ino: Ino) {
        self.first.lock().insert(ino);
    }

    /// The bytes of this file are to be durable before any record that is not durable yet.
    pub(crate) fn bytes_too(&self, ino: Ino) {
        self.first.lock().insert(ino);
    }

    /// Appends a record, which then outlives this process.
    pub(crate) fn append(&self, record: &Record) -> Result<(), JournalError> {
        self.journal.append(record)
    }

    /// Whether records that remove something have room.
    pub(crate) fn has_room_to_remove(&self) -> bool {
        self.journal.has_room_to_remove()
    }

    /// Whether everything that was appended is durable.
    pub(crate) fn is_synced(&self) -> bool {
        self.journal.is_synced(self.journal.appended())
    }

    /// Makes everything appended so far durable, after the bytes and names that it needs.
    pub(crate) fn sync(&self) -> Result<(), SyncError> {
        let appended = self.journal.appended();
        if self.journal.is_synced(appended) {
            return Ok(());
        }
        // One sync at a time: what another thread is still syncing is not durable yet.
        let _turn = self.turn.lock();
        if self.journal.is_synced(appended) {
            return Ok(());
        }
        // The long part, during which other threads go on.
        self.sync_needed()?;
        let _order = self.order.write();
        // What was added meanwhile.
        self.sync_needed()?;
        Ok(self.journal.sync()?)
    }

    /// Makes the bytes and names durable that the records need. The caller has the turn.
    fn sync_needed(&self) -> Result<(), SyncError> {
        self.sync_bytes()?;
        Ok(self.scratch.sync_names()?)
    }

    /// Notes inodes that have no name and are not open any more.
    pub(crate) fn forgot(&self, inodes: impl IntoIterator<Item = Ino>) {
        self.forgotten.lock().extend(inodes);
    }

    /// Whether the journal is large, and much longer than after the last compaction.
    pub(crate) fn is_large(&self) -> bool {
        let len = self.journal.len();
        len >= LARGE && len / TIMES >= self.compacted.load(Ordering::Relaxed)
    }

    /// Compacts the journal if it [is large](Self::is_large).
    pub(crate) fn compact_if_large(&self) {
        if !self.is_large() {
            return;
        }
        let before = self.journal.len();
        let compacted = self.compact();
        // After a failure it is not tried again soon.
        self.compacted.store(self.journal.len(), Ordering::Relaxed);
        match compacted {
            Ok(copied) => tracing::debug!(
                before,
                after = self.journal.len(),
                while_syncs_waited = copied.while_syncs_waited,
                while_all_waited = copied.while_all_waited,
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

    /// Replaces the journal by a shorter one with the same state. Writers go on meanwhile, except for a moment
    /// that is as short as the last part of a sync.
    pub(crate) fn compact(&self) -> Result<CopiedLast, CompactionError> {
        let _compacting = self.compacting.lock();
        let closed = std::mem::take(&mut *self.forgotten.lock());
        let compacted = self.try_compact(&closed);
        if compacted.is_err() {
            self.forgotten.lock().extend(closed);
        }
        compacted
    }

    fn try_compact(&self, closed: &HashSet<Ino>) -> Result<CopiedLast, CompactionError> {
        self.go_on()?;
        let len = self.journal.len();
        // The compacted state does not tell which bytes it needs, so all of them are made durable
        // first.
        self.sync()?;
        let mut successor = summarize(
            &self.journal,
            len,
            &self.base,
            &self.scratch,
            closed,
            &|| self.go_on(),
        )?;
        let _turn = self.turn.lock();
        self.go_on()?;
        self.sync_needed()?;
        // What came while this thread waited for its turn and for that sync.
        successor.catch_up(&self.journal, |_| self.go_on())?;
        let _order = self.order.write();
        self.sync_needed()?;
        self.go_on()?;
        Ok(self.journal.give_way(successor)?)
    }

    /// Fails once compacting was stopped.
    fn go_on(&self) -> Result<(), CompactionError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(CompactionError::Stopped);
        }
        Ok(())
    }

    /// Ends a running compaction and prevents new ones: after this returns, no compaction creates a
    /// file.
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
            let file = match self.scratch.open_to_sync(ino) {
                Ok(file) => file,
                // It was deleted since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Nothing is lost by this failure, for example because of too many open files: the next sync
                // tries again.
                Err(error) => {
                    first.push(ino);
                    self.first.lock().extend(first);
                    return Err(failed(error));
                }
            };
            let sync = || file.sync_data();
            if let Err(error) = perform(DurableStep::ScratchFirst, || self.scratch.path(ino), sync)
            {
                // The kernel reports lost data only once.
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

    /// Shortens a scratch file to the bytes that still count. The record that says so was synced.
    pub(crate) fn shorten(&self, ino: Ino, file: &std::fs::File, len: u64) {
        let shorten = || {
            file.set_len(len)?;
            self.scratch.shrunk(ino, file);
            Ok(())
        };
        if let Err(error) = perform(
            DurableStep::ScratchShorten,
            || self.scratch.path(ino),
            shorten,
        ) {
            // The bytes after that do not count, even if they stay.
            tracing::warn!(%error, path = %self.scratch.path(ino).display(), "cannot shorten a scratch file");
        }
    }
}
