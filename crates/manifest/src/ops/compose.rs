//! Two diffs as one, without the snapshot they were made for.
//!
//! **Laws**, for diffs that fit each other: `base.apply_composed(&a.then(&b)?)` is
//! `base.apply(&a)?.apply(&b)`, and `a.then(&b)?.then(&c)` and `a.then(&b.then(&c)?)` are the same but
//! for deletions of what the base cannot have: which of those are known depends on the order.
//!
//! What a diff says of a path is two things: which kind it takes away (a directory, or a file or
//! link; there may have been nothing) and what it leaves. So of two changes of one path the composed
//! one takes away what the first does and leaves what the second does:
//!
//! ```text
//!              leaves nothing   leaves a file or link     leaves a directory
//! takes a file     DeleteFile   Put(file)                 DeleteFile, Put(Dir)
//! takes a dir       DeleteDir   DeleteDir, Put(file)      Put(Dir)
//! ```
//!
//! Three things go beyond a single path:
//!
//! * What is put has directories above it. They are put too, as the formats list them anyway; so a
//!   directory that one diff deletes and another puts something into is not deleted.
//! * Below a path where there was no directory there was nothing to delete.
//! * A directory that is listed only because a link's target lies below it gives way to a file or
//!   link, as when a diff is applied. If the first diff does not say what is there and the second
//!   takes the link away, the composed diff puts the directory, and does not apply where a base has
//!   a file or link in its place.
//!
//! A composed diff may delete what is not there, hence [`Snapshot::apply_composed`]. (In the reference
//! every diff may.)
//!
//! [`Snapshot::apply_composed`]: crate::Snapshot::apply_composed

use std::collections::HashSet;
use std::iter::Peekable;

use crate::path::{PathRef, ancestors_of, parent_of};
use crate::snapshot::{Budget, TooMuch};
use crate::table::{Table, TooLarge};
use crate::{Change, Diff, DiffError, LinkTarget, ManifestPath, Node, SnapshotError};

/// What a diff says of one path.
#[derive(Debug, Clone)]
struct Step {
    takes_directory: bool,
    leaves: Option<Node>,
}

impl Step {
    /// A directory is put.
    const DIRECTORY: Self = Self {
        takes_directory: true,
        leaves: Some(Node::Dir),
    };

    fn of(table: &Table, places: std::ops::Range<usize>) -> Option<Self> {
        let mut changes = places.map(|index| table.change(index));
        let first = changes.next()?;
        let leaves = match changes.next() {
            None => first.as_put().cloned(),
            Some(second) => second.as_put().cloned(),
        };
        let takes_directory = match first {
            Change::DeleteDir => true,
            Change::DeleteFile => false,
            Change::Put(node) => node.is_dir(),
        };
        Some(Self {
            takes_directory,
            leaves,
        })
    }

    fn changes(self) -> impl Iterator<Item = Change> {
        let deletion = match (self.takes_directory, &self.leaves) {
            (true, Some(Node::Dir)) | (false, Some(Node::File(_) | Node::Symlink(_))) => None,
            (true, _) => Some(Change::DeleteDir),
            (false, _) => Some(Change::DeleteFile),
        };
        deletion.into_iter().chain(self.leaves.map(Change::Put))
    }

    fn only_puts_a_directory(&self) -> bool {
        self.takes_directory && matches!(self.leaves, Some(Node::Dir))
    }

    fn leaves_file(&self) -> bool {
        self.leaves.as_ref().is_some_and(|node| !node.is_dir())
    }

    fn then(self, next: Self, path: PathRef<'_>) -> Result<Self, DiffError> {
        let fits = match &self.leaves {
            None => true,
            Some(node) => node.is_dir() == next.takes_directory,
        };
        if !fits {
            let path = path.to_owned();
            let found = self.leaves.as_ref().map_or("nothing", Node::kind);
            return Err(match next.changes().next() {
                Some(Change::Put(node)) => DiffError::Put {
                    path,
                    kind: node.kind(),
                    found,
                },
                Some(Change::DeleteDir) => DiffError::Delete {
                    path,
                    kind: "a directory",
                    found,
                },
                Some(Change::DeleteFile) | None => DiffError::Delete {
                    path,
                    kind: "a file",
                    found,
                },
            });
        }
        Ok(Self {
            takes_directory: self.takes_directory,
            leaves: next.leaves,
        })
    }
}

