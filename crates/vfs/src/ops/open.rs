//! open, create, release, and the copy-up of a base file that is to be written.

use std::fs::File;

use attachfs_durable::steps::{Step, perform};
use attachfs_tree::{BaseKind, FileContent, Ino, Kind, Mutation};

use super::attributes::facts_of;
use super::directory::{checked, new_attributes};
use crate::change::Change;
use crate::handles::OpenFile;
use crate::overlay::Record;
use crate::vfs::{Overlay, journal_failed, now};
use crate::{
    Access, FileAttr, FsError, FsErrorKind, HandleId, Invalidation, NodeId, Released, Vfs,
};

/// An opened file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// To be given to `read`, `write` and `release`.
    pub handle: HandleId,
}

impl Vfs {
    /// Opens a file.
    ///
    /// A base file that is opened for writing is copied up in place: it keeps its number, and all handles see
    /// what is written. Nothing is fetched for it.
    pub fn open(&self, ino: Ino, access: Access, truncate: bool) -> Result<Opened, FsError> {
        self.open_node(self.node_of(ino), access, truncate)
    }

    /// As [`open`](Self::open), by a node. Fails with [`Moved`](FsErrorKind::Moved) if it is to be written and the kernel
    /// reads a local file in its place, and then whenever it is opened again: its names lead to another node.
    pub(crate) fn open_node(
        &self,
        node: NodeId,
        access: Access,
        truncate: bool,
    ) -> Result<Opened, FsError> {
        let changes = access.write || truncate;
        let change = match &self.overlay {
            Some(_) if changes => Some(self.begin_change()?),
            _ => None,
        };
        if let Some(change) = &change {
            change.overlay.reaper.reap_if_tight();
        }
        let (handle, open) = self.handles.open_file(node, access);
        let prepared = self
            .refuse_left(node)
            .and_then(|()| self.prepare(&open, change.as_ref(), truncate));
        if let Err(error) = prepared {
            self.close(handle, Closing::Failed)?;
            return Err(error);
        }
        Ok(Opened { handle })
    }

    /// Makes an open file ready for reading, or for writing.
    fn prepare(
        &self,
        open: &OpenFile,
        change: Option<&Change<'_>>,
        truncate: bool,
    ) -> Result<(), FsError> {
        let ino = open.ino();
        let is_base = {
            let namespace = self.namespace.read();
            match namespace.kind(ino) {
                None => return Err(FsErrorKind::NotFound.into()),
                Some(Kind::File) => {}
                Some(Kind::Dir) => return Err(FsErrorKind::IsADirectory.into()),
                // What goes through a FIFO or a socket never comes here.
                Some(Kind::Symlink | Kind::Special(_)) => return Err(FsErrorKind::Invalid.into()),
            }
            namespace.content(ino) == Some(&FileContent::Base)
        };
        let is_read = is_base && !truncate;
        if is_read {
            self.refuse_wrong(ino)?;
        }
        let note_use = || {
            if is_read && open.access.read {
                self.inputs.opened(&open.used, ino);
            }
        };
        let Some(change) = change else {
            if open.access.write || truncate {
                return Err(FsErrorKind::ReadOnly.into());
            }
            note_use();
            if !is_base {
                self.open_scratch_of(open)?;
            }
            return Ok(());
        };
        let in_scratch = truncate || self.is_in_scratch(ino);
        self.refuse_backed(&open.inode, in_scratch)?;
        note_use();
        if is_base && !truncate {
            self.copy_up(change, ino, u64::MAX)?;
        }
        if is_base && truncate {
            self.truncate(change, ino, 0)?;
        }
        self.open_scratch_of(open)?;
        if !is_base && truncate {
            self.truncate(change, ino, 0)?;
        }
        Ok(())
    }

