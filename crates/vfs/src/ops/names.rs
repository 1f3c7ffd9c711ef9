//! symlink, FIFOs and sockets, link, unlink, rename, exchange.

use attachfs_tree::{Attributes, Ino, Kind, Mutation, Special};

use super::directory::{checked, new_attributes};
use crate::overlay::replacing;
use crate::vfs::now;
use crate::{Entry, FileAttr, FsError, FsErrorKind, Vfs};

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
        let change = self.begin_change()?;
        if text.len() > LONGEST_TEXT {
            return Err(FsErrorKind::NameTooLong.into());
        }
        if text.is_empty() || text.contains(&0) {
            return Err(FsErrorKind::Invalid.into());
        }
        let name = checked(name)?;
        let turn = self.turn(change.overlay);
        let (ino, attributes) = {
            let namespace = turn.namespace();
            self.check_case(&namespace, parent, &name)?;
            let attributes = new_attributes(&namespace, parent, Kind::Symlink, 0, owner);
            (namespace.next_ino(), attributes)
        };
        turn.mutate(Mutation::CreateSymlink {
            parent,
            name,
            ino,
            text: text.into(),
            attributes: Attributes {
                mode: None,
                ..attributes
            },
            time: now(),
        })?;
        Ok(self.entry_made(turn, ino)?.attr)
    }

    /// Makes a FIFO or a socket. It is of this session alone: a commit leaves it out.
    pub fn make_special(
        &self,
        parent: Ino,
        name: &[u8],
        special: Special,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<FileAttr, FsError> {
        let change = self.begin_change()?;
        let name = checked(name)?;
        let turn = self.turn(change.overlay);
        let (ino, attributes) = {
            let namespace = turn.namespace();
            self.check_case(&namespace, parent, &name)?;
            let kind = Kind::Special(special);
            let attributes = new_attributes(&namespace, parent, kind, mode, owner);
            (namespace.next_ino(), attributes)
        };
        turn.mutate(Mutation::CreateSpecial {
            parent,
            name,
            ino,
            special,
            attributes,
            time: now(),
        })?;
        Ok(self.entry_made(turn, ino)?.attr)
    }

    /// Gives a file one more name.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<FileAttr, FsError> {
        Ok(self.link_entry(ino, parent, name)?.attr)
    }

    /// As [`link`](Self::link), and the node that the new name leads to.
    pub(crate) fn link_entry(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Entry, FsError> {
        let change = self.begin_change()?;
        let name = checked(name)?;
        let turn = self.turn(change.overlay);
        if turn.namespace().link_count(ino) == 0 {
            return Err(FsErrorKind::NotFound.into());
        }
        self.check_case(&turn.namespace(), parent, &name)?;
        turn.mutate(Mutation::Link {
            ino,
            parent,
            name,
            time: now(),
        })?;
        self.entry_made(turn, ino)
    }

    /// Removes a name of a file or symbolic link.
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        self.removing(|| self.try_unlink(parent, name))
    }

    fn try_unlink(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        let change = self.begin_change()?;
        let given = checked(name)?;
        let turn = self.turn(change.overlay);
        let written = self.as_written(&turn.namespace(), parent, given);
        turn.mutate(Mutation::Unlink {
            parent,
            name: written.clone(),
            time: now(),
        })?;
        drop(turn);
        self.told_otherwise(parent, name, &written);
        Ok(())
    }

    /// Renames an entry, replacing one that has the new name unless `no_replace`. Where case does not count, a name that is
    /// replaced stays written as it is.
    pub fn rename(
        &self,
        (from_parent, from_given): (Ino, &[u8]),
        (to_parent, to_given): (Ino, &[u8]),
        no_replace: bool,
    ) -> Result<(), FsError> {
        let change = self.begin_change()?;
        let (from_name, to_name) = (checked(from_given)?, checked(to_given)?);
        let overlay = change.overlay;
        let no_sync = overlay.disk.hold_sync();
        let turn = self.turn(overlay);
        let (from, to) = {
            let namespace = turn.namespace();
            let from = self.as_written(&namespace, from_parent, from_name);
            let to = self.as_written(&namespace, to_parent, to_name.clone());
            // The name itself gets another spelling.
            let is_same = (from_parent, &from) == (to_parent, &to);
            (from, if is_same { to_name } else { to })
        };
        let (taken, rename) = {
            let namespace = turn.namespace();
            let (from_name, to_name) = (from.clone(), to.clone());
            let taken = namespace.lookup(to_parent, to_name.as_bytes()).is_some();
            let rename = Mutation::Rename {
                from_parent,
                from_name,
                to_parent,
                to_name,
                time: now(),
            };
            (taken, rename)
        };
        if no_replace && taken {
            return Err(FsErrorKind::Exists.into());
        }
        let coming = replacing(&turn.namespace(), &rename);
        for ino in coming {
            overlay.disk.bytes_first(&no_sync, ino);
        }
        turn.mutate(rename)?;
        drop(turn);
        self.told_otherwise(from_parent, from_given, &from);
        self.told_otherwise(to_parent, to_given, &to);
        Ok(())
    }

    /// Has what is at one name and what is at another one change places, at once. Where case does not count, both names stay
    /// written as they are.
    pub fn exchange(
        &self,
        (from_parent, from_given): (Ino, &[u8]),
        (to_parent, to_given): (Ino, &[u8]),
    ) -> Result<(), FsError> {
        let change = self.begin_change()?;
        let (from_name, to_name) = (checked(from_given)?, checked(to_given)?);
        let overlay = change.overlay;
        let no_sync = overlay.disk.hold_sync();
        let turn = self.turn(overlay);
        let (from, to) = {
            let namespace = turn.namespace();
            let from = self.as_written(&namespace, from_parent, from_name);
            (from, self.as_written(&namespace, to_parent, to_name))
        };
        let exchange = Mutation::Exchange {
            from_parent,
            from_name: from.clone(),
            to_parent,
            to_name: to.clone(),
            time: now(),
        };
        let coming = replacing(&turn.namespace(), &exchange);
        for ino in coming {
            overlay.disk.bytes_first(&no_sync, ino);
        }
        turn.mutate(exchange)?;
        drop(turn);
        self.told_otherwise(from_parent, from_given, &from);
        self.told_otherwise(to_parent, to_given, &to);
        Ok(())
    }
}
