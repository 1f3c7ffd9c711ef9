//! The file system's state, and how it is opened from the files of an overlay.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use attachfs_durable::{DurableError, FileLock};
use attachfs_fetch::Fetcher;
use attachfs_manifest::ContentHash;
use attachfs_store::Count;
use attachfs_tree::{BaseTree, FileContent, Ino, Namespace, Timestamp};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::accessed::AccessTimes;
use crate::case_index::CaseIndex;
use crate::changed_files::ChangedFiles;
use crate::failed::FailedReads;
use crate::filesystem::BackingTally;
use crate::handles::{Handles, OpenFile};
use crate::inputs::Inputs;
use crate::missing::MissingNames;
use crate::nodes::MovedFiles;
use crate::ops::origin::Sources;
use crate::overlay::{
    CommitRecord, Disk, Journal, JournalError, LayerFiles, OverlayFiles, Reaper, Record,
    RecoveryError, Reserve, SyncError, look,
};
use crate::quiescent::Unseen;
use crate::references::References;
use crate::siblings::Siblings;
use crate::{Attachment, FailedRead, FsError, FsErrorKind, Settings};

/// Counts of operations since the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Base files that were read from successfully.
    pub files_read: u64,
    /// Bytes of base files that were read successfully.
    pub bytes_read: u64,
    /// Reads that failed.
    pub reads_failed: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Opens of base files that the kernel reads by itself from the disk cache: nothing that is read so is counted here.
    #[serde(default)]
    pub passthrough_opens: u64,
    /// Opens of files that the job made or wrote anew, which the kernel reads and writes by itself: nothing that is written so is
    /// counted here.
    #[serde(default)]
    pub passthrough_scratch_opens: u64,
    /// Files that it could not be made to read so.
    #[serde(default)]
    pub passthrough_refused: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) files_read: Count,
    pub(crate) bytes_read: Count,
    pub(crate) failed: FailedReads,
    pub(crate) bytes_written: Count,
    pub(crate) backing: Arc<BackingTally>,
}

/// Why a writable file system cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The scratch directory.
    #[error(transparent)]
    Scratch(#[from] DurableError),
    /// The session cannot be recovered.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The operating system refused.
    #[error("cannot start the overlay's thread")]
    Thread(#[source] std::io::Error),
}

/// The state that makes a file system writable.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// Where the journal is, for messages.
    pub(crate) journal: PathBuf,
    pub(crate) disk: Arc<Disk>,
    pub(crate) reaper: Reaper,
    pub(crate) reserve: Reserve,
    pub(crate) layer_files: LayerFiles,
    /// The hashes of the layers over the base, in their order.
    pub(crate) layers: Mutex<Vec<ContentHash>>,
    pub(crate) commits: Mutex<Vec<CommitRecord>>,
    /// Files that were open for writing when an earlier process ended, and were not closed since.
    pub(crate) left_open: Mutex<HashSet<Ino>>,
    /// Files that somebody may be writing to of whom nothing comes here.
    pub(crate) unseen: Unseen,
    /// Open files of which bytes were lost.
    pub(crate) lost: Mutex<HashSet<Ino>>,
    /// Files that were emptied, and not yet closed after being written again.
    pub(crate) emptied: Mutex<HashSet<Ino>>,
    /// Whether all that was written is durable, and nobody writes any more.
    pub(crate) saved: AtomicBool,
    /// The number of scratch files that no record mentions, in a session that is only looked at: taking it
    /// over would set them aside.
    pub(crate) unknown: u64,
    /// Locked while room is made on a full disk.
    making_room: Mutex<()>,
    /// Locked during a commit.
    pub(crate) committing: tokio::sync::Mutex<()>,
    /// Keeps other processes from the files as long as this exists. The last field, because fields are dropped in
    /// their order: the threads that write to the files end when `reaper` is dropped.
    _lock: Arc<FileLock>,
}

