//! symlink, link, unlink, rename.

use attachfs_tree::{Attributes, Ino, Kind, Mutation};

use super::directory::{checked, new_attributes};
use crate::overlay::replacing;
use crate::vfs::now;
use crate::{FileAttr, FsError, FsErrorKind, Vfs};

/// The longest text of a symbolic link (`PATH_MAX` of Linux, less its NUL).
const LONGEST_TEXT: usize = 4095;

impl Vfs {
    /// Makes a symbolic link.
    pub fn symlink(
        &self,
        parent: Ino,
        name: &[u8],
        text: &[u8],
        owner: (u32, u32),
    ) -> Result<FileAttr, FsError> {
        let (overlay, _changing) = self.begin_change()?;
        if text.len() > LONGEST_TEXT {
            return Err(FsErrorKind::NameTooLong.into());
        }
        if text.is_empty() || text.contains(&0) {
            return Err(FsErrorKind::Invalid.into());
        }
        let name = checked(name)?;
        let mut namespace = self.namespace.write();
        let ino = namespace.next_ino();
        let attributes = Attributes {
            mode: None,
            ..new_attributes(&namespace, parent, Kind::Symlink, 0, owner)
        };
        let text = text.into();
        let create = Mutation::CreateSymlink {
            parent,
            name,
            ino,
            text,
            attributes,
            time: now(),
        };
        self.mutate(&mut namespace, overlay, create)?;
        self.entry_in(&namespace, ino)
    }

    /// Gives a file one more name.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<FileAttr, FsError> {
        let (overlay, _changing) = self.begin_change()?;
        let name = checked(name)?;
        let mut namespace = self.namespace.write();
        if namespace.copied_up(ino).is_some() {
            return Err(FsErrorKind::Moved.into());
        }
        if namespace.link_count(ino) == 0 {
            return Err(FsErrorKind::NotFound.into());
        }
        self.mutate(
            &mut namespace,
            overlay,
            Mutation::Link {
                ino,
                parent,
                name,
                time: now(),
            },
        )?;
        self.entry_in(&namespace, ino)
    }

    /// Removes a name of a file or symbolic link.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        let (overlay, _changing) = self.begin_change()?;
        let name = checked(name)?;
        let mut namespace = self.namespace.write();
        self.mutate(
            &mut namespace,
            overlay,
            Mutation::Unlink {
                parent,
                name,
                time: now(),
            },
        )
    }

    /// Moves a name, replacing what has the new one unless `no_replace`.
    pub fn rename(
        &self,
        (from_parent, from_name): (Ino, &[u8]),
        (to_parent, to_name): (Ino, &[u8]),
        no_replace: bool,
    ) -> Result<(), FsError> {
        let (overlay, _changing) = self.begin_change()?;
        let (from_name, to_name) = (checked(from_name)?, checked(to_name)?);
        let step = overlay.disk.step();
        let mut namespace = self.namespace.write();
        if no_replace && namespace.lookup(to_parent, to_name.as_bytes()).is_some() {
            return Err(FsErrorKind::Exists.into());
        }
        let time = now();
        let rename = Mutation::Rename {
            from_parent,
            from_name,
            to_parent,
            to_name,
            time,
        };
        if let Some(ino) = replacing(&namespace, &rename) {
            overlay.disk.bytes_first(&step, ino);
        }
        self.mutate(&mut namespace, overlay, rename)
    }
}
