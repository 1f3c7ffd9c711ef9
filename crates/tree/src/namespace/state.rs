//! A namespace as data: what mutations made of the base, in parts of bounded size.
//!
//! A journal is compacted into these instead of the mutations. Restored over the same base they give the
//! same namespace, inodes without a name included, because those may be open.

use std::sync::Arc;

use attachfs_manifest::Name;
use serde::{Deserialize, Serialize};

use super::Namespace;
use super::apply::Leads;
use crate::{Ino, Inode};

/// The name and the value of an extended attribute.
type NamedValue = (Box<[u8]>, Box<[u8]>);

/// The most inodes, names or entries in a part.
const MOST: usize = 256;

/// A part of a namespace's state, in the order in which they come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespacePart {
    /// Inodes that mutations made or changed.
    Inodes(Vec<(Ino, Inode)>),
    /// Changed names of a directory; `None` hides a name of the base. There may be more of them in other parts.
    Entries {
        /// The directory.
        dir: Ino,
        /// Its changed names, none of a new directory that is empty.
        entries: Vec<(Name, Option<Ino>)>,
    },
    /// All names of inodes whose names are not just those of the base.
    Names(Vec<(Ino, Vec<(Ino, Name)>)>),
    /// How many inodes were made.
    Made(u64),
    /// All extended attributes of an inode, names and values.
    Xattrs(Ino, Vec<NamedValue>),
}

/// Cuts what an iterator gives into parts.
fn parts<T>(
    mut items: impl Iterator<Item = T>,
    part: impl Fn(Vec<T>) -> NamespacePart,
) -> impl Iterator<Item = NamespacePart> {
    std::iter::from_fn(move || {
        let some: Vec<T> = items.by_ref().take(MOST).collect();
        (!some.is_empty()).then(|| part(some))
    })
}

impl Namespace {
    /// What mutations made of the base.
    pub fn state(&self) -> impl Iterator<Item = NamespacePart> {
        let inodes = self.inodes.iter();
        let inodes = inodes.map(|(&ino, inode)| (ino, inode.clone()));
        let entries = self.entries.iter().flat_map(|(&dir, entries)| {
            let empty = entries.is_empty().then(|| NamespacePart::Entries {
                dir,
                entries: Vec::new(),
            });
            let changed = entries.iter().map(|(name, ino)| (name.clone(), *ino));
            let changed = parts(changed, move |entries| NamespacePart::Entries {
                dir,
                entries,
            });
            empty.into_iter().chain(changed)
        });
        let xattrs = self.xattrs.iter().map(|(&ino, all)| {
            let all = all.iter();
            let all = all.map(|(name, value)| (name.clone(), value.clone()));
            NamespacePart::Xattrs(ino, all.collect())
        });
        let names = self.names.iter();
        let names = names.map(|(&ino, names)| (ino, names.clone()));
        parts(inodes, NamespacePart::Inodes)
            .chain(entries)
            .chain(parts(names, NamespacePart::Names))
            .chain(std::iter::once(NamespacePart::Made(self.next)))
            .chain(xattrs)
    }

    /// Takes a part of a state that had the same base, with the same layers. The caller restores all parts, in their
    /// order, before it does anything else.
    pub fn restore(&mut self, part: NamespacePart) {
        match part {
            NamespacePart::Inodes(inodes) => self.inodes.extend(inodes),
            NamespacePart::Entries { dir, entries } => {
                self.entries.entry(dir).or_default();
                for (name, to) in entries {
                    self.set_entry(dir, name, to.map_or(Leads::Nowhere, Leads::To));
                }
            }
            NamespacePart::Names(names) => self.names.extend(names),
            NamespacePart::Xattrs(ino, all) => {
                self.xattrs.insert(ino, Arc::new(all.into_iter().collect()));
            }
            NamespacePart::Made(next) => self.next = self.next.max(next),
        }
    }

    /// The inodes that have no name any more and are not [forgotten](Self::forget).
    pub fn nameless(&self) -> impl Iterator<Item = Ino> {
        let nameless = self.names.iter().filter(|(_, names)| names.is_empty());
        nameless
            .map(|(&ino, _)| ino)
            .filter(|ino| self.inodes.contains_key(ino))
    }
}
