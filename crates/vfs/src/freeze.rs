//! A copy of the file system at one moment, for a commit that runs while the job goes on.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::FileStamp;
use attachfs_tree::{FileContent, Ino, Namespace};

use crate::overlay::{CommitRecord, Pin, Record};
use crate::vfs::{Overlay, journal_failed, sync_failed};
use crate::{FsError, Vfs};

/// The inodes that were open for writing.
pub type OpenWriters = HashSet<Ino>;

/// A copy of the namespace. As long as one exists that was [frozen](Vfs::freeze), no scratch file is removed.
#[derive(Debug)]
pub struct Frozen {
    namespace: Namespace,
    writers: OpenWriters,
    left_open: OpenWriters,
    /// `None` if it is only looked at.
    _pin: Option<Pin>,
}

impl Frozen {
    /// The namespace at that moment.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The files that were open for writing.
    pub fn writers(&self) -> &OpenWriters {
        &self.writers
    }

    /// The files that were open for writing when an earlier process of the session ended: they may be
    /// incomplete.
    pub fn left_open(&self) -> &OpenWriters {
        &self.left_open
    }
}

impl Vfs {
    /// Takes a copy of the namespace. Other operations wait only while it is copied. `None` if it
    /// is read-only.
    pub fn freeze(&self) -> Option<Frozen> {
        let overlay = self.overlay.as_ref()?;
        // Before the copy.
        let pin = overlay.reaper.pin();
        Some(self.copied(overlay, Some(pin)))
    }

    /// As [`freeze`](Self::freeze), for who takes a missing scratch file for one that was deleted since: deleted ones go meanwhile.
    pub fn glance(&self) -> Option<Frozen> {
        Some(self.copied(self.overlay.as_ref()?, None))
    }

    fn copied(&self, overlay: &Overlay, pin: Option<Pin>) -> Frozen {
        let namespace = self.namespace.read();
        let writers = self.handles.writers().into_iter().collect();
        Frozen {
            namespace: namespace.clone(),
            writers,
            left_open: overlay.left_open.lock().clone(),
            _pin: pin,
        }
    }

    /// Whether an inode is open for writing now. While it is not, its scratch file does not change:
    /// the kernel keeps a handle open as long as a mapping can write to it.
    pub fn has_writer(&self, ino: Ino) -> bool {
        self.handles.has_writer(ino)
    }

    /// Whether a file's content still lies in the same places. Does not notice bytes that were
    /// overwritten in place.
    pub fn has_content(&self, ino: Ino, content: &FileContent) -> bool {
        self.namespace.read().content(ino) == Some(content)
    }

    /// The stamp of an inode's scratch file, which is not opened for that.
    pub fn scratch_stamp(&self, ino: Ino) -> Result<FileStamp, FsError> {
        let scratch = &self.writable()?.disk.scratch;
        let facts = scratch.facts(ino).map_err(|error| {
            let path = scratch.path(ino);
            FsError::io(
                format!("look at the scratch file {}", path.display()),
                error,
            )
        })?;
        Ok(facts.stamp)
    }

    /// Opens an inode's scratch file for reading, and returns its path too.
    pub fn open_scratch(&self, ino: Ino) -> Result<(Arc<File>, PathBuf), FsError> {
        let overlay = self.writable()?;
        let path = overlay.disk.scratch.path(ino);
        let file = overlay.disk.scratch.open_to_read(ino).map_err(|error| {
            FsError::io(format!("open the scratch file {}", path.display()), error)
        })?;
        Ok((Arc::new(file), path))
    }

    /// Takes files that were [left open](Frozen::left_open) as they are, as if they had been closed. One that
    /// somebody writes to again is not closed before they close it.
    pub fn accept(&self, files: &[Ino]) -> Result<(), FsError> {
        let overlay = self.writable()?;
        for &ino in files {
            if overlay.left_open.lock().remove(&ino) {
                let closed = || overlay.append(&Record::Closed(ino)).map_err(journal_failed);
                let accepted = self.handles.unless_written(self.node_of(ino), closed);
                self.drop_if_unused(ino);
                accepted?;
            }
        }
        Ok(())
    }

    /// How many scratch files were set aside because no record mentions them, and their directory.
    pub fn set_aside(&self) -> Result<(u64, PathBuf), FsError> {
        let scratch = &self.writable()?.disk.scratch;
        let path = scratch.aside();
        let count = scratch.count_aside().map_err(|error| {
            FsError::io(format!("read the directory {}", path.display()), error)
        })?;
        Ok((count, path))
    }

    /// How many scratch files no record mentions, and their directory, in a session that is only looked at.
    pub fn unknown(&self) -> Result<(u64, PathBuf), FsError> {
        let overlay = self.writable()?;
        let path = overlay.disk.scratch.dir().to_owned();
        Ok((overlay.unknown, path))
    }

    /// Frees the room that is reserved on the session's disk for a commit, which is about to write
    /// there. Returns whether there was any.
    pub fn release_reserve(&self) -> bool {
        let overlay = self.overlay.as_ref();
        overlay.is_some_and(|overlay| overlay.reserve.release())
    }

    /// Reserves room for the next commit.
    pub fn refill_reserve(&self) {
        if let Some(overlay) = &self.overlay {
            overlay.reserve.refill();
        }
    }

    /// Waits for other commits of this session to end, and prevents new ones until the guard is
    /// dropped.
    pub async fn commit_turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, FsError> {
        Ok(self.writable()?.committing.lock().await)
    }

    /// The steps of earlier commits, in order.
    pub fn commits(&self) -> Vec<CommitRecord> {
        self.overlay
            .as_ref()
            .map(|overlay| overlay.commits.lock().clone())
            .unwrap_or_default()
    }

    /// Records a step of a commit, durably.
    pub fn record_commit(&self, step: CommitRecord) -> Result<(), FsError> {
        let overlay = self.writable()?;
        overlay
            .append(&Record::Commit(step.clone()))
            .map_err(journal_failed)?;
        overlay.disk.sync().map_err(sync_failed)?;
        overlay.commits.lock().push(step);
        Ok(())
    }

    /// Gives up the overlay before its files are deleted. Later operations on this file system fail.
    pub fn abandon(&self) {
        if let Some(overlay) = &self.overlay {
            overlay.reaper.abandon();
        }
    }
}
