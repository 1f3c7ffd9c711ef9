//! Small trees for the tests of this crate.

use std::num::NonZeroU64;
use std::sync::Arc;

use attachfs_manifest::{
    ChunkSize, Content, ContentHash, File, LinkTarget, ManifestPath, Mtime, Name, Node, Snapshot,
};
use proptest::collection::btree_map;
use proptest::prelude::*;

use crate::{BaseTree, Ino, Timestamp};

/// Small enough that the files of [`any_snapshot`] have several chunks.
pub(crate) const CHUNK: ChunkSize = ChunkSize::Bytes(NonZeroU64::new(10).unwrap());

pub(crate) fn path(text: &str) -> ManifestPath {
    ManifestPath::new(text.as_bytes()).unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(crate) fn time(seconds: i64) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds: 7000,
    }
}

pub(crate) fn file(size: u64) -> Node {
    let hashes: Vec<_> = CHUNK
        .ranges(size)
        .map(|range| ContentHash::of(&[range.start as u8, size as u8]))
        .collect();
    Node::File(File {
        size,
        mtime: Mtime(1_700_000_000_000_000),
        runnable: size % 2 == 1,
        content: match hashes[..] {
            [whole] => Content::Whole(whole),
            _ => Content::Chunks(hashes.into()),
        },
    })
}

pub(crate) fn link(target: &str) -> Node {
    Node::Symlink(LinkTarget::Below(path(target)))
}

pub(crate) fn snapshot<const N: usize>(entries: [(&str, Node); N]) -> Snapshot {
    let entries = entries.map(|(text, node)| (path(text), node));
    Snapshot::new(CHUNK, None, entries).unwrap()
}

pub(crate) fn tree(snapshot: &Snapshot) -> Arc<BaseTree> {
    Arc::new(BaseTree::build(snapshot).unwrap())
}

/// What a base tree has at a path.
pub(crate) fn at(tree: &BaseTree, text: &str) -> Ino {
    let components = path(text);
    components
        .components()
        .try_fold(Ino::ROOT, |dir, name| tree.child(dir, name))
        .unwrap()
}

/// Few names, so that operations meet each other.
pub(crate) const NAMES: [&str; 4] = ["a", "b", "c", "\u{e9}"];

fn any_path(names: &[&'static str]) -> impl Strategy<Value = ManifestPath> + use<> {
    prop::collection::vec(prop::sample::select(names.to_vec()), 1..4)
        .prop_map(|names| path(&names.join("/")))
}

fn any_node(names: &[&'static str]) -> impl Strategy<Value = Node> + use<> {
    prop_oneof![
        3 => Just(Node::Dir),
        4 => (0_u64..35).prop_map(file),
        1 => Just(Node::Symlink(LinkTarget::Root)),
        2 => any_path(names).prop_map(|target| Node::Symlink(LinkTarget::Below(target))),
    ]
}

/// A small tree of directories, files and links; an entry below a file or link is left out.
pub(crate) fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    any_snapshot_of(&NAMES)
}

/// As [`any_snapshot`], of these names.
pub(crate) fn any_snapshot_of(names: &[&'static str]) -> impl Strategy<Value = Snapshot> + use<> {
    btree_map(any_path(names), any_node(names), 0..12).prop_map(|all| {
        let is_file = |path: &ManifestPath| all.get(path).is_some_and(|node| !node.is_dir());
        let fits = |path: &ManifestPath| !path.ancestors().any(|above| is_file(&above));
        let entries: Vec<_> = all
            .iter()
            .filter(|(path, _)| fits(path))
            .map(|(path, node)| (path.clone(), node.clone()))
            .collect();
        Snapshot::new(CHUNK, None, entries).unwrap()
    })
}