/// A mounted, or mountable, file system. All methods may be called from any thread.
#[derive(Debug)]
pub struct Vfs {
    pub(crate) settings: Settings,
    pub(crate) namespace: RwLock<Namespace>,
    pub(crate) handles: Handles,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) tally: Arc<Tally>,
    /// Whether writing has ended. Locked for reading during each change, and taken before all other
    /// locks.
    ended: RwLock<bool>,
    /// Locked during a change of the namespace, see [`Turn`](crate::change::Turn).
    pub(crate) changing: Mutex<()>,
    /// The connection to the adapter that serves it.
    pub(crate) adapter: Mutex<Option<Attachment>>,
    pub(crate) references: References,
    pub(crate) moved: MovedFiles,
    /// The access times that were set.
    pub(crate) accessed: AccessTimes,
    pub(crate) siblings: Siblings,
    /// What was used of the base.
    pub(crate) inputs: Arc<Inputs>,
    /// What was looked up in vain.
    pub(crate) missing: MissingNames,
    /// If case does not count.
    pub(crate) case_index: Option<CaseIndex>,
    pub(crate) sources: Sources,
    /// What changed lately.
    pub(crate) changed_files: ChangedFiles,
}

/// The present time by this machine's clock; the beginning of 1970 if the clock is before that.
pub fn now() -> Timestamp {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Timestamp {
            seconds: since.as_secs() as i64,
            nanoseconds: since.subsec_nanos(),
        },
        Err(_) => Timestamp::default(),
    }
}

impl Vfs {
    /// A read-only file system.
    pub fn read_only(base: Arc<BaseTree>, fetcher: Arc<Fetcher>, settings: Settings) -> Self {
        Self::with(Namespace::new(base), None, fetcher, settings)
    }

    /// A file system with a new journal: nothing is written yet.
    pub fn create(
        files: OverlayFiles,
        base: Arc<BaseTree>,
        fetcher: Arc<Fetcher>,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let base = files.over(base);
        let namespace = Namespace::new(base.first.clone());
        let scratch = files.scratch_to_write()?;
        let journal = Journal::create(&files.journal)?;
        if let Some(boot) = &files.boot {
            journal.append(&Record::Boot(boot.clone()))?;
        }
        let disk = Disk::new(journal, scratch, base, HashSet::new());
        let overlay = Overlay::at_rest(&files, disk).start(&files, 0)?;
        Ok(Self::with(namespace, Some(overlay), fetcher, settings))
    }

    /// The file system of a process that has ended, with the result of all operations that had returned
    /// success. Its handles are gone.
    pub fn recover(
        files: OverlayFiles,
        base: Arc<BaseTree>,
        fetcher: Arc<Fetcher>,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let seen = look(&files, base)?;
        let disk = seen.take_over(&files)?;
        let overlay = Overlay::at_rest(&files, disk)
            .with(seen.layers, seen.commits, seen.left_open)
            .start(&files, seen.namespace.changed())?;
        // The programs that have them open may have outlived that process.
        for &ino in overlay.left_open.lock().iter() {
            if seen.namespace.content(ino) == Some(&FileContent::Scratch) {
                overlay.unseen.note(ino);
            }
        }
        Ok(Self::with(seen.namespace, Some(overlay), fetcher, settings))
    }

    /// The file system of a process that has ended, to look at: it cannot be changed, and nothing changes on
    /// disk.
    pub fn look(
        files: OverlayFiles,
        base: Arc<BaseTree>,
        fetcher: Arc<Fetcher>,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let seen = look(&files, base)?;
        let disk = seen.leave(files.scratch.as_it_is()?);
        let overlay = Overlay {
            unknown: seen.unknown.len() as u64,
            ..Overlay::at_rest(&files, disk).with(seen.layers, seen.commits, seen.left_open)
        };
        let looked_at = Self::with(seen.namespace, Some(overlay), fetcher, settings);
        looked_at.end_writing();
        Ok(looked_at)
    }

