//! Applying a diff to the snapshot it was made for.
//!
//! Base and diff are sorted alike, so this is one merge. It is strict: a diff that deletes
//! something the base does not have, or a directory without everything in it, was made for another
//! base.
//!
//! Two changes that look like contradictions are allowed:
//!
//! * A directory is deleted and something is put into it. The directory stays.
//! * A directory is put where the base has a file or link, or below one, and a link of the same diff
//!   has its target below that directory. The formats list the directories above a link's target
//!   whether they exist or not: what the base has stays.

use std::collections::HashSet;

use crate::path::{PathRef, ancestors_of, parent_of};
use crate::table::{Table, TooLarge};
use crate::{Change, Diff, DiffError, LinkTarget, ManifestPath, Node, Snapshot, SnapshotError};

impl Snapshot {
    /// This snapshot with the changes of `diff`. The result has no [`Snapshot::parent`].
    ///
    /// Whether the diff's parent is this snapshot is not checked: that takes the hash of the bytes
    /// this snapshot came from.
    pub fn apply(&self, diff: &Diff) -> Result<Self, DiffError> {
        self.apply_by(diff, Missing::IsAnError)
    }

    /// [`Snapshot::apply`] for a diff that was composed of several ([`Diff::then`]): deleting what is
    /// not there changes nothing.
    ///
    /// A file that one of them puts and a later one deletes may have been there before, or not. So
    /// the composed diff has to delete it, and does not know whether there is something to delete.
    pub fn apply_composed(&self, diff: &Diff) -> Result<Self, DiffError> {
        self.apply_by(diff, Missing::IsDeleted)
    }

    fn apply_by(&self, diff: &Diff, missing: Missing) -> Result<Self, DiffError> {
        if self.chunk_size() != diff.chunk_size() {
            return Err(DiffError::ChunkSize {
                base: self.chunk_size(),
                diff: diff.chunk_size(),
            });
        }
        let mut merge = Merge::new(self.len() + diff.len(), diff, missing);
        let mut base = self.entries().peekable();
        let mut changes = diff.changes().peekable();
        while let Some(&(path, _)) = changes.peek() {
            while let Some((path, node)) = base.next_if(|&(old, _)| old < path) {
                merge.keep(path, node)?;
            }
            let mut node = base.next_if(|&(old, _)| old == path).map(|(_, node)| node);
            while let Some((_, change)) = changes.next_if(|&(next, _)| next == path) {
                node = merge.change(path, node, change)?;
            }
            if let Some(node) = node {
                merge.put(path, node)?;
            }
        }
        for (path, node) in base {
            merge.keep(path, node)?;
        }
        Ok(Self::from_table(self.chunk_size(), None, merge.result)?)
    }
}

/// What happens where a diff deletes something that the base does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsAnError,
    IsDeleted,
}

struct Merge<'a> {
    missing: Missing,
    /// The entries of the result so far, in order.
    result: Table,
    deleted: HashSet<&'a [u8]>,
    above_targets: HashSet<&'a [u8]>,
    /// Directories that the diff lists only because a link's target lies below them, and that were
    /// left out.
    left_out: HashSet<&'a [u8]>,
}

impl<'a> Merge<'a> {
    fn new(capacity: usize, diff: &'a Diff, missing: Missing) -> Self {
        let mut above_targets = HashSet::new();
        for target in diff.targets() {
            if let LinkTarget::Below(target) = target {
                for directory in ancestors_of(target.as_bytes()) {
                    if !above_targets.insert(directory) {
                        break;
                    }
                }
            }
        }
        Self {
            missing,
            result: Table::with_capacity(capacity),
            deleted: HashSet::new(),
            above_targets,
            left_out: HashSet::new(),
        }
    }

    fn put(&mut self, path: PathRef<'_>, node: Node) -> Result<(), DiffError> {
        let put = self.result.push(path, Change::Put(node));
        put.map_err(|TooLarge| {
            SnapshotError::TooLarge {
                path: path.to_owned(),
            }
            .into()
        })
    }

    /// An entry of the base that the diff does not mention.
    fn keep(&mut self, path: PathRef<'_>, node: Node) -> Result<(), DiffError> {
        if !self.deleted.is_empty()
            && let Some(parent) = parent_of(path.as_bytes())
            && self.deleted.contains(parent)
        {
            return Err(DiffError::NotEmpty {
                directory: ManifestPath::from_ancestor(parent),
                path: path.to_owned(),
            });
        }
        self.put(path, node)
    }

    /// What is at `path` after `change`, where `node` was.
    fn change(
        &mut self,
        path: PathRef<'a>,
        node: Option<Node>,
        change: Change,
    ) -> Result<Option<Node>, DiffError> {
        let found = node.as_ref().map_or("nothing", Node::kind);
        let delete_error = |kind| DiffError::Delete {
            path: path.to_owned(),
            kind,
            found,
        };
        match (change, node) {
            (Change::DeleteDir, Some(Node::Dir)) => {
                self.deleted.insert(path.as_bytes());
                Ok(None)
            }
            (Change::DeleteDir | Change::DeleteFile, None)
                if self.missing == Missing::IsDeleted =>
            {
                Ok(None)
            }
            (Change::DeleteDir, _) => Err(delete_error("a directory")),
            (Change::DeleteFile, Some(Node::File(_) | Node::Symlink(_))) => Ok(None),
            (Change::DeleteFile, _) => Err(delete_error("a file")),
            (Change::Put(Node::Dir), node) if self.only_leads_to_a_target(path, node.as_ref()) => {
                self.left_out.insert(path.as_bytes());
                Ok(node)
            }
            (Change::Put(put), Some(found)) if put.is_dir() != found.is_dir() => {
                Err(DiffError::Put {
                    path: path.to_owned(),
                    kind: put.kind(),
                    found: found.kind(),
                })
            }
            (Change::Put(put), _) => Ok(Some(put)),
        }
    }

