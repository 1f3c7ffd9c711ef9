//! Open files and directories.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
    /// Whether this handle was counted as a lazily read file.
    pub(crate) counted: AtomicBool,
}

#[derive(Debug, Default)]
struct OpenInode {
    scratch: Option<Arc<File>>,
    handles: usize,
    writers: usize,
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
            scratch
        };
        let id = self.next_id();
        let file = OpenFile {
            ino,
            access,
            scratch,
            counted: AtomicBool::new(false),
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

    /// Closes a file. Returns its inode, and whether this was the last handle of it.
    pub(crate) fn close_file(&self, id: HandleId) -> Result<(Ino, bool), FsError> {
        let file = self
            .files
            .write()
            .remove(&id)
            .ok_or(FsError::plain(FsErrorKind::BadHandle))?;
        let mut inodes = self.inodes.lock();
        let Some(open) = inodes.get_mut(&file.ino) else {
            return Ok((file.ino, true));
        };
        open.handles -= 1;
        open.writers -= usize::from(file.access.write);
        let last = open.handles == 0;
        if last {
            inodes.remove(&file.ino);
        }
        Ok((file.ino, last))
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
