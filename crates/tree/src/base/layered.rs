//! The base of a namespace: the tree that the mount began with, and the layers that were added
//! since.
//!
//! ```text
//!     layer 0     the tree of the manifests that were mounted
//!     layer 1     what changed when a manifest was added or replaced: a diff, as a tree of what it puts
//!     layer 2     ...
//! ```
//!
//! A layer is a diff from the old base to the new one. Its maker composes the manifests as always
//! ([`compose`](crate::compose)), so adding, replacing and removing a manifest are the same operation here. No
//! number changes: an entry that stays the same keeps its inode number, a directory that stays a directory keeps its
//! number, and an entry that differs gets a number of the new layer. The trees of all layers are kept, because a
//! file may be open that no name leads to any more.
//!
//! The cost is that of what differs: a directory that only one layer knows is read from that layer's tree.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use attachfs_manifest::{
    Change, ChunkLayout, ChunkSize, Content, ContentHash, Diff, ManifestPath, Name, Snapshot,
};

use super::{BaseKind, BaseTree, BuildError, path_below};
use crate::{Ino, Kind, Listing};

/// A diff that can be laid over a base.
#[derive(Debug)]
pub struct DiffLayer {
    /// What it puts.
    tree: BaseTree,
    /// What it deletes and does not put again.
    deleted: Vec<ManifestPath>,
}

impl DiffLayer {
    /// The layer of a diff. The caller sees to it that the diff fits the base: it leads from the snapshot that the
    /// base shows to the one that it is to show.
    pub fn new(diff: &Diff) -> Result<Self, BuildError> {
        let mut put = Vec::new();
        let mut deleted = Vec::new();
        for (path, change) in diff.changes() {
            match change {
                Change::Put(node) => put.push((path.to_owned(), node)),
                Change::DeleteDir | Change::DeleteFile => deleted.push(path.to_owned()),
            }
        }
        let put = Snapshot::new(diff.chunk_size(), None, put)?;
        // A directory that something else replaces stays as it is for programs that have it open.
        let replaces = |path: &ManifestPath| put.get(path).is_some_and(|node| !node.is_dir());
        deleted
            .retain(|path| put.get(path).is_none() && !path.ancestors().any(|dir| replaces(&dir)));
        Ok(Self {
            tree: BaseTree::build(&put)?,
            deleted,
        })
    }
}

/// A name of the base that leads to another inode than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flip {
    /// The directory.
    pub parent: Ino,
    /// The name in it.
    pub name: Name,
    /// The inode before.
    pub was: Option<Ino>,
    /// The inode now.
    pub is: Option<Ino>,
}

/// Why a layer cannot be laid over a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddLayerError {
    /// There are no inode numbers left for its nodes.
    #[error("a manifest was added too often")]
    TooMany,
    /// A commit keeps the hashes of chunks that were not written to, so all layers have to cut
    /// files alike.
    #[error("the added manifest cuts large files into other chunks than the mounted ones")]
    ChunkSize,
}

/// All layers of a base. Cloning it copies nothing.
#[derive(Debug, Clone)]
pub struct LayeredBase(Arc<Layers>);

#[derive(Debug, Clone)]
struct Layers {
    /// By their numbers.
    trees: Vec<Arc<BaseTree>>,
    /// Of directories that several layers have: the names that do not lead where the directory's own tree
    /// says.
    entries: HashMap<Ino, BTreeMap<Name, Option<Ino>>>,
    /// How many directories these have in them.
    subdirectories: HashMap<Ino, u32>,
    /// Directories of a layer that were there already, under this number.
    shown_as: HashMap<Ino, Ino>,
}

impl From<Arc<BaseTree>> for LayeredBase {
    fn from(tree: Arc<BaseTree>) -> Self {
        Self(Arc::new(Layers {
            trees: vec![tree],
            entries: HashMap::new(),
            subdirectories: HashMap::new(),
            shown_as: HashMap::new(),
        }))
    }
}

impl LayeredBase {
    /// The tree that the mount began with.
    pub fn first(&self) -> &Arc<BaseTree> {
        &self.0.trees[0]
    }

    /// How many layers there are.
    pub fn layers(&self) -> u32 {
        self.0.trees.len() as u32
    }

    /// Adds a diff as the next layer over all others, and returns the names that changed.
    pub fn with(&self, layer: DiffLayer) -> Result<(Self, Vec<Flip>), AddLayerError> {
        let number = self.layers();
        if number >= Ino::MOST_LAYERS {
            return Err(AddLayerError::TooMany);
        }
        if layer.tree.chunk_size() != self.chunk_size() {
            return Err(AddLayerError::ChunkSize);
        }
        let tree = Arc::new(layer.tree.in_layer(number));
        let mut laid = Laying {
            layers: Layers::clone(&self.0),
            flips: Vec::new(),
        };
        laid.layers.trees.push(tree.clone());
        laid.delete(&layer.deleted);
        laid.put(&tree);
        Ok((Self(Arc::new(laid.layers)), laid.flips))
    }