    /// Whether a directory is listed only because a link's target lies below it, while a file or
    /// link is there, or above it.
    fn only_leads_to_a_target(&self, path: PathRef<'_>, node: Option<&Node>) -> bool {
        self.above_targets.contains(path.as_bytes())
            && node.map_or_else(|| self.is_below_a_file(path), |node| !node.is_dir())
    }

    fn is_below_a_file(&self, path: PathRef<'_>) -> bool {
        // What lies above a path sorts before it, so it is decided already.
        for above in ancestors_of(path.as_bytes()) {
            if self.left_out.contains(above) {
                return true;
            }
            if let Some(found) = self.result.find(above).next() {
                return !self.result.is_put_dir(found);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_snapshot, dir, file, link, path, snapshot};
    use crate::{ChunkSize, SnapshotError};

    fn diff<const N: usize>(changes: [(&str, Change); N]) -> Diff {
        let changes = changes.map(|(text, change)| (path(text), change));
        Diff::new(ChunkSize::DEFAULT, None, changes).unwrap()
    }

    fn put(node: Node) -> Change {
        Change::Put(node)
    }

    proptest! {
        #[test]
        fn applying_a_difference_gives_the_new_snapshot(base in any_snapshot(), new in any_snapshot()) {
            prop_assert_eq!(base.apply(&new.diff(&base, None)), Ok(new));
        }

        #[test]
        fn nothing_differs_from_itself(tree in any_snapshot()) {
            prop_assert!(tree.diff(&tree, None).is_empty());
        }
    }

    #[test]
    fn deleting_what_is_not_there_names_it() {
        let base = snapshot([("d/a", file(1))]);
        for (text, change, kind, found) in [
            ("x", Change::DeleteFile, "a file", "nothing"),
            ("x", Change::DeleteDir, "a directory", "nothing"),
            ("d", Change::DeleteFile, "a file", "a directory"),
            ("d/a", Change::DeleteDir, "a directory", "a file"),
        ] {
            let path = path(text);
            let error = DiffError::Delete { path, kind, found };
            assert_eq!(base.apply(&diff([(text, change)])), Err(error));
        }
    }

    #[test]
    fn a_composed_diff_may_delete_what_is_not_there() {
        let base = snapshot([("a", file(1))]);
        let composed = diff([
            ("d", Change::DeleteDir),
            ("d/b", Change::DeleteFile),
            ("c", put(file(2))),
        ]);
        let expected = snapshot([("a", file(1)), ("c", file(2))]);
        assert_eq!(base.apply_composed(&composed), Ok(expected));
        let error = base.apply_composed(&diff([("a", Change::DeleteDir)]));
        assert!(matches!(error, Err(DiffError::Delete { .. })));
    }

    #[test]
    fn a_deleted_directory_must_be_emptied() {
        let base = snapshot([("d/a", file(1)), ("d/e/b", file(1))]);
        let error = base.apply(&diff([
            ("d", Change::DeleteDir),
            ("d/a", Change::DeleteFile),
        ]));
        assert_eq!(
            error,
            Err(DiffError::NotEmpty {
                directory: path("d"),
                path: path("d/e")
            })
        );
    }

    #[test]
    fn a_deleted_directory_stays_if_something_is_put_into_it() {
        let base = snapshot([("d/a", file(1))]);
        let changed = base.apply(&diff([
            ("d", Change::DeleteDir),
            ("d/a", Change::DeleteFile),
            ("d/b", put(file(2))),
        ]));
        assert_eq!(changed, Ok(snapshot([("d/b", file(2))])));
    }

    #[test]
    fn a_put_does_not_silently_change_what_kind_a_path_is() {
        let base = snapshot([("d/a", file(1)), ("l", link("x/y"))]);
        for (text, node, found) in [
            ("d", file(1), "a directory"),
            ("d/a", dir(), "a file"),
            ("l", dir(), "a symbolic link"),
        ] {
            let error = DiffError::Put {
                path: path(text),
                kind: node.kind(),
                found,
            };
            assert_eq!(base.apply(&diff([(text, put(node))])), Err(error));
        }
    }

    #[test]
    fn putting_a_directory_that_is_there_changes_nothing() {
        let base = snapshot([("d/a", file(1))]);
        assert_eq!(base.apply(&diff([("d", put(dir()))])), Ok(base));
    }

    #[test]
    fn directories_above_a_links_target_do_not_replace_the_link_they_lead_through() {
        let base = snapshot([("v2/x/y", file(1)), ("latest", link("v2"))]);
        let changed = base.apply(&diff([
            ("cur", put(link("latest/x/y"))),
            ("latest", put(dir())),
            ("latest/x", put(dir())),
        ]));
        let expected = snapshot([
            ("v2/x/y", file(1)),
            ("latest", link("v2")),
            ("cur", link("latest/x/y")),
        ]);
        assert_eq!(changed, Ok(expected));
    }

    #[test]
    fn a_put_below_a_file_of_the_base_is_refused() {
        let base = snapshot([("a", file(1))]);
        let error = SnapshotError::BelowFile {
            path: path("a/b"),
            file: path("a"),
        };
        assert_eq!(
            base.apply(&diff([("a/b", put(file(1)))])),
            Err(error.into())
        );
    }

    #[test]
    fn files_cut_differently_do_not_mix() {
        let base = Snapshot::new(ChunkSize::WholeFile, None, []).unwrap();
        assert_eq!(
            base.apply(&diff([])),
            Err(DiffError::ChunkSize {
                base: ChunkSize::WholeFile,
                diff: ChunkSize::DEFAULT
            })
        );
    }
}
