//! What changed between two snapshots.
//!
//! A diff stands alone: it says what is there afterwards and what is gone, never what was there
//! before. Whether it fits a given base shows when it is applied ([`Snapshot::apply`]).
//!
//! [`Snapshot::apply`]: crate::Snapshot::apply

use std::collections::HashSet;

use crate::path::{PathRef, ancestors_of};
use crate::snapshot::{check_node, push_all};
use crate::table::Table;
use crate::{Change, ChunkSize, ContentHash, ManifestPath, SnapshotError};

/// What to put and what to delete to get from one snapshot to another.
///
/// Guarantees: a path has one change, or a deletion and a put of the other kind (directory, or file
/// and link); nothing is put below what becomes a file or link, nor deleted below what was one;
/// each file's chunks fit its size.
#[derive(Debug, Clone)]
pub struct Diff {
    chunk_size: ChunkSize,
    parent: Option<ContentHash>,
    table: Table,
    total_size: u64,
}

/// Why changes do not make a [`Diff`], or why a diff does not fit the snapshot it is applied to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// The changes contradict each other, or would leave something that is not a tree.
    #[error(transparent)]
    Tree(#[from] SnapshotError),
    /// Base and diff cut files differently.
    #[error("the diff's chunk size is {diff}, the base's {base}")]
    ChunkSize {
        /// Of the base.
        base: ChunkSize,
        /// Of the diff.
        diff: ChunkSize,
    },
    /// What should be deleted is not there.
    #[error("the diff deletes {kind} at \"{path}\", but the base has {found} there")]
    Delete {
        /// Where.
        path: ManifestPath,
        /// What the diff deletes, in words.
        kind: &'static str,
        /// What the base has, in words.
        found: &'static str,
    },
    /// A put changes the kind of what is there, and nothing deletes that.
    #[error(
        "the diff puts {kind} at \"{path}\", where the base has {found} that it does not delete"
    )]
    Put {
        /// Where.
        path: ManifestPath,
        /// What the diff puts, in words.
        kind: &'static str,
        /// What the base has, in words.
        found: &'static str,
    },
    /// A deleted directory still has something in it.
    #[error("the diff deletes the directory \"{directory}\", but not \"{path}\" in it")]
    NotEmpty {
        /// The directory.
        directory: ManifestPath,
        /// What the base has in it.
        path: ManifestPath,
    },
}

impl DiffError {
    /// The path at fault, if it is one.
    pub fn path(&self) -> Option<&ManifestPath> {
        match self {
            Self::Tree(error) => Some(error.path()),
            Self::ChunkSize { .. } => None,
            Self::Delete { path, .. } | Self::Put { path, .. } | Self::NotEmpty { path, .. } => {
                Some(path)
            }
        }
    }
}

/// Whether one path may have both changes, in this order.
fn replaces(first: &Change, second: &Change) -> bool {
    match (first, second) {
        (Change::DeleteDir, Change::Put(node)) => !node.is_dir(),
        (Change::DeleteFile, Change::Put(node)) => node.is_dir(),
        _ => false,
    }
}

impl Diff {
    /// A diff of these changes, in any order. `parent` is the hash of the manifest to which they
    /// apply, if that is known.
    pub fn new(
        chunk_size: ChunkSize,
        parent: Option<ContentHash>,
        changes: impl IntoIterator<Item = (ManifestPath, Change)>,
    ) -> Result<Self, DiffError> {
        let changes = changes.into_iter();
        let mut table = Table::with_capacity(changes.size_hint().0);
        push_all(&mut table, changes)?;
        Ok(Self::from_table(chunk_size, parent, table)?)
    }

    pub(crate) fn from_table(
        chunk_size: ChunkSize,
        parent: Option<ContentHash>,
        mut table: Table,
    ) -> Result<Self, SnapshotError> {
        table.sort();
        let mut total_size = 0;
        for index in 0..table.len() {
            let path = table.path(index);
            if index > 0
                && table.path(index - 1) == path
                && !replaces(&table.change(index - 1), &table.change(index))
            {
                return Err(SnapshotError::Duplicate {
                    path: path.to_owned(),
                });
            }
            if let Some(node) = table.node(index) {
                total_size = check_node(path, &node, chunk_size, total_size)?;
            }
        }
        check_what_lies_above(&table)?;
        table.shrink();
        Ok(Self {
            chunk_size,
            parent,
            table,
            total_size,
        })
    }

    /// A diff of changes that are in order and fit each other.
    pub(crate) fn from_sorted(
        chunk_size: ChunkSize,
        parent: Option<ContentHash>,
        mut table: Table,
    ) -> Self {
        table.shrink();
        Self {
            chunk_size,
            parent,
            total_size: table.total_size(),
            table,
        }
    }

    /// How large files are cut.
    pub fn chunk_size(&self) -> ChunkSize {
        self.chunk_size
    }

    /// The hash of the manifest to which the diff applies, if it says so.
    pub fn parent(&self) -> Option<ContentHash> {
        self.parent
    }

    /// Every change, in the order of [`ManifestPath`], a deletion before a put of the same path.
    ///
    /// The formats list the directories above everything they mention, so a diff that was decoded
    /// also puts directories that were there before.
    pub fn changes(
        &self,
    ) -> impl ExactSizeIterator<Item = (PathRef<'_>, Change)> + DoubleEndedIterator + Clone {
        (0..self.len()).map(|index| (self.table.path(index), self.table.change(index)))
    }

