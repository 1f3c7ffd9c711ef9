//! What a [`Vfs`] knows about the adapter that serves it: where to send invalidations, and which inodes it
//! refers to.

use std::sync::Arc;

use attachfs_fetch::WholeOnDisk;
use attachfs_tree::{FileContent, Ino};
use tokio::runtime::Handle;

use crate::change::Turn;
use crate::handles::{Handles, OpenFile};
use crate::ops::attributes::Shown;
use crate::overlay::Record;
use crate::vfs::{journal_failed, sync_failed};
use crate::{Attachment, Backing, Entry, FsError, FsErrorKind, Invalidation, NodeId, Vfs};

/// The kernel is given no shorter files, in bytes. To open, read and close one again takes 94 µs either way at this length, with
/// two messages more or with pages that the kernel has kept (at 16 KiB 63 and 43, at 128 KiB 70 and 58, at 1 MiB 180 and 337). The first
/// time it takes a quarter of what it takes through the daemon.
pub(crate) const SHORTEST_BACKED: u64 = 256 << 10;

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
        self.moved.clear();
        let nameless: Vec<Ino> = self.namespace.read().nameless().collect();
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

    /// The entry of an inode that was just made or named. Counts a reference for the adapter.
    pub(crate) fn entry_made(&self, turn: Turn<'_>, ino: Ino) -> Result<Entry, FsError> {
        // Counted before another request can remove the name.
        let node = self.note_reference(ino);
        drop(turn);
        let attr = self.getattr(ino);
        let attr = attr.inspect_err(|_| self.forget(node, 1))?;
        Ok(Entry { node, attr })
    }

    /// As [`complete`](Self::complete), for a node to which the adapter just got a reference.
    pub(crate) fn complete_entry(&self, node: NodeId, shown: Shown) -> Result<Entry, FsError> {
        let attr = self.complete(shown);
        let attr = attr.inspect_err(|_| self.forget(node, 1))?;
        Ok(Entry { node, attr })
    }

    /// Counts a reference that the adapter gets, to the node that is returned. The inode keeps its name meanwhile.
    pub(crate) fn note_reference(&self, ino: Ino) -> NodeId {
        let node = self.node_of(ino);
        self.references.add(node);
        node
    }

    /// The adapter gives back references.
    pub(crate) fn forget(&self, node: NodeId, references: u64) {
        if self.references.take_back(node, references) {
            self.drop_if_unused(node.into());
        }
    }

    /// Whether an inode is needed even if it has no name.
    pub(crate) fn is_used(&self, ino: Ino) -> bool {
        self.handles.is_open(ino) || self.nodes_of(ino).any(|node| self.references.has(node))
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

    /// The local file that the kernel may have in the place of an open one: its object in the disk cache, or its scratch file. All
    /// handles of a node have the same one, or none if the first one had none.
    pub(crate) fn backing(&self, open: &OpenFile) -> Result<Option<Arc<Backing>>, FsError> {
        let Some(backing) = open.inode.backing_or(|| self.to_offer(open)) else {
            return Ok(None);
        };
        if !backing.is_scratch() {
            // A handle that writes shares the node's backing only if the adapter was refused it: then the daemon serves them all.
            return Ok(Some(backing).filter(|_| !open.access.write));
        }
        match self.ready_scratch(open, &backing) {
            Ok(true) => Ok(Some(backing)),
            // If the kernel has it, it lets nobody else serve the file; else nobody gets it from now on.
            Ok(false) if !backing.is_taken() => Ok(None),
            Ok(false) => Err(FsErrorKind::Io.into()),
            Err(error) if !backing.is_taken() => {
                tracing::debug!(%error, path = self.describe(open.ino()), "the kernel does not get a scratch file");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What is offered to the first who opens a node.
    fn to_offer(&self, open: &OpenFile) -> Option<Backing> {
        let tally = || Arc::clone(&self.tally.backing);
        if self.is_scratch_to_offer(open) {
            return Some(Backing::of_scratch(tally()));
        }
        Some(Backing::new(self.cached(open)?, tally()))
    }

    /// Whether the kernel is to have the scratch file that a node has: whoever opens it first writes, or it is long, or somebody may be
    /// writing to it of whom nothing comes here.
    fn is_scratch_to_offer(&self, open: &OpenFile) -> bool {
        let ino = open.ino();
        if !self.is_in_scratch(ino) {
            return false;
        }
        open.access.write
            || self.is_written_unseen(ino)
            || self
                .getattr(ino)
                .is_ok_and(|attr| attr.size >= SHORTEST_BACKED)
    }

    /// Makes everything ready for the kernel to have the scratch file of an open node; `false` if it is not to have it. From then on
    /// it writes without a word: so the journal says before that the file is being written to.
    fn ready_scratch(&self, open: &OpenFile, backing: &Backing) -> Result<bool, FsError> {
        let ino = open.ino();
        let overlay = self.writable()?;
        if !backing.was_taken() {
            let is_asked_for = self
                .adapter
                .lock()
                .as_ref()
                .is_some_and(|adapter| adapter.backing.is_usable_for_scratch());
            // Where nobody could tell later who still writes, and where the room is bounded, each write comes here.
            let scratch = &overlay.disk.scratch;
            let may_have_it = scratch.tells_writers() && !scratch.is_bounded();
            // Nor would it tell whether a file that may be incomplete was written at all before it was closed.
            let may_have_it = may_have_it && !overlay.left_open.lock().contains(&ino);
            if !is_asked_for || !self.is_in_scratch(ino) || !may_have_it {
                return Ok(false);
            }
        }
        let file = open
            .inode
            .scratch_to_read(|| Self::scratch_to_look(overlay, ino))?;
        backing.set_scratch(file);
        if open.access.write {
            let opened = || overlay.append(&Record::Opened(ino));
            Handles::begin_writing(open, opened).map_err(journal_failed)?;
            if open.access.read {
                // It can be mapped, and the mapping outlives the handle.
                overlay.unseen.note(ino);
            }
            if open.access.sync {
                overlay.disk.sync().map_err(sync_failed)?;
            }
        }
        Ok(true)
    }

    /// Where the adapter keeps what is written for a while, the journal says from the open on that a file is being written to: all that
    /// was written may be lost with this process, and none of it may have come here.
    pub(crate) fn note_late_writer(&self, open: &OpenFile) -> Result<(), FsError> {
        let is_late = || {
            let adapter = self.adapter.lock();
            adapter.as_ref().is_some_and(|adapter| adapter.writes_late)
        };
        if !open.access.write || !is_late() {
            return Ok(());
        }
        let overlay = self.writable()?;
        // One that may be incomplete counts as open already, and stays so if it is only opened and closed.
        if overlay.left_open.lock().contains(&open.ino()) {
            return Ok(());
        }
        let opened = || overlay.append(&Record::Opened(open.ino()));
        Handles::begin_writing(open, opened).map_err(journal_failed)
    }

    /// Fails if the kernel reads a local file in the place of an open one, and somebody has changed that since. The kernel would
    /// let nobody else answer the reads as long as it is open.
    pub(crate) fn check_backing(&self, open: &OpenFile) -> Result<(), FsError> {
        match open.inode.backed_by() {
            Some(whole) if !self.fetcher.is_still_right(whole) => Err(FsError::caused(
                FsErrorKind::Io,
                "open a file of the disk cache that the kernel reads",
                "somebody changed its bytes; it can be opened again once all who have it open have closed it",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// The file of the disk cache with all bytes of an open file, verified.
    fn cached(&self, open: &OpenFile) -> Option<WholeOnDisk> {
        let is_asked_for = self.adapter.lock().as_ref()?.backing.is_usable_for_cache();
        let ino = open.ino();
        // A second node is read and written by the same programs: what they write comes here.
        if !is_asked_for || open.access.write || open.inode.node() != ino.into() {
            return None;
        }
        let base = {
            let namespace = self.namespace.read();
            if namespace.content(ino) != Some(&FileContent::Base) {
                return None;
            }
            namespace.base().clone()
        };
        let layout = base.layout(ino)?;
        if layout.size() < SHORTEST_BACKED {
            return None;
        }
        self.fetcher.whole_on_disk(&layout)
    }
}
