//! [`Listing`]: what is in a directory, as it is known at one moment. Who reads a directory keeps one to the end.

use std::sync::Arc;

use attachfs_manifest::LinkTarget;
use attachfs_tree::Timestamp;

use crate::place::{Content, Place, joined};
use crate::tree::{FileItem, Item, Tree};

/// A folder that is no directory of a root.
#[derive(Debug, Clone)]
pub(crate) struct FolderEntry {
    pub(crate) name: Box<[u8]>,
    pub(crate) place: Place,
    pub(crate) time: Timestamp,
}

/// What is in a directory, in the order of names.
#[derive(Debug, Clone)]
pub(crate) enum Listing {
    /// Folders.
    Folders(Arc<[FolderEntry]>),
    /// A directory of a root.
    Tree(Arc<TreeDir>),
}

/// A directory of a root.
#[derive(Debug)]
pub(crate) struct TreeDir {
    pub(crate) tree: Arc<Tree>,
    pub(crate) dir: u32,
    pub(crate) content: Content,
    /// Its path in the root.
    pub(crate) path: Box<[u8]>,
}

/// What is at a name.
#[derive(Debug, Clone)]
pub(crate) enum Child {
    Dir(Place, Timestamp),
    File(Arc<FileItem>),
    Link(LinkTarget, Timestamp),
}

impl Listing {
    pub(crate) fn folders(mut entries: Vec<FolderEntry>) -> Self {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Self::Folders(entries.into())
    }

    /// The name and what is there, by its place in the order of names.
    pub(crate) fn at(&self, position: usize) -> Option<(&[u8], Child)> {
        match self {
            Self::Folders(folders) => {
                let FolderEntry { name, place, time } = folders.get(position)?;
                Some((name, Child::Dir(place.clone(), *time)))
            }
            Self::Tree(of) => {
                let TreeDir {
                    tree,
                    dir,
                    content,
                    path,
                } = &**of;
                let (name, item) = tree.entries(*dir).get(position)?;
                let child = match item {
                    Item::Dir(below) => {
                        let place = Place::In(*content, joined(path, name));
                        Child::Dir(place, tree.newest(*below))
                    }
                    Item::File(file) => Child::File(Arc::clone(file)),
                    Item::Link(target, time) => Child::Link(target.clone(), *time),
                };
                Some((name, child))
            }
        }
    }

    /// What is at a name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<Child> {
        let position = match self {
            Self::Folders(folders) => folders.binary_search_by(|entry| (*entry.name).cmp(name)),
            Self::Tree(of) => {
                let entries = of.tree.entries(of.dir);
                entries.binary_search_by(|(other, _)| (**other).cmp(name))
            }
        };
        self.at(position.ok()?).map(|(_, child)| child)
    }
}