    /// Makes a base file writable, keeping its first `keep` bytes, and says whether that cut off others. Does nothing if
    /// another thread did so meanwhile. If it fails, the file is as it was.
    fn copy_up(&self, change: &Change<'_>, ino: Ino, keep: u64) -> Result<bool, FsError> {
        let overlay = change.overlay;
        let no_sync = overlay.disk.hold_sync();
        let turn = self.turn(overlay);
        let cuts_off = {
            let namespace = turn.namespace();
            if namespace.content(ino) != Some(&FileContent::Base) {
                return Ok(false);
            }
            let kind = namespace.base().kind(ino);
            matches!(kind, Some(BaseKind::File { size, .. }) if keep < size)
        };
        let copy = Mutation::CopyUp {
            ino,
            keep,
            time: now(),
        };
        let copy = turn.namespace().check(copy)?;
        let file = overlay
            .disk
            .scratch
            .create(ino)
            .map_err(|error| FsError::io("create a scratch file", error))?;
        turn.mutate_making(ino, copy, &no_sync)?;
        if let Some(inode) = self.handles.inode(ino) {
            // Who writes needs no other descriptor for it, which might not be had.
            inode.keep_made(file);
        }
        if keep == 0 {
            overlay.emptied.lock().insert(ino);
        }
        Ok(cuts_off)
    }

    /// Makes a file and opens it. If it fails, there is no file and nothing open: all that can fail comes before the record.
    pub fn create_file(
        &self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        owner: (u32, u32),
        access: Access,
    ) -> Result<(FileAttr, Opened), FsError> {
        let change = self.begin_change()?;
        let overlay = change.overlay;
        let name = checked(name)?;
        overlay.reaper.reap_if_tight();
        let no_sync = overlay.disk.hold_sync();
        let turn = self.turn(overlay);
        let (ino, create) = {
            let namespace = turn.namespace();
            self.check_case(&namespace, parent, &name)?;
            let ino = namespace.next_ino();
            let attributes = new_attributes(&namespace, parent, Kind::File, mode, owner);
            let create = Mutation::CreateFile {
                parent,
                name,
                ino,
                attributes,
                time: now(),
            };
            // Checked first, so that no scratch file is made in vain.
            (ino, namespace.check(create)?)
        };
        let file = overlay
            .disk
            .scratch
            .create(ino)
            .map_err(|error| FsError::io("create a scratch file", error))?;
        let facts = facts_of(overlay, &file).inspect_err(|_| turn.unmake(ino))?;
        turn.mutate_making(ino, create, &no_sync)?;
        let shown = self.shown(&turn.namespace(), ino)?;
        // Both before another request can remove the name.
        self.note_reference(ino);
        let handle = self.handles.open_made(ino, access, file);
        Ok((shown.with(&facts), Opened { handle }))
    }

    /// Closes a file. If it was unlinked while it was open, it is dropped with its last handle.
    pub fn release(&self, handle: HandleId) -> Result<Released, FsError> {
        let ended = self.has_ended();
        // A writer that was cut off did not close its file, so the file may be incomplete.
        let closing = if *ended {
            Closing::CutOff
        } else {
            Closing::Whole
        };
        self.close(handle, closing)
    }

    /// Closes a file, and records whether it is complete.
    fn close(&self, handle: HandleId, closing: Closing) -> Result<Released, FsError> {
        let mut was_lost = false;
        let closed = self.handles.close_file(handle, |file, recorded| {
            // Who reads what the kernel read before the file got another node has no part in what is written since.
            if let Some(overlay) = &self.overlay
                && !self.is_left(file.inode.node())
            {
                was_lost = settle(overlay, file, recorded, closing);
                if recorded || file.access.write {
                    self.changed_files.note(file.ino());
                }
            }
        })?;
        self.inputs.keep(&closed.file.used);
        let (ino, last) = (closed.file.ino(), closed.last);
        if was_lost {
            // The adapter may still have what could not be written.
            self.invalidate(self.nodes_of(ino).map(|node| Invalidation::Pages {
                node,
                range: 0..u64::MAX,
            }));
        }
        let was_written = closed.file.access.write;
        // With it goes the last descriptor.
        drop(closed);
        if last {
            self.drop_if_unused(ino);
            if let Some(overlay) = &self.overlay
                && was_written
            {
                overlay.disk.scratch.closed(ino);
            }
        }
        Ok(Released { last })
    }

    /// Closes all files and directories: the mount has ended, and a kernel that gave up its connection
    /// does not say so for each.
    pub fn close_all(&self) -> Result<(), FsError> {
        for handle in self.handles.all_dirs() {
            self.releasedir(handle)?;
        }
        for handle in self.handles.all_files() {
            self.release(handle)?;
        }
        Ok(())
    }

