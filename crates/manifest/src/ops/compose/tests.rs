use proptest::prelude::*;

use super::*;
use crate::testing::{any_snapshot, dir, file, link, path, snapshot};
use crate::wire::{Format, Manifest, decode, encode_diff};
use crate::{ChunkSize, ContentHash, Snapshot};

fn diff<const N: usize>(changes: [(&str, Change); N]) -> Diff {
    let changes = changes.map(|(text, change)| (path(text), change));
    Diff::new(ChunkSize::DEFAULT, None, changes).unwrap()
}

fn put(node: Node) -> Change {
    Change::Put(node)
}

/// A diff as it is after it was written and read: with every directory above a link's target.
fn read_again(diff: &Diff) -> Diff {
    let text = encode_diff(diff, Format::V2025_12).unwrap();
    match decode(&text).unwrap() {
        (_, Manifest::Diff(diff)) => diff,
        (_, Manifest::Snapshot(_)) => unreachable!("a diff was written"),
    }
}

proptest! {
    #[test]
    fn two_diffs_in_one_do_what_they_do_one_after_the_other(
        base in any_snapshot(),
        middle in any_snapshot(),
        new in any_snapshot(),
    ) {
        let composed = middle.diff(&base, None).then(&new.diff(&middle, None)).unwrap();
        prop_assert_eq!(base.apply_composed(&composed), Ok(new));
    }

    #[test]
    fn composing_is_associative(
        trees in prop::collection::vec(any_snapshot(), 4),
    ) {
        let diffs: Vec<_> = trees.windows(2).map(|pair| pair[1].diff(&pair[0], None)).collect();
        let [a, b, c] = &diffs[..] else { unreachable!("four trees have three differences") };
        let left = a.then(b).unwrap().then(c).unwrap();
        let right = a.then(&b.then(c).unwrap()).unwrap();
        let base = &trees[0];
        for composed in [&left, &right] {
            prop_assert_eq!(base.apply_composed(composed), Ok(trees[3].clone()));
        }
        let says_something = |diff: &Diff| {
            let changes = diff.changes().map(|(path, change)| (path.to_owned(), change));
            changes
                .filter(|(path, change)| change.as_put().is_some() || base.get(path).is_some())
                .collect::<Vec<_>>()
        };
        prop_assert_eq!(says_something(&left), says_something(&right));
    }

    #[test]
    fn diffs_that_were_read_compose_likewise(
        base in any_snapshot(),
        middle in any_snapshot(),
        new in any_snapshot(),
    ) {
        let first = read_again(&middle.diff(&base, None));
        let middle = base.apply(&first).unwrap();
        let second = read_again(&new.diff(&middle, None));
        let composed = first.then(&second).unwrap();
        match base.apply_composed(&composed) {
            Ok(applied) => prop_assert_eq!(Ok(applied), middle.apply(&second)),
            // A directory above the target of a link that the second diff took away.
            Err(DiffError::Put { path, kind, .. }) => {
                prop_assert_eq!(kind, "a directory");
                prop_assert!(leading_to_targets(&first).contains(path.as_bytes()));
            }
            Err(DiffError::Tree(SnapshotError::BelowFile { file, .. })) => {
                prop_assert!(leading_to_targets(&first).contains(file.as_bytes()));
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

#[test]
fn of_two_changes_of_a_path_the_first_says_what_was_and_the_second_what_is() {
    use Change::{DeleteDir, DeleteFile};
    let cases: &[(&[Change], &[Change], &[Change])] = &[
        (&[put(file(1))], &[put(file(2))], &[put(file(2))]),
        (&[put(file(1))], &[DeleteFile], &[DeleteFile]),
        (&[DeleteFile], &[put(file(2))], &[put(file(2))]),
        (&[DeleteFile], &[put(dir())], &[DeleteFile, put(dir())]),
        (&[put(dir())], &[DeleteDir], &[DeleteDir]),
        (&[DeleteDir], &[put(file(2))], &[DeleteDir, put(file(2))]),
        (&[DeleteDir], &[put(dir())], &[put(dir())]),
        (&[DeleteDir, put(file(1))], &[DeleteFile], &[DeleteDir]),
        (
            &[DeleteDir, put(file(1))],
            &[DeleteFile, put(dir())],
            &[put(dir())],
        ),
        (&[DeleteFile, put(dir())], &[DeleteDir], &[DeleteFile]),
        (
            &[DeleteFile, put(dir())],
            &[DeleteDir, put(link("x"))],
            &[put(link("x"))],
        ),
    ];
    let make = |changes: &[Change]| {
        let changes = changes.iter().map(|change| (path("a"), change.clone()));
        Diff::new(ChunkSize::DEFAULT, None, changes).unwrap()
    };
    for (first, second, composed) in cases {
        let made = make(first).then(&make(second));
        assert_eq!(made, Ok(make(composed)), "{first:?} {second:?}");
    }
}

#[test]
fn a_deleted_directory_is_not_deleted_if_something_is_put_into_it_later() {
    let first = diff([("d", Change::DeleteDir), ("d/a", Change::DeleteFile)]);
    let composed = first.then(&diff([("d/b", put(file(1)))])).unwrap();
    let expected = diff([
        ("d", put(dir())),
        ("d/a", Change::DeleteFile),
        ("d/b", put(file(1))),
    ]);
    assert_eq!(composed, expected);
    let gone = composed.then(&diff([("d/b", Change::DeleteFile)])).unwrap();
    let base = snapshot([("d/a", file(1))]);
    assert_eq!(base.apply_composed(&gone), Ok(snapshot([("d", dir())])));
}

#[test]
fn what_was_put_below_a_former_file_and_deleted_was_never_there() {
    let first = diff([
        ("a", Change::DeleteFile),
        ("a", put(dir())),
        ("a/b", put(dir())),
        ("a/b/c", put(file(1))),
    ]);
    let second = diff([
        ("a/b", Change::DeleteDir),
        ("a/b", put(file(2))),
        ("a/b/c", Change::DeleteFile),
    ]);
    let expected = diff([
        ("a", Change::DeleteFile),
        ("a", put(dir())),
        ("a/b", put(file(2))),
    ]);
    assert_eq!(first.then(&second), Ok(expected));
}

#[test]
fn diffs_that_do_not_follow_each_other_are_refused() {
    let refused = |first: Diff, second: Diff| first.then(&second).unwrap_err();
    assert_eq!(
        refused(
            diff([("a", put(file(1)))]),
            diff([("a", Change::DeleteDir)])
        ),
        DiffError::Delete {
            path: path("a"),
            kind: "a directory",
            found: "a file",
        }
    );
    assert_eq!(
        refused(diff([("a", put(dir()))]), diff([("a", put(link("x")))])),
        DiffError::Put {
            path: path("a"),
            kind: "a symbolic link",
            found: "a directory",
        }
    );
    assert_eq!(
        refused(
            diff([("d/e/a", put(file(1)))]),
            diff([("d", Change::DeleteDir), ("d/e/a", Change::DeleteFile)])
        ),
        DiffError::NotEmpty {
            directory: path("d"),
            path: path("d/e"),
        }
    );
    assert!(matches!(
        refused(diff([("a", put(file(1)))]), diff([("a/b", put(file(1)))])),
        DiffError::Put { .. }
    ));
    let whole = Diff::new(ChunkSize::WholeFile, None, []).unwrap();
    assert_eq!(
        refused(whole, diff([])),
        DiffError::ChunkSize {
            base: ChunkSize::WholeFile,
            diff: ChunkSize::DEFAULT,
        }
    );
}

#[test]
fn directories_above_a_links_target_give_way_to_what_the_first_diff_leaves() {
    let first = diff([("latest", put(link("v2"))), ("v2", put(dir()))]);
    let second = read_again(&diff([("cur", put(link("latest/x/y")))]));
    let composed = first.then(&second).unwrap();
    let nothing = Snapshot::new(ChunkSize::DEFAULT, None, []).unwrap();
    let expected = snapshot([
        ("latest", link("v2")),
        ("v2", dir()),
        ("cur", link("latest/x/y")),
    ]);
    assert_eq!(nothing.apply_composed(&composed), Ok(expected));
}

#[test]
fn directories_above_a_links_target_are_not_put_into_a_directory_that_became_a_file() {
    let base = snapshot([("d/e", dir())]);
    let middle = snapshot([("d", file(1))]);
    let new = snapshot([("d", file(1)), ("l", link("d/e/x"))]);
    let second = read_again(&new.diff(&middle, None));
    let composed = middle.diff(&base, None).then(&second).unwrap();
    assert_eq!(base.apply_composed(&composed), Ok(new));
}

#[test]
fn a_file_that_the_first_diff_passes_over_on_the_way_to_a_target_may_change_in_the_second() {
    let base = snapshot([("d", file(1))]);
    let middle = snapshot([("d", file(1)), ("l", link("d/e/x"))]);
    let new = snapshot([("d", file(2)), ("l", link("d/e/x"))]);
    let first = read_again(&middle.diff(&base, None));
    let composed = first.then(&new.diff(&middle, None)).unwrap();
    assert_eq!(base.apply_composed(&composed), Ok(new));
}

#[test]
fn the_result_has_the_parent_of_the_first_and_the_size_of_what_is_left() {
    let [one, two] = [b"1", b"2"].map(|bytes| Some(ContentHash::of(bytes)));
    let first = diff([("a", put(file(3))), ("b", put(file(4)))]).with_parent(one);
    let second = diff([("a", Change::DeleteFile), ("c", put(file(5)))]).with_parent(two);
    let composed = first.then(&second).unwrap();
    assert_eq!((composed.parent(), composed.total_size()), (one, 9));
}
