//! What the adapter has open.

use std::collections::HashMap;
use std::sync::Arc;

use attachfs_fetch::FileReader;
use attachfs_vfs::{FsError, FsErrorKind, HandleId, NodeId, Released};
use parking_lot::Mutex;

use crate::listing::Listing;
use crate::place::Dir;

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    node: NodeId,
    pub(crate) reader: FileReader,
    /// For messages.
    pub(crate) path: Arc<[u8]>,
}

/// An open directory.
#[derive(Debug, Clone)]
pub(crate) struct OpenDir {
    pub(crate) dir: Arc<Dir>,
    pub(crate) node: NodeId,
    /// What it had when reading it began.
    pub(crate) view: Option<Listing>,
}

/// All open files and directories.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    /// Held for single operations, with no other lock.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    files: HashMap<HandleId, Arc<OpenFile>>,
    dirs: HashMap<HandleId, OpenDir>,
    /// How often each file is open.
    counts: HashMap<NodeId, u64>,
}

impl Open {
    fn next(&mut self) -> HandleId {
        self.last += 1;
        HandleId(self.last)
    }
}

fn bad() -> FsError {
    FsErrorKind::BadHandle.into()
}

impl Handles {
    pub(crate) fn open_file(&self, node: NodeId, reader: FileReader, path: Arc<[u8]>) -> HandleId {
        let mut open = self.open.lock();
        let handle = open.next();
        *open.counts.entry(node).or_default() += 1;
        let file = OpenFile { node, reader, path };
        open.files.insert(handle, Arc::new(file));
        handle
    }

    pub(crate) fn file(&self, handle: HandleId) -> Result<Arc<OpenFile>, FsError> {
        self.open.lock().files.get(&handle).cloned().ok_or_else(bad)
    }

    pub(crate) fn close_file(&self, handle: HandleId) -> Result<Released, FsError> {
        let mut open = self.open.lock();
        let closed = open.files.remove(&handle).ok_or_else(bad)?;
        let count = open.counts.entry(closed.node).or_default();
        *count = count.saturating_sub(1);
        let last = *count == 0;
        if last {
            open.counts.remove(&closed.node);
        }
        drop(open);
        Ok(Released { last })
    }

    pub(crate) fn open_dir(&self, node: NodeId, dir: Arc<Dir>) -> HandleId {
        let mut open = self.open.lock();
        let handle = open.next();
        let opened = OpenDir {
            dir,
            node,
            view: None,
        };
        open.dirs.insert(handle, opened);
        handle
    }

    pub(crate) fn dir(&self, handle: HandleId) -> Result<OpenDir, FsError> {
        self.open.lock().dirs.get(&handle).cloned().ok_or_else(bad)
    }

    /// Reading a directory begins with this.
    pub(crate) fn begin_dir(&self, handle: HandleId, view: Listing) -> Result<(), FsError> {
        let mut open = self.open.lock();
        let dir = open.dirs.get_mut(&handle).ok_or_else(bad)?;
        let before = dir.view.replace(view);
        drop(open);
        drop(before);
        Ok(())
    }

    pub(crate) fn close_dir(&self, handle: HandleId) -> Result<(), FsError> {
        let closed = self.open.lock().dirs.remove(&handle);
        closed.map(drop).ok_or_else(bad)
    }

    pub(crate) fn is_open(&self) -> bool {
        let open = self.open.lock();
        !open.files.is_empty() || !open.dirs.is_empty()
    }

    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut *self.open.lock());
        drop(all);
    }
}
