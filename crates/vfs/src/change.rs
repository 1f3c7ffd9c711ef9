//! How the namespace changes: one mutation at a time, first in the journal, then in memory.
//!
//! ```text
//!     Change     no thread ends writing meanwhile
//!       `- Turn      no other thread changes the namespace meanwhile
//!            check (namespace, reading) -> journal (no lock of the namespace) -> apply (namespace, writing)
//! ```
//!
//! Everything in memory is also in the journal, in the same order, because both happen within one [`Turn`].
//! The namespace itself is locked only for operations in memory, so a look-up never waits for a disk.

use attachfs_tree::{Checked, FileContent, Ino, Mutation, Namespace};
use parking_lot::{MutexGuard, RwLockReadGuard};

use crate::overlay::{Record, SyncHold};
use crate::vfs::{Overlay, journal_failed};
use crate::{FsError, FsErrorKind, Vfs};

/// A change that is under way. A thread that has one must not begin another.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) overlay: &'a Overlay,
    _going_on: RwLockReadGuard<'a, bool>,
}

/// The right to change the namespace. Taken after a [`SyncHold`] and before all other locks; a thread that has it must
/// not sync.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    vfs: &'a Vfs,
    overlay: &'a Overlay,
    _alone: MutexGuard<'a, ()>,
}

impl Vfs {
    /// Fails if the file system is read-only, or writing has ended. [`end_writing`](Self::end_writing)
    /// waits for the guard.
    pub(crate) fn begin_change(&self) -> Result<Change<'_>, FsError> {
        let overlay = self.writable()?;
        let going_on = self.has_ended();
        if *going_on {
            return Err(FsErrorKind::Ended.into());
        }
        Ok(Change {
            overlay,
            _going_on: going_on,
        })
    }

    /// Waits for other changes of the namespace to end.
    pub(crate) fn turn<'a>(&'a self, overlay: &'a Overlay) -> Turn<'a> {
        Turn {
            vfs: self,
            overlay,
            _alone: self.changing.lock(),
        }
    }
}

impl Vfs {
    /// Does something that removes a name. Where the disk has no room even for the record of that, room is made, and it is done again.
    pub(crate) fn removing(&self, remove: impl Fn() -> Result<(), FsError>) -> Result<(), FsError> {
        match remove() {
            Err(error) if error.kind() == FsErrorKind::NoSpace => {
                let overlay = self.overlay.as_ref();
                if overlay.is_some_and(Overlay::make_room) {
                    remove()
                } else {
                    Err(error)
                }
            }
            removed => removed,
        }
    }

    /// Shows another namespace from now on.
    pub(crate) fn show(&self, namespace: Namespace) {
        let mut shown = self.namespace.write();
        *shown = namespace;
        if let Some(index) = &self.case_index {
            index.clear();
        }
    }
}

