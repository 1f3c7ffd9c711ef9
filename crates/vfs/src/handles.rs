//! Open files and directories.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use attachfs_fetch::FileReader;
use attachfs_tree::Ino;
use parking_lot::{Mutex, RwLock};

use crate::inputs::HandleUse;
use crate::nodes::second;
use crate::open_inode::OpenInode;
use crate::ops::directory::DirView;
use crate::{FsError, FsErrorKind, NodeId};

/// The number of an open file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// The access for which a file is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// `read` is allowed. The kernel may read through a handle that is open for writing only, so
    /// this is not enforced.
    pub read: bool,
    /// `write` is allowed.
    pub write: bool,
    /// What is written is to be durable when the write returns (`O_SYNC`, `O_DSYNC`).
    pub sync: bool,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) access: Access,
    /// The state that all handles of the inode share.
    pub(crate) inode: Arc<OpenInode>,
    /// Reads the part of the file that the base has. Made by the first read, together with the
    /// inode of the base.
    pub(crate) reader: OnceLock<(Ino, Arc<FileReader>)>,
    /// Whether something of the base was read through this handle.
    pub(crate) begun: AtomicBool,
    /// Whether this handle was counted as a lazily read file.
    pub(crate) counted: AtomicBool,
    /// What of the base was used through this handle.
    pub(crate) used: HandleUse,
    /// Whether the journal says that the file is being written to. That stays true as long as this
    /// handle, which can write, is open.
    recorded: AtomicBool,
}

impl OpenFile {
    pub(crate) fn ino(&self) -> Ino {
        self.inode.ino()
    }
}

#[derive(Debug)]
struct Counted {
    inode: Arc<OpenInode>,
    handles: usize,
}

/// An open directory.
#[derive(Debug, Clone)]
pub(crate) struct OpenDir {
    pub(crate) dir: Ino,
    /// As it is being read; until that begins as it was when it was opened, or `None`.
    pub(crate) view: Option<Arc<DirView>>,
}

/// All open directories.
#[derive(Debug, Default)]
struct OpenDirs {
    open: HashMap<HandleId, OpenDir>,
    /// How many handles each has.
    handles: HashMap<Ino, usize>,
}

impl OpenDirs {
    fn insert(&mut self, id: HandleId, open: OpenDir) {
        *self.handles.entry(open.dir).or_default() += 1;
        self.open.insert(id, open);
    }

    fn remove(&mut self, id: HandleId) -> Option<OpenDir> {
        let closed = self.open.remove(&id)?;
        if let Entry::Occupied(mut count) = self.handles.entry(closed.dir) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(closed)
    }

    fn is_open_once(&self, dir: Ino) -> bool {
        self.handles.get(&dir) == Some(&1)
    }
}

/// A file that was closed.
#[derive(Debug)]
pub(crate) struct ClosedFile {
    /// The handle that it was open by.
    pub(crate) file: Arc<OpenFile>,
    /// This was its last handle.
    pub(crate) last: bool,
}

/// All open handles, and for each open node how often it is open. During I/O only the lock of the one node is held.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    next: AtomicU64,
    files: RwLock<HashMap<HandleId, Arc<OpenFile>>>,
    dirs: RwLock<OpenDirs>,
    inodes: Mutex<HashMap<NodeId, Counted>>,
}

