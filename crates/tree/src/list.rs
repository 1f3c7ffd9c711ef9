//! Listings of directories, pinned at the moment they were asked for.

use std::sync::Arc;

use attachfs_manifest::Name;

use crate::{BaseTree, Ino, Kind};

/// An entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its inode.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
}

/// What a directory held when it was listed, sorted by the bytes of the names. Stays as it is while
/// the directory changes, so that an offset always means the same entry.
#[derive(Debug, Clone)]
pub struct Listing(Inner);

#[derive(Debug, Clone)]
enum Inner {
    /// An unchanged directory of the base: nothing is copied.
    Base {
        tree: Arc<BaseTree>,
        dir: Ino,
    },
    Merged(Vec<(Name, Ino, Kind)>),
}

impl Listing {
    pub(crate) fn of_tree(tree: Arc<BaseTree>, dir: Ino) -> Self {
        Self(Inner::Base { tree, dir })
    }

    pub(crate) fn merged(entries: Vec<(Name, Ino, Kind)>) -> Self {
        Self(Inner::Merged(entries))
    }

    /// How many entries there are, `.` and `..` not counted.
    pub fn len(&self) -> usize {
        match &self.0 {
            Inner::Base { tree, dir } => tree.children(*dir).len(),
            Inner::Merged(entries) => entries.len(),
        }
    }

    /// Whether the directory was empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at a position.
    pub fn get(&self, position: usize) -> Option<DirEntry<'_>> {
        match &self.0 {
            Inner::Base { tree, dir } => {
                let ino = tree.child_at(*dir, position)?;
                Some(DirEntry {
                    name: tree.name(ino)?,
                    ino,
                    kind: tree.plain_kind(ino)?,
                })
            }
            Inner::Merged(entries) => {
                let (name, ino, kind) = entries.get(position)?;
                Some(DirEntry {
                    name: name.as_bytes(),
                    ino: *ino,
                    kind: *kind,
                })
            }
        }
    }

    /// All entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = DirEntry<'_>> {
        (0..self.len()).map_while(|position| self.get(position))
    }
}
