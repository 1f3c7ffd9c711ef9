//! The base: what the manifests say, compact and immutable.
//!
//! ```text
//!     nodes    [root][children of root, by name]...[children of one directory, by name]...
//!     names    every distinct name once, one after the other
//!     hashes   16 bytes for each object of each file
//! ```
//!
//! The children of one directory lie side by side, sorted by the bytes of their names: a look-up is
//! a binary search, a listing a slice. Nodes of depth n lie before those of depth n + 1.

use std::collections::HashMap;
use std::ops::Range;

use attachfs_manifest::{
    ChunkLayout, ChunkSize, Content, ContentHash, LayoutError, LinkTarget, ManifestPath, Mtime,
    Node, PathRef, Snapshot,
};

use crate::{Ino, Kind};

/// An immutable tree. Shared by everything that reads it.
#[derive(Debug)]
pub struct BaseTree {
    chunk_size: ChunkSize,
    nodes: Vec<Record>,
    names: Vec<u8>,
    hashes: Vec<ContentHash>,
    targets: Vec<LinkTarget>,
}

/// One node, 40 bytes. `first` and `count` are the children of a directory, the hashes of a file,
/// or the target of a link.
#[derive(Debug)]
struct Record {
    size: u64,
    mtime: Mtime,
    parent: u32,
    name: u32,
    first: u32,
    count: u32,
    name_len: u8,
    kind: Kind,
    runnable: bool,
}

/// What a base node is.
#[derive(Debug, Clone, Copy)]
pub enum BaseKind<'a> {
    /// A directory.
    Dir,
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Modification time.
        mtime: Mtime,
        /// Whether it has execute bits.
        runnable: bool,
    },
    /// A symbolic link.
    Symlink(&'a LinkTarget),
}

