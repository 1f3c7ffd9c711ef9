//! opendir, readdir, mkdir, rmdir.

use std::sync::Arc;

use attachfs_manifest::Name;
use attachfs_tree::{Attributes, DirEntry, Ino, Kind, Listing, Mutation, Namespace};

use crate::handles::OpenDir;
use crate::vfs::now;
use crate::{FileAttr, FsError, FsErrorKind, HandleId, OpenedDir, Vfs};

/// A directory as it was when reading it began, or began again. Offset 0 is `.`, 1 is `..`, the rest are
/// the entries: an entry that exists throughout is returned exactly once, whatever else changes.
#[derive(Debug)]
pub struct DirView {
    dir: Ino,
    parent: Ino,
    listing: Listing,
}

impl DirView {
    fn of(namespace: &Namespace, dir: Ino) -> Self {
        Self {
            dir,
            parent: namespace.parent(dir).unwrap_or(dir),
            listing: namespace.list(dir),
        }
    }

    /// The entry at an offset; `None` behind the last.
    pub fn entry(&self, offset: u64) -> Option<DirEntry<'_>> {
        match offset {
            0 => Some(DirEntry {
                name: b".",
                ino: self.dir,
                kind: Kind::Dir,
            }),
            1 => Some(DirEntry {
                name: b"..",
                ino: self.parent,
                kind: Kind::Dir,
            }),
            _ => self.listing.get(usize::try_from(offset - 2).ok()?),
        }
    }
}

/// The most entries of a changed directory whose listing a kernel may keep: each open makes a list of them, and may not take long.
const MOST_KEPT: usize = 1000;

impl Vfs {
    /// Opens a directory.
    pub fn opendir(&self, dir: Ino) -> Result<OpenedDir, FsError> {
        let namespace = self.namespace.read();
        match namespace.kind(dir) {
            None => return Err(FsErrorKind::NotFound.into()),
            Some(Kind::Dir) => {}
            Some(_) => return Err(FsErrorKind::NotADirectory.into()),
        }
        // A kernel that keeps a listing may lose some of it half-way, and goes on from an offset in the view of the open. It may also get
        // the listing anew for one who begins, and then the others go on in that, where their offsets lead to other entries. So it is kept
        // for one at a time, also where nothing has changed yet.
        let view = || Arc::new(DirView::of(&namespace, dir));
        let kept = if namespace.is_as_ever(dir) || namespace.has_few_entries(dir, MOST_KEPT) {
            self.handles.open_dir_alone(dir, view)
        } else {
            None
        };
        Ok(OpenedDir {
            handle: kept.unwrap_or_else(|| self.handles.open_dir(dir, None)),
            may_be_kept: kept.is_some(),
        })
    }

    /// The directory behind a handle, as it was when it was first read.
    pub fn dir_view(&self, handle: HandleId) -> Result<Arc<DirView>, FsError> {
        match self.handles.dir(handle)? {
            OpenDir {
                view: Some(view), ..
            } => Ok(view),
            OpenDir { dir, view: None } => {
                let begun = DirView::of(&self.namespace.read(), dir);
                self.handles.begin_dir(handle, begun)
            }
        }
    }

    /// The view to read from an offset: the handle's, or a new one where reading begins. That is not from the time of the open: a
    /// kernel that keeps listings takes it for what the directory holds now.
    pub(crate) fn dir_view_from(
        &self,
        handle: HandleId,
        offset: u64,
    ) -> Result<Arc<DirView>, FsError> {
        if offset > 0 {
            return self.dir_view(handle);
        }
        let dir = self.handles.dir(handle)?.dir;
        let begun = DirView::of(&self.namespace.read(), dir);
        self.handles.begin_dir(handle, begun)
    }

    /// The attributes of the inode that an entry's name leads to now, which may differ from the view's; `None`
    /// if the name was removed.
    pub fn entry_attr(&self, view: &DirView, entry: &DirEntry<'_>) -> Option<FileAttr> {
        let shown = {
            let namespace = self.namespace.read();
            let ino = match entry.name {
                b"." | b".." => entry.ino,
                name => namespace.lookup(view.dir, name)?,
            };
            self.shown(&namespace, ino).ok()?
        };
        self.complete(shown).ok()
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: HandleId) -> Result<(), FsError> {
        self.handles.close_dir(handle)
    }

    /// Makes a directory.
    pub fn mkdir(
        &self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        owner: (u32, u32),
    ) -> Result<FileAttr, FsError> {
        let change = self.begin_change()?;
        let name = checked(name)?;
        let turn = self.turn(change.overlay);
        let (ino, attributes) = {
            let namespace = turn.namespace();
            self.check_case(&namespace, parent, &name)?;
            let attributes = new_attributes(&namespace, parent, Kind::Dir, mode, owner);
            (namespace.next_ino(), attributes)
        };
        turn.mutate(Mutation::CreateDir {
            parent,
            name,
            ino,
            attributes,
            time: now(),
        })?;
        Ok(self.entry_made(turn, ino)?.attr)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        self.removing(|| self.try_rmdir(parent, name))
    }

    fn try_rmdir(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        let change = self.begin_change()?;
        let given = checked(name)?;
        let turn = self.turn(change.overlay);
        let written = self.as_written(&turn.namespace(), parent, given);
        turn.mutate(Mutation::RemoveDir {
            parent,
            name: written.clone(),
            time: now(),
        })?;
        drop(turn);
        self.told_otherwise(parent, name, &written);
        Ok(())
    }
}

/// Set-group-id: new entries of such a directory get its group.
const SET_GROUP_ID: u32 = 0o2000;

/// The permission bits that are kept of a mode: without setuid, and without setgid of what is no directory.
pub(crate) fn kept_mode(kind: Option<Kind>, mode: u32) -> u32 {
    match kind {
        Some(Kind::Dir) => mode & (0o1777 | SET_GROUP_ID),
        _ => mode & 0o1777,
    }
}

/// The attributes of a new entry. In a directory with set-group-id it gets the directory's group, and a new
/// directory gets the bit too.
pub(crate) fn new_attributes(
    namespace: &Namespace,
    parent: Ino,
    kind: Kind,
    mode: u32,
    (uid, gid): (u32, u32),
) -> Attributes {
    let above = namespace.attributes(parent);
    let passes_on = above.mode.is_some_and(|mode| mode & SET_GROUP_ID != 0);
    let mode = if passes_on { mode | SET_GROUP_ID } else { mode };
    Attributes {
        mode: Some(kept_mode(Some(kind), mode)),
        uid: Some(uid),
        // A directory whose group was never set has the mount's group, which is not stored.
        gid: if passes_on { above.gid } else { Some(gid) },
        ..Attributes::default()
    }
}

pub(crate) fn checked(name: &[u8]) -> Result<Name, FsError> {
    Name::new(name).map_err(|error| {
        FsError::plain(match error {
            attachfs_manifest::PathError::ComponentTooLong(_) => FsErrorKind::NameTooLong,
            _ => FsErrorKind::Invalid,
        })
    })
}
