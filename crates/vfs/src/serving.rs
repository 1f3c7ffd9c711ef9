//! What a [`Vfs`] knows about the adapter that serves it: where to send invalidations, and which inodes it
//! refers to.

use std::fs::File;
use std::sync::Arc;

use attachfs_tree::{FileContent, Ino};
use tokio::runtime::Handle;

use crate::change::Turn;
use crate::ops::attributes::Shown;
use crate::{Attachment, FileAttr, FsError, HandleId, Invalidation, Vfs};

impl Vfs {
    /// An adapter begins to serve it: from now on references are counted, and invalidations are sent.
    pub(crate) fn begin_serving(&self, adapter: Attachment) {
        self.references.begin();
        *self.adapter.lock() = Some(adapter);
    }

    /// The adapter has ended. A kernel that lost its connection does not close and forget one by one.
    pub(crate) fn end_serving(&self) -> Result<(), FsError> {
        *self.adapter.lock() = None;
        let closed = self.close_all();
        self.references.end();
        let nameless: Vec<Ino> = {
            let namespace = self.namespace.read();
            let touched = namespace.touched().map(|(ino, _)| ino);
            touched
                .filter(|&ino| namespace.link_count(ino) == 0)
                .collect()
        };
        for ino in nameless {
            self.drop_if_unused(ino);
        }
        closed
    }

    /// The runtime for tasks, while an adapter serves it.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        let adapter = self.adapter.lock();
        adapter.as_ref().map(|adapter| adapter.runtime.clone())
    }

    pub(crate) fn invalidate(&self, what: impl IntoIterator<Item = Invalidation>) {
        let to = self
            .adapter
            .lock()
            .as_ref()
            .map(|to| to.invalidations.clone());
        if let Some(to) = to {
            for what in what {
                if to.send(what).is_err() {
                    // The mount is ending, and the kernel's caches with it.
                    return;
                }
            }
        }
    }

    /// The attributes of an inode that was just made or named. Counts a reference for the adapter.
    pub(crate) fn entry_made(&self, turn: Turn<'_>, ino: Ino) -> Result<FileAttr, FsError> {
        // Counted before another request can remove the name.
        self.note_reference(ino);
        drop(turn);
        let attr = self.getattr(ino);
        attr.inspect_err(|_| self.forget(ino, 1))
    }

    /// As [`complete`](Self::complete), for an inode to which the adapter just got a reference.
    pub(crate) fn complete_entry(&self, shown: Shown) -> Result<FileAttr, FsError> {
        let ino = shown.ino();
        self.complete(shown).inspect_err(|_| self.forget(ino, 1))
    }

    /// Counts a reference that the adapter gets. The inode keeps its name meanwhile.
    pub(crate) fn note_reference(&self, ino: Ino) {
        self.references.add(ino);
    }

    /// The adapter gives back references.
    pub(crate) fn forget(&self, ino: Ino, references: u64) {
        if self.references.take_back(ino, references) {
            self.drop_if_unused(ino);
        }
    }

    /// Whether an inode is needed even if it has no name.
    pub(crate) fn is_used(&self, ino: Ino) -> bool {
        self.handles.is_open(ino) || self.references.has(ino)
    }

    /// Drops an inode that has no name, unless it is still open or known to the adapter.
    pub(crate) fn drop_if_unused(&self, ino: Ino) {
        let Some(overlay) = &self.overlay else {
            return;
        };
        if self.namespace.read().link_count(ino) > 0 {
            return;
        }
        self.turn(overlay).drop_unused(ino);
    }

    /// The local file with exactly the bytes of an open file, if there is one.
    pub(crate) fn backing(&self, handle: HandleId) -> Option<Arc<File>> {
        let open = self.handles.file(handle).ok()?;
        let whole = self.namespace.read().content(open.ino()) == Some(&FileContent::Scratch);
        let scratch = whole.then(|| self.open_scratch_of(&open))?;
        scratch.ok().cloned()
    }
}