    /// The tree that a number belongs to.
    pub fn tree(&self, ino: Ino) -> Option<&Arc<BaseTree>> {
        self.0.tree(ino)
    }

    /// Whether the number is one of the base's.
    pub fn contains(&self, ino: Ino) -> bool {
        self.tree(ino).is_some_and(|tree| tree.contains(ino))
    }

    /// How many nodes the layers have.
    pub fn len(&self) -> usize {
        self.0.trees.iter().map(|tree| tree.len()).sum()
    }

    /// Whether there is nothing but roots.
    pub fn is_empty(&self) -> bool {
        self.0.trees.iter().all(|tree| tree.is_empty())
    }

    /// How the manifests that were mounted cut large files. A diff over the base uses the same.
    pub fn chunk_size(&self) -> ChunkSize {
        self.first().chunk_size()
    }

    /// What a node is.
    pub fn kind(&self, ino: Ino) -> Option<BaseKind<'_>> {
        self.tree(ino)?.kind(ino)
    }

    /// What a node is, without the details.
    pub fn plain_kind(&self, ino: Ino) -> Option<Kind> {
        self.0.plain_kind(ino)
    }

    /// How a file's bytes lie in stored objects; `None` if it is no file of the base.
    pub fn layout(&self, ino: Ino) -> Option<ChunkLayout<'_>> {
        self.tree(ino)?.layout(ino)
    }

    /// The files of all layers that an object of this length is part of.
    pub fn files_with(&self, object: ContentHash, len: u64) -> impl Iterator<Item = Ino> {
        let trees = self.0.trees.iter();
        trees.flat_map(move |tree| tree.files_with(object, len))
    }

    /// A file's content, as its manifest says it.
    pub fn content(&self, ino: Ino) -> Option<Content> {
        self.tree(ino)?.content(ino)
    }

    /// The file that follows a node in its layer, in the order of a manifest. Whether a name leads to it is not asked.
    pub fn next_file(&self, ino: Ino) -> Option<Ino> {
        self.tree(ino)?.next_file(ino)
    }

    /// A node's name, whether or not it still leads to the node; empty for the root.
    pub fn name(&self, ino: Ino) -> Option<&[u8]> {
        self.0.name(ino)
    }

    /// The directory that a node is or was in; the root's is the root.
    pub fn parent(&self, ino: Ino) -> Option<Ino> {
        self.0.parent(ino)
    }

    /// The directory and the name that lead to a node. `None` for the root and for what another layer hides.
    pub fn place(&self, ino: Ino) -> Option<(Ino, &[u8])> {
        if ino == Ino::ROOT {
            return None;
        }
        let (parent, name) = (self.parent(ino)?, self.name(ino)?);
        let leads_there = self.layers() == 1 || self.child(parent, name) == Some(ino);
        leads_there.then_some((parent, name))
    }

    /// The child of a directory with this name.
    pub fn child(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        self.0.child(dir, name)
    }

    /// A directory's children, sorted by the bytes of their names; none for anything else.
    pub fn children(&self, dir: Ino) -> Box<dyn Iterator<Item = Ino> + '_> {
        let Some(tree) = self.tree(dir) else {
            return Box::new(std::iter::empty());
        };
        let Some(changed) = self.0.entries.get(&dir) else {
            return Box::new(tree.children(dir));
        };
        let own = tree.children(dir).filter_map(|child| {
            let name = tree.name(child)?;
            (!changed.contains_key(name)).then_some((name, child))
        });
        let changed = changed
            .iter()
            .filter_map(|(name, child)| Some((name.as_bytes(), (*child)?)));
        let mut children: Vec<_> = own.chain(changed).collect();
        children.sort_unstable();
        Box::new(children.into_iter().map(|(_, child)| child))
    }

    /// How many directories a directory has in it; 0 for anything else.
    pub(crate) fn subdirectories(&self, dir: Ino) -> u32 {
        self.0.subdirectories(dir)
    }

    /// Whether a directory has children.
    pub fn has_children(&self, dir: Ino) -> bool {
        self.children(dir).next().is_some()
    }

    /// Whether a layer over the first tree says what a directory holds.
    pub(crate) fn is_listed_anew(&self, dir: Ino) -> bool {
        self.0.entries.contains_key(&dir)
    }

    /// A listing of a directory that nothing but the base has entries in.
    pub(crate) fn list(&self, dir: Ino) -> Listing {
        match self.tree(dir) {
            Some(tree) if !self.is_listed_anew(dir) => Listing::of_tree(tree.clone(), dir),
            _ => Listing::merged(
                self.children(dir)
                    .filter_map(|child| {
                        let name = Name::new(self.name(child)?).ok()?;
                        Some((name, child, self.plain_kind(child)?))
                    })
                    .collect(),
            ),
        }
    }

    /// A node's path; `None` for the root.
    pub fn path(&self, ino: Ino) -> Option<ManifestPath> {
        path_below(Ino::ROOT, ino, |ino| {
            Some((self.name(ino)?, self.parent(ino)?))
        })
    }
}