impl Turn<'_> {
    /// The namespace, which does not change until the next mutation of this turn. Do no I/O while holding the
    /// guard.
    pub(crate) fn namespace(&self) -> RwLockReadGuard<'_, Namespace> {
        self.vfs.namespace.read()
    }

    /// Replaces the namespace by one that was made from it in this turn and is in the journal.
    pub(crate) fn replace(&self, namespace: Namespace) {
        self.vfs.show(namespace);
    }

    /// Checks a mutation, appends it to the journal, and applies it to the namespace. When it returns, the mutation
    /// outlives this process. An inode that lost its last name and is not open is forgotten.
    pub(crate) fn mutate(&self, mutation: Mutation) -> Result<(), FsError> {
        let checked = self.namespace().check(mutation)?;
        self.take(checked)
    }

    /// As [`mutate`](Self::mutate), for a mutation that was checked in this turn.
    fn take(&self, checked: Checked) -> Result<(), FsError> {
        let changed_files = &self.vfs.changed_files;
        let (path_len, renamed) = {
            let (namespace, mutation) = (self.namespace(), checked.mutation());
            let renamed = changed_files.renamed_by(&namespace, mutation);
            (changed_path(&namespace, mutation), renamed)
        };
        let record = Record::Mutation(checked.mutation().clone());
        self.overlay.append(&record).map_err(journal_failed)?;
        self.vfs.missing.made_by(checked.mutation());
        if let Some(len) = path_len {
            let changed = || self.namespace().changed();
            self.overlay.reserve.grow(len, changed);
        }
        let orphan = self.apply(checked);
        for ino in renamed.into_iter().flatten() {
            changed_files.note(ino);
        }
        if let Some(ino) = orphan {
            self.drop_unused(ino);
        }
        Ok(())
    }

    fn apply(&self, checked: Checked) -> Option<Ino> {
        let mut namespace = self.vfs.namespace.write();
        let Some(index) = &self.vfs.case_index else {
            return namespace.apply_checked(checked);
        };
        let mutation = checked.mutation().clone();
        let orphan = namespace.apply_checked(checked);
        index.follow(&namespace, &mutation);
        orphan
    }

    /// As [`mutate`](Self::mutate) for a mutation, checked in this turn, that gives the inode `ino` a scratch file.
    /// If it fails, the scratch file is removed at once, because the next new inode may get the same number. Both are
    /// done under one [`SyncHold`], so that no sync makes the record durable without the file's name.
    pub(crate) fn mutate_making(
        &self,
        ino: Ino,
        checked: Checked,
        _: &SyncHold<'_>,
    ) -> Result<(), FsError> {
        self.take(checked).inspect_err(|_| self.unmake(ino))
    }

    /// Removes the scratch file of an inode that was not made after all.
    pub(crate) fn unmake(&self, ino: Ino) {
        if let Err(error) = self.overlay.disk.scratch.remove(ino) {
            // Recovery removes it, or the next inode's creation empties it.
            let path = self.overlay.disk.scratch.path(ino);
            tracing::warn!(%error, path = %path.display(), "cannot remove a scratch file");
        }
    }

    /// Forgets an inode if it has no name and is not in use. Its scratch file is removed once that is
    /// durable.
    pub(crate) fn drop_unused(&self, ino: Ino) {
        let had_scratch = {
            let mut namespace = self.vfs.namespace.write();
            // Opening counts the inode as open first, and then checks that it exists.
            if namespace.link_count(ino) > 0 || self.vfs.is_used(ino) {
                return;
            }
            let content = namespace.content(ino);
            let had_scratch = content.is_some_and(|content| *content != FileContent::Base);
            namespace.forget(ino);
            had_scratch
        };
        self.overlay.disk.forgot([ino]);
        self.vfs.accessed.forget(ino);
        self.vfs.changed_files.note(ino);
        if had_scratch {
            self.overlay.unseen.gone(ino);
            self.overlay.reaper.remove_later(ino);
        }
    }
}

/// The length of the path that a mutation adds to the changed ones, if it adds one.
fn changed_path(namespace: &Namespace, mutation: &Mutation) -> Option<u64> {
    let (parent, name) = match mutation {
        Mutation::CreateFile { parent, name, .. }
        | Mutation::CreateDir { parent, name, .. }
        | Mutation::CreateSymlink { parent, name, .. }
        | Mutation::CreateSpecial { parent, name, .. }
        | Mutation::Link { parent, name, .. }
        | Mutation::Unlink { parent, name, .. }
        | Mutation::RemoveDir { parent, name, .. } => (*parent, name.as_bytes().len()),
        // Of an exchange the longer one; both are counted as changed.
        Mutation::Rename {
            to_parent, to_name, ..
        }
        | Mutation::Exchange {
            to_parent, to_name, ..
        } => (*to_parent, to_name.as_bytes().len()),
        Mutation::CopyUp { ino, .. } => (*ino, 0),
        Mutation::SetAttributes { .. }
        | Mutation::SetXattr { .. }
        | Mutation::RemoveXattr { .. }
        | Mutation::Write { .. }
        | Mutation::Resize { .. } => return None,
    };
    let above = namespace.path(parent);
    Some((above.map_or(0, |path| path.as_bytes().len()) + 1 + name) as u64)
}