    /// Sets the length of a file. If it fails, the file keeps the bytes that it had.
    pub(crate) fn truncate(&self, change: &Change<'_>, ino: Ino, size: u64) -> Result<(), FsError> {
        let overlay = change.overlay;
        let content = {
            let namespace = self.namespace.read();
            match namespace.kind(ino) {
                Some(Kind::Dir) => return Err(FsErrorKind::IsADirectory.into()),
                Some(Kind::Symlink | Kind::Special(_)) => return Err(FsErrorKind::Invalid.into()),
                Some(Kind::File) | None => {}
            }
            let content = namespace.content(ino);
            content
                .ok_or(FsError::plain(FsErrorKind::NotFound))?
                .clone()
        };
        let opened = || overlay.append(&Record::Opened(ino)).map_err(journal_failed);
        self.handles.record_writing(ino, opened)?;
        // The one record of the copy-up cuts it off, so nothing can fail after that.
        if content == FileContent::Base && self.copy_up(change, ino, size)? {
            return Ok(());
        }
        if size == 0 {
            overlay.emptied.lock().insert(ino);
        }
        let file = self.scratch_to_write(overlay, ino)?;
        let set_len = |len| {
            let path = || overlay.disk.scratch.path(ino);
            perform(Step::ScratchLength, path, || file.set_len(len))
                .map_err(|error| FsError::io("set the length of a file", error))?;
            overlay.disk.scratch.shrunk(ino, &file);
            Ok(())
        };
        let is_mapped = matches!(
            self.namespace.read().content(ino),
            Some(FileContent::Mapped(_))
        );
        // No bytes are written that the mapping does not know yet.
        let alone = is_mapped.then(|| overlay.disk.alone());
        let turn = self.turn(overlay);
        let old_size = match turn.namespace().content(ino) {
            Some(FileContent::Mapped(mapping)) => Some(mapping.size),
            _ => None,
        };
        let Some(old_size) = old_size else {
            return set_len(size);
        };
        if size >= old_size {
            set_len(size)?;
        }
        turn.mutate(Mutation::Resize {
            ino,
            size,
            time: now(),
        })?;
        drop(turn);
        drop(alone);
        if size < old_size {
            self.give_back(overlay, ino, &file, size);
        }
        Ok(())
    }

    /// Frees the room of the bytes that were cut off a mapped file. Those bytes still count until
    /// the record is durable, and never afterwards.
    fn give_back(&self, overlay: &Overlay, ino: Ino, file: &File, size: u64) {
        let kept = match file.metadata() {
            Ok(metadata) => metadata.len() <= size,
            Err(_) => false,
        };
        if kept {
            return;
        }
        if let Err(error) = overlay.disk.sync() {
            tracing::warn!(%error, "a scratch file is not shortened");
            return;
        }
        let _alone = overlay.disk.alone();
        let turn = self.turn(overlay);
        let has_grown = match turn.namespace().content(ino) {
            Some(FileContent::Mapped(mapping)) => mapping.size != size,
            _ => true,
        };
        if !has_grown {
            overlay.disk.shorten(ino, file, size);
        }
    }
}

/// Why a handle is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Its owner closed it.
    Whole,
    /// The mount ended while it was open.
    CutOff,
    /// It could not be opened.
    Failed,
}

/// Records that no handle can write to a file any more, and whether it is complete. `recorded`: the journal says
/// that it is being written to. Returns whether bytes of it were lost.
fn settle(overlay: &Overlay, file: &OpenFile, recorded: bool, closing: Closing) -> bool {
    let ino = file.ino();
    let was_lost = closing == Closing::Whole && overlay.lost.lock().remove(&ino);
    let closed = match closing {
        Closing::CutOff => return false,
        Closing::Failed => recorded && !overlay.left_open.lock().contains(&ino),
        Closing::Whole if was_lost => {
            overlay.left_open.lock().insert(ino);
            false
        }
        Closing::Whole => {
            // Opened and closed again it is no more complete than before.
            if recorded {
                overlay.left_open.lock().remove(&ino);
            }
            recorded
        }
    };
    if overlay.emptied.lock().remove(&ino) {
        // Its earlier content may be lost after a power loss.
        overlay.disk.bytes_too(ino);
    }
    if closed && let Err(error) = overlay.append(&Record::Closed(ino)) {
        // After a crash a commit treats it as possibly incomplete.
        tracing::warn!(%error, %ino, "cannot record that a file was closed");
    }
    was_lost
}
