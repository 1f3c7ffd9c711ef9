//! A manifest as one that 2023-03-03 can hold.
//!
//! **Law:** the result encodes as 2023-03-03, and reading that gives the result again.
//!
//! As in `openjd-snapshots` (`encode_snapshot_v2023`), links are collapsed, and empty directories and
//! deletions are dropped: a diff becomes a snapshot of what it puts. [`what_is_lost`] tells before.
//! Unlike there, the manifest may cut files as long as none is cut in fact.
//!
//! [`what_is_lost`]: crate::what_is_lost

use crate::table::{Table, TooLarge};
use crate::wire::Manifest;
use crate::{
    Change, ChunkSize, Content, File, ManifestPath, Node, Snapshot, SnapshotError, SubtreeError,
    SymlinkPolicy,
};

/// Why a manifest cannot become one of 2023-03-03.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DowngradeError {
    /// A file is stored in chunks.
    #[error("\"{path}\" is stored in chunks, and 2023-03-03 has only whole files")]
    Chunked {
        /// The file.
        path: ManifestPath,
    },
    /// A file has no hash.
    #[error("\"{path}\" has no hash")]
    Unhashed {
        /// The file.
        path: ManifestPath,
    },
    /// The links cannot be collapsed.
    #[error("the links cannot be replaced by what they point to")]
    Links(#[from] SubtreeError),
    /// What is left is not a snapshot.
    #[error(transparent)]
    Tree(#[from] SnapshotError),
}

impl Manifest {
    /// The files of this manifest, as a snapshot that 2023-03-03 can hold: every file whole and none
    /// runnable, no links, only the directories that hold a file, no parent.
    ///
    /// A link that leads nowhere is left out of a snapshot, and an error in a diff
    /// ([`Diff::subtree`](crate::Diff::subtree)).
    pub fn downgrade(&self) -> Result<Snapshot, DowngradeError> {
        match self {
            Self::Snapshot(snapshot) => {
                let collapsed = snapshot.subtree(None, SymlinkPolicy::CollapseAll)?;
                whole_files(collapsed.table())
            }
            Self::Diff(diff) => {
                let collapsed = diff.subtree(None, SymlinkPolicy::CollapseAll)?;
                whole_files(collapsed.table())
            }
        }
    }
}

fn whole_files(table: &Table) -> Result<Snapshot, DowngradeError> {
    let mut result = Table::with_capacity(table.len());
    for index in 0..table.len() {
        let Some(Node::File(file)) = table.node(index) else {
            continue;
        };
        let path = table.path(index);
        match file.content {
            Content::Whole(_) => {}
            Content::Chunks(_) => {
                return Err(DowngradeError::Chunked {
                    path: path.to_owned(),
                });
            }
            Content::Unhashed => {
                return Err(DowngradeError::Unhashed {
                    path: path.to_owned(),
                });
            }
        }
        let file = File {
            runnable: false,
            ..file
        };
        let pushed = result.push(path, Change::Put(Node::File(file)));
        pushed.map_err(|TooLarge| SnapshotError::TooLarge {
            path: path.to_owned(),
        })?;
    }
    Ok(Snapshot::from_table(ChunkSize::WholeFile, None, result)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{
        any_snapshot, chunks, dir, file, link, path, snapshot, unhashed, variant,
    };
    use crate::wire::{Format, decode, encode_snapshot};
    use crate::{ContentHash, what_is_lost};

    proptest! {
        #[test]
        fn what_was_downgraded_is_what_2023_03_03_holds(tree in any_snapshot()) {
            let manifest = Manifest::Snapshot(tree.clone());
            match manifest.downgrade() {
                Ok(down) => {
                    let text = encode_snapshot(&down, Format::V2023_03_03).unwrap();
                    let read = decode(&text).unwrap();
                    prop_assert_eq!(read, (Format::V2023_03_03, Manifest::Snapshot(down.clone())));
                    let losses = what_is_lost(&Manifest::Snapshot(down), Format::V2023_03_03);
                    prop_assert!(losses.is_empty());
                }
                Err(DowngradeError::Chunked { path } | DowngradeError::Unhashed { path }) => {
                    let losses = what_is_lost(&manifest, Format::V2023_03_03);
                    prop_assert!(losses.chunks.count + losses.unhashed.count > 0, "{}", path);
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    #[test]
    fn files_stay_and_everything_else_goes() {
        let tree = snapshot([
            ("d/run", variant(1, true, 0)),
            ("empty/er", dir()),
            ("l", link("d/run")),
            ("to_dir", link("d")),
            ("broken", link("x")),
        ])
        .with_parent(Some(ContentHash::of(b"p")));
        let down = Manifest::Snapshot(tree).downgrade().unwrap();
        let entries: Vec<_> = down.entries().map(|(path, _)| path.to_string()).collect();
        assert_eq!(entries, ["d", "d/run", "l", "to_dir", "to_dir/run"]);
        assert_eq!(down.get(&path("l")), Some(variant(1, false, 0)));
        assert_eq!(
            (down.chunk_size(), down.parent()),
            (ChunkSize::WholeFile, None)
        );
    }

    #[test]
    fn a_diff_becomes_what_it_puts() {
        let base = snapshot([("gone", file(1)), ("d/gone", file(1))]);
        let new = snapshot([("a", file(2)), ("l", link("a"))]);
        let diff = new.diff(&base, None);
        let down = Manifest::Diff(diff).downgrade().unwrap();
        let expected = snapshot([("a", file(2)), ("l", file(2))]);
        assert_eq!(down, Manifest::Snapshot(expected).downgrade().unwrap());
    }

    #[test]
    fn a_file_that_is_not_one_hashed_object_is_named() {
        let large = (1 << 28) + 1;
        for (node, error) in [
            (
                chunks(large, 2),
                DowngradeError::Chunked { path: path("a/b") },
            ),
            (unhashed(1), DowngradeError::Unhashed { path: path("a/b") }),
        ] {
            let tree = snapshot([("a/b", node)]);
            assert_eq!(Manifest::Snapshot(tree).downgrade(), Err(error));
        }
    }
}
