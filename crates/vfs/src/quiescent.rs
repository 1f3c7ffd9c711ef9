//! [`Quiescent`]: the one place that decides whether a scratch file may be hashed.
//!
//! ```text
//!     quiesce    no handle here can write, and no process has the scratch file open or mapped for writing: a read lease says so
//!     still      nobody opened it for writing since, and its stamp (length, times) is the same
//! ```
//!
//! The kernel writes to some scratch files by itself (`filesystem/backing.rs`), and three who write are then in none of this process's
//! tables: a mapping that outlives its handle, a program that outlived the process that served it, and one that was cut off
//! from the mount. A lease is granted when none of them is left. The kernel gets scratch files only where leases can be relied on
//! ([`OwnDir::tells_writers`](attachfs_durable::OwnDir::tells_writers)); elsewhere, and for files that are partly the base's, each write
//! comes here, and the handles and the stamp say all.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_durable::FileStamp;
use attachfs_tree::Ino;
use parking_lot::Mutex;

use crate::overlay::{Lease, Leased};
use crate::vfs::Overlay;
use crate::{FsError, Vfs};

/// Says that nobody writes to a scratch file.
#[derive(Debug)]
pub struct Quiescent<'a> {
    vfs: &'a Vfs,
    ino: Ino,
    file: Arc<File>,
    path: PathBuf,
    stamp: FileStamp,
    /// `None` where each write comes to this process.
    lease: Option<Lease>,
}

/// Why a file may not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum NotQuiescent {
    /// A handle of this file system can write to it.
    #[error("it is open for writing")]
    Open,
    /// A process has it open or mapped for writing, and none of that comes here any more.
    #[error("a process has it open for writing, or mapped")]
    Elsewhere,
    /// It could not be looked at.
    #[error(transparent)]
    Failed(#[from] FsError),
}

impl Quiescent<'_> {
    /// The scratch file, open for reading.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Its path.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Its stamp since nobody writes to it.
    pub fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// Whether nobody has written to it since, nor could have.
    pub fn still(&self) -> Result<bool, FsError> {
        let is_kept = self.lease.as_ref().is_none_or(Lease::holds);
        Ok(is_kept && !self.vfs.has_writer(self.ino) && self.stamp == stamp_of(&self.file)?)
    }
}

fn stamp_of(file: &File) -> Result<FileStamp, FsError> {
    FileStamp::of(file).map_err(|error| FsError::io("look at a scratch file", error))
}

impl Vfs {
    /// Makes sure that nobody writes to the scratch file of an inode.
    pub fn quiesce(&self, ino: Ino) -> Result<Quiescent<'_>, NotQuiescent> {
        let overlay = self.writable()?;
        let (file, path) = self.open_scratch(ino)?;
        let lease = if self.is_in_scratch(ino) {
            // Before the handles are looked at: who opens it from here on for writing breaks the lease.
            let leased = overlay.disk.scratch.lease(ino);
            match leased.map_err(|error| FsError::io("ask who writes to a scratch file", error))? {
                Leased::Granted(lease) => Some(lease),
                Leased::Written if self.has_writer(ino) => return Err(NotQuiescent::Open),
                Leased::Written => return Err(NotQuiescent::Elsewhere),
                // It was known when the kernel got the file, and is not any more.
                Leased::Unknown if overlay.is_unseen(ino) => return Err(NotQuiescent::Elsewhere),
                Leased::Unknown => None,
            }
        } else {
            None
        };
        if self.has_writer(ino) {
            return Err(NotQuiescent::Open);
        }
        Ok(Quiescent {
            vfs: self,
            ino,
            stamp: stamp_of(&file)?,
            file,
            path,
            lease,
        })
    }

    /// Whether somebody may be writing to a scratch file of whom nothing comes here. Who is found to have ended is not looked for
    /// again.
    pub(crate) fn is_written_unseen(&self, ino: Ino) -> bool {
        let Some(overlay) = &self.overlay else {
            return false;
        };
        if !overlay.unseen.has(ino) {
            return false;
        }
        if self.has_writer(ino) {
            return true;
        }
        match overlay.disk.scratch.lease(ino) {
            Ok(Leased::Written) => true,
            Ok(Leased::Unknown) if overlay.is_unseen(ino) => true,
            Ok(Leased::Granted(_) | Leased::Unknown) => {
                overlay.unseen.forget_unless(ino, || self.has_writer(ino))
            }
            Err(error) => {
                tracing::debug!(%error, path = self.describe(ino), "it is not known who writes to a file");
                true
            }
        }
    }
}

impl Overlay {
    /// Whether somebody may be writing to a file of whom nothing comes here, although leases told who does.
    fn is_unseen(&self, ino: Ino) -> bool {
        self.unseen.has(ino) && self.disk.scratch.tells_writers()
    }
}

/// Files that somebody may be writing to of whom nothing comes here: the kernel has them open for reading and writing by itself, or
/// had, and so there may be a mapping; or an earlier process left them open.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    /// Whether there is one, so that nobody waits for the lock where there is none.
    any: AtomicBool,
    inodes: Mutex<HashSet<Ino>>,
}

impl Unseen {
    /// Notes a file, which counts as open for writing already, unless an earlier process left it.
    pub(crate) fn note(&self, ino: Ino) {
        let mut inodes = self.inodes.lock();
        inodes.insert(ino);
        self.any.store(true, Ordering::Release);
    }

    fn has(&self, ino: Ino) -> bool {
        self.any.load(Ordering::Acquire) && self.inodes.lock().contains(&ino)
    }

    /// A file is gone: whoever writes to it writes for nobody.
    pub(crate) fn gone(&self, ino: Ino) {
        if self.any.load(Ordering::Acquire) {
            self.forget_unless(ino, || false);
        }
    }

    /// Forgets a file unless it is open for writing again, which the caller is asked under the lock: who opens it notes it afterwards.
    /// Whether it is.
    fn forget_unless(&self, ino: Ino, is_open: impl FnOnce() -> bool) -> bool {
        let mut inodes = self.inodes.lock();
        if is_open() {
            return true;
        }
        inodes.remove(&ino);
        if inodes.is_empty() {
            self.any.store(false, Ordering::Release);
        }
        false
    }
}
