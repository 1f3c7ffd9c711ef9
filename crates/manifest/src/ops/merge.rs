//! Several snapshots laid over one another.
//!
//! **Law:** a file or link of the merged snapshot is that of the last one that has its path.
//!
//! This is how the outputs of several tasks become one folder (`deadline-job-attachments` 0.1.5,
//! `download.py`, `merge_asset_manifests`): by exact path, later wins, nothing is deleted. What each
//! lists is kept in order here, where Python keeps the place of a path's first mention; encoding sorts
//! either. Hashes of different algorithms, which Python refuses, cannot be in the types.

use crate::path::PathRef;
use crate::table::{Table, TooLarge};
use crate::{Change, ChunkSize, ManifestPath, Snapshot, SnapshotError};

/// Why snapshots cannot be merged. Manifests are counted from 0, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// One has a file or link where another has a directory. (Python merges them, and fails when it
    /// downloads the result.)
    #[error(
        "\"{path}\" is {kind} in manifest {file_in}, and a directory in manifest {directory_in}{}",
        .entry.as_ref().map(|entry| format!(", which has \"{entry}\" in it")).unwrap_or_default()
    )]
    Kind {
        /// The path that is both.
        path: ManifestPath,
        /// What it is where it is no directory, in words.
        kind: &'static str,
        /// The manifest in which it is no directory.
        file_in: usize,
        /// The manifest in which it is a directory.
        directory_in: usize,
        /// Something in that directory, if it is not empty.
        entry: Option<ManifestPath>,
    },
    /// They cut files differently. (In 2023-03-03 no file is cut.)
    #[error("the chunk size of manifest {index} is {found}, that of manifest 0 is {first}")]
    ChunkSize {
        /// Of the first manifest.
        first: ChunkSize,
        /// A manifest that differs.
        index: usize,
        /// Its chunk size.
        found: ChunkSize,
    },
    /// Together they are more than a snapshot can hold.
    #[error(transparent)]
    Tree(#[from] SnapshotError),
}

/// The snapshots as one; where several have a path, the last one counts. `None` for no snapshot, and
/// a single one unchanged; otherwise the result has no parent.
pub fn merge(snapshots: &[&Snapshot]) -> Result<Option<Snapshot>, MergeError> {
    let first = match snapshots {
        [] => return Ok(None),
        [only] => return Ok(Some((*only).clone())),
        [first, ..] => first.chunk_size(),
    };
    let mut table = Table::with_capacity(snapshots.iter().map(|one| one.len()).sum());
    for (index, snapshot) in snapshots.iter().enumerate() {
        let found = snapshot.chunk_size();
        if found != first {
            return Err(MergeError::ChunkSize {
                first,
                index,
                found,
            });
        }
        for (path, node) in snapshot.entries() {
            let pushed = table.push(path, Change::Put(node));
            pushed.map_err(|TooLarge| SnapshotError::TooLarge {
                path: path.to_owned(),
            })?;
        }
    }
    table.sort();
    for index in 1..table.len() {
        if table.is_put_dir(index) != table.is_put_dir(index - 1)
            && table.path(index) == table.path(index - 1)
        {
            return Err(conflict(table.path(index), snapshots));
        }
    }
    table.keep_last();
    Ok(Some(Snapshot::from_table(first, None, table)?))
}

/// Names the two manifests that disagree about a path.
fn conflict(path: PathRef<'_>, snapshots: &[&Snapshot]) -> MergeError {
    let find = |is_dir: bool| {
        let mut all = snapshots.iter().enumerate();
        all.find_map(|(index, snapshot)| {
            let node = snapshot.get(path)?;
            (node.is_dir() == is_dir).then_some((index, node))
        })
    };
    let (file_in, kind) = find(false).map_or((0, "a file"), |(index, node)| (index, node.kind()));
    let directory_in = find(true).map_or(0, |(index, _)| index);
    let table = snapshots[directory_in].table();
    // The last of a directory is the deepest, so a file if there is one.
    let entry = table.below(path.as_bytes()).next_back();
    MergeError::Kind {
        path: path.to_owned(),
        kind,
        file_in,
        directory_in,
        entry: entry.map(|index| table.path(index).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ContentHash;
    use crate::testing::{any_snapshot, dir, file, link, path, snapshot};

    proptest! {
        #[test]
        fn the_last_that_has_a_path_counts(trees in prop::collection::vec(any_snapshot(), 2..4)) {
            let all: Vec<&Snapshot> = trees.iter().collect();
            let Ok(Some(merged)) = merge(&all) else { return Ok(()) };
            for (path, node) in merged.entries() {
                let last = trees.iter().rev().find_map(|tree| tree.get(path));
                prop_assert_eq!(last, Some(node));
            }
            for (path, _) in trees.iter().flat_map(Snapshot::entries) {
                prop_assert!(merged.get(path).is_some());
            }
        }
    }

    #[test]
    fn one_is_returned_as_it_is_and_none_is_none() {
        let one = snapshot([("a", file(1))]).with_parent(Some(ContentHash::of(b"p")));
        assert_eq!(merge(&[&one]), Ok(Some(one.clone())));
        assert_eq!(merge(&[]), Ok(None));
        let merged = merge(&[&one, &one]);
        assert_eq!(merged, Ok(Some(one.with_parent(None))));
    }

    #[test]
    fn directories_and_links_are_merged_too() {
        let a = snapshot([("d/a", file(1)), ("l", link("d"))]);
        let b = snapshot([("d/b", dir()), ("l", file(2))]);
        let expected = snapshot([("d/a", file(1)), ("d/b", dir()), ("l", file(2))]);
        assert_eq!(merge(&[&a, &b]), Ok(Some(expected)));
    }

    #[test]
    fn a_file_where_another_has_a_directory_is_refused_with_both_named() {
        let with_file = snapshot([("a", file(1)), ("b", file(1))]);
        let with_dir = snapshot([("a/x/y", file(1))]);
        let error = merge(&[&with_dir, &with_file]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"a\" is a file in manifest 1, and a directory in manifest 0, which has \"a/x/y\" in it"
        );
        let error = merge(&[&with_file, &snapshot([("b", dir())])]).unwrap_err();
        assert_eq!(
            error,
            MergeError::Kind {
                path: path("b"),
                kind: "a file",
                file_in: 0,
                directory_in: 1,
                entry: None,
            }
        );
    }

    #[test]
    fn files_cut_differently_do_not_mix() {
        let whole = Snapshot::new(ChunkSize::WholeFile, None, []).unwrap();
        assert_eq!(
            merge(&[&whole, &snapshot([])]),
            Err(MergeError::ChunkSize {
                first: ChunkSize::WholeFile,
                index: 1,
                found: ChunkSize::DEFAULT,
            })
        );
    }
}