impl Layers {
    fn tree(&self, ino: Ino) -> Option<&Arc<BaseTree>> {
        let (layer, _) = ino.in_base()?;
        self.trees.get(layer as usize)
    }

    fn plain_kind(&self, ino: Ino) -> Option<Kind> {
        self.tree(ino)?.plain_kind(ino)
    }

    fn name(&self, ino: Ino) -> Option<&[u8]> {
        self.tree(ino)?.name(ino)
    }

    fn is_dir(&self, ino: Option<Ino>) -> bool {
        ino.and_then(|ino| self.plain_kind(ino)) == Some(Kind::Dir)
    }

    fn subdirectories(&self, dir: Ino) -> u32 {
        let of_tree = || self.tree(dir).map_or(0, |tree| tree.subdirectories(dir));
        let counted = self.subdirectories.get(&dir);
        counted.copied().unwrap_or_else(of_tree)
    }

    fn parent(&self, ino: Ino) -> Option<Ino> {
        let parent = self.tree(ino)?.parent(ino)?;
        Some(self.shown_as.get(&parent).copied().unwrap_or(parent))
    }

    fn child(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        let changed = self.entries.get(&dir).and_then(|names| names.get(name));
        match changed {
            Some(child) => *child,
            None => self.tree(dir)?.child(dir, name),
        }
    }

    fn at(&self, path: &ManifestPath) -> Option<Ino> {
        path.components()
            .try_fold(Ino::ROOT, |dir, name| self.child(dir, name))
    }

    /// Whether two nodes that are no directories cannot be told apart.
    fn is_same(&self, one: Ino, other: Ino) -> bool {
        let of = |ino| self.tree(ino)?.kind(ino);
        match (of(one), of(other)) {
            (
                Some(BaseKind::File {
                    size,
                    mtime,
                    runnable,
                }),
                Some(BaseKind::File {
                    size: other_size,
                    mtime: other_mtime,
                    runnable: other_runnable,
                }),
            ) => {
                let content = |ino| self.tree(ino)?.content(ino);
                (size, mtime, runnable) == (other_size, other_mtime, other_runnable)
                    && content(one) == content(other)
            }
            (Some(BaseKind::Symlink(one)), Some(BaseKind::Symlink(other))) => one == other,
            _ => false,
        }
    }
}

/// A layer that is being added.
struct Laying {
    layers: Layers,
    flips: Vec<Flip>,
}

impl Laying {
    fn flip(&mut self, parent: Ino, name: &[u8], is: Option<Ino>) {
        let Ok(name) = Name::new(name) else {
            return;
        };
        let layers = &mut self.layers;
        let was = layers.child(parent, name.as_bytes());
        let count = layers.subdirectories(parent) + u32::from(layers.is_dir(is));
        let count = count.saturating_sub(layers.is_dir(was).into());
        layers.subdirectories.insert(parent, count);
        let names = self.layers.entries.entry(parent).or_default();
        names.insert(name.clone(), is);
        self.flips.push(Flip {
            parent,
            name,
            was,
            is,
        });
    }

    fn delete(&mut self, deleted: &[ManifestPath]) {
        let all: HashSet<&ManifestPath> = deleted.iter().collect();
        for path in deleted {
            // What lies in a deleted directory goes with it.
            if path.ancestors().any(|dir| all.contains(&dir)) {
                continue;
            }
            if let Some(ino) = self.layers.at(path)
                && let Some(parent) = self.layers.parent(ino)
            {
                self.flip(parent, path.name().as_bytes(), None);
            }
        }
    }

    fn put(&mut self, tree: &Arc<BaseTree>) {
        self.layers.shown_as.insert(tree.root(), Ino::ROOT);
        let mut open = vec![(tree.root(), Ino::ROOT)];
        while let Some((from, to)) = open.pop() {
            for child in tree.children(from) {
                let Some(name) = tree.name(child) else {
                    continue;
                };
                let there = self.layers.child(to, name);
                let was = there.and_then(|there| self.layers.plain_kind(there));
                match (there, was, tree.plain_kind(child)) {
                    (Some(there), Some(Kind::Dir), Some(Kind::Dir)) => {
                        self.layers.shown_as.insert(child, there);
                        open.push((child, there));
                    }
                    (Some(there), ..) if self.layers.is_same(there, child) => {}
                    _ => self.flip(to, name, Some(child)),
                }
            }
        }
    }
}
