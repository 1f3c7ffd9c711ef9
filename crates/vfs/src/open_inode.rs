//! What all handles of an open node share: its descriptors, who writes, and whether the kernel has its local file.
//!
//! ```text
//!     backing    the local file that the kernel has in its place: decided by the first open, see `filesystem/backing.rs`
//!     reading    the scratch file, for who reads and for the kernel, until the last close
//!     writing    the same, for who writes: closed with the last handle that can, so that no descriptor of this process says
//!                that the file is being written to when nobody does (`quiescent.rs`)
//! ```

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use attachfs_fetch::WholeOnDisk;
use attachfs_tree::Ino;
use parking_lot::Mutex;

use crate::{Access, Backing, NodeId};

/// An open node of an inode.
#[derive(Debug)]
pub(crate) struct OpenInode {
    node: NodeId,
    /// The local file that the kernel may have in its place; `None` inside if all reads and writes come here. Decided by the
    /// first open.
    backing: OnceLock<Option<Arc<Backing>>>,
    /// Its scratch file, opened when somebody reads.
    reading: OnceLock<Arc<File>>,
    /// Its scratch file, open for writing too, as long as a handle can write.
    writing: Mutex<Option<Arc<File>>>,
    /// How many handles can write. Changes only under the lock of `recorded`.
    writers: AtomicUsize,
    /// Whether the journal says that it is being written to. Locked while the record is appended.
    recorded: Mutex<bool>,
}

impl OpenInode {
    pub(crate) fn new(node: NodeId) -> Arc<Self> {
        Arc::new(Self {
            node,
            backing: OnceLock::new(),
            reading: OnceLock::new(),
            writing: Mutex::default(),
            writers: AtomicUsize::new(0),
            recorded: Mutex::new(false),
        })
    }

    pub(crate) fn ino(&self) -> Ino {
        self.node.into()
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }
}

/// The local file in its place.
impl OpenInode {
    /// The local file for this open: what the first open found with `find`.
    pub(crate) fn backing_or(
        &self,
        find: impl FnOnce() -> Option<Backing>,
    ) -> Option<Arc<Backing>> {
        if let Some(decided) = self.backing.get() {
            return decided.clone();
        }
        // Not within the decision: nobody else waits for the disk. Two that find a file at the same moment use the same one
        // afterwards.
        let found = find();
        self.backing.get_or_init(|| found.map(Arc::new)).clone()
    }

    /// The file of the disk cache that the kernel reads in its place.
    pub(crate) fn backed_by(&self) -> Option<&WholeOnDisk> {
        self.backing.get()?.as_ref()?.taken_input()
    }
}

/// The scratch file.
impl OpenInode {
    /// To read: opened with `open` if it was not needed yet.
    pub(crate) fn scratch_to_read<E>(
        &self,
        open: impl FnOnce() -> Result<File, E>,
    ) -> Result<Arc<File>, E> {
        if let Some(file) = self.reading.get() {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(open()?);
        // Two threads may open it at the same moment; both use the same one afterwards.
        Ok(Arc::clone(self.reading.get_or_init(|| file)))
    }

    /// To write, for a handle that can: opened with `open` if it was not needed yet.
    pub(crate) fn scratch_to_write<E>(
        &self,
        open: impl FnOnce() -> Result<File, E>,
    ) -> Result<Arc<File>, E> {
        if let Some(file) = self.open_to_write() {
            return Ok(file);
        }
        let file = Arc::new(open()?);
        Ok(Arc::clone(self.writing.lock().get_or_insert(file)))
    }

    /// Keeps a scratch file that was just made, open for writing, if a handle can write; who reads opens it again.
    pub(crate) fn keep_made(&self, file: File) {
        if self.has_writer() {
            self.writing.lock().get_or_insert_with(|| Arc::new(file));
        }
    }

    /// The scratch file, if it is open for writing.
    pub(crate) fn open_to_write(&self) -> Option<Arc<File>> {
        self.writing.lock().clone()
    }
}

/// Who writes.
impl OpenInode {
    /// A handle was opened. `made`: the scratch file of a file that was just made, of which the journal says that it is being
    /// written to.
    pub(crate) fn begin(&self, access: Access, made: Option<File>) {
        if !access.write && made.is_none() {
            return;
        }
        let mut recorded = self.recorded.lock();
        *recorded |= made.is_some();
        let writers = usize::from(access.write);
        self.writers.fetch_add(writers, Ordering::Release);
        if let Some(made) = made {
            self.keep_made(made);
        }
    }

    /// A handle is closed. If nobody can write to the node any more, `settled` hears whether the journal says that it is written
    /// to; a thread that opens it for writing meanwhile waits.
    pub(crate) fn end(&self, access: Access, settled: impl FnOnce(bool)) {
        let mut recorded = self.recorded.lock();
        let writers = usize::from(access.write);
        if self.writers.load(Ordering::Acquire) == writers {
            settled(std::mem::take(&mut *recorded));
            let written = self.writing.lock().take();
            drop(written);
        }
        self.writers.fetch_sub(writers, Ordering::Release);
    }

    pub(crate) fn has_writer(&self) -> bool {
        self.writers() > 0
    }

    /// How many handles can write.
    pub(crate) fn writers(&self) -> usize {
        self.writers.load(Ordering::Acquire)
    }

    /// Calls `record` if a handle can write and the journal does not say that it is being written to.
    pub(crate) fn record_open<E>(&self, record: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut recorded = self.recorded.lock();
        if self.has_writer() && !*recorded {
            record()?;
            *recorded = true;
        }
        Ok(())
    }

    /// Does something unless a handle can write; none begins to meanwhile.
    pub(crate) fn unless_written<E>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let _recorded = self.recorded.lock();
        if self.has_writer() { Ok(()) } else { work() }
    }
}
