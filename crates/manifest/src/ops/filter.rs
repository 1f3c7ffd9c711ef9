//! Keeping some entries.
//!
//! **Law:** keeping everything gives the same snapshot, or diff, again.
//!
//! A directory is kept if something in it is kept, or if it was empty and the predicate keeps it. The
//! predicate is not asked about directories that hold something: one from which everything was
//! filtered out is gone. (`openjd-snapshots` asks about every directory and keeps what matches, empty
//! or not.)

use std::collections::HashSet;

use crate::path::{PathRef, parent_of};
use crate::table::{Table, TooLarge};
use crate::{Change, Diff, Node, Snapshot};

/// The entries whose places are marked. They come from one table, so they fit into one.
fn selected(table: &Table, keep: &[bool]) -> Table {
    let mut result = Table::with_capacity(keep.iter().filter(|&&keep| keep).count());
    for index in (0..table.len()).filter(|&index| keep[index]) {
        if let Err(TooLarge) = result.push(table.path(index), table.change(index)) {
            unreachable!("part of a table is not larger than the table");
        }
    }
    result
}

/// The directories that hold something of what `counts`.
fn holding(table: &Table, counts: impl Fn(usize) -> bool) -> HashSet<&[u8]> {
    let mut holding = HashSet::new();
    let mut last = None;
    for index in (0..table.len()).filter(|&index| counts(index)) {
        let parent = parent_of(table.path(index).as_bytes());
        if parent != last {
            holding.extend(parent);
            last = parent;
        }
    }
    holding
}

/// Marks the directories above what is marked, of those that `counts`.
fn keep_above(table: &Table, keep: &mut [bool], counts: impl Fn(usize) -> bool) {
    let mut above: HashSet<&[u8]> = HashSet::new();
    // What lies below a directory comes after it.
    for index in (0..table.len()).rev().filter(|&index| counts(index)) {
        let path = table.path(index).as_bytes();
        keep[index] |= above.contains(path);
        if keep[index]
            && let Some(parent) = parent_of(path)
        {
            above.insert(parent);
        }
    }
}

impl Snapshot {
    /// The entries that `keep` keeps, and the directories above them. `keep` is asked about every
    /// file, link and empty directory, in the order of their paths. The parent stays.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(PathRef<'_>, &Node) -> bool) -> Self {
        let table = self.table();
        let holding = holding(table, |_| true);
        let mut kept: Vec<bool> = self
            .entries()
            .map(|(path, node)| {
                !(node.is_dir() && holding.contains(path.as_bytes())) && keep(path, &node)
            })
            .collect();
        keep_above(table, &mut kept, |_| true);
        Self::from_sorted(self.chunk_size(), self.parent(), selected(table, &kept))
    }
}

impl Diff {
    /// The changes that `keep` keeps. The parent stays.
    ///
    /// `keep` is asked about every change in the order of their paths, but not about directories that
    /// hold something: a put directory is kept with what is put in it, a deleted one with what is
    /// deleted in it. So files and links that a filter by path keeps come out the same whether a diff
    /// is filtered, or the snapshots it was made of. A directory does not always: whether it was
    /// empty before, a diff cannot tell.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(PathRef<'_>, &Change) -> bool) -> Self {
        let table = self.table();
        let is_put = |index| !table.is_deletion(index);
        let is_deletion = |index| table.is_deletion(index);
        let puts_in = holding(table, is_put);
        let deletes_in = holding(table, is_deletion);
        let mut kept: Vec<bool> = self
            .changes()
            .map(|(path, change)| {
                let holds = match &change {
                    Change::Put(node) => node.is_dir() && puts_in.contains(path.as_bytes()),
                    Change::DeleteDir => deletes_in.contains(path.as_bytes()),
                    Change::DeleteFile => false,
                };
                !holds && keep(path, &change)
            })
            .collect();
        keep_above(table, &mut kept, is_put);
        keep_above(table, &mut kept, is_deletion);
        Self::from_sorted(self.chunk_size(), self.parent(), selected(table, &kept))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ContentHash;
    use crate::testing::{any_snapshot, dir, file, path, snapshot};

    fn has_a(path: PathRef<'_>) -> bool {
        path.as_bytes().contains(&b'a')
    }

    proptest! {
        #[test]
        fn keeping_everything_changes_nothing(base in any_snapshot(), new in any_snapshot()) {
            let new = new.with_parent(Some(ContentHash::of(b"p")));
            prop_assert_eq!(&new.filter(|_, _| true), &new);
            let diff = new.diff(&base, Some(ContentHash::of(b"p")));
            prop_assert_eq!(&diff.filter(|_, _| true), &diff);
        }

        #[test]
        fn what_is_kept_are_the_entries_asked_for_and_what_lies_above(tree in any_snapshot()) {
            let kept = tree.filter(|path, _| has_a(path));
            let holds = |tree: &Snapshot, path: PathRef<'_>| {
                tree.entries().any(|(other, _)| other.is_below(path))
            };
            for (path, node) in tree.entries() {
                let expected = if holds(&tree, path) { holds(&kept, path) } else { has_a(path) };
                prop_assert_eq!(kept.get(path), expected.then_some(node));
            }
            let entries = kept.entries().map(|(path, node)| (path.to_owned(), node));
            let made_anew = Snapshot::new(kept.chunk_size(), None, entries);
            prop_assert_eq!(made_anew, Ok(kept.clone()));
            let files = kept.entries().filter_map(|(_, node)| Some(node.as_file()?.size));
            prop_assert_eq!(kept.total_size(), files.sum::<u64>());
        }

        #[test]
        fn files_come_out_the_same_from_a_filtered_diff(
            base in any_snapshot(),
            new in any_snapshot(),
        ) {
            let files = |tree: &Snapshot| {
                let entries = tree.entries().map(|(path, node)| (path.to_owned(), node));
                entries.filter(|(_, node)| !node.is_dir()).collect::<Vec<_>>()
            };
            let diff = new.diff(&base, None).filter(|path, _| has_a(path));
            let kept = base.filter(|path, _| has_a(path));
            if let Ok(changed) = kept.apply_composed(&diff) {
                let expected = new.filter(|path, _| has_a(path));
                prop_assert_eq!(files(&changed), files(&expected));
            }
        }
    }

    #[test]
    fn only_directories_that_were_empty_before_are_kept_empty() {
        let tree = snapshot([
            ("keep_empty", dir()),
            ("empty", dir()),
            ("keep_full/x", file(1)),
            ("d/keep", file(2)),
        ]);
        let kept = tree.filter(|path, _| path.name().starts_with(b"keep"));
        assert_eq!(kept, snapshot([("keep_empty", dir()), ("d/keep", file(2))]));
    }

    #[test]
    fn a_deleted_directory_is_kept_with_what_is_deleted_in_it() {
        let base = snapshot([("d/keep", file(1)), ("e/x", file(1)), ("keep", dir())]);
        let diff = snapshot([("keep", file(9))]).diff(&base, None);
        let kept = diff.filter(|path, _| path.name() == b"keep");
        let changes: Vec<_> = kept
            .changes()
            .map(|(path, change)| (path.to_owned(), change))
            .collect();
        let expected = [
            (path("d"), Change::DeleteDir),
            (path("d/keep"), Change::DeleteFile),
            (path("keep"), Change::DeleteDir),
            (path("keep"), Change::Put(file(9))),
        ];
        assert_eq!(changes, expected);
        assert_eq!(kept.total_size(), 9);
    }
}
