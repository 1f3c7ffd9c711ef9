//! open, create, release, and the copy-up of a base file that is to be written.

use std::fs::File;
use std::time::Duration;

use attachfs_tree::{FileContent, Ino, Kind, Mutation};

use super::directory::{checked, new_attributes};
use crate::handles::OpenFile;
use crate::overlay::Record;
use crate::vfs::{Overlay, journal_failed, now};
use crate::{Access, FileAttr, FsError, FsErrorKind, HandleId, Invalidation, Released, Vfs};

/// An opened file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// To be given to `read`, `write` and `release`.
    pub handle: HandleId,
}

impl Vfs {
    /// Opens a file.
    ///
    /// A base file that is opened for writing moves all its names to a new inode and answers
    /// [`Moved`](FsErrorKind::Moved): the kernel looks the name up again and opens the new inode.
    /// Who has the base file open goes on reading the old content. Nothing is fetched for it.
    pub fn open(&self, ino: Ino, access: Access, truncate: bool) -> Result<Opened, FsError> {
        let changes = access.write || truncate;
        let _changing = match &self.overlay {
            Some(_) if changes => Some(self.begin_change()?),
            _ => None,
        };
        let namespace = self.namespace.read();
        match namespace.kind(ino) {
            None => return Err(FsErrorKind::NotFound.into()),
            Some(Kind::File) => {}
            Some(Kind::Dir) => return Err(FsErrorKind::IsADirectory.into()),
            Some(Kind::Symlink) => return Err(FsErrorKind::Invalid.into()),
        }
        if namespace.copied_up(ino).is_some() {
            return Err(FsErrorKind::Moved.into());
        }
        let in_scratch = namespace.content(ino) != Some(&FileContent::Base);
        if !changes {
            let scratch = || match &self.overlay {
                Some(overlay) if in_scratch => overlay
                    .disk
                    .scratch
                    .open_file(ino)
                    .map(Some)
                    .map_err(|error| FsError::io("open a scratch file", error)),
                _ => Ok(None),
            };
            let handle = self.handles.open_file(ino, access, scratch)?;
            return Ok(Opened { handle });
        }
        let overlay = self.writable()?;
        if !in_scratch {
            drop(namespace);
            self.copy_up(ino, if truncate { 0 } else { u64::MAX })?;
            return Err(FsErrorKind::Moved.into());
        }
        let scratch = || {
            let opened = overlay.disk.scratch.open_file(ino);
            opened
                .map(Some)
                .map_err(|error| FsError::io("open a scratch file", error))
        };
        let handle = self.handles.open_file(ino, access, scratch)?;
        drop(namespace);
        if truncate && let Err(error) = self.truncate(ino, 0) {
            self.close(handle, true)?;
            return Err(error);
        }
        Ok(Opened { handle })
    }

    /// Moves the names of a base file to a new inode that can be written, keeping the first `keep`
    /// bytes. Does nothing if someone else did so meanwhile.
    pub(crate) fn copy_up(&self, from: Ino, keep: u64) -> Result<(), FsError> {
        let overlay = self.writable()?;
        let step = overlay.disk.step();
        let mut namespace = self.namespace.write();
        if namespace.copied_up(from).is_some() {
            return Ok(());
        }
        let to = namespace.next_ino();
        let names = namespace.names(from);
        let copy = Mutation::CopyUp {
            from,
            to,
            keep,
            time: now(),
        };
        namespace.check(&copy)?;
        overlay
            .disk
            .scratch
            .create(to)
            .map_err(|error| FsError::io("create a scratch file", error))?;
        self.mutate_making(&mut namespace, overlay, to, copy, &step)?;
        if keep == 0 {
            overlay.emptied.lock().insert(to);
        }
        drop(step);
        let settle = self.listings_settle();
        drop(namespace);
        // The name in this call is looked up again by itself; the others must be told.
        let now = (names.len() > 1).then_some(Duration::ZERO);
        for after in now.into_iter().chain(settle) {
            let told = names.iter().cloned();
            self.invalidate(told.map(|(parent, name)| Invalidation::Name {
                parent: parent.into(),
                name,
                after,
            }));
        }
        Ok(())
    }

