//! What a diff does to the snapshot that it is for, as lists to show.
//!
//! A diff says what is there afterwards; whether that is new or was there before shows against its
//! base. **Law:** the files and links of the base are those that are modified, deleted or unchanged.

use std::collections::HashSet;

use crate::path::ancestors_of;
use crate::{Change, Diff, ManifestPath, Node, Snapshot};

/// What changed. Files include links; all lists are in the order of [`ManifestPath`].
///
/// `new`, `modified` and `deleted` are the lists of `deadline manifest diff --json`; the rest is this
/// crate's. A file that becomes a directory is deleted, and the directory new; and the reverse.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Files that were not there.
    pub new: Vec<ManifestPath>,
    /// Files that were there and are put again.
    pub modified: Vec<ManifestPath>,
    /// Files that are gone.
    pub deleted: Vec<ManifestPath>,
    /// Directories that were not there.
    pub new_directories: Vec<ManifestPath>,
    /// Directories that are gone.
    pub deleted_directories: Vec<ManifestPath>,
    /// How many files of the base the diff does not mention.
    pub unchanged: usize,
    /// The bytes of all files that are new or modified.
    pub new_bytes: u64,
    /// The bytes of all files that are deleted.
    pub deleted_bytes: u64,
}

impl Changes {
    /// What `diff` does to `base`. Whether the diff fits is not checked ([`Snapshot::apply`] does
    /// that): a deletion of something the base does not have is ignored.
    pub fn of(diff: &Diff, base: &Snapshot) -> Self {
        let mut changes = Self {
            new_bytes: diff.total_size(),
            ..Self::default()
        };
        // Directories in which something is put, whether the diff lists them or not.
        let mut filled: HashSet<&[u8]> = HashSet::new();
        for (path, change) in diff.changes() {
            if change.as_put().is_some() {
                for directory in ancestors_of(path.as_bytes()) {
                    if !filled.insert(directory) {
                        break;
                    }
                }
            }
        }
        let mut last_deleted_a_file = None;
        for (path, change) in diff.changes() {
            let was = base.get(path);
            match (change, was) {
                (Change::Put(Node::Dir), None) => {
                    changes.new_directories.push(path.to_owned());
                }
                (Change::Put(Node::Dir), Some(Node::Dir)) => {}
                (Change::Put(Node::Dir), Some(_)) => {
                    // Otherwise it is listed only because a link's target lies below it, and what
                    // the base has there stays.
                    if last_deleted_a_file == Some(path) {
                        changes.new_directories.push(path.to_owned());
                    }
                }
                (Change::Put(_), Some(Node::File(_) | Node::Symlink(_))) => {
                    changes.modified.push(path.to_owned());
                }
                (Change::Put(_), None | Some(Node::Dir)) => changes.new.push(path.to_owned()),
                (Change::DeleteDir, Some(Node::Dir)) if !filled.contains(path.as_bytes()) => {
                    changes.deleted_directories.push(path.to_owned());
                }
                (Change::DeleteFile, Some(node @ (Node::File(_) | Node::Symlink(_)))) => {
                    changes.deleted.push(path.to_owned());
                    let size = node.as_file().map_or(0, |file| file.size);
                    changes.deleted_bytes = changes.deleted_bytes.saturating_add(size);
                    last_deleted_a_file = Some(path);
                }
                (Change::DeleteDir | Change::DeleteFile, _) => {}
            }
        }
        let unlisted = filled.into_iter().filter(|&directory| {
            let directory = ManifestPath::from_ancestor(directory);
            diff.at(&directory).all(|change| change.as_put().is_none())
                && !matches!(base.get(&directory), Some(Node::Dir))
        });
        changes
            .new_directories
            .extend(unlisted.map(ManifestPath::from_ancestor));
        changes.new_directories.sort_unstable();
        let files = (0..base.len()).filter(|&index| !base.table().is_put_dir(index));
        changes.unchanged = files
            .count()
            .saturating_sub(changes.modified.len() + changes.deleted.len());
        changes
    }

    /// Whether nothing changed at all.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty()
            && self.modified.is_empty()
            && self.deleted.is_empty()
            && self.new_directories.is_empty()
            && self.deleted_directories.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_snapshot, dir, file, link, path, snapshot};
    use crate::{ChunkSize, PathRef};

    fn paths<'a>(all: impl Iterator<Item = PathRef<'a>>) -> Vec<ManifestPath> {
        all.map(PathRef::to_owned).collect()
    }

    /// The paths of the files, or the directories, of `tree` that are none in `other`.
    fn only_in(tree: &Snapshot, other: &Snapshot, is_dir: bool) -> Vec<ManifestPath> {
        paths(tree.entries().filter_map(|(path, node)| {
            let there = other.get(path).is_some_and(|node| node.is_dir() == is_dir);
            (node.is_dir() == is_dir && !there).then_some(path)
        }))
    }

    proptest! {
        #[test]
        fn changes_are_those_between_the_base_and_what_the_diff_makes_of_it(
            base in any_snapshot(),
            new in any_snapshot(),
        ) {
            let changes = Changes::of(&new.diff(&base, None), &base);
            prop_assert_eq!(&changes.new, &only_in(&new, &base, false));
            prop_assert_eq!(&changes.deleted, &only_in(&base, &new, false));
            prop_assert_eq!(&changes.new_directories, &only_in(&new, &base, true));
            prop_assert_eq!(&changes.deleted_directories, &only_in(&base, &new, true));
            let modified = new.entries().filter_map(|(path, node)| {
                let was = base.get(path)?;
                (!was.is_dir() && !node.is_dir() && was != node).then_some(path)
            });
            prop_assert_eq!(&changes.modified, &paths(modified));
            let files = base.entries().filter(|(_, node)| !node.is_dir()).count();
            let all = changes.modified.len() + changes.deleted.len() + changes.unchanged;
            prop_assert_eq!(all, files);
            prop_assert_eq!(changes.is_empty(), base == new);
        }
    }

    #[test]
    fn directories_that_a_diff_only_implies_are_found_in_its_base() {
        let base = snapshot([
            ("old/a", file(3)),
            ("v2", dir()),
            ("latest", link("v2")),
            ("kind", file(4)),
        ]);
        let changes = [
            ("old", Change::DeleteDir),
            ("old/a", Change::DeleteFile),
            ("old/b", Change::Put(file(1))),
            ("new/b", Change::Put(file(1))),
            ("cur", Change::Put(link("latest/x"))),
            ("latest", Change::Put(dir())),
            ("kind", Change::DeleteFile),
            ("kind", Change::Put(dir())),
        ];
        let changes = changes.map(|(text, change)| (path(text), change));
        let diff = Diff::new(ChunkSize::DEFAULT, None, changes).unwrap();
        assert_eq!(
            Changes::of(&diff, &base),
            Changes {
                new: ["cur", "new/b", "old/b"].map(path).into(),
                modified: Vec::new(),
                deleted: ["kind", "old/a"].map(path).into(),
                new_directories: ["kind", "new"].map(path).into(),
                deleted_directories: Vec::new(),
                unchanged: 1,
                new_bytes: 2,
                deleted_bytes: 7,
            }
        );
    }
}