    fn with(
        namespace: Namespace,
        overlay: Option<Overlay>,
        fetcher: Arc<Fetcher>,
        settings: Settings,
    ) -> Self {
        Self {
            case_index: settings.case_insensitive.then(CaseIndex::default),
            settings,
            namespace: RwLock::new(namespace),
            handles: Handles::default(),
            overlay,
            fetcher,
            tally: Arc::default(),
            ended: RwLock::new(false),
            changing: Mutex::new(()),
            adapter: Mutex::new(None),
            references: References::default(),
            moved: MovedFiles::default(),
            accessed: AccessTimes::default(),
            siblings: Siblings::default(),
            inputs: Arc::default(),
            missing: MissingNames::default(),
            sources: Sources::default(),
            changed_files: ChangedFiles::default(),
        }
    }

    /// Whether it is read-only.
    pub fn is_read_only(&self) -> bool {
        self.overlay.is_none()
    }

    /// The read side.
    pub fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    /// The counts since the mount.
    pub fn counters(&self) -> Counters {
        Counters {
            files_read: self.tally.files_read.get(),
            bytes_read: self.tally.bytes_read.get(),
            reads_failed: self.tally.failed.count(),
            bytes_written: self.tally.bytes_written.get(),
            passthrough_opens: self.tally.backing.opens.get(),
            passthrough_scratch_opens: self.tally.backing.scratch_opens.get(),
            passthrough_refused: self.tally.backing.refused.get(),
        }
    }

    /// Whether the adapter that serves it lets the kernel read complete files of the disk cache by itself.
    pub fn uses_passthrough(&self) -> bool {
        let adapter = self.adapter.lock();
        adapter
            .as_ref()
            .is_some_and(|adapter| adapter.backing.is_usable())
    }

    /// Whether a file or directory is open, or may be: not every adapter tells.
    pub fn is_open(&self) -> bool {
        self.handles.has_open() || !self.hears_of_opens()
    }

    /// Whether it hears of each open and close.
    pub fn hears_of_opens(&self) -> bool {
        let adapter = self.adapter.lock();
        adapter.as_ref().is_none_or(|adapter| adapter.tells_opens)
    }

    /// The last read of a file that failed since the mount, if it is still known: that of 64 files is.
    pub fn failed_read_of(&self, ino: Ino) -> Option<FailedRead> {
        self.tally.failed.last_of(ino)
    }

    /// The last read that failed since the mount.
    pub fn last_failed_read(&self) -> Option<FailedRead> {
        self.tally.failed.last()
    }

    /// Ends writing: when this returns, all running changes are done, and later ones fail with
    /// [`Ended`](FsErrorKind::Ended).
    pub fn end_writing(&self) {
        *self.ended.write() = true;
    }

    /// Whether writing has ended; it does not end while the guard exists. A thread that has the guard, or
    /// changes something, must not take another.
    pub(crate) fn has_ended(&self) -> RwLockReadGuard<'_, bool> {
        self.ended.read()
    }

    pub(crate) fn writable(&self) -> Result<&Overlay, FsError> {
        self.overlay
            .as_ref()
            .ok_or(FsError::plain(FsErrorKind::ReadOnly))
    }

    /// The scratch file of an inode, to change: the one that a handle writes to, or one opened for this call.
    pub(crate) fn scratch_to_write(
        &self,
        overlay: &Overlay,
        ino: Ino,
    ) -> Result<Arc<File>, FsError> {
        let inode = self.handles.inode(ino);
        match inode.and_then(|inode| inode.open_to_write()) {
            Some(file) => Ok(file),
            None => open_to_write(overlay, ino).map(Arc::new),
        }
    }

    /// The scratch file of an open file that has one; opened at the first call for the inode, for all of its handles that read, or
    /// that write.
    pub(crate) fn open_scratch_of(&self, open: &OpenFile) -> Result<Arc<File>, FsError> {
        let overlay = self.writable()?;
        if open.access.write {
            let to_write = || open_to_write(overlay, open.ino());
            return open.inode.scratch_to_write(to_write);
        }
        let to_read = || Self::scratch_to_look(overlay, open.ino());
        open.inode.scratch_to_read(to_read)
    }

    /// Opens a scratch file for reading.
    pub(crate) fn scratch_to_look(overlay: &Overlay, ino: Ino) -> Result<File, FsError> {
        let opened = overlay.disk.scratch.open_to_read(ino);
        opened.map_err(|error| FsError::io("open a scratch file", error))
    }
}

