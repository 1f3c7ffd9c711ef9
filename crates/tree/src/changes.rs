//! What the mutations changed, path by path, in proportion to the changes and not to the base.

use std::collections::{BTreeSet, HashMap, HashSet};

use attachfs_manifest::{ManifestPath, Name, PathError};

use crate::{Ino, Kind, Namespace};

/// A path that is not what the base says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedPath {
    /// Where.
    pub path: ManifestPath,
    /// What changed there.
    pub change: PathChange,
}

/// What changed at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathChange {
    /// The path now is this inode, or the inode that stands there changed. `base` is the base node
    /// of the same path, if there is one: a file whose bytes turn out to be the same is no change.
    Put {
        /// What is there now.
        ino: Ino,
        /// What was there.
        base: Option<Ino>,
    },
    /// Nothing is at the path any more. Everything below a deleted directory has its own entry.
    Delete {
        /// What was there.
        was: Kind,
    },
}

impl Namespace {
    /// Every path that differs from the base, in the order of a walk. Directories that are there
    /// before and after are no change. Fails for a path that no manifest can hold.
    pub fn changes(&self) -> Result<Vec<ChangedPath>, (Vec<u8>, PathError)> {
        let mut walk = Walk {
            namespace: self,
            dirty: HashSet::new(),
            dirty_children: HashMap::new(),
            found: Vec::new(),
        };
        walk.mark_dirty();
        walk.compare_dirs(None, Some(Ino::ROOT), Ino::ROOT)?;
        Ok(walk.found)
    }
}

type Failure = (Vec<u8>, PathError);

struct Walk<'a> {
    namespace: &'a Namespace,
    /// Directories with a change in them or somewhere below, and files with a record.
    dirty: HashSet<Ino>,
    /// Those of them that the base has, by the base directory they lie in.
    dirty_children: HashMap<Ino, Vec<Ino>>,
    found: Vec<ChangedPath>,
}

impl Walk<'_> {
    fn mark_dirty(&mut self) {
        let mut open: Vec<Ino> = self
            .namespace
            .touched()
            .map(|(ino, _)| ino)
            .chain(self.namespace.changed_entries().keys().copied())
            .collect();
        while let Some(ino) = open.pop() {
            if self.dirty.insert(ino) {
                let names = self.namespace.names(ino);
                open.extend(names.into_iter().map(|(parent, _)| parent));
                let base = self.namespace.base();
                if let Some(parent) = base.parent(ino).filter(|_| ino != Ino::ROOT) {
                    self.dirty_children.entry(parent).or_default().push(ino);
                }
            }
        }
    }

    fn child_path(dir: Option<&ManifestPath>, name: &[u8]) -> Result<ManifestPath, Failure> {
        let name = Name::new(name).map_err(|error| (name.to_vec(), error))?;
        match dir {
            None => Ok(ManifestPath::from_name(&name)),
            Some(dir) => dir
                .join(&name)
                .map_err(|error| ([dir.as_bytes(), b"/", name.as_bytes()].concat(), error)),
        }
    }

    /// Compares what a directory holds now with what the base directory of the same path held.
    fn compare_dirs(
        &mut self,
        path: Option<&ManifestPath>,
        base: Option<Ino>,
        now: Ino,
    ) -> Result<(), Failure> {
        let tree = self.namespace.base().clone();
        let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
        if base == Some(now) {
            // In its place: only changed names and changed children matter.
            if !self.dirty.contains(&now) {
                return Ok(());
            }
            if let Some(changed) = self.namespace.changed_entries().get(&now) {
                names.extend(changed.keys().map(|name| name.as_bytes().to_vec()));
            }
            for child in self.dirty_children.get(&now).into_iter().flatten() {
                names.extend(tree.name(*child).map(<[u8]>::to_vec));
            }
        } else {
            if let Some(base) = base {
                names.extend(
                    tree.children(base)
                        .filter_map(|child| tree.name(child))
                        .map(<[u8]>::to_vec),
                );
            }
            names.extend(
                self.namespace
                    .list(now)
                    .iter()
                    .map(|entry| entry.name.to_vec()),
            );
        }
        for name in names {
            let path = Self::child_path(path, &name)?;
            let was = base.and_then(|base| tree.child(base, &name));
            let is = self.namespace.lookup(now, &name);
            self.compare(path, was, is)?;
        }
        Ok(())
    }

    fn compare(
        &mut self,
        path: ManifestPath,
        was: Option<Ino>,
        is: Option<Ino>,
    ) -> Result<(), Failure> {
        let was_kind = was.and_then(|ino| self.namespace.base().plain_kind(ino));
        let is_kind = is.and_then(|ino| self.namespace.kind(ino));
        match (was.zip(was_kind), is.zip(is_kind)) {
            (None, None) => Ok(()),
            (Some((was, Kind::Dir)), Some((is, Kind::Dir))) => {
                self.compare_dirs(Some(&path), Some(was), is)
            }
            (Some((was, kind)), None) => {
                self.delete_below(&path, was)?;
                self.found.push(ChangedPath {
                    path,
                    change: PathChange::Delete { was: kind },
                });
                Ok(())
            }
            (was, Some((is, kind))) => {
                let base = was.map(|(ino, _)| ino);
                if let Some((was, Kind::Dir)) = was {
                    self.delete_below(&path, was)?;
                }
                if base != Some(is) || self.dirty.contains(&is) {
                    let change = PathChange::Put { ino: is, base };
                    self.found.push(ChangedPath {
                        path: path.clone(),
                        change,
                    });
                }
                if kind == Kind::Dir {
                    self.compare_dirs(Some(&path), None, is)?;
                }
                Ok(())
            }
        }
    }

    fn delete_below(&mut self, path: &ManifestPath, was: Ino) -> Result<(), Failure> {
        let tree = self.namespace.base().clone();
        for child in tree.children(was) {
            let name = tree.name(child).expect("a child of the tree");
            let kind = tree.plain_kind(child).expect("a child of the tree");
            let path = Self::child_path(Some(path), name)?;
            self.delete_below(&path, child)?;
            self.found.push(ChangedPath {
                path,
                change: PathChange::Delete { was: kind },
            });
        }
        Ok(())
    }
}
