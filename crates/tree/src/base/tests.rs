//! The tree that was built, and its index.

mod index;

use std::collections::VecDeque;

use attachfs_manifest::wire::{Format, Manifest, decode, encode_snapshot};
use attachfs_manifest::{LayoutError, Node, Snapshot};
use proptest::prelude::*;

use super::*;
use crate::testing::{CHUNK, any_snapshot_of, at, file, link, path, snapshot, tree};

/// Names that sort differently as UTF-16 and as bytes, and names that sort between another one and what
/// lies in it.
const NAMES: [&str; 8] = ["a", "a-b", "a-", "a!b", "a0", "b", "\u{1f600}", "\u{e000}"];

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
    fn a_tree_holds_what_its_snapshot_holds(snapshot in any_snapshot_of(&NAMES)) {
        let tree = BaseTree::build(&snapshot).unwrap();
        prop_assert_eq!(tree.len(), snapshot.len() + 1);
        let mut found = Vec::new();
        let mut open = VecDeque::from([Ino::ROOT]);
        let mut next = 2;
        while let Some(dir) = open.pop_front() {
            let names: Vec<_> = tree.children(dir).map(|c| tree.name(c).unwrap()).collect();
            prop_assert!(names.is_sorted(), "by bytes");
            for (position, child) in tree.children(dir).enumerate() {
                prop_assert_eq!(child.raw(), next, "numbered breadth first");
                next += 1;
                prop_assert_eq!(tree.child_at(dir, position), Some(child));
                prop_assert_eq!(tree.child(dir, tree.name(child).unwrap()), Some(child));
                prop_assert_eq!(tree.parent(child), Some(dir));
                found.push((tree.path(child).unwrap(), node(&tree, child)));
                if tree.plain_kind(child) == Some(Kind::Dir) {
                    open.push_back(child);
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

/// Fails unless two trees have the same nodes with the same numbers.
fn assert_same(tree: &BaseTree, other: &BaseTree) {
    assert_eq!(tree.len(), other.len());
    assert_eq!(tree.chunk_size(), other.chunk_size());
    for raw in 1..=tree.len() as u64 {
        let ino = Ino::from_raw(raw);
        assert_eq!(tree.path(ino), other.path(ino));
        assert_eq!(node(tree, ino), node(other, ino));
        assert_eq!(tree.parent(ino), other.parent(ino));
        let of = |tree: &BaseTree| tree.children(ino).collect::<Vec<_>>();
        assert_eq!(of(tree), of(other));
    }
}

/// The snapshot without its links, which may be of a kind that is not read in order, and without its directories and
/// chunks, which the older format does not have.
fn plain_files(snapshot: &Snapshot) -> Snapshot {
    let is_whole = |node: &Node| {
        node.as_file()
            .is_some_and(|file| matches!(file.content, Content::Whole(_)))
    };
    let files = snapshot.entries().filter(|(_, node)| is_whole(node));
    let files = files.map(|(path, node)| (path.to_owned(), node));
    Snapshot::new(CHUNK, None, files).unwrap()
}

proptest! {
    #[test]
    fn a_tree_that_is_read_from_a_manifest_is_that_of_its_snapshot(snapshot in any_snapshot_of(&NAMES)) {
        // A directory that leads to the target of a link may be another link, which is not read in order.
        let has_links = snapshot.entries().any(|(_, node)| matches!(node, Node::Symlink(_)));
        let plain = plain_files(&snapshot);
        for (snapshot, format, has_links) in [
            (&snapshot, Format::V2025_12, has_links),
            (&plain, Format::V2023_03_03, false),
        ] {
            let text = encode_snapshot(snapshot, format).unwrap();
            let (_, Manifest::Snapshot(decoded)) = decode(&text).unwrap() else {
                panic!("it is a diff");
            };
            match BaseTree::read(&text) {
                Some(read) => assert_same(&read, &BaseTree::build(&decoded).unwrap()),
                None => prop_assert!(has_links, "{format} without links is in order"),
            }
        }
    }
}

#[test]
fn a_file_without_a_hash_is_not_read_into_a_tree() {
    let entry = |content| {
        Node::File(attachfs_manifest::File {
            size: 3,
            mtime: Mtime(0),
            runnable: false,
            content,
        })
    };
    let whole = Content::Whole(ContentHash::of(b"x"));
    for (content, is_read) in [(whole, true), (Content::Unhashed, false)] {
        let text = encode_snapshot(&snapshot([("d/f", entry(content))]), Format::V2025_12).unwrap();
        assert_eq!(BaseTree::read(&text).is_some(), is_read);
    }
}

/// All files below a directory, in the order in which somebody meets them who descends into each directory.
fn files_below(tree: &BaseTree, dir: Ino) -> Vec<Ino> {
    let below = |child| match tree.plain_kind(child) {
        Some(Kind::Dir) => files_below(tree, child),
        Some(Kind::File) => vec![child],
        _ => Vec::new(),
    };
    tree.children(dir).flat_map(below).collect()
}

proptest! {
    #[test]
    fn files_follow_each_other_as_in_a_listing(snapshot in any_snapshot_of(&NAMES)) {
        let tree = BaseTree::build(&snapshot).unwrap();
        let followed = std::iter::successors(Some(Ino::ROOT), |&ino| tree.next_file(ino));
        prop_assert_eq!(followed.skip(1).collect::<Vec<_>>(), files_below(&tree, Ino::ROOT));
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
fn numbers_that_no_node_has_give_nothing() {
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
    let names: usize = (0..tree.names.page_count())
        .map(|page| tree.page::<u8>(page).unwrap().len())
        .sum();
    assert_eq!(names, "a-long-name".len() + 10 + 90 * 2);
    assert_eq!(size_of::<Record>(), 40, "as its documentation says");
}

#[test]
fn the_deepest_path_has_its_inode_and_back() {
    let deep = vec!["d"; 2048].join("/");
    let tree = tree(&snapshot([(&deep, file(1))]));
    assert_eq!(tree.path(at(&tree, &deep)), Some(path(&deep)));
}

#[test]
fn what_comes_between_a_directory_and_its_content_does_not_mix_with_it() {
    let tree = tree(&snapshot([
        ("a/x", file(1)),
        ("a-b/a/x", file(2)),
        ("a-b/a-/y", file(3)),
        ("a-c", file(4)),
    ]));
    let names = |dir| {
        let names = tree.children(dir).map(|child| tree.name(child).unwrap());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(Ino::ROOT), [b"a".as_slice(), b"a-b", b"a-c"]);
    assert_eq!(names(at(&tree, "a")), [b"x"]);
    assert_eq!(names(at(&tree, "a-b")), [b"a".as_slice(), b"a-"]);
    assert_eq!(names(at(&tree, "a-b/a")), [b"x"]);
    assert_eq!(names(at(&tree, "a-b/a-")), [b"y"]);
}

/// More objects than a page of hashes has.
const LONG: u64 = 5000;

#[test]
fn the_hashes_of_a_file_lie_side_by_side_however_many_there_are() {
    let entry = |number: u32| {
        let size = if number == 3 { LONG * 10 } else { 25 };
        (path(&format!("{number:04}")), file(size))
    };
    let expected = Snapshot::new(CHUNK, None, (0..2000).map(entry)).unwrap();
    let tree = tree(&expected);
    for (path, node) in expected.entries() {
        let ino = at(&tree, &path.to_string());
        assert_eq!(
            tree.content(ino).as_ref(),
            node.as_file().map(|file| &file.content)
        );
    }
    assert_eq!(
        tree.layout(at(&tree, "0003")).unwrap().hashes().len() as u64,
        LONG
    );
}