/// Why a snapshot does not make a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A file without a hash cannot be read.
    #[error("\"{path}\": {source}")]
    Content {
        /// The file.
        path: ManifestPath,
        /// What is wrong with its chunks.
        #[source]
        source: LayoutError,
    },
    /// More than 2^32 nodes, or names or hashes beyond that.
    #[error("the manifest is too large for a tree: more than 2^32 {0}")]
    TooLarge(&'static str),
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

impl BaseTree {
    /// Builds the tree of a snapshot.
    pub fn build(snapshot: &Snapshot) -> Result<Self, BuildError> {
        let too_large = |what| move |_| BuildError::TooLarge(what);
        let mut entries: Vec<(usize, &[u8], PathRef<'_>, Node)> = snapshot
            .entries()
            .map(|(path, node)| (path.components().count(), path.as_bytes(), path, node))
            .collect();
        entries.sort_unstable_by_key(|entry| (entry.0, entry.1));
        let mut tree = Self {
            chunk_size: snapshot.chunk_size(),
            nodes: Vec::with_capacity(entries.len() + 1),
            names: Vec::new(),
            hashes: Vec::new(),
            targets: Vec::new(),
        };
        tree.nodes.push(Record {
            size: 0,
            mtime: Mtime(0),
            parent: 0,
            name: 0,
            first: 0,
            count: 0,
            name_len: 0,
            kind: Kind::Dir,
            runnable: false,
        });
        let mut interned: HashMap<&[u8], u32> = HashMap::new();
        let mut directories: HashMap<&[u8], u32> = HashMap::from([(b"".as_slice(), 0)]);
        for (_, path, manifest_path, node) in entries {
            let (parent, name) = split(path);
            let index = u32::try_from(tree.nodes.len()).map_err(too_large("entries"))?;
            let parent = directories[parent];
            let name_at = match interned.get(name) {
                Some(&at) => at,
                None => {
                    let at =
                        u32::try_from(tree.names.len()).map_err(too_large("bytes of names"))?;
                    tree.names.extend_from_slice(name);
                    interned.insert(name, at);
                    at
                }
            };
            let siblings = &mut tree.nodes[parent as usize];
            if siblings.count == 0 {
                siblings.first = index;
            }
            siblings.count += 1;
            let mut record = Record {
                size: 0,
                mtime: Mtime(0),
                parent,
                name: name_at,
                first: 0,
                count: 0,
                name_len: u8::try_from(name.len()).expect("a name has at most 255 bytes"),
                kind: Kind::Dir,
                runnable: false,
            };
            match node {
                Node::Dir => {
                    directories.insert(path, index);
                }
                Node::File(file) => {
                    let layout = ChunkLayout::new(file.size, tree.chunk_size, &file.content)
                        .map_err(|source| BuildError::Content {
                            path: manifest_path.to_owned(),
                            source,
                        })?;
                    record.kind = Kind::File;
                    record.size = file.size;
                    record.mtime = file.mtime;
                    record.runnable = file.runnable;
                    record.first = u32::try_from(tree.hashes.len()).map_err(too_large("hashes"))?;
                    tree.hashes.extend_from_slice(layout.hashes());
                    record.count =
                        u32::try_from(layout.hashes().len()).map_err(too_large("hashes"))?;
                }
                Node::Symlink(target) => {
                    record.kind = Kind::Symlink;
                    record.first = u32::try_from(tree.targets.len()).map_err(too_large("links"))?;
                    tree.targets.push(target);
                }
            }
            tree.nodes.push(record);
        }
        tree.nodes.shrink_to_fit();
        tree.names.shrink_to_fit();
        tree.hashes.shrink_to_fit();
        Ok(tree)
    }

    /// How many directories, files and links there are, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// How the manifest cuts large files.
    pub fn chunk_size(&self) -> ChunkSize {
        self.chunk_size
    }

    fn record(&self, ino: Ino) -> Option<&Record> {
        self.nodes.get(ino.base_index()? as usize)
    }

    /// Whether the number is one of this tree's.
    pub fn contains(&self, ino: Ino) -> bool {
        self.record(ino).is_some()
    }

    /// What a node is.
    pub fn kind(&self, ino: Ino) -> Option<BaseKind<'_>> {
        let record = self.record(ino)?;
        Some(match record.kind {
            Kind::Dir => BaseKind::Dir,
            Kind::File => BaseKind::File {
                size: record.size,
                mtime: record.mtime,
                runnable: record.runnable,
            },
            Kind::Symlink => BaseKind::Symlink(&self.targets[record.first as usize]),
        })
    }

    /// What a node is, without the details.
    pub fn plain_kind(&self, ino: Ino) -> Option<Kind> {
        self.record(ino).map(|record| record.kind)
    }

    /// How a file's bytes lie in stored objects; `None` if it is no file of this tree.
    pub fn layout(&self, ino: Ino) -> Option<ChunkLayout<'_>> {
        let record = self
            .record(ino)
            .filter(|record| record.kind == Kind::File)?;
        let hashes = &self.hashes[record.first as usize..][..record.count as usize];
        Some(
            ChunkLayout::from_hashes(record.size, self.chunk_size, hashes)
                .expect("the layout was checked when the tree was built"),
        )
    }

    /// A file's content, as a manifest says it.
    pub fn content(&self, ino: Ino) -> Option<Content> {
        let layout = self.layout(ino)?;
        Some(match layout.hashes() {
            [hash] => Content::Whole(*hash),
            hashes => Content::Chunks(hashes.into()),
        })
    }

    /// A node's name; empty for the root.
    pub fn name(&self, ino: Ino) -> Option<&[u8]> {
        self.record(ino).map(|record| self.name_of(record))
    }

    fn name_of(&self, record: &Record) -> &[u8] {
        &self.names[record.name as usize..][..usize::from(record.name_len)]
    }

    /// The directory a node is in; the root's is the root.
    pub fn parent(&self, ino: Ino) -> Option<Ino> {
        self.record(ino).map(|record| Ino::from_base(record.parent))
    }

    fn children_range(&self, dir: Ino) -> Range<u32> {
        match self.record(dir) {
            Some(record) if record.kind == Kind::Dir => record.first..record.first + record.count,
            _ => 0..0,
        }
    }

    /// A directory's children, sorted by the bytes of their names; none for anything else.
    pub fn children(
        &self,
        dir: Ino,
    ) -> impl ExactSizeIterator<Item = Ino> + DoubleEndedIterator + use<> {
        self.children_range(dir).map(Ino::from_base)
    }

    /// The child of a directory at a position of [`children`](Self::children).
    pub fn child_at(&self, dir: Ino, position: usize) -> Option<Ino> {
        let range = self.children_range(dir);
        let index = range.start.checked_add(u32::try_from(position).ok()?)?;
        range.contains(&index).then(|| Ino::from_base(index))
    }

    /// The child of a directory with this name.
    pub fn child(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        let range = self.children_range(dir);
        let children = &self.nodes[range.start as usize..range.end as usize];
        let at = children
            .binary_search_by(|record| self.name_of(record).cmp(name))
            .ok()?;
        Some(Ino::from_base(range.start + at as u32))
    }

    /// A node's path; `None` for the root.
    pub fn path(&self, ino: Ino) -> Option<ManifestPath> {
        let mut parts = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            parts.push(self.name(at)?);
            at = self.parent(at)?;
        }
        if parts.is_empty() {
            return None;
        }
        parts.reverse();
        Some(ManifestPath::new(&parts.join(&b'/')).expect("the tree was built from valid paths"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{CHUNK, any_snapshot, at, file, link, path, snapshot, tree};

    fn node(tree: &BaseTree, ino: Ino) -> Node {
        match tree.kind(ino).unwrap() {
            BaseKind::Dir => Node::Dir,
            BaseKind::Symlink(target) => Node::Symlink(target.clone()),
            BaseKind::File {
                size,
                mtime,
                runnable,
            } => Node::File(attachfs_manifest::File {
                size,
                mtime,
                runnable,
                content: tree.content(ino).unwrap(),
            }),
        }
    }

    proptest! {
        #[test]
        fn a_tree_holds_what_its_snapshot_holds(snapshot in any_snapshot()) {
            let tree = BaseTree::build(&snapshot).unwrap();
            prop_assert_eq!(tree.len(), snapshot.len() + 1);
            let mut found = Vec::new();
            let mut open = vec![Ino::ROOT];
            while let Some(dir) = open.pop() {
                let names: Vec<_> = tree.children(dir).map(|c| tree.name(c).unwrap()).collect();
                prop_assert!(names.is_sorted(), "by bytes");
                for (position, child) in tree.children(dir).enumerate() {
                    prop_assert_eq!(tree.child_at(dir, position), Some(child));
                    prop_assert_eq!(tree.child(dir, tree.name(child).unwrap()), Some(child));
                    prop_assert_eq!(tree.parent(child), Some(dir));
                    found.push((tree.path(child).unwrap(), node(&tree, child)));
                    if tree.plain_kind(child) == Some(Kind::Dir) {
                        open.push(child);
                    } else {
                        prop_assert_eq!(tree.children(child).len(), 0);
                    }
                }
                prop_assert_eq!(tree.child_at(dir, names.len()), None);
                prop_assert_eq!(tree.child(dir, b"never"), None);
            }
            prop_assert_eq!(&Snapshot::new(CHUNK, None, found).unwrap(), &snapshot);
        }
    }

    #[test]
    fn the_root_has_no_name_and_is_its_own_parent() {
        let tree = tree(&snapshot([]));
        assert!(tree.is_empty());
        assert_eq!(tree.name(Ino::ROOT), Some(b"".as_slice()));
        assert_eq!(tree.parent(Ino::ROOT), Some(Ino::ROOT));
        assert_eq!(tree.path(Ino::ROOT), None);
    }

    #[test]
    fn numbers_of_no_node_are_nothing() {
        let tree = tree(&snapshot([("f", file(1)), ("l", link("f"))]));
        for ino in [0, 4, u64::from(u32::MAX) + 2, 1 << 62, u64::MAX].map(Ino::from_raw) {
            assert!(!tree.contains(ino));
            assert!(tree.kind(ino).is_none() && tree.layout(ino).is_none());
            assert_eq!((tree.name(ino), tree.parent(ino)), (None, None));
            assert_eq!(tree.path(ino), None);
            assert_eq!((tree.child(ino, b"f"), tree.child_at(ino, 0)), (None, None));
        }
        assert!(tree.layout(at(&tree, "l")).is_none(), "a link has no bytes");
    }

    #[test]
    fn a_file_without_a_hash_makes_no_tree() {
        let unhashed = Node::File(attachfs_manifest::File {
            size: 3,
            mtime: Mtime(0),
            runnable: false,
            content: Content::Unhashed,
        });
        let error = BaseTree::build(&snapshot([("d/f", unhashed)])).unwrap_err();
        assert_eq!(
            error,
            BuildError::Content {
                path: path("d/f"),
                source: LayoutError::Unhashed
            }
        );
    }

    #[test]
    fn a_file_longer_than_a_chunk_may_be_one_object() {
        let whole = Content::Whole(ContentHash::of(b"x"));
        let Node::File(long) = file(25) else { panic!() };
        let node = Node::File(attachfs_manifest::File {
            content: whole.clone(),
            ..long
        });
        let tree = tree(&snapshot([("f", node)]));
        assert_eq!(tree.content(at(&tree, "f")), Some(whole));
        assert_eq!(
            tree.layout(at(&tree, "f")).unwrap().pieces(0..99).count(),
            1
        );
    }

    #[test]
    fn a_flat_directory_of_100_000_files_is_searched_not_walked() {
        let name = |number: u32| format!("d/file-{number}");
        let files = (0..100_000).map(|number| (path(&name(number)), file(1)));
        let tree = tree(&Snapshot::new(CHUNK, None, files).unwrap());
        let dir = at(&tree, "d");
        assert_eq!(tree.children(dir).len(), 100_000);
        for number in (0..100_000).step_by(97) {
            let ino = at(&tree, &name(number));
            assert_eq!(tree.path(ino), Some(path(&name(number))));
        }
        assert_eq!(tree.child(dir, b"file-100000"), None);
    }

    #[test]
    fn equal_names_are_kept_once() {
        let files = (0..100).map(|number| (path(&format!("{number}/a-long-name")), file(1)));
        let tree = tree(&Snapshot::new(CHUNK, None, files).unwrap());
        assert_eq!(tree.names.len(), "a-long-name".len() + 10 + 90 * 2);
        assert_eq!(size_of::<Record>(), 40, "as its documentation says");
    }

    #[test]
    fn the_deepest_path_has_its_inode_and_back() {
        let deep = vec!["d"; 2048].join("/");
        let tree = tree(&snapshot([(&deep, file(1))]));
        assert_eq!(tree.path(at(&tree, &deep)), Some(path(&deep)));
    }
}