    /// The changes of one path: none, one, or a deletion and a put.
    pub fn at<'s, 'p>(
        &'s self,
        path: impl Into<PathRef<'p>>,
    ) -> impl ExactSizeIterator<Item = Change> {
        let places = self.table.find(path.into().as_bytes());
        places.map(|index| self.table.change(index))
    }

    /// This diff with another parent: the hash of the manifest that it applies to, or `None`.
    #[must_use]
    pub fn with_parent(mut self, parent: Option<ContentHash>) -> Self {
        self.parent = parent;
        self
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all files that are put.
    pub fn total_size(&self) -> u64 {
        self.total_size
    }

    /// The changes, packed.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// This diff with its files as if they had not been hashed.
    pub(crate) fn forget_hashes(mut self) -> Self {
        self.table.forget_hashes();
        self
    }

    /// The targets of the links that are put.
    pub(crate) fn targets(&self) -> &[crate::LinkTarget] {
        self.table.targets()
    }
}

impl PartialEq for Diff {
    fn eq(&self, other: &Self) -> bool {
        (self.chunk_size, self.parent) == (other.chunk_size, other.parent)
            && self.changes().eq(other.changes())
    }
}

impl Eq for Diff {}

/// Checks that nothing above a put becomes a file, and that everything above a deletion was a
/// directory before.
fn check_what_lies_above(table: &Table) -> Result<(), SnapshotError> {
    // The paths that were checked already, for puts and for deletions, with everything above them.
    let mut checked: HashSet<(&[u8], bool)> = HashSet::new();
    for index in 0..table.len() {
        let path = table.path(index).as_bytes();
        let is_put = !table.is_deletion(index);
        let contradicts = |above: &[u8]| {
            let mut changes = table.find(above).map(|index| table.change(index));
            match (changes.next(), changes.next()) {
                (Some(Change::DeleteDir), Some(_)) => is_put,
                (Some(Change::DeleteFile), _) => !is_put,
                (Some(Change::Put(node)), _) => !node.is_dir(),
                (Some(Change::DeleteDir) | None, _) => false,
            }
        };
        for above in ancestors_of(path) {
            if !checked.insert((above, is_put)) {
                break;
            }
            if contradicts(above) {
                return Err(SnapshotError::BelowFile {
                    path: table.path(index).to_owned(),
                    file: ManifestPath::from_ancestor(above),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chunks, dir, file, link, path};

    fn diff<const N: usize>(changes: [(&str, Change); N]) -> Result<Diff, DiffError> {
        let changes = changes.map(|(text, change)| (path(text), change));
        Diff::new(ChunkSize::DEFAULT, None, changes)
    }

    #[test]
    fn a_path_changes_once_or_from_one_kind_to_the_other() {
        use Change::{DeleteDir, DeleteFile, Put};
        for (first, second, allowed) in [
            (DeleteDir, Put(file(1)), true),
            (DeleteDir, Put(link("x")), true),
            (DeleteFile, Put(dir()), true),
            (DeleteFile, Put(file(1)), false),
            (DeleteDir, Put(dir()), false),
            (DeleteDir, DeleteFile, false),
            (Put(file(1)), Put(dir()), false),
            (DeleteDir, DeleteDir, false),
        ] {
            for changes in [
                [first.clone(), second.clone()],
                [second.clone(), first.clone()],
            ] {
                let made = diff(changes.map(|change| ("a", change)));
                if allowed {
                    let made = made.unwrap();
                    let changes: Vec<_> = made.changes().map(|(_, change)| change).collect();
                    assert_eq!(changes, [first.clone(), second.clone()]);
                } else {
                    let error = SnapshotError::Duplicate { path: path("a") };
                    assert_eq!(made, Err(error.into()), "{first:?} {second:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_put_below_a_file_that_is_put() {
        let error = SnapshotError::BelowFile {
            path: path("a/b/c"),
            file: path("a"),
        };
        let put = |node| Change::Put(node);
        assert_eq!(
            diff([("a", put(link("x"))), ("a/b/c", put(file(1)))]),
            Err(error.into())
        );
    }

    #[test]
    fn what_lies_above_a_deletion_was_a_directory() {
        let below = ("a/b/c", Change::DeleteFile);
        let error = Err(DiffError::Tree(SnapshotError::BelowFile {
            path: path("a/b/c"),
            file: path("a"),
        }));
        assert_eq!(diff([("a", Change::Put(file(1))), below.clone()]), error);
        assert_eq!(diff([("a", Change::DeleteFile), below.clone()]), error);
        let was_file = [
            ("a", Change::DeleteFile),
            ("a", Change::Put(dir())),
            below.clone(),
        ];
        assert_eq!(diff(was_file), error);
        diff([("a", Change::DeleteDir), ("a", Change::Put(file(1))), below]).unwrap();
    }

    #[test]
    fn the_size_is_that_of_the_files_that_are_put() {
        let made = diff([
            ("a", Change::Put(file(3))),
            ("b", Change::DeleteFile),
            ("c", Change::Put(file(4))),
        ]);
        assert_eq!(made.unwrap().total_size(), 7);
    }

    #[test]
    fn chunks_must_fit_the_size() {
        let error = diff([("a", Change::Put(chunks(3, 2)))]).unwrap_err();
        assert_eq!(error.path(), Some(&path("a")));
    }
}