fn open_to_write(overlay: &Overlay, ino: Ino) -> Result<File, FsError> {
    let opened = overlay.disk.scratch.open_file(ino);
    opened.map_err(|error| FsError::io("open a scratch file", error))
}

impl Overlay {
    /// An overlay of these files without records. It has no thread and no reserve.
    fn at_rest(files: &OverlayFiles, disk: Arc<Disk>) -> Self {
        Self {
            journal: files.journal.clone(),
            disk,
            reaper: Reaper::idle(),
            reserve: Reserve::none(),
            layer_files: LayerFiles(files.layers.clone()),
            layers: Mutex::default(),
            commits: Mutex::default(),
            left_open: Mutex::default(),
            unseen: Unseen::default(),
            lost: Mutex::default(),
            emptied: Mutex::default(),
            saved: AtomicBool::new(false),
            unknown: 0,
            making_room: Mutex::default(),
            committing: tokio::sync::Mutex::default(),
            _lock: files.lock.clone(),
        }
    }

    /// With what the journal says of layers, commits and files that were left open.
    fn with(
        self,
        layers: Vec<ContentHash>,
        commits: Vec<CommitRecord>,
        left_open: HashSet<Ino>,
    ) -> Self {
        Self {
            layers: Mutex::new(layers),
            commits: Mutex::new(commits),
            left_open: Mutex::new(left_open),
            ..self
        }
    }

    /// Starts the thread that syncs, and reserves room for a commit of `changed` paths.
    fn start(self, files: &OverlayFiles, changed: u64) -> Result<Self, OpenError> {
        let reaper = Reaper::start(self.disk.clone()).map_err(OpenError::Thread)?;
        Ok(Self {
            reaper,
            reserve: Reserve::hold(&files.reserve, changed),
            ..self
        })
    }

    /// Looks for room for the records of deletions on a full disk: the scratch files of what was deleted go at once, and if that is not
    /// enough, the journal is made shorter. Returns whether there is room then. Takes as long as a sync, or a compaction; the caller has no
    /// [`Turn`](crate::change::Turn).
    pub(crate) fn make_room(&self) -> bool {
        let _alone = self.making_room.lock();
        if !self.disk.has_room_to_remove() {
            self.reaper.reap_now();
        }
        if !self.disk.has_room_to_remove()
            && let Some(Err(error)) = self.reserve.lend(|| self.disk.compact())
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the disk is full, and the journal cannot be made shorter"
            );
        }
        self.disk.has_room_to_remove()
    }

    /// Appends a record, which then outlives this process, and a power loss before long.
    pub(crate) fn append(&self, record: &Record) -> Result<(), JournalError> {
        self.disk.append(record)?;
        self.reaper.note_change();
        Ok(())
    }
}

pub(crate) fn sync_failed(error: SyncError) -> FsError {
    match error {
        SyncError::Journal(error) => journal_failed(error),
        SyncError::Names(error) => error.into(),
        SyncError::Bytes { path, source } => {
            FsError::io(format!("sync the scratch file {}", path.display()), source)
        }
    }
}

pub(crate) fn journal_failed(error: JournalError) -> FsError {
    let kind = match &error {
        JournalError::Io { source, .. } => crate::error::kind_of_io(source),
        _ => FsErrorKind::Io,
    };
    FsError::caused(kind, "record a change", error)
}
