//! What a [`Vfs`] knows of the adapter that serves it: where its cache is told, and which inodes it refers to.

use std::fs::File;
use std::sync::Arc;

use attachfs_tree::{FileContent, Ino, Namespace};
use tokio::runtime::Handle;

use crate::{Attachment, FileAttr, FsError, HandleId, Invalidation, Vfs};

impl Vfs {
    /// An adapter begins to serve it: from now on references are counted, and invalidations are sent.
    pub(crate) fn begin_serving(&self, adapter: Attachment) {
        self.references.begin();
        *self.adapter.lock() = Some(adapter);
    }

    /// The adapter has ended. A kernel that gave up its connection does not say what it closes and forgets.
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

    /// Where tasks run, while an adapter serves it.
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
                    // The mount is going away, and all that the kernel knows with it.
                    return;
                }
            }
        }
    }

    /// The attributes of an inode that an adapter is given by name, which counts as a reference.
    pub(crate) fn entry_in(&self, namespace: &Namespace, ino: Ino) -> Result<FileAttr, FsError> {
        let attr = self.attr_in(namespace, ino)?;
        self.note_reference(ino);
        Ok(attr)
    }

    /// Counts a reference that the adapter gets. The inode has a name as long as that takes.
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
        let mut namespace = self.namespace.write();
        if namespace.link_count(ino) == 0 && !self.is_used(ino) {
            Self::drop_inode(&mut namespace, overlay, ino);
        }
    }

    /// The file that has exactly the bytes of an open file, if there is one.
    pub(crate) fn backing(&self, handle: HandleId) -> Option<Arc<File>> {
        let open = self.handles.file(handle).ok()?;
        let scratch = open.scratch.as_ref()?;
        let namespace = self.namespace.read();
        let whole = namespace.content(open.ino) == Some(&FileContent::Scratch);
        whole.then(|| scratch.clone())
    }
}
