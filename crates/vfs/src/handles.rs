//! Open files and directories.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use attachfs_fetch::FileReader;
use attachfs_tree::Ino;
use parking_lot::{Mutex, RwLock};

use crate::ops::directory::DirView;
use crate::{FsError, FsErrorKind};

/// The number of an open file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// What an open file is open for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// `read` is allowed. The kernel may read through a handle that is open for writing only, so
    /// this is not enforced.
    pub read: bool,
    /// `write` is allowed.
    pub write: bool,
}

/// A file that someone has open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) ino: Ino,
    pub(crate) access: Access,
    /// The scratch file, if the inode has one.
    pub(crate) scratch: Option<Arc<File>>,
    /// Reads what the base has of it: made by the first read, with the inode of the base.
    pub(crate) reader: OnceLock<(Ino, Arc<FileReader>)>,
    /// Whether this handle was counted as a lazily read file.
    pub(crate) counted: AtomicBool,
    /// Whether the journal says that the file is written to. It goes on saying so as long as this
    /// handle, which can write, is open.
    recorded: AtomicBool,
}

#[derive(Debug, Default)]
struct OpenInode {
    scratch: Option<Arc<File>>,
    handles: usize,
    writers: usize,
    /// The journal says that it is written to.
    recorded: bool,
}

/// A file that was closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClosedFile {
    pub(crate) ino: Ino,
    /// This was its last handle.
    pub(crate) last: bool,
}

/// All open handles, and for each open inode how often it is open.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    next: AtomicU64,
    files: RwLock<HashMap<HandleId, Arc<OpenFile>>>,
    dirs: RwLock<HashMap<HandleId, Arc<DirView>>>,
    inodes: Mutex<HashMap<Ino, OpenInode>>,
}

impl Handles {
    fn next_id(&self) -> HandleId {
        // 0 is what some kernels send when there is no handle.
        HandleId(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Opens an inode, sharing its scratch file with those who have it open already.
    pub(crate) fn open_file(
        &self,
        ino: Ino,
        access: Access,
        scratch: impl FnOnce() -> Result<Option<File>, FsError>,
    ) -> Result<HandleId, FsError> {
        self.open(ino, access, false, scratch)
    }

    /// As [`open_file`](Self::open_file), of a file that was just made: the journal says so.
    pub(crate) fn open_made(
        &self,
        ino: Ino,
        access: Access,
        scratch: File,
    ) -> Result<HandleId, FsError> {
        self.open(ino, access, true, || Ok(Some(scratch)))
    }

    fn open(
        &self,
        ino: Ino,
        access: Access,
        recorded: bool,
        scratch: impl FnOnce() -> Result<Option<File>, FsError>,
    ) -> Result<HandleId, FsError> {
        let scratch = {
            let mut inodes = self.inodes.lock();
            let shared = inodes.get(&ino).and_then(|open| open.scratch.clone());
            let scratch = match shared {
                Some(file) => Some(file),
                None => scratch()?.map(Arc::new),
            };
            let open = inodes.entry(ino).or_default();
            open.scratch.clone_from(&scratch);
            open.handles += 1;
            open.writers += usize::from(access.write);
            open.recorded |= recorded;
            scratch
        };
        let id = self.next_id();
        let file = OpenFile {
            ino,
            access,
            scratch,
            reader: OnceLock::new(),
            counted: AtomicBool::new(false),
            recorded: AtomicBool::new(false),
        };
        self.files.write().insert(id, Arc::new(file));
        Ok(id)
    }

    pub(crate) fn file(&self, id: HandleId) -> Result<Arc<OpenFile>, FsError> {
        self.files
            .read()
            .get(&id)
            .cloned()
            .ok_or(FsError::plain(FsErrorKind::BadHandle))
    }

    /// Says that a file is about to be written to through this handle: with `record`, unless the
    /// journal says so already.
    pub(crate) fn begin_writing<E>(
        &self,
        file: &OpenFile,
        record: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        if !file.recorded.load(Ordering::Relaxed) {
            self.record_writing(file.ino, record)?;
            file.recorded.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// As [`begin_writing`](Self::begin_writing), of a file whose length is set while someone has it open for
    /// writing.
    pub(crate) fn record_writing<E>(
        &self,
        ino: Ino,
        record: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut inodes = self.inodes.lock();
        if let Some(open) = inodes.get_mut(&ino)
            && open.writers > 0
            && !open.recorded
        {
            record()?;
            open.recorded = true;
        }
        Ok(())
    }

    /// Closes a file. If nobody can write to it any more, `settled` hears of it, and whether the journal
    /// says that it is written to; whoever opens it meanwhile waits.
    pub(crate) fn close_file(
        &self,
        id: HandleId,
        settled: impl FnOnce(&OpenFile, bool),
    ) -> Result<ClosedFile, FsError> {
        let file = self
            .files
            .write()
            .remove(&id)
            .ok_or(FsError::plain(FsErrorKind::BadHandle))?;
        let ino = file.ino;
        let mut inodes = self.inodes.lock();
        let Some(open) = inodes.get_mut(&ino) else {
            return Ok(ClosedFile { ino, last: true });
        };
        open.handles -= 1;
        open.writers -= usize::from(file.access.write);
        if open.writers == 0 {
            settled(&file, std::mem::take(&mut open.recorded));
        }
        let last = open.handles == 0;
        if last {
            inodes.remove(&ino);
        }
        Ok(ClosedFile { ino, last })
    }

    /// The scratch file of an inode that is open.
    pub(crate) fn scratch(&self, ino: Ino) -> Option<Arc<File>> {
        self.inodes
            .lock()
            .get(&ino)
            .and_then(|open| open.scratch.clone())
    }

    pub(crate) fn is_open(&self, ino: Ino) -> bool {
        self.inodes.lock().contains_key(&ino)
    }

    /// The inodes that someone may write to.
    pub(crate) fn writers(&self) -> Vec<Ino> {
        self.inodes
            .lock()
            .iter()
            .filter(|(_, open)| open.writers > 0)
            .map(|(&ino, _)| ino)
            .collect()
    }

    pub(crate) fn has_writer(&self, ino: Ino) -> bool {
        self.inodes
            .lock()
            .get(&ino)
            .is_some_and(|open| open.writers > 0)
    }

    pub(crate) fn has_open(&self) -> bool {
        !self.files.read().is_empty() || !self.dirs.read().is_empty()
    }

    pub(crate) fn all_files(&self) -> Vec<HandleId> {
        self.files.read().keys().copied().collect()
    }

    pub(crate) fn all_dirs(&self) -> Vec<HandleId> {
        self.dirs.read().keys().copied().collect()
    }

    pub(crate) fn open_dir(&self, view: DirView) -> HandleId {
        let id = self.next_id();
        self.dirs.write().insert(id, Arc::new(view));
        id
    }

    pub(crate) fn dir(&self, id: HandleId) -> Result<Arc<DirView>, FsError> {
        self.dirs
            .read()
            .get(&id)
            .cloned()
            .ok_or(FsError::plain(FsErrorKind::BadHandle))
    }

    pub(crate) fn close_dir(&self, id: HandleId) -> Result<(), FsError> {
        self.dirs
            .write()
            .remove(&id)
            .map(|_| ())
            .ok_or(FsError::plain(FsErrorKind::BadHandle))
    }
}
