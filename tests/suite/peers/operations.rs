//! Operations on 2025-12 manifests against the crate that defines them: what both can be asked for gives the same bytes.
//!
//! Where a generator leaves something out, it names the line of docs/formats.md that says why.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use attachfs_manifest::wire::{Format, Manifest, decode, encode};
use attachfs_manifest::{
    Change, ContentHash, Diff, LinkTarget, ManifestPath, Node, PartitionError, PartitionOptions,
    PathRef, Snapshot, SymlinkPolicy,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::entries::{chunk_size, full_tree};
use super::openjd::{names, times};
use super::{Peer, base64, openjd, text_of};

/// The text of a manifest as it travels.
fn sent(manifest: &Manifest, format: Format) -> String {
    base64(encode(manifest, format).unwrap())
}

fn sent_snapshot(snapshot: &Snapshot) -> String {
    sent(&Manifest::Snapshot(snapshot.clone()), Format::V2025_12)
}

fn sent_diff(diff: &Diff) -> String {
    sent(&Manifest::Diff(diff.clone()), Format::V2025_12)
}

fn text(manifest: Manifest, format: Format) -> String {
    String::from_utf8(encode(&manifest, format).unwrap()).unwrap()
}

fn path_text(path: PathRef<'_>) -> String {
    str::from_utf8(path.as_bytes()).unwrap().to_owned()
}

fn retained(snapshot: &Snapshot, mut keep: impl FnMut(PathRef<'_>, &Node) -> bool) -> Snapshot {
    let kept = snapshot
        .entries()
        .filter(|(path, node)| keep(*path, node))
        .map(|(path, node)| (path.to_owned(), node));
    Snapshot::new(snapshot.chunk_size(), None, kept).unwrap()
}

/// Trees of the same names, as they are read again, whose diffs the reference can read ("A link to `latest/scene`" of "Directories
/// above the targets of links", and "a diff that lists one path as a deleted directory and a live file" of "More lenient than a
/// reference" in docs/formats.md): no path is a directory in one and a file in another, nor is one that leads to a link's target.
fn together(trees: &[Snapshot]) -> Vec<Snapshot> {
    let mut directories = BTreeSet::new();
    for (path, node) in trees.iter().flat_map(Snapshot::entries) {
        if node.is_dir() {
            directories.insert(path.to_owned());
        }
    }
    let trees = trees.iter().map(|tree| {
        retained(tree, |path, node| {
            node.is_dir() || !directories.contains(&path.to_owned())
        })
    });
    let trees: Vec<_> = trees.collect();
    let mut files = BTreeSet::new();
    for (path, node) in trees.iter().flat_map(Snapshot::entries) {
        if !node.is_dir() {
            files.insert(path.to_owned());
        }
    }
    let is_simple = |node: &Node| match node {
        Node::Symlink(LinkTarget::Below(target)) => {
            !target.ancestors().any(|above| files.contains(&above))
        }
        _ => true,
    };
    let simple = trees
        .iter()
        .map(|tree| retained(tree, |_, node| is_simple(node)));
    simple.map(|tree| read_again(&tree)).collect()
}

/// A manifest as it is read again: with the directories above the targets of links.
fn again(manifest: &Manifest) -> Manifest {
    decode(&encode(manifest, Format::V2025_12).unwrap())
        .unwrap()
        .1
}

fn read_again(tree: &Snapshot) -> Snapshot {
    match again(&Manifest::Snapshot(tree.clone())) {
        Manifest::Snapshot(tree) => tree,
        Manifest::Diff(_) => unreachable!("a snapshot was written"),
    }
}

/// So many trees of few names that go [`together`].
fn trees(count: usize) -> impl Strategy<Value = Vec<Snapshot>> {
    let names = prop::collection::vec(names(), 1..5);
    (names, chunk_size()).prop_flat_map(move |(names, chunk_size)| {
        let names = prop::sample::select(names).boxed();
        let tree = full_tree(names, chunk_size, times());
        prop::collection::vec(tree, count).prop_map(|trees| together(&trees))
    })
}

fn tree() -> impl Strategy<Value = Snapshot> {
    trees(1).prop_map(|mut trees| trees.remove(0))
}

/// A directory of a tree, or a name that it does not have.
fn directory_of(tree: &Snapshot, any: prop::sample::Index) -> ManifestPath {
    let directories = tree.entries().filter(|(_, node)| node.is_dir());
    let mut directories: Vec<_> = directories.map(|(path, _)| path.to_owned()).collect();
    directories.push(ManifestPath::new(b"nowhere").unwrap());
    directories[any.index(directories.len())].clone()
}

#[track_caller]
fn asked(openjd: &Peer, request: &Value) -> String {
    text_of(&openjd.told(request)["manifest"])
}

mod joining {
    use super::*;

    fn both(openjd: &Peer, manifest: &Manifest, prefix: &str) -> Result<(), TestCaseError> {
        let below = ManifestPath::new(prefix.as_bytes()).unwrap();
        let joined = match manifest {
            Manifest::Snapshot(snapshot) => Manifest::Snapshot(snapshot.join(&below).unwrap()),
            Manifest::Diff(diff) => Manifest::Diff(diff.join(&below).unwrap()),
        };
        for (to, prefix, format) in [
            ("relative", prefix.to_owned(), Format::V2025_12),
            ("absolute", format!("/{prefix}"), Format::V2025_12Absolute),
        ] {
            let theirs = asked(
                openjd,
                &json!({
                    "op": "join", "manifest": sent(manifest, Format::V2025_12), "prefix": prefix, "to": to,
                }),
            );
            prop_assert_eq!(text(joined.clone(), format), theirs);
        }
        Ok(())
    }

    #[test]
    fn any_manifest_is_moved_below_a_directory_alike() {
        let Some(openjd) = openjd() else { return };
        proptest!(|(trees in trees(2), prefix in "[a-c]{1,2}(/[a-c.~-]{3}){0,2}")| {
            // "joining an empty snapshot" of "Operations" in docs/formats.md.
            if !trees[0].is_empty() {
                both(&openjd, &Manifest::Snapshot(trees[0].clone()), &prefix)?;
            }
            both(&openjd, &Manifest::Diff(trees[1].diff(&trees[0], None)), &prefix)?;
        });
    }
}

mod filtering {
    use super::*;

    /// As the reference's patterns name a path.
    fn pattern(path: &str) -> String {
        let mut pattern = String::new();
        for c in path.chars() {
            if matches!(c, '?' | '*' | '[' | ']') {
                pattern += &format!("[{c}]");
            } else {
                pattern.push(c);
            }
        }
        pattern
    }

    /// "filtering asks" of "Operations" in docs/formats.md: a directory that holds something is not chosen by name, except with
    /// everything in it.
    fn chosen(
        tree: &Snapshot,
        chosen: &[prop::sample::Index],
    ) -> (BTreeSet<ManifestPath>, Vec<String>) {
        let entries: Vec<_> = tree.entries().collect();
        let (mut paths, mut patterns) = (BTreeSet::new(), Vec::new());
        for index in chosen.iter().filter(|_| !entries.is_empty()) {
            let (path, _) = &entries[index.index(entries.len())];
            let below = entries.iter().filter(|(other, _)| other.is_below(*path));
            paths.extend(below.map(|(path, _)| (*path).to_owned()));
            paths.insert((*path).to_owned());
            let named = pattern(&path_text(*path));
            patterns.extend([format!("{named}/*"), named]);
        }
        (paths, patterns)
    }

    #[test]
    fn any_choice_of_paths_leaves_the_same() {
        let Some(openjd) = openjd() else { return };
        let choice = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
        proptest!(|(tree in tree(), choice in choice)| {
            let (paths, patterns) = chosen(&tree, &choice);
            prop_assume!(!patterns.is_empty());
            let ours = tree.filter(|path, _| paths.contains(&path.to_owned()));
            for format in [Format::V2025_12, Format::V2025_12Absolute] {
                let root = if format.is_absolute() { "/" } else { "" };
                let include: Vec<_> = patterns.iter().map(|pattern| format!("{root}{pattern}")).collect();
                let theirs = asked(&openjd, &json!({
                    "op": "filter", "manifest": sent(&Manifest::Snapshot(tree.clone()), format),
                    "include": include,
                }));
                prop_assert_eq!(text(Manifest::Snapshot(ours.clone()), format), theirs);
            }
        });
    }

    #[test]
    fn any_choice_of_changes_leaves_the_same() {
        let Some(openjd) = openjd() else { return };
        let choice = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
        proptest!(|(trees in trees(2), choice in choice)| {
            let diff = trees[1].diff(&trees[0], Some(ContentHash::of(b"parent")));
            let changes: Vec<_> = diff.changes().collect();
            prop_assume!(!changes.is_empty());
            // As above; and what lies above a deletion is deleted with it.
            let mut paths = BTreeSet::new();
            for index in &choice {
                let (path, _) = &changes[index.index(changes.len())];
                let below = changes.iter().filter(|(other, _)| other.is_below(*path));
                paths.extend(below.map(|(path, _)| (*path).to_owned()));
                paths.insert((*path).to_owned());
            }
            let deleted = changes.iter().filter(|(_, change)| *change == Change::DeleteDir);
            for (directory, _) in deleted {
                if changes.iter().any(|(path, change)| {
                    change.as_put().is_none() && path.is_below(*directory) && paths.contains(&(*path).to_owned())
                }) {
                    paths.insert((*directory).to_owned());
                }
            }
            let ours = diff.filter(|path, _| paths.contains(&path.to_owned()));
            let include: Vec<_> = paths.iter().map(|path| pattern(&path_text(path.borrowed()))).collect();
            let theirs = asked(&openjd, &json!({
                "op": "filter", "manifest": sent_diff(&diff), "include": include,
            }));
            prop_assert_eq!(text(Manifest::Diff(ours), Format::V2025_12), theirs);
        });
    }
}

mod cutting {
    use super::*;

    const POLICIES: [(SymlinkPolicy, &str); 4] = [
        (SymlinkPolicy::CollapseEscaping, "collapse_escaping"),
        (SymlinkPolicy::CollapseAll, "collapse_all"),
        (SymlinkPolicy::ExcludeEscaping, "exclude_escaping"),
        (SymlinkPolicy::ExcludeAll, "exclude_all"),
    ];

    /// "links that stand for directories" of "Operations" in docs/formats.md: a link to a directory stays only if the directory holds
    /// files, no link, and nothing empty, and no link leads to such a link.
    fn with_simple_links(tree: &Snapshot) -> Snapshot {
        let mut tree = tree.clone();
        loop {
            let is_plain = |directory: &ManifestPath| {
                let below: Vec<_> = tree
                    .entries()
                    .filter(|(path, _)| path.is_below(directory.borrowed()))
                    .collect();
                let holds_something =
                    |path: PathRef<'_>| below.iter().any(|(other, _)| other.is_below(path));
                !below.is_empty()
                    && below.iter().all(|(path, node)| match node {
                        Node::Dir => holds_something(*path),
                        Node::File(_) => true,
                        Node::Symlink(_) => false,
                    })
            };
            let next = retained(&tree, |_, node| match node {
                Node::Symlink(LinkTarget::Root) => false,
                Node::Symlink(LinkTarget::Below(target)) => match tree.get(target) {
                    Some(Node::Dir) => is_plain(target),
                    Some(Node::Symlink(LinkTarget::Root)) => false,
                    Some(Node::Symlink(LinkTarget::Below(next))) => !tree
                        .get(&next)
                        .is_some_and(|node| !matches!(node, Node::File(_))),
                    _ => true,
                },
                _ => true,
            });
            if next.len() == tree.len() {
                return next;
            }
            tree = next;
        }
    }

    /// "a link to the directory that is taken out" of "Operations" in docs/formats.md.
    fn without_links_to(tree: &Snapshot, roots: &[ManifestPath]) -> Snapshot {
        retained(tree, |_, node| match node {
            Node::Symlink(LinkTarget::Below(target)) => !roots.contains(target),
            _ => true,
        })
    }

    #[test]
    fn any_directory_is_taken_out_alike() {
        let Some(openjd) = openjd() else { return };
        proptest!(|(tree in tree(), at in any::<prop::sample::Index>())| {
            for (policy, word) in POLICIES {
                let tree = match policy {
                    SymlinkPolicy::CollapseAll | SymlinkPolicy::CollapseEscaping => with_simple_links(&tree),
                    _ => tree.clone(),
                };
                let directory = directory_of(&tree, at);
                let tree = without_links_to(&tree, std::slice::from_ref(&directory));
                let ours = tree.subtree(Some(&directory), policy).unwrap();
                let ours = text(Manifest::Snapshot(ours), Format::V2025_12);
                for (format, root) in [(Format::V2025_12, ""), (Format::V2025_12Absolute, "/")] {
                    let theirs = asked(&openjd, &json!({
                        "op": "subtree", "manifest": sent(&Manifest::Snapshot(tree.clone()), format),
                        "root": format!("{root}{}", path_text(directory.borrowed())), "policy": word,
                    }));
                    prop_assert_eq!(&ours, &theirs, "{} {}", directory, word);
                }
            }
        });
    }

    #[test]
    fn the_changes_in_any_directory_are_taken_out_alike() {
        let Some(openjd) = openjd() else { return };
        proptest!(|(trees in trees(2), at in any::<prop::sample::Index>())| {
            let directory = directory_of(&trees[1], at);
            let [old, new] = [0, 1].map(|i: usize| without_links_to(&trees[i], std::slice::from_ref(&directory)));
            // As it is read again, with the directories above everything that it puts.
            let diff = match again(&Manifest::Diff(new.diff(&old, None))) {
                Manifest::Diff(diff) => diff,
                Manifest::Snapshot(_) => unreachable!("a diff was written"),
            };
            for (policy, word) in POLICIES {
                // "a diff that cannot say what a link leads to" of "Operations" in docs/formats.md.
                let Ok(ours) = diff.subtree(Some(&directory), policy) else { continue };
                let theirs = asked(&openjd, &json!({
                    "op": "subtree", "manifest": sent_diff(&diff),
                    "root": path_text(directory.borrowed()), "policy": word,
                }));
                prop_assert_eq!(text(Manifest::Diff(ours), Format::V2025_12), theirs, "{} {}", directory, word);
            }
        });
    }

    fn parts_of(told: &Value) -> Vec<(String, String)> {
        let parts = told["parts"].as_array().unwrap().iter();
        let parts = parts.map(|part| {
            let root = part["root"].as_str().unwrap();
            let root = if root == "." {
                ""
            } else {
                root.trim_start_matches('/')
            };
            (root.to_owned(), text_of(&part["manifest"]))
        });
        parts.collect()
    }

    fn our_parts(parts: Vec<(Option<ManifestPath>, Snapshot)>) -> Vec<(String, String)> {
        let parts = parts.into_iter().map(|(root, part)| {
            let root = root.map_or_else(String::new, |root| path_text(root.borrowed()));
            (root, text(Manifest::Snapshot(part), Format::V2025_12))
        });
        parts.collect()
    }

    #[test]
    fn any_snapshot_is_parted_by_the_same_roots() {
        let Some(openjd) = openjd() else { return };
        let choice = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
        proptest!(|(tree in tree(), choice in choice)| {
            let tree = with_simple_links(&tree);
            let mut roots: Vec<ManifestPath> = Vec::new();
            for root in choice.iter().map(|&at| directory_of(&tree, at)) {
                let is_apart = |other: &ManifestPath| {
                    *other != root && !other.is_below(&root) && !root.is_below(other)
                };
                if roots.iter().all(is_apart) {
                    roots.push(root);
                }
            }
            let tree = without_links_to(&tree, &roots);
            let options = PartitionOptions { roots: roots.clone(), ..PartitionOptions::default() };
            let ours = match tree.partition(&options) {
                Ok(parts) => our_parts(parts),
                // "parts that would overlap" of "Operations" in docs/formats.md.
                Err(PartitionError::Overlap { .. } | PartitionError::Outside { .. }) => return Ok(()),
                Err(error) => panic!("{error}"),
            };
            for (format, root) in [(Format::V2025_12, ""), (Format::V2025_12Absolute, "/")] {
                let given: Vec<_> =
                    roots.iter().map(|path| format!("{root}{}", path_text(path.borrowed()))).collect();
                let told = openjd.told(&json!({
                    "op": "partition", "manifest": sent(&Manifest::Snapshot(tree.clone()), format),
                    "roots": given,
                }));
                // "roots that suggest themselves" of "Operations" in docs/formats.md: those follow the given ones.
                prop_assert_eq!(&ours[..roots.len()], &parts_of(&told)[..roots.len()]);
            }
        });
    }

    #[test]
    fn a_root_that_suggests_itself_is_the_same_at_the_top() {
        let Some(openjd) = openjd() else { return };
        let compared = Cell::new(0);
        proptest!(|(tree in tree())| {
            let tree = with_simple_links(&tree);
            for (format, is_absolute) in [(Format::V2025_12, false), (Format::V2025_12Absolute, true)] {
                let options = PartitionOptions { is_absolute, ..PartitionOptions::default() };
                let ours = our_parts(tree.partition(&options).unwrap());
                // "roots that suggest themselves" of "Operations" in docs/formats.md.
                let is_at_the_top = |root: &str| !root.contains('/');
                if ours.len() > 1 || !ours.iter().all(|(root, _)| is_at_the_top(root)) {
                    continue;
                }
                let told = openjd.told(&json!({
                    "op": "partition", "manifest": sent(&Manifest::Snapshot(tree.clone()), format),
                }));
                compared.set(compared.get() + ours.len());
                prop_assert_eq!(ours, parts_of(&told));
            }
        });
        assert!(compared.get() > 10);
    }
}

mod composing {
    use super::*;

    /// The path that a name stands for.
    fn named(directories: &[String], name: &str) -> String {
        match name.strip_prefix('$').and_then(|name| name.split_once('/')) {
            Some((number, name)) => {
                let number: usize = number.parse().unwrap();
                format!("{}/{name}", directories[number].trim_end_matches('/'))
            }
            None => name.to_owned(),
        }
    }

    /// What a text says, by path: what is put, and what is deleted, of whatever kind.
    fn told(text: &str) -> (BTreeMap<String, Value>, BTreeSet<String>) {
        let said: Value = serde_json::from_str(text).unwrap();
        let mut directories: Vec<String> = Vec::new();
        let (mut put, mut deleted) = (BTreeMap::new(), BTreeSet::new());
        for list in ["dirs", "files"] {
            for entry in said[list].as_array().unwrap() {
                let path = named(&directories, entry["name"].as_str().unwrap());
                if list == "dirs" {
                    directories.push(path.clone());
                }
                if entry["delete"] == true {
                    deleted.insert(path);
                    continue;
                }
                let mut entry = entry.clone();
                entry.as_object_mut().unwrap().remove("name");
                if let Some(target) = entry["symlink"]["name"].as_str() {
                    entry = json!({ "symlink": named(&directories, target) });
                }
                put.insert(path, entry);
            }
        }
        (put, deleted)
    }

    #[test]
    fn any_snapshot_and_its_diffs_make_the_same_snapshot() {
        let Some(openjd) = openjd() else { return };
        proptest!(|(trees in trees(3), absolute in any::<bool>())| {
            let format = if absolute { Format::V2025_12Absolute } else { Format::V2025_12 };
            let first = trees[1].diff(&trees[0], None);
            let second = trees[2].diff(&trees[1], None);
            let ours = trees[0].apply(&first).unwrap().apply(&second).unwrap();
            prop_assert_eq!(&ours, &trees[2]);
            let [first, second] = [first, second].map(|diff| sent(&Manifest::Diff(diff), format));
            let theirs = asked(&openjd, &json!({
                "op": "compose", "base": sent(&Manifest::Snapshot(trees[0].clone()), format),
                "diffs": [first, second],
            }));
            let ours = text(Manifest::Snapshot(ours), format);
            if absolute {
                // "the root directory itself" of "Operations" in docs/formats.md.
                let (mut theirs, _) = told(&theirs);
                theirs.remove("/");
                prop_assert_eq!(told(&ours).0, theirs);
            } else {
                prop_assert_eq!(ours, theirs);
            }
        });
    }

    #[test]
    fn any_two_diffs_in_a_row_make_the_same_diff() {
        let Some(openjd) = openjd() else { return };
        proptest!(|(trees in trees(3))| {
            let first = trees[1].diff(&trees[0], Some(ContentHash::of(b"parent")));
            let second = trees[2].diff(&trees[1], None);
            let ours = first.then(&second).unwrap();
            prop_assert_eq!(trees[0].apply_composed(&ours).unwrap().with_parent(None), trees[2].clone());
            let theirs = asked(&openjd, &json!({
                "op": "compose", "diffs": [sent_diff(&first), sent_diff(&second)],
            }));
            let ours = text(Manifest::Diff(ours), Format::V2025_12);
            // "a composed diff lists" of "Operations" in docs/formats.md.
            prop_assert_eq!(told(&ours), told(&theirs));
        });
    }

    #[test]
    fn absolute_snapshots_have_the_same_diffs() {
        let Some(openjd) = openjd() else { return };
        proptest!(|(trees in trees(2))| {
            let told = openjd.ask(&json!({
                "op": "diff",
                "parent": sent(&Manifest::Snapshot(trees[0].clone()), Format::V2025_12Absolute),
                "current": sent(&Manifest::Snapshot(trees[1].clone()), Format::V2025_12Absolute),
            }));
            match told {
                Ok(told) => {
                    let ours = Manifest::Diff(trees[1].diff(&trees[0], None));
                    prop_assert_eq!(text(ours, Format::V2025_12Absolute), text_of(&told["manifest"]));
                }
                // "a difference between a hashed and an unhashed snapshot" of "More lenient than a reference" in docs/formats.md.
                Err(refusal) => prop_assert!(refusal.text.contains("hashed"), "{}", refusal),
            }
        });
    }
}

#[test]
fn diffs_made_by_one_are_composed_by_the_other() {
    let Some(openjd) = openjd() else { return };
    proptest!(|(trees in trees(2))| {
        let told = openjd.ask(&json!({
            "op": "diff", "parent": sent_snapshot(&trees[0]), "current": sent_snapshot(&trees[1]),
        }));
        // As above.
        let Ok(told) = told else { return Ok(()) };
        let (_, diff) = decode(text_of(&told["manifest"]).as_bytes()).unwrap();
        let Manifest::Diff(diff) = diff else { panic!("a diff was asked for") };
        prop_assert_eq!(trees[0].apply(&diff).unwrap().with_parent(None), trees[1].clone());
    });
}
