use proptest::prelude::*;

use super::*;
use crate::testing::{any_path, any_snapshot, dir, file, link, path, snapshot, unhashed};

const COLLAPSING: [SymlinkPolicy; 2] =
    [SymlinkPolicy::CollapseEscaping, SymlinkPolicy::CollapseAll];

fn below_p(tree: &Snapshot, policy: SymlinkPolicy) -> Snapshot {
    tree.subtree(Some(&path("p")), policy).unwrap()
}

fn links(tree: &Snapshot) -> usize {
    let nodes = tree.entries().map(|(_, node)| node);
    nodes
        .filter(|node| matches!(node, Node::Symlink(_)))
        .count()
}

proptest! {
    #[test]
    fn the_whole_is_its_own_subtree(tree in any_snapshot()) {
        for policy in [SymlinkPolicy::CollapseEscaping, SymlinkPolicy::ExcludeEscaping] {
            prop_assert_eq!(tree.subtree(None, policy), Ok(tree.clone()));
        }
    }

    #[test]
    fn what_is_no_link_stays_as_it_is(tree in any_snapshot(), directory in any_path()) {
        for policy in [
            SymlinkPolicy::CollapseEscaping,
            SymlinkPolicy::CollapseAll,
            SymlinkPolicy::ExcludeEscaping,
            SymlinkPolicy::ExcludeAll,
        ] {
            let Ok(cut) = tree.subtree(Some(&directory), policy) else { continue };
            for (at, node) in tree.entries() {
                let Some(rest) = strip(at.as_bytes(), directory.as_bytes()) else { continue };
                if !rest.is_empty() && !matches!(node, Node::Symlink(_)) {
                    prop_assert_eq!(cut.get(PathRef::from_checked(rest)), Some(node));
                }
            }
            if matches!(policy, SymlinkPolicy::CollapseAll | SymlinkPolicy::ExcludeAll) {
                prop_assert_eq!(links(&cut), 0);
            }
        }
    }
}

#[test]
fn links_that_escape_are_collapsed_or_left_out() {
    let tree = snapshot([
        ("p/in", file(1)),
        ("p/stays", link("p/in")),
        ("p/root", link("p")),
        ("p/out", link("o/f")),
        ("o/f", file(2)),
    ]);
    let root = || Node::Symlink(LinkTarget::Root);
    for (policy, expected) in [
        (
            SymlinkPolicy::CollapseEscaping,
            snapshot([
                ("in", file(1)),
                ("stays", link("in")),
                ("root", root()),
                ("out", file(2)),
            ]),
        ),
        (
            SymlinkPolicy::ExcludeEscaping,
            snapshot([("in", file(1)), ("stays", link("in")), ("root", root())]),
        ),
        (
            SymlinkPolicy::CollapseAll,
            snapshot([("in", file(1)), ("stays", file(1)), ("out", file(2))]),
        ),
        (SymlinkPolicy::ExcludeAll, snapshot([("in", file(1))])),
    ] {
        assert_eq!(below_p(&tree, policy), expected, "{policy}");
    }
}

#[test]
fn policies_that_keep_links_that_escape_are_refused() {
    let tree = snapshot([]);
    for policy in [
        SymlinkPolicy::Preserve,
        SymlinkPolicy::TransitiveIncludeTargets,
    ] {
        let error = SubtreeError::Policy(policy);
        assert_eq!(tree.subtree(None, policy), Err(error.clone()));
        assert_eq!(tree.diff(&tree, None).subtree(None, policy), Err(error));
    }
}

#[test]
fn a_folder_behind_a_link_is_copied_with_its_empty_folders() {
    let tree = snapshot([
        ("p/l", link("o")),
        ("p/x", file(1)),
        ("o/f", file(2)),
        ("o/empty", dir()),
        ("o/to_copy", link("o/f")),
        ("o/to_subtree", link("p/x")),
        ("o/to_outside", link("q")),
        ("q", file(3)),
    ]);
    let copy = |to_copy, to_subtree| {
        snapshot([
            ("x", file(1)),
            ("l/f", file(2)),
            ("l/empty", dir()),
            ("l/to_copy", to_copy),
            ("l/to_subtree", to_subtree),
            ("l/to_outside", file(3)),
        ])
    };
    let escaping = below_p(&tree, SymlinkPolicy::CollapseEscaping);
    assert_eq!(escaping, copy(link("l/f"), link("x")));
    let all = below_p(&tree, SymlinkPolicy::CollapseAll);
    assert_eq!(all, copy(file(2), file(1)));
}

#[test]
fn targets_are_found_through_links_on_the_way() {
    let tree = snapshot([
        ("p/l", link("latest/scene")),
        ("p/chain", link("first")),
        ("first", link("second")),
        ("second", link("v2")),
        ("latest", link("v2")),
        ("v2/scene", file(5)),
    ]);
    let expected = snapshot([("l", file(5)), ("chain/scene", file(5))]);
    for policy in COLLAPSING {
        assert_eq!(below_p(&tree, policy), expected);
    }
}

