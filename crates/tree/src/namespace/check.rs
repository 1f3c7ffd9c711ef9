//! Whether a mutation applies: every rule of names, kinds and numbers, and nothing else.

use attachfs_manifest::Name;

use super::Namespace;
use crate::{FileContent, Ino, Kind, Mutation, MutationError};

/// A mutation that applies to the namespace that checked it, as long as that does not change.
#[derive(Debug)]
pub struct Checked(Mutation);

impl Checked {
    /// The mutation.
    pub fn mutation(&self) -> &Mutation {
        &self.0
    }

    pub(super) fn into_mutation(self) -> Mutation {
        self.0
    }
}

impl Namespace {
    /// Checks that a mutation applies, without applying it.
    pub fn check(&self, mutation: Mutation) -> Result<Checked, MutationError> {
        self.check_rules(&mutation)?;
        Ok(Checked(mutation))
    }

    fn check_rules(&self, mutation: &Mutation) -> Result<(), MutationError> {
        match mutation {
            Mutation::CreateFile {
                parent, name, ino, ..
            }
            | Mutation::CreateDir {
                parent, name, ino, ..
            }
            | Mutation::CreateSymlink {
                parent, name, ino, ..
            }
            | Mutation::CreateSpecial {
                parent, name, ino, ..
            } => {
                self.check_free(*parent, name)?;
                self.check_new(*ino)
            }
            Mutation::Link {
                ino, parent, name, ..
            } => {
                self.check_free(*parent, name)?;
                match self.kind(*ino).ok_or(MutationError::NoInode(*ino))? {
                    Kind::Dir => Err(MutationError::IsDir(*ino)),
                    Kind::File | Kind::Symlink | Kind::Special(_) => self.check_named(*ino),
                }
            }
            Mutation::Unlink { parent, name, .. } => {
                let (ino, kind) = self.entry(*parent, name)?;
                if kind == Kind::Dir {
                    Err(MutationError::IsDir(ino))
                } else {
                    Ok(())
                }
            }
            Mutation::RemoveDir { parent, name, .. } => {
                let (ino, kind) = self.entry(*parent, name)?;
                self.check_empty_dir(ino, kind)
            }
            Mutation::Rename {
                from_parent,
                from_name,
                to_parent,
                to_name,
                ..
            } => {
                let (ino, kind) = self.entry(*from_parent, from_name)?;
                self.check_dir(*to_parent)?;
                if kind == Kind::Dir && self.is_within(*to_parent, ino) {
                    return Err(MutationError::BelowItself(ino));
                }
                match self.lookup(*to_parent, to_name.as_bytes()) {
                    None => Ok(()),
                    Some(target) if target == ino => Ok(()),
                    Some(target) => {
                        let target_kind =
                            self.kind(target).ok_or(MutationError::NoInode(target))?;
                        match (kind, target_kind) {
                            (Kind::Dir, _) => self.check_empty_dir(target, target_kind),
                            (_, Kind::Dir) => Err(MutationError::IsDir(target)),
                            _ => Ok(()),
                        }
                    }
                }
            }
            Mutation::Exchange {
                from_parent,
                from_name,
                to_parent,
                to_name,
                ..
            } => {
                let (one, kind) = self.entry(*from_parent, from_name)?;
                let (other, other_kind) = self.entry(*to_parent, to_name)?;
                for (ino, kind, parent) in
                    [(one, kind, to_parent), (other, other_kind, from_parent)]
                {
                    if kind == Kind::Dir && self.is_within(*parent, ino) {
                        return Err(MutationError::BelowItself(ino));
                    }
                }
                Ok(())
            }
            Mutation::SetAttributes { ino, .. } | Mutation::SetXattr { ino, .. } => self
                .kind(*ino)
                .map(|_| ())
                .ok_or(MutationError::NoInode(*ino)),
            Mutation::RemoveXattr { ino, name, .. } => match self.xattr(*ino, name) {
                Some(_) => Ok(()),
                None if self.kind(*ino).is_none() => Err(MutationError::NoInode(*ino)),
                None => Err(MutationError::NoXattr(*ino)),
            },
            Mutation::CopyUp { ino, .. } => match self.content(*ino) {
                Some(FileContent::Base) => Ok(()),
                _ => Err(MutationError::WrongContent(*ino)),
            },
            Mutation::Write { ino, .. } | Mutation::Resize { ino, .. } => {
                match self.content(*ino) {
                    Some(FileContent::Mapped(_)) => Ok(()),
                    _ => Err(MutationError::WrongContent(*ino)),
                }
            }
        }
    }

    fn check_dir(&self, dir: Ino) -> Result<(), MutationError> {
        match self.kind(dir).ok_or(MutationError::NoInode(dir))? {
            Kind::Dir if self.leads_to(dir) => Ok(()),
            Kind::Dir => Err(MutationError::NoInode(dir)),
            _ => Err(MutationError::NotDir(dir)),
        }
    }

    /// Whether names lead to a directory. A removed directory has no name, and is empty; one that a layer
    /// of the base hides may still have entries.
    fn leads_to(&self, dir: Ino) -> bool {
        if self.base.layers() == 1 {
            return self.parent(dir).is_some();
        }
        let above = |dir: &Ino| self.parent(*dir).filter(|_| *dir != Ino::ROOT);
        std::iter::successors(Some(dir), above).last() == Some(Ino::ROOT)
    }

    /// An inode that lost its last name does not get a new one.
    fn check_named(&self, ino: Ino) -> Result<(), MutationError> {
        if self.link_count(ino) == 0 {
            return Err(MutationError::NoInode(ino));
        }
        Ok(())
    }

    fn check_free(&self, parent: Ino, name: &Name) -> Result<(), MutationError> {
        self.check_dir(parent)?;
        match self.lookup(parent, name.as_bytes()) {
            None => Ok(()),
            Some(_) => Err(MutationError::Exists {
                parent,
                name: name.clone(),
            }),
        }
    }

    fn check_new(&self, ino: Ino) -> Result<(), MutationError> {
        match ino.overlay_counter() {
            Some(counter) if counter >= self.next => Ok(()),
            _ => Err(MutationError::InodeTaken(ino)),
        }
    }

    fn check_empty_dir(&self, ino: Ino, kind: Kind) -> Result<(), MutationError> {
        if kind != Kind::Dir {
            return Err(MutationError::NotDir(ino));
        }
        if self.is_empty_dir(ino) {
            Ok(())
        } else {
            Err(MutationError::NotEmpty(ino))
        }
    }

    fn entry(&self, parent: Ino, name: &Name) -> Result<(Ino, Kind), MutationError> {
        self.check_dir(parent)?;
        let ino = self
            .lookup(parent, name.as_bytes())
            .ok_or_else(|| MutationError::NoName {
                parent,
                name: name.clone(),
            })?;
        Ok((ino, self.kind(ino).ok_or(MutationError::NoInode(ino))?))
    }
}
