//! Moving a manifest below a directory.
//!
//! **Law:** `m.join(&p)?.subtree(Some(&p), policy)` is `m` without its parent, for every policy that
//! leaves links alone that do not escape.
//!
//! An absolute manifest is one of the root `/` whose paths are held without their first slash, so
//! making a manifest absolute is the same operation: join it with the root's path and write the
//! result as [`Format::V2025_12Absolute`](crate::wire::Format::V2025_12Absolute).

use crate::path::{PathRef, check_length};
use crate::table::{Table, TooLarge};
use crate::{
    Change, Diff, DiffError, LinkTarget, ManifestPath, Node, PathError, Snapshot, SnapshotError,
};

/// Why a manifest cannot be moved below a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// A path, or the target of a link, would be too long.
    #[error("\"{path}\" cannot be moved below \"{prefix}\"")]
    Path {
        /// The path as it is.
        path: ManifestPath,
        /// The directory.
        prefix: ManifestPath,
        /// What is wrong.
        #[source]
        source: PathError,
    },
    /// The entries do not make a snapshot there.
    #[error(transparent)]
    Tree(#[from] SnapshotError),
    /// The changes do not make a diff there.
    #[error(transparent)]
    Diff(#[from] DiffError),
}

fn push(table: &mut Table, path: PathRef<'_>, change: Change) -> Result<(), SnapshotError> {
    let pushed = table.push(path, change);
    pushed.map_err(|TooLarge| SnapshotError::TooLarge {
        path: path.to_owned(),
    })
}

/// Puts the entries of `table` into `result`, below `prefix`; links move along.
fn move_all(table: &Table, prefix: &ManifestPath, result: &mut Table) -> Result<(), JoinError> {
    let mut moved = [prefix.as_bytes(), b"/"].concat();
    let start = moved.len();
    for index in 0..table.len() {
        let path = table.path(index);
        let too_long = |source| JoinError::Path {
            path: path.to_owned(),
            prefix: prefix.clone(),
            source,
        };
        moved.truncate(start);
        moved.extend_from_slice(path.as_bytes());
        check_length(&moved).map_err(too_long)?;
        let change = match table.change(index) {
            Change::Put(Node::Symlink(target)) => {
                let target = match target {
                    LinkTarget::Root => prefix.clone(),
                    LinkTarget::Below(target) => target.below(prefix).map_err(too_long)?,
                };
                Change::Put(Node::Symlink(LinkTarget::Below(target)))
            }
            change => change,
        };
        push(result, PathRef::from_checked(&moved), change)?;
    }
    Ok(())
}

impl Snapshot {
    /// This snapshot moved below `prefix`, which becomes a directory even if there is nothing to
    /// move. The result has no parent.
    pub fn join(&self, prefix: &ManifestPath) -> Result<Self, JoinError> {
        let mut table = Table::with_capacity(self.len() + 1);
        push(&mut table, prefix.borrowed(), Change::Put(Node::Dir))?;
        move_all(self.table(), prefix, &mut table)?;
        Ok(Self::from_table(self.chunk_size(), None, table)?)
    }
}

impl Diff {
    /// This diff moved below `prefix`: a diff for a snapshot that was moved likewise. The result has
    /// no parent.
    pub fn join(&self, prefix: &ManifestPath) -> Result<Self, JoinError> {
        let mut table = Table::with_capacity(self.len());
        move_all(self.table(), prefix, &mut table)?;
        Ok(Self::from_table(self.chunk_size(), None, table)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SymlinkPolicy;
    use crate::testing::{any_path, any_snapshot, dir, file, link, path, snapshot};

    proptest! {
        #[test]
        fn what_was_moved_below_a_directory_is_found_there(
            tree in any_snapshot(),
            prefix in any_path(),
        ) {
            let joined = tree.join(&prefix).unwrap();
            for policy in [SymlinkPolicy::CollapseEscaping, SymlinkPolicy::ExcludeEscaping] {
                prop_assert_eq!(joined.subtree(Some(&prefix), policy), Ok(tree.clone()));
            }
        }

        #[test]
        fn a_moved_diff_applies_to_a_moved_snapshot(
            base in any_snapshot(),
            new in any_snapshot(),
            prefix in any_path(),
        ) {
            let diff = new.diff(&base, None).join(&prefix).unwrap();
            let base = base.join(&prefix).unwrap();
            prop_assert_eq!(base.apply(&diff), Ok(new.join(&prefix).unwrap()));
            let policy = SymlinkPolicy::CollapseEscaping;
            let back = diff.subtree(Some(&prefix), policy).unwrap();
            prop_assert_eq!(back, new.diff(&base.subtree(Some(&prefix), policy).unwrap(), None));
        }
    }

    #[test]
    fn links_move_along() {
        let tree = snapshot([
            ("d/l", link("a")),
            ("r", Node::Symlink(LinkTarget::Root)),
            ("a", file(1)),
        ]);
        let expected = snapshot([
            ("p/q/d/l", link("p/q/a")),
            ("p/q/r", link("p/q")),
            ("p/q/a", file(1)),
        ]);
        assert_eq!(tree.join(&path("p/q")), Ok(expected));
    }

    #[test]
    fn a_root_without_anything_in_it_is_a_directory_all_the_same() {
        let nothing = snapshot([]);
        assert_eq!(nothing.join(&path("p/q")), Ok(snapshot([("p/q", dir())])));
    }

    #[test]
    fn a_path_that_would_be_too_long_is_named() {
        let deep = vec!["a".repeat(255); 16].join("/");
        let tree = snapshot([(deep.as_str(), file(1))]);
        let prefix = path(&"b".repeat(255));
        assert_eq!(
            tree.join(&prefix),
            Err(JoinError::Path {
                path: path(&deep),
                prefix,
                source: PathError::TooLong(4095 + 256),
            })
        );
    }
}