#[test]
fn links_that_lead_nowhere_or_in_circles_are_left_out() {
    let tree = snapshot([
        ("p/f", file(1)),
        ("p/broken", link("o/none")),
        ("p/below_a_file", link("o/f/x")),
        ("p/circle", link("o/circle")),
        ("o/circle", link("o/back")),
        ("o/back", link("o/circle")),
        ("o/f", file(1)),
    ]);
    for policy in COLLAPSING {
        assert_eq!(below_p(&tree, policy), snapshot([("f", file(1))]));
    }
    let broken_inside = snapshot([("p/l", link("p/none"))]);
    let kept = below_p(&broken_inside, SymlinkPolicy::CollapseEscaping);
    assert_eq!(kept, snapshot([("l", link("none"))]));
}

#[test]
fn a_copy_ends_where_it_would_contain_itself() {
    let tree = snapshot([
        ("p/up", Node::Symlink(LinkTarget::Root)),
        ("p/d/self", link("p/d")),
        ("a/b", link("b")),
        ("b/a", link("a")),
    ]);
    let all = below_p(&tree, SymlinkPolicy::CollapseAll);
    let expected = snapshot([
        ("d", dir()),
        ("up/p/d", dir()),
        ("up/a/b", dir()),
        ("up/b/a", dir()),
    ]);
    assert_eq!(all, expected);
    let escaping = below_p(&tree, SymlinkPolicy::CollapseEscaping);
    let expected = snapshot([
        ("d/self", link("d")),
        ("up/p/d/self", link("up/p/d")),
        ("up/p/up", link("up")),
        ("up/a/b", link("up/b")),
        ("up/b/a", link("up/a")),
    ]);
    assert_eq!(escaping, expected);
}

#[test]
fn a_few_links_do_not_stand_for_more_than_the_memory_holds() {
    // Each folder has ten links to the next: 10^12 files.
    let mut entries = vec![(path("p/l"), link("0")), (path("12/f"), file(1))];
    for level in 0..12 {
        for i in 0..10 {
            let target = link(&(level + 1).to_string());
            entries.push((path(&format!("{level}/{i}")), target));
        }
    }
    let tree = Snapshot::new(crate::ChunkSize::DEFAULT, None, entries).unwrap();
    let error = tree.subtree(Some(&path("p")), SymlinkPolicy::CollapseAll);
    assert!(
        matches!(error, Err(SubtreeError::TooMuch { .. })),
        "{error:?}"
    );
}

#[test]
fn copies_lie_in_one_another_only_so_deep() {
    let mut entries = vec![(path("p/l"), link("0"))];
    for level in 0..60 {
        let next = link(&(level + 1).to_string());
        entries.push((path(&format!("{level}/l")), next));
    }
    entries.push((path("60"), dir()));
    let tree = Snapshot::new(crate::ChunkSize::DEFAULT, None, entries).unwrap();
    let error = tree.subtree(Some(&path("p")), SymlinkPolicy::CollapseAll);
    assert!(
        matches!(error, Err(SubtreeError::TooMuch { .. })),
        "{error:?}"
    );
}

#[test]
fn a_path_that_is_too_long_in_its_new_place_names_the_link() {
    let deep = vec!["d".repeat(255); 15].join("/");
    let long = format!("p/{}/{}", "l".repeat(255), "l".repeat(255));
    let tree = snapshot([
        (format!("o/{deep}").as_str(), file(1)),
        (long.as_str(), link("o")),
    ]);
    let error = tree.subtree(Some(&path("p")), SymlinkPolicy::CollapseEscaping);
    let expected = path(long.strip_prefix("p/").unwrap());
    assert!(
        matches!(&error, Err(SubtreeError::Path { link, .. }) if *link == expected),
        "{error:?}"
    );
}

#[test]
fn a_file_has_no_subtree_and_a_directory_that_is_not_there_an_empty_one() {
    let tree = snapshot([("d/f", file(1)), ("l", link("d"))]);
    let policy = SymlinkPolicy::default();
    for (at, named, kind) in [
        ("d/f", "d/f", "a file"),
        ("d/f/x/y", "d/f", "a file"),
        ("l/f", "l", "a symbolic link"),
    ] {
        let error = SubtreeError::NotADirectory {
            path: path(named),
            kind,
        };
        assert_eq!(tree.subtree(Some(&path(at)), policy), Err(error));
    }
    for at in ["x", "d/x/y"] {
        assert_eq!(tree.subtree(Some(&path(at)), policy), Ok(snapshot([])));
    }
}

#[test]
fn a_diff_cuts_out_changes_and_collapses_what_it_knows() {
    let base = snapshot([
        ("p/gone", file(1)),
        ("p/was_dir/x", file(1)),
        ("o/old", file(1)),
    ]);
    let new = snapshot([
        ("p/was_dir", unhashed(3)),
        ("p/l", link("o/new")),
        ("p/in", link("p/was_dir")),
        ("o/new", file(2)),
        ("o/old", file(1)),
    ]);
    let diff = new.diff(&base, None);
    let cut = |diff: &Diff, policy| diff.subtree(Some(&path("p")), policy);
    let policy = SymlinkPolicy::CollapseEscaping;
    let expected = below_p(&new, policy).diff(&below_p(&base, policy), None);
    assert_eq!(cut(&diff, policy), Ok(expected));

    let to_old = snapshot([("p/l", link("o/old")), ("o/old", file(1))]);
    let diff = to_old.diff(&snapshot([("o/old", file(1))]), None);
    let error = SubtreeError::Unknown { link: path("p/l") };
    assert_eq!(cut(&diff, policy), Err(error));
    let left_out = cut(&diff, SymlinkPolicy::ExcludeEscaping).unwrap();
    assert!(left_out.is_empty());
}