impl Diff {
    /// This diff and then `next` as one diff, with this one's parent.
    ///
    /// Errors say "the base" of what this diff leaves. `next` does not fit if it was made for
    /// something else: if it deletes a directory where this diff leaves a file, say, or only half of
    /// what this diff puts into a directory. (The reference composes any two diffs that cut files
    /// alike.)
    pub fn then(&self, next: &Self) -> Result<Self, DiffError> {
        if self.chunk_size() != next.chunk_size() {
            return Err(DiffError::ChunkSize {
                base: self.chunk_size(),
                diff: next.chunk_size(),
            });
        }
        let (first, second) = (self.table(), next.table());
        let deleted = next
            .changes()
            .filter(|(_, change)| *change == Change::DeleteDir);
        let emptied: HashSet<&[u8]> = deleted.map(|(path, _)| path.as_bytes()).collect();
        let leading = leading_to_targets(self);
        let next_leading = leading_to_targets(next);
        let mut composed = Composed::default();
        let mut steps = Steps::of(first)?.peekable();
        let mut next_steps = Steps::of(second)?.peekable();
        loop {
            let path = match (steps.peek(), next_steps.peek()) {
                (None, None) => break,
                (Some(&(path, _)), None) | (None, Some(&(path, _))) => path,
                (Some(&(path, _)), Some(&(next, _))) => path.min(next),
            };
            let mut step = steps.next_if(|&(at, _)| at == path);
            let mut next_step = next_steps.next_if(|&(at, _)| at == path);
            let is_leading = |step: &Option<(PathRef<'_>, Step)>, leading: &HashSet<&[u8]>| {
                matches!(step, Some((_, step)) if step.only_puts_a_directory())
                    && leading.contains(path.as_bytes())
            };
            // Left out where there is a file, or a file above: when the first diff is applied, ...
            if is_leading(&step, &leading) && takes_a_file_at_or_above(second, path) {
                step = None;
            }
            // ... and when the second is.
            if is_leading(&next_step, &next_leading) {
                let leaves_file = matches!(&step, Some((_, step)) if step.leaves_file());
                let there_is_a_file = leaves_file || composed.is_below_a_file(path);
                if there_is_a_file {
                    next_step = None;
                }
            }
            let step = match (step, next_step) {
                (Some((_, step)), Some((_, next))) => Some(step.then(next, path)?),
                (Some((_, step)), None) => {
                    if step.leaves.is_some()
                        && let Some(directory) = parent_of(path.as_bytes())
                        && emptied.contains(directory)
                    {
                        return Err(DiffError::NotEmpty {
                            directory: ManifestPath::from_ancestor(directory),
                            path: path.to_owned(),
                        });
                    }
                    Some(step)
                }
                (None, next) => next.map(|(_, next)| next),
            };
            if let Some(step) = step {
                composed.push(path, step)?;
            }
        }
        Ok(Self::from_table(
            self.chunk_size(),
            self.parent(),
            composed.table,
        )?)
    }
}

/// The directories above the targets of the links that a diff puts.
fn leading_to_targets(diff: &Diff) -> HashSet<&[u8]> {
    let mut leading = HashSet::new();
    for target in diff.targets() {
        if let LinkTarget::Below(target) = target {
            leading.extend(ancestors_of(target.as_bytes()));
        }
    }
    leading
}

/// Whether the second diff was made for a tree with a file or link at a path, or above it.
fn takes_a_file_at_or_above(second: &Table, path: PathRef<'_>) -> bool {
    std::iter::once(path.as_bytes())
        .chain(ancestors_of(path.as_bytes()))
        .any(|path| {
            let step = Step::of(second, second.find(path));
            step.is_some_and(|step| !step.takes_directory)
        })
}

/// The steps of a diff by path, with the directories above everything that it puts.
struct Steps<'a> {
    table: &'a Table,
    at: usize,
    /// The directories above what is put.
    above: HashSet<&'a [u8]>,
    /// Those that the diff does not mention, in order.
    missing: Peekable<std::vec::IntoIter<PathRef<'a>>>,
}

impl<'a> Steps<'a> {
    fn of(table: &'a Table) -> Result<Self, DiffError> {
        let mut above = HashSet::new();
        let mut missing = Vec::new();
        let mut budget = Budget::default();
        for index in 0..table.len() {
            let path = table.path(index);
            budget.give(path.as_bytes());
            if table.is_deletion(index) {
                continue;
            }
            for directory in path.ancestors() {
                if !above.insert(directory.as_bytes()) {
                    break;
                }
                if table.find(directory.as_bytes()).is_empty() {
                    let path = || path.to_owned();
                    budget
                        .add(directory.as_bytes())
                        .map_err(|TooMuch| SnapshotError::TooDeep { path: path() })?;
                    missing.push(directory);
                }
            }
        }
        missing.sort_unstable();
        Ok(Self {
            table,
            at: 0,
            above,
            missing: missing.into_iter().peekable(),
        })
    }
}

impl<'a> Iterator for Steps<'a> {
    type Item = (PathRef<'a>, Step);

    fn next(&mut self) -> Option<Self::Item> {
        let listed = (self.at < self.table.len()).then(|| self.table.path(self.at));
        if let Some(missing) = self
            .missing
            .next_if(|&missing| listed.is_none_or(|listed| missing < listed))
        {
            return Some((missing, Step::DIRECTORY));
        }
        let path = listed?;
        let start = self.at;
        while self.at < self.table.len() && self.table.path(self.at) == path {
            self.at += 1;
        }
        let mut step = Step::of(self.table, start..self.at)?;
        if step.leaves.is_none() && self.above.contains(path.as_bytes()) {
            step.leaves = Some(Node::Dir);
        }
        Some((path, step))
    }
}

/// The composed changes, in order, as far as they have come.
#[derive(Default)]
struct Composed {
    table: Table,
}

impl Composed {
    fn push(&mut self, path: PathRef<'_>, mut step: Step) -> Result<(), DiffError> {
        let only_puts = match &step.leaves {
            Some(node) => node.is_dir() == step.takes_directory,
            None => false,
        };
        if !only_puts && self.is_below_what_was_no_directory(path) {
            match &step.leaves {
                Some(node) => step.takes_directory = node.is_dir(),
                None => return Ok(()),
            }
        }
        for change in step.changes() {
            let pushed = self.table.push(path, change);
            pushed.map_err(|TooLarge| SnapshotError::TooLarge {
                path: path.to_owned(),
            })?;
        }
        Ok(())
    }

    // What lies above a path sorts before it, so it is there already.
    fn is_below_what_was_no_directory(&self, path: PathRef<'_>) -> bool {
        ancestors_of(path.as_bytes()).any(|above| {
            let step = Step::of(&self.table, self.table.find(above));
            step.is_some_and(|step| !step.takes_directory)
        })
    }

    fn is_below_a_file(&self, path: PathRef<'_>) -> bool {
        ancestors_of(path.as_bytes()).any(|above| {
            let step = Step::of(&self.table, self.table.find(above));
            step.is_some_and(|step| step.leaves_file())
        })
    }
}

#[cfg(test)]
mod tests {
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
}
