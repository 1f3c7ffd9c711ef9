//! What is at each name now: the base with the mutations on top.
//!
//! This module keeps the state and answers questions; `check` says whether a mutation applies,
//! `apply` does it.

mod apply;
mod check;
mod layer;
mod state;
#[cfg(test)]
mod tests;

pub use check::Checked;

use std::collections::BTreeMap;
use std::sync::Arc;

use attachfs_manifest::{ManifestPath, Name};
use imbl::OrdMap;

pub use state::NamespacePart;

use crate::{
    Attributes, BaseKind, BaseTree, FileContent, Ino, Inode, InodeKind, Kind, LayeredBase, Listing,
};

/// Names and values.
type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Directories, names and inodes, as the base and all mutations so far make them.
///
/// Cloning takes the same time whatever the mutations made: the maps share what is in them, and a change after that
/// copies the few nodes that lead to what changed.
#[derive(Debug, Clone)]
pub struct Namespace {
    base: LayeredBase,
    /// Inodes that mutations made, and base inodes whose attributes they changed.
    inodes: OrdMap<Ino, Inode>,
    /// For each directory whose entries changed: the changed names; `None` hides a base name.
    entries: OrdMap<Ino, OrdMap<Name, Option<Ino>>>,
    /// The names of each inode whose names are not just its base name. A directory has one, or none
    /// once it is removed.
    names: OrdMap<Ino, Vec<(Ino, Name)>>,
    /// How many directories a directory has in it, where `entries` make that another number than the base's.
    subdirectories: OrdMap<Ino, u32>,
    /// The extended attributes of inodes that have some.
    xattrs: OrdMap<Ino, Arc<Xattrs>>,
    next: u64,
}

impl Namespace {
    /// The base, unchanged.
    pub fn new(base: Arc<BaseTree>) -> Self {
        Self {
            base: base.into(),
            inodes: OrdMap::new(),
            entries: OrdMap::new(),
            names: OrdMap::new(),
            subdirectories: OrdMap::new(),
            xattrs: OrdMap::new(),
            next: 0,
        }
    }

    /// The base under this namespace.
    pub fn base(&self) -> &LayeredBase {
        &self.base
    }

    /// A number that no inode ever had.
    pub fn next_ino(&self) -> Ino {
        Ino::from_overlay(self.next)
    }

