//! Random names and trees that are hard to write: every kind of character, and little of each, so that paths meet.

use std::collections::BTreeMap;

use attachfs_manifest::{
    ChunkSize, Content, ContentHash, File, LinkTarget, ManifestPath, Mtime, Node, Snapshot,
};
use proptest::prelude::*;

/// A piece of a name in valid UTF-8: ordinary text, white space and what JSON escapes, control characters, other scripts,
/// the range in which UTF-16 and code points sort differently, and characters beyond 16 bits.
fn piece() -> impl Strategy<Value = String> {
    let between = |first: char, last: char| prop::char::range(first, last).prop_map(String::from);
    prop_oneof![
        4 => "[a-cA-C0-9._$~-]{1,3}",
        1 => prop::sample::select(vec![" ", "\"", "\\", "'", ":", "*", "?", "[", "\u{7f}", "e\u{301}"])
            .prop_map(String::from),
        1 => between('\u{1}', '\u{1f}'),
        1 => between('\u{80}', '\u{7ff}'),
        1 => between('\u{e000}', '\u{ffff}'),
        1 => between('\u{10000}', '\u{10ffff}'),
    ]
}

/// A name of any bytes that a file system allows.
pub(super) fn any_name() -> BoxedStrategy<Vec<u8>> {
    let bytes = prop::collection::vec(1_u8.., 1..4);
    let pieces = prop_oneof![4 => piece().prop_map(String::into_bytes), 1 => bytes];
    let name = prop::collection::vec(pieces, 1..4).prop_map(|pieces| pieces.concat());
    name.prop_filter("no name", |name| is_name(name)).boxed()
}

/// A name in valid UTF-8.
pub(super) fn text_name() -> BoxedStrategy<Vec<u8>> {
    let name = prop::collection::vec(piece(), 1..4).prop_map(|pieces| pieces.concat());
    name.prop_map(String::into_bytes)
        .prop_filter("no name", |name| is_name(name))
        .boxed()
}

fn is_name(name: &[u8]) -> bool {
    !name.contains(&b'/') && name != b"." && name != b".."
}

/// Paths of one to four of a few names.
fn paths_of(names: Vec<Vec<u8>>) -> BoxedStrategy<ManifestPath> {
    let names = prop::collection::vec(prop::sample::select(names), 1..5);
    names
        .prop_map(|names| ManifestPath::new(&names.join(&b'/')).unwrap())
        .boxed()
}

/// A file that is one object. `times` is what a format and its reference can hold.
fn whole_file(times: BoxedStrategy<i64>) -> impl Strategy<Value = File> {
    let size = prop_oneof![0_u64..20, 0_u64..1 << 58];
    (size, times, any::<[u8; 16]>()).prop_map(|(size, mtime, hash)| File {
        size,
        mtime: Mtime(mtime),
        runnable: false,
        content: Content::Whole(ContentHash::from_bytes(hash)),
    })
}

/// A tree of files only, as 2023-03-03 has it.
pub(super) fn files_only(names: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Snapshot> {
    let node = whole_file(any::<i64>().boxed())
        .prop_map(Node::File)
        .boxed();
    tree(names, move |_| node.clone(), ChunkSize::WholeFile)
}

/// How files are cut in a tree: not at all, so that even small ones are, or as it is meant.
pub(super) fn chunk_size() -> impl Strategy<Value = ChunkSize> {
    let ten = ChunkSize::Bytes(10.try_into().unwrap());
    prop::sample::select(vec![ChunkSize::WholeFile, ten, ChunkSize::DEFAULT])
}

/// A tree of everything that 2025-12 has.
pub(super) fn full_tree(
    names: BoxedStrategy<Vec<u8>>,
    chunk_size: ChunkSize,
    times: BoxedStrategy<i64>,
) -> impl Strategy<Value = Snapshot> {
    let file = (whole_file(times), any::<bool>(), 0..4);
    let file = file.prop_map(move |(mut file, runnable, kind)| {
        file.runnable = runnable;
        if kind == 0 {
            file.content = Content::Unhashed;
        } else if kind < 3 && file.size < 1000 && chunk_size.count(file.size) > 1 {
            let hashes = (0..chunk_size.count(file.size)).map(|i| ContentHash::of(&[i as u8]));
            file.content = Content::Chunks(hashes.collect());
        }
        Node::File(file)
    });
    let file = file.boxed();
    let node = move |paths: BoxedStrategy<ManifestPath>| {
        prop_oneof![
            3 => file.clone(),
            1 => Just(Node::Dir),
            1 => Just(Node::Symlink(LinkTarget::Root)),
            1 => paths.prop_map(|target| Node::Symlink(LinkTarget::Below(target))),
        ]
        .boxed()
    };
    tree(names, node, chunk_size)
}

/// Up to 12 entries; what would lie below a file or link is left out.
fn tree(
    names: BoxedStrategy<Vec<u8>>,
    node: impl Fn(BoxedStrategy<ManifestPath>) -> BoxedStrategy<Node>,
    chunk_size: ChunkSize,
) -> impl Strategy<Value = Snapshot> {
    let names = prop::collection::vec(names, 1..6);
    names
        .prop_flat_map(move |names| {
            let paths = paths_of(names);
            prop::collection::btree_map(paths.clone(), node(paths), 0..12)
        })
        .prop_map(move |all| Snapshot::new(chunk_size, None, fitting(&all)).unwrap())
}

fn fitting(all: &BTreeMap<ManifestPath, Node>) -> Vec<(ManifestPath, Node)> {
    let is_file = |path: &ManifestPath| all.get(path).is_some_and(|node| !node.is_dir());
    all.iter()
        .filter(|(path, _)| !path.ancestors().any(|above| is_file(&above)))
        .map(|(path, node)| (path.clone(), node.clone()))
        .collect()
}