    /// Makes a file and opens it.
    pub fn create_file(
        &self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        owner: (u32, u32),
        access: Access,
    ) -> Result<(FileAttr, Opened), FsError> {
        let (overlay, _changing) = self.begin_change()?;
        let name = checked(name)?;
        let step = overlay.disk.step();
        let mut namespace = self.namespace.write();
        let ino = namespace.next_ino();
        let attributes = new_attributes(&namespace, parent, Kind::File, mode, owner);
        let create = Mutation::CreateFile {
            parent,
            name,
            ino,
            attributes,
            time: now(),
        };
        namespace.check(&create)?;
        let file = overlay
            .disk
            .scratch
            .create(ino)
            .map_err(|error| FsError::io("create a scratch file", error))?;
        self.mutate_making(&mut namespace, overlay, ino, create, &step)?;
        let handle = self.handles.open_made(ino, access, file)?;
        let attr = self.entry_in(&namespace, ino)?;
        Ok((attr, Opened { handle }))
    }

    /// Closes a file. What was unlinked while it was open goes with its last handle.
    pub fn release(&self, handle: HandleId) -> Result<Released, FsError> {
        let ended = self.has_ended();
        // Who was cut off did not close what it wrote.
        self.close(handle, !*ended)
    }

    /// Closes a file, and records that nobody writes to it any more unless `whole` is false.
    fn close(&self, handle: HandleId, whole: bool) -> Result<Released, FsError> {
        let closed = self.handles.close_file(handle, |file, recorded| {
            if let Some(overlay) = self.overlay.as_ref().filter(|_| whole) {
                settle(overlay, file, recorded);
            }
        })?;
        if closed.last {
            self.drop_if_unused(closed.ino);
        }
        Ok(Released { last: closed.last })
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

    /// Sets the length of a file. See [`setattr`](Self::setattr) for base files.
    pub(crate) fn truncate(&self, ino: Ino, size: u64) -> Result<(), FsError> {
        let overlay = self.writable()?;
        let namespace = self.namespace.upgradable_read();
        if namespace.kind(ino) == Some(Kind::Dir) {
            return Err(FsErrorKind::IsADirectory.into());
        }
        if namespace.copied_up(ino).is_some() {
            return Err(FsErrorKind::Moved.into());
        }
        let content = namespace
            .content(ino)
            .ok_or(FsError::plain(FsErrorKind::NotFound))?;
        let old_size = match content {
            FileContent::Base => {
                drop(namespace);
                self.copy_up(ino, size)?;
                return Err(FsErrorKind::Moved.into());
            }
            FileContent::Scratch => None,
            FileContent::Mapped(mapping) => Some(mapping.size),
        };
        let opened = || overlay.append(&Record::Opened(ino)).map_err(journal_failed);
        self.handles.record_writing(ino, opened)?;
        if size == 0 {
            overlay.emptied.lock().insert(ino);
        }
        let file = self.scratch_file(overlay, ino)?;
        let set_len = || {
            file.set_len(size)
                .map_err(|error| FsError::io("set the length of a file", error))
        };
        let Some(old_size) = old_size else {
            return set_len();
        };
        let mut namespace = parking_lot::RwLockUpgradableReadGuard::upgrade(namespace);
        if size >= old_size {
            set_len()?;
        }
        self.mutate(
            &mut namespace,
            overlay,
            Mutation::Resize {
                ino,
                size,
                time: now(),
            },
        )?;
        drop(namespace);
        if size < old_size {
            self.give_back(overlay, ino, &file, size);
        }
        Ok(())
    }

    /// Gives back the room of what was cut off a mapped file. What is cut off counts as long as the
    /// record is not durable; from then on it does not, wherever it is.
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
        let namespace = self.namespace.write();
        // It may have grown again.
        if let Some(FileContent::Mapped(mapping)) = namespace.content(ino)
            && mapping.size == size
        {
            overlay.disk.shorten(ino, file, size);
        }
    }
}

/// Says of a file that nobody can write to any more what is known of it from now on.
fn settle(overlay: &Overlay, file: &OpenFile, recorded: bool) {
    let ino = file.ino;
    if overlay.emptied.lock().remove(&ino) {
        // What it had before may be gone for good.
        overlay.disk.bytes_too(ino);
    }
    let was_left = file.access.write && overlay.left_open.lock().remove(&ino);
    if (recorded || was_left)
        && let Err(error) = overlay.append(&Record::Closed(ino))
    {
        // A commit after a crash asks about it.
        tracing::warn!(%error, %ino, "cannot record that a file was closed");
    }
}
