//! What the mutations changed, path by path, in proportion to the changes and not to the base.

use std::collections::{BTreeSet, HashMap, HashSet};

use attachfs_manifest::{ManifestPath, Name};

use crate::{Ino, Kind, Namespace};

/// A path that is not what the base says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedPath {
    /// The path.
    pub path: ManifestPath,
    /// What changed.
    pub change: PathChange,
}

/// What changed at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathChange {
    /// This inode is at the path now, or it was there before and changed. `base` is the base node
    /// of the same path, if there is one: a file whose bytes turn out to be the same is no change.
    Put {
        /// What is there now.
        ino: Ino,
        /// What was there.
        base: Option<Ino>,
    },
    /// Nothing is at the path any more. Everything below a deleted directory has its own entry,
    /// after this one.
    Delete {
        /// What was there.
        was: Kind,
    },
}

/// All that the mutations changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Every path that differs from the base, in the order of a walk. Directories that are there before and after are no
    /// change.
    pub paths: Vec<ChangedPath>,
    /// Paths that are too long for any manifest: of each directory the first. What lies in the same directory behind them and
    /// is too long as well, and what lies below them, is not listed.
    pub too_long: Vec<Vec<u8>>,
}

impl Namespace {
    /// What differs from the base.
    pub fn changes(&self) -> Changes {
        let mut walk = Walk {
            namespace: self,
            dirty: HashSet::new(),
            dirty_children: HashMap::new(),
            open: Vec::new(),
            found: Changes::default(),
        };
        walk.mark_dirty();
        walk.enter(None, Some(Ino::ROOT), Some(Ino::ROOT));
        while let Some(step) = walk.open.pop() {
            walk.compare(step);
        }
        walk.found
    }
}

/// Goes through the tree without recursion: it may be as deep as a path is long.
struct Walk<'a> {
    namespace: &'a Namespace,
    /// Directories with a change in them or somewhere below, and files with a record.
    dirty: HashSet<Ino>,
    /// Those of them that the base has, by the base directory they lie in.
    dirty_children: HashMap<Ino, Vec<Ino>>,
    /// What is still to be compared, the next one last.
    open: Vec<Step>,
    found: Changes,
}

/// A path that is still to be compared.
struct Step {
    path: ManifestPath,
    was: Option<Ino>,
    is: Option<Ino>,
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

    /// Goes on below a path: `base` is the base directory there, `now` the present one.
    fn enter(&mut self, path: Option<&ManifestPath>, base: Option<Ino>, now: Option<Ino>) {
        let tree = self.namespace.base();
        let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
        match (base, now) {
            // In its place: only changed names and changed children matter.
            (Some(base), Some(now)) if base == now => {
                if let Some(changed) = self.namespace.changed_entries().get(&now) {
                    names.extend(changed.keys().map(|name| name.as_bytes().to_vec()));
                }
                let dirty = self.dirty_children.get(&now).into_iter().flatten();
                names.extend(dirty.filter_map(|child| Some(tree.name(*child)?.to_vec())));
            }
            (base, now) => {
                let children = base.into_iter().flat_map(|base| tree.children(base));
                names.extend(children.filter_map(|child| Some(tree.name(child)?.to_vec())));
                if let Some(now) = now {
                    let listing = self.namespace.list(now);
                    names.extend(listing.iter().map(|entry| entry.name.to_vec()));
                }
            }
        }
        let mut unlisted = None;
        for name in names.into_iter().rev() {
            let child = Name::new(&name).and_then(|name| match path {
                None => Ok(ManifestPath::from_name(&name)),
                Some(dir) => dir.join(&name),
            });
            match child {
                Ok(path) => self.open.push(Step {
                    path,
                    was: base.and_then(|base| tree.child(base, &name)),
                    is: now.and_then(|now| self.namespace.lookup(now, &name)),
                }),
                // A name that the file system has is a name; only the path can be too long.
                Err(_) => unlisted = Some(name),
            }
        }
        if let Some(name) = unlisted {
            let above = path.map(ManifestPath::as_bytes);
            let parts: Vec<&[u8]> = above.into_iter().chain([&name[..]]).collect();
            self.found.too_long.push(parts.join(&b'/'));
        }
    }

    fn compare(&mut self, Step { path, was, is }: Step) {
        let was_kind = was.and_then(|ino| self.namespace.base().plain_kind(ino));
        let is_kind = is.and_then(|ino| self.namespace.kind(ino));
        let base = was.filter(|_| was_kind == Some(Kind::Dir));
        let now = is.filter(|_| is_kind == Some(Kind::Dir));
        if base.is_none() || now.is_none() {
            let change = match (is, was_kind) {
                (Some(ino), _) if was != is || self.dirty.contains(&ino) => {
                    Some(PathChange::Put { ino, base: was })
                }
                (None, Some(was)) => Some(PathChange::Delete { was }),
                _ => None,
            };
            let path = path.clone();
            let changed = change.map(|change| ChangedPath { path, change });
            self.found.paths.extend(changed);
        }
        self.enter(Some(&path), base, now);
    }
}