impl Handles {
    fn next_id(&self) -> HandleId {
        // Some kernels send 0 for "no handle".
        HandleId(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Opens a node. Its inode is not dropped from now on, so check that it exists after this call.
    pub(crate) fn open_file(&self, node: NodeId, access: Access) -> (HandleId, Arc<OpenFile>) {
        self.open(node, access, None)
    }

    /// As [`open_file`](Self::open_file), for a file that was just made: the journal already says that it is
    /// being written to.
    pub(crate) fn open_made(&self, ino: Ino, access: Access, scratch: File) -> HandleId {
        self.open(ino.into(), access, Some(scratch)).0
    }

    /// Counts a node as open once more.
    fn enter(&self, node: NodeId) -> Arc<OpenInode> {
        let mut inodes = self.inodes.lock();
        let counted = inodes.entry(node).or_insert_with(|| Counted {
            inode: OpenInode::new(node),
            handles: 0,
        });
        counted.handles += 1;
        counted.inode.clone()
    }

    /// Counts a node as open once less, and says whether that was the last time.
    fn leave(&self, node: NodeId) -> bool {
        let mut inodes = self.inodes.lock();
        match inodes.get_mut(&node) {
            Some(counted) if counted.handles > 1 => {
                counted.handles -= 1;
                return false;
            }
            _ => {}
        }
        let left = inodes.remove(&node);
        drop(inodes);
        // With it goes what the kernel has open for it.
        drop(left);
        true
    }

    /// Does something while a node counts as open, without a handle. The caller checks afterwards whether the inode is
    /// still used.
    pub(crate) fn while_open<T>(&self, node: NodeId, work: impl FnOnce(&OpenInode) -> T) -> T {
        struct Left<'a>(&'a Handles, NodeId);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                self.0.leave(self.1);
            }
        }
        // As long as it is open, everybody else has the same inode.
        let inode = self.enter(node);
        let _left = Left(self, node);
        work(&inode)
    }

    fn open(&self, node: NodeId, access: Access, made: Option<File>) -> (HandleId, Arc<OpenFile>) {
        let inode = self.enter(node);
        inode.begin(access, made);
        let id = self.next_id();
        let file = Arc::new(OpenFile {
            access,
            inode,
            reader: OnceLock::new(),
            begun: AtomicBool::new(false),
            counted: AtomicBool::new(false),
            used: HandleUse::default(),
            recorded: AtomicBool::new(false),
        });
        self.files.write().insert(id, file.clone());
        (id, file)
    }

    pub(crate) fn file(&self, id: HandleId) -> Result<Arc<OpenFile>, FsError> {
        self.files
            .read()
            .get(&id)
            .cloned()
            .ok_or(FsError::plain(FsErrorKind::BadHandle))
    }

    /// Notes that a file is about to be written to through this handle. Calls `record`, unless the
    /// journal says so already.
    pub(crate) fn begin_writing<E>(
        file: &OpenFile,
        record: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        if !file.recorded.load(Ordering::Relaxed) {
            file.inode.record_open(record)?;
            file.recorded.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// As [`begin_writing`](Self::begin_writing), for a file whose length is set while it is open for
    /// writing.
    pub(crate) fn record_writing<E>(
        &self,
        ino: Ino,
        record: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        match self.inode(ino) {
            Some(inode) => inode.record_open(record),
            None => Ok(()),
        }
    }

    /// Does something while nobody has the node open for writing and nobody can open it so; nothing if somebody has.
    /// Whoever calls this looks afterwards whether the inode is still used.
    pub(crate) fn unless_written<E>(
        &self,
        node: NodeId,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        self.while_open(node, |inode| inode.unless_written(work))
    }

    /// Closes a file. If nobody can write to it any more, `settled` hears of it, and whether the journal
    /// says that it is written to; whoever opens it for writing meanwhile waits.
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
        file.inode
            .end(file.access, |recorded| settled(&file, recorded));
        let last = self.leave(file.inode.node());
        Ok(ClosedFile { file, last })
    }

    /// An inode, if it is open: its second node if that is, since only that one can be written.
    pub(crate) fn inode(&self, ino: Ino) -> Option<Arc<OpenInode>> {
        let inodes = self.inodes.lock();
        let counted = inodes.get(&second(ino)).or_else(|| inodes.get(&ino.into()));
        counted.map(|counted| counted.inode.clone())
    }

    pub(crate) fn has_node(&self, node: NodeId) -> bool {
        self.inodes.lock().contains_key(&node)
    }

    pub(crate) fn is_open(&self, ino: Ino) -> bool {
        self.inode(ino).is_some()
    }

    /// The inodes that are open for writing.
    pub(crate) fn writers(&self) -> Vec<Ino> {
        let inodes = self.inodes.lock();
        let written = inodes
            .iter()
            .filter(|(_, counted)| counted.inode.has_writer());
        written.map(|(&node, _)| node.into()).collect()
    }

    /// How many inodes are open.
    pub(crate) fn open_inode_count(&self) -> u64 {
        self.inodes.lock().len() as u64
    }

    /// The inodes that are open: how often, and how often for writing.
    pub(crate) fn open_inodes(&self) -> Vec<(Ino, u64, u64)> {
        let inodes = self.inodes.lock();
        let open = inodes.iter().map(|(&node, counted)| {
            let writers = counted.inode.writers();
            (node.into(), counted.handles as u64, writers as u64)
        });
        open.collect()
    }

    pub(crate) fn has_writer(&self, ino: Ino) -> bool {
        self.inode(ino).is_some_and(|inode| inode.has_writer())
    }

    pub(crate) fn has_open(&self) -> bool {
        !self.files.read().is_empty() || !self.dirs.read().open.is_empty()
    }

    /// The files that are open, by each handle.
    pub(crate) fn open_handles(&self) -> Vec<Arc<OpenFile>> {
        self.files.read().values().cloned().collect()
    }

    pub(crate) fn all_files(&self) -> Vec<HandleId> {
        self.files.read().keys().copied().collect()
    }

    pub(crate) fn all_dirs(&self) -> Vec<HandleId> {
        self.dirs.read().open.keys().copied().collect()
    }

    pub(crate) fn open_dir(&self, dir: Ino, view: Option<Arc<DirView>>) -> HandleId {
        let id = self.next_id();
        self.dirs.write().insert(id, OpenDir { dir, view });
        id
    }

    /// Opens a directory that nobody has open; `None` if somebody has.
    pub(crate) fn open_dir_alone(
        &self,
        dir: Ino,
        view: impl FnOnce() -> Arc<DirView>,
    ) -> Option<HandleId> {
        // A listing takes its time, so the lock is not held for it: who comes meanwhile has it open, too.
        let id = self.next_id();
        let is_alone = {
            let mut dirs = self.dirs.write();
            dirs.insert(id, OpenDir { dir, view: None });
            dirs.is_open_once(dir)
        };
        if !is_alone {
            self.dirs.write().remove(id);
            return None;
        }
        let view = view();
        if let Some(open) = self.dirs.write().open.get_mut(&id) {
            open.view = Some(view);
        }
        Some(id)
    }

    pub(crate) fn dir(&self, id: HandleId) -> Result<OpenDir, FsError> {
        self.dirs
            .read()
            .open
            .get(&id)
            .cloned()
            .ok_or(FsError::plain(FsErrorKind::BadHandle))
    }

    /// Puts a view of the same directory behind a handle, with which reading begins.
    pub(crate) fn begin_dir(&self, id: HandleId, view: DirView) -> Result<Arc<DirView>, FsError> {
        let view = Arc::new(view);
        match self.dirs.write().open.get_mut(&id) {
            Some(open) => open.view = Some(view.clone()),
            None => return Err(FsErrorKind::BadHandle.into()),
        }
        Ok(view)
    }

    /// The inode behind a handle.
    pub(crate) fn ino(&self, id: HandleId) -> Option<Ino> {
        let file = self.files.read().get(&id).map(|file| file.ino());
        file.or_else(|| self.dirs.read().open.get(&id).map(|open| open.dir))
    }

    pub(crate) fn close_dir(&self, id: HandleId) -> Result<(), FsError> {
        self.dirs
            .write()
            .remove(id)
            .map(|_| ())
            .ok_or(FsError::plain(FsErrorKind::BadHandle))
    }
}