    /// What is at a name.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Option<Ino> {
        match self
            .entries
            .get(&parent)
            .and_then(|entries| entries.get(name))
        {
            Some(entry) => *entry,
            None if self.is_removed(parent) => None,
            None => self.base.child(parent, name),
        }
    }

    /// What an inode is; `None` if there is no such inode. An inode without a name counts until it
    /// is [forgotten](Self::forget).
    pub fn kind(&self, ino: Ino) -> Option<Kind> {
        match self.inodes.get(&ino) {
            Some(inode) => Some(match inode.kind {
                InodeKind::Dir => Kind::Dir,
                InodeKind::File(_) => Kind::File,
                InodeKind::Symlink(_) => Kind::Symlink,
                InodeKind::Special(special) => Kind::Special(special),
            }),
            None if self.is_forgotten(ino) => None,
            None => self.base.plain_kind(ino),
        }
    }

    /// Whether an inode lost its last name. A directory that did is empty, whatever a later layer of the base has
    /// in it.
    fn is_removed(&self, ino: Ino) -> bool {
        self.names.get(&ino).is_some_and(Vec::is_empty)
    }

    /// Whether a base inode lost its last name and is not open: its record is dropped, and only the fact
    /// that it has no name is kept.
    fn is_forgotten(&self, ino: Ino) -> bool {
        self.is_removed(ino) && !self.inodes.contains_key(&ino)
    }

    /// The attributes that mutations set, the base's where they set none.
    pub fn attributes(&self, ino: Ino) -> Attributes {
        let mut attributes = self
            .inodes
            .get(&ino)
            .map(|inode| inode.attributes)
            .unwrap_or_default();
        if let Some(BaseKind::File {
            mtime, runnable, ..
        }) = self.base.kind(ino)
        {
            attributes.runnable = runnable;
            attributes.mtime = attributes.mtime.or(Some(mtime.into()));
        }
        attributes
    }

    /// Where a file's bytes are; `None` if it is no file.
    pub fn content(&self, ino: Ino) -> Option<&FileContent> {
        match self.inodes.get(&ino) {
            Some(Inode {
                kind: InodeKind::File(content),
                ..
            }) => Some(content),
            Some(_) => None,
            None => (self.kind(ino)? == Kind::File).then_some(&FileContent::Base),
        }
    }

    /// The text of a symbolic link.
    pub fn link_text(&self, ino: Ino) -> Option<Vec<u8>> {
        if let Some(Inode {
            kind: InodeKind::Symlink(Some(text)),
            ..
        }) = self.inodes.get(&ino)
        {
            return Some(text.to_vec());
        }
        match self.base.kind(ino)? {
            BaseKind::Symlink(target) => Some(target.relative_to(&self.base.path(ino)?)),
            _ => None,
        }
    }

    /// The value of an extended attribute.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Option<&[u8]> {
        self.xattrs.get(&ino)?.get(name).map(|value| &**value)
    }

    /// All extended attributes of an inode, by name.
    pub fn xattrs(&self, ino: Ino) -> impl Iterator<Item = (&[u8], &[u8])> {
        let all = self.xattrs.get(&ino).into_iter();
        all.flat_map(|all| all.iter().map(|(name, value)| (&**name, &**value)))
    }

    /// Every name of an inode, as directory and name there. None for the root and for what was
    /// unlinked.
    pub fn names(&self, ino: Ino) -> Vec<(Ino, Name)> {
        match self.names.get(&ino) {
            Some(names) => names.clone(),
            None => self.base_name(ino).into_iter().collect(),
        }
    }

    fn base_name(&self, ino: Ino) -> Option<(Ino, Name)> {
        let (parent, name) = self.base.place(ino)?;
        Some((parent, Name::new(name).ok()?))
    }

    /// How many names an inode has; 1 for a directory that is there, whatever lies in it.
    pub fn link_count(&self, ino: Ino) -> u32 {
        if ino == Ino::ROOT {
            return 1;
        }
        match self.names.get(&ino) {
            Some(names) => names.len() as u32,
            None => u32::from(self.base.place(ino).is_some()),
        }
    }

    /// How many directories a directory has in it; 0 for anything else.
    pub fn subdirectories(&self, dir: Ino) -> u32 {
        match self.subdirectories.get(&dir) {
            Some(count) => *count,
            None if self.is_removed(dir) => 0,
            None => self.base.subdirectories(dir),
        }
    }

    fn is_dir(&self, ino: Option<Ino>) -> bool {
        ino.and_then(|ino| self.kind(ino)) == Some(Kind::Dir)
    }

    /// The directory a directory is in; the root's is the root. `None` once it is removed.
    pub fn parent(&self, dir: Ino) -> Option<Ino> {
        if dir == Ino::ROOT {
            return Some(dir);
        }
        match self.names.get(&dir) {
            Some(names) => names.first().map(|&(parent, _)| parent),
            None => self.base.place(dir).map(|(parent, _)| parent),
        }
    }

    /// The path of an inode, by the first of its names that leads to it. `None` for the root and for what has
    /// no such name, and for a path that no manifest can hold.
    pub fn path(&self, ino: Ino) -> Option<ManifestPath> {
        self.paths(ino).next()
    }

    /// All paths of an inode, one for each of its names that leads to it.
    pub fn paths(&self, ino: Ino) -> impl Iterator<Item = ManifestPath> {
        let names = self.names(ino).into_iter();
        names.filter_map(|(parent, name)| self.path_in(parent, name))
    }

    /// Whether a path leads to an inode, the root's included. Not to one that was unlinked, and not to one of the base that a later
    /// layer hides, or that lies in a directory which was removed.
    pub fn is_reachable(&self, ino: Ino) -> bool {
        let leads =
            |(parent, name): &(Ino, Name), to| self.lookup(*parent, name.as_bytes()) == Some(to);
        let is_below_root = |mut dir| {
            while dir != Ino::ROOT {
                match self.names(dir).first() {
                    Some(name) if leads(name, dir) => dir = name.0,
                    _ => return false,
                }
            }
            true
        };
        let mut names = self.names(ino).into_iter();
        ino == Ino::ROOT || names.any(|name| leads(&name, ino) && is_below_root(name.0))
    }

    fn path_in(&self, dir: Ino, name: Name) -> Option<ManifestPath> {
        let mut parts = vec![name];
        let mut at = dir;
        while at != Ino::ROOT {
            let (parent, name) = self.names(at).into_iter().next()?;
            parts.push(name);
            at = parent;
        }
        let parts: Vec<&[u8]> = parts.iter().rev().map(Name::as_bytes).collect();
        ManifestPath::new(&parts.join(&b'/')).ok()
    }

    /// The record of an inode that mutations made or changed.
    pub fn inode(&self, ino: Ino) -> Option<&Inode> {
        self.inodes.get(&ino)
    }

    /// Every inode that mutations made or changed.
    pub fn touched(&self) -> impl Iterator<Item = (Ino, &Inode)> {
        self.inodes.iter().map(|(&ino, inode)| (ino, inode))
    }

    /// How many names and inodes differ from the base by mutations. That is at least the number of paths
    /// that differ, except that the content of a moved base directory is not counted.
    pub fn changed(&self) -> u64 {
        let names: usize = self.entries.values().map(OrdMap::len).sum();
        (names + self.inodes.len()) as u64
    }

    /// The changed names of every directory; `None` hides a base name.
    pub(crate) fn changed_entries(&self) -> &OrdMap<Ino, OrdMap<Name, Option<Ino>>> {
        &self.entries
    }

    /// Whether a directory lies where the base has it, and holds what it has held since the base was first shown, neither more nor less: no layer was
    /// added that changed that.
    pub fn is_as_ever(&self, dir: Ino) -> bool {
        !self.entries.contains_key(&dir)
            && !self.names.contains_key(&dir)
            && !self.base.is_listed_anew(dir)
    }

    /// What a directory holds now, as far as the base can be read.
    pub fn list(&self, dir: Ino) -> Listing {
        if self.is_removed(dir) {
            return Listing::merged(Vec::new());
        }
        let Some(changed) = self.entries.get(&dir) else {
            return self.base.list(dir);
        };
        let entry = |name: &Name, ino| Some((name.clone(), ino, self.kind(ino)?));
        let mut merged = Vec::new();
        let mut changed = changed.iter().peekable();
        for child in self.base.children(dir) {
            let Some(name) = self.base.name(child) else {
                continue;
            };
            while let Some((changed_name, ino)) = changed.next_if(|(new, _)| new.as_bytes() < name)
            {
                merged.extend(ino.and_then(|ino| entry(changed_name, ino)));
            }
            match changed.next_if(|(new, _)| new.as_bytes() == name) {
                Some((changed_name, ino)) => {
                    merged.extend(ino.and_then(|ino| entry(changed_name, ino)));
                }
                None => {
                    let name = Name::new(name).ok();
                    merged.extend(name.and_then(|name| entry(&name, child)));
                }
            }
        }
        for (name, ino) in changed {
            merged.extend(ino.and_then(|ino| entry(name, ino)));
        }
        Listing::merged(merged)
    }

    fn is_empty_dir(&self, dir: Ino) -> bool {
        let Some(changed) = self.entries.get(&dir) else {
            return !self.base.has_children(dir);
        };
        changed.values().all(Option::is_none)
            && self.base.children(dir).all(|child| {
                let name = self.base.name(child);
                name.is_some_and(|name| changed.contains_key(name))
            })
    }

    /// Whether `dir` is `ancestor` or lies below it.
    pub fn is_within(&self, dir: Ino, ancestor: Ino) -> bool {
        let mut at = dir;
        loop {
            if at == ancestor {
                return true;
            }
            match self.parent(at) {
                Some(parent) if parent != at => at = parent,
                _ => return false,
            }
        }
    }
}
