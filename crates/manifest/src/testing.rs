//! Small trees for the tests of this crate.

use proptest::collection::btree_map;
use proptest::prelude::*;

use crate::{
    ChunkSize, Content, ContentHash, File, LinkTarget, ManifestPath, Mtime, Node, Snapshot,
};

pub(crate) fn path(text: &str) -> ManifestPath {
    ManifestPath::new(text.as_bytes()).unwrap()
}

pub(crate) fn dir() -> Node {
    Node::Dir
}

pub(crate) fn file(size: u64) -> Node {
    Node::File(File {
        size,
        mtime: Mtime(1_700_000_000_000_000),
        runnable: false,
        content: Content::Whole(ContentHash::of(&size.to_le_bytes())),
    })
}

pub(crate) fn chunks(size: u64, count: u8) -> Node {
    Node::File(File {
        size,
        mtime: Mtime(5),
        runnable: true,
        content: Content::Chunks((0..count).map(|i| ContentHash::of(&[i])).collect()),
    })
}

pub(crate) fn unhashed(size: u64) -> Node {
    Node::File(File {
        size,
        mtime: Mtime(7),
        runnable: false,
        content: Content::Unhashed,
    })
}

/// A file of one byte whose time, execute bit and content vary.
pub(crate) fn variant(mtime: i64, runnable: bool, content: u8) -> Node {
    Node::File(File {
        size: 1,
        mtime: Mtime(mtime),
        runnable,
        content: Content::Whole(ContentHash::of(&[content])),
    })
}

pub(crate) fn link(target: &str) -> Node {
    Node::Symlink(LinkTarget::Below(path(target)))
}

pub(crate) fn snapshot<const N: usize>(entries: [(&str, Node); N]) -> Snapshot {
    let entries = entries.map(|(text, node)| (path(text), node));
    Snapshot::new(ChunkSize::DEFAULT, None, entries).unwrap()
}

/// Few names, so that two trees have much in common and paths change their kind. One of them is
/// not UTF-8.
pub(crate) fn any_path() -> impl Strategy<Value = ManifestPath> {
    let name = prop::sample::select(vec![
        b"a".as_slice(),
        b"b",
        b"a-b",
        b"\xff",
        "\u{e9}".as_bytes(),
    ]);
    prop::collection::vec(name, 1..4)
        .prop_map(|names| ManifestPath::new(&names.join(&b'/')).unwrap())
}

fn any_node() -> impl Strategy<Value = Node> {
    prop_oneof![
        Just(dir()),
        (0_u64..4).prop_map(file),
        Just(chunks((1 << 28) + 1, 2)),
        (0_u64..2).prop_map(unhashed),
        (0_i64..4, any::<bool>(), 0_u8..2)
            .prop_map(|(time, run, content)| variant(time, run, content)),
        Just(Node::Symlink(LinkTarget::Root)),
        any_path().prop_map(|target| Node::Symlink(LinkTarget::Below(target))),
    ]
}

/// A small tree of directories, files and links; an entry below a file or link is left out.
pub(crate) fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    btree_map(any_path(), any_node(), 0..12).prop_map(|all| {
        let is_file = |path: &ManifestPath| all.get(path).is_some_and(|node| !node.is_dir());
        let fits = |path: &ManifestPath| !path.ancestors().any(|above| is_file(&above));
        let entries: Vec<_> = all
            .iter()
            .filter(|(path, _)| fits(path))
            .map(|(path, node)| (path.clone(), node.clone()))
            .collect();
        Snapshot::new(ChunkSize::DEFAULT, None, entries).unwrap()
    })
}
