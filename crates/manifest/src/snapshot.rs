//! Everything below a root, at one time.
//!
//! Entries are sorted and packed ([`Table`]): a look-up is a binary search, and a manifest that is
//! already sorted (the formats ask for it) becomes a snapshot without moving anything. What the
//! entries may be is checked once, when a snapshot is made; everything that takes one believes it.

use std::collections::HashSet;

use crate::layout;
use crate::path::{PathRef, ancestors_of, parent_of};
use crate::table::{Table, TooLarge};
use crate::{Change, ChunkSize, ContentHash, LayoutError, ManifestPath, Node};

/// Every directory, file and link below a root.
///
/// Guarantees: paths are unique; nothing lies below a file or a link; every parent directory is an
/// entry itself; each file's chunks fit its size; no size is above `i64::MAX`.
#[derive(Debug, Clone)]
pub struct Snapshot {
    chunk_size: ChunkSize,
    parent: Option<ContentHash>,
    table: Table,
    total_size: u64,
}

/// Why entries do not make a [`Snapshot`] or a [`Diff`](crate::Diff).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Two entries for one path.
    #[error("\"{path}\" is listed twice")]
    Duplicate {
        /// The path.
        path: ManifestPath,
    },
    /// A file or a link is used as a directory.
    #[error("\"{path}\" lies below \"{file}\", which is not a directory")]
    BelowFile {
        /// The entry.
        path: ManifestPath,
        /// The file or link above it.
        file: ManifestPath,
    },
    /// A file's chunks do not fit its size.
    #[error("the chunks of \"{path}\" do not fit its size")]
    Layout {
        /// The file.
        path: ManifestPath,
        /// What is wrong.
        #[source]
        source: LayoutError,
    },
    /// A file is longer than any file can be.
    #[error("\"{path}\" has {size} bytes, more than a file can have")]
    FileSize {
        /// The file.
        path: ManifestPath,
        /// Its size.
        size: u64,
    },
    /// The sizes up to this file do not fit into 64 bits.
    #[error("with \"{path}\" all files together have more than 2^64 bytes")]
    TotalSize {
        /// The file that is too much.
        path: ManifestPath,
    },
    /// The directories above the entries would take far more memory than the entries.
    #[error("the directories above \"{path}\" and the entries before it are too many")]
    TooDeep {
        /// The entry at which the limit was reached.
        path: ManifestPath,
    },
    /// The paths together have more than 2^40 bytes.
    #[error("with \"{path}\" the paths together have more than 2^40 bytes")]
    TooLarge {
        /// The entry that is too much.
        path: ManifestPath,
    },
}

impl SnapshotError {
    /// The entry at fault.
    pub fn path(&self) -> &ManifestPath {
        match self {
            Self::Duplicate { path }
            | Self::BelowFile { path, .. }
            | Self::Layout { path, .. }
            | Self::FileSize { path, .. }
            | Self::TotalSize { path }
            | Self::TooDeep { path }
            | Self::TooLarge { path } => path,
        }
    }
}

/// Checks a file's size and chunks, and adds the size to those before it.
pub(crate) fn check_node(
    path: PathRef<'_>,
    node: &Node,
    chunk_size: ChunkSize,
    total_size: u64,
) -> Result<u64, SnapshotError> {
    let Some(file) = node.as_file() else {
        return Ok(total_size);
    };
    if i64::try_from(file.size).is_err() {
        return Err(SnapshotError::FileSize {
            path: path.to_owned(),
            size: file.size,
        });
    }
    layout::check(file.size, chunk_size, &file.content).map_err(|source| {
        SnapshotError::Layout {
            path: path.to_owned(),
            source,
        }
    })?;
    total_size
        .checked_add(file.size)
        .ok_or_else(|| SnapshotError::TotalSize {
            path: path.to_owned(),
        })
}

/// Bounds what entries may stand for beside themselves: a long path has many directories above it,
/// whose paths together are far longer than it is, and a link can stand for a whole folder.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    given: usize,
    added: usize,
}

/// What is added takes far more memory than what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMuch;

impl Budget {
    /// What an entry takes beside the bytes of its path.
    const ENTRY: usize = 64;
    const ALWAYS_ALLOWED: usize = 64 << 20;
    const ALLOWED_PER_GIVEN: usize = 16;

    /// Counts an entry that was given.
    pub(crate) fn give(&mut self, path: &[u8]) {
        self.given += Self::ENTRY + path.len();
    }

    /// Counts an entry that is added.
    pub(crate) fn add(&mut self, path: &[u8]) -> Result<(), TooMuch> {
        self.added += Self::ENTRY + path.len();
        if self.added > Self::ALWAYS_ALLOWED + Self::ALLOWED_PER_GIVEN * self.given {
            return Err(TooMuch);
        }
        Ok(())
    }
}

/// The directories above sorted entries that are not entries themselves.
fn missing_directories(table: &Table) -> Result<Vec<ManifestPath>, SnapshotError> {
    let mut missing: HashSet<&[u8]> = HashSet::new();
    let mut last: Option<&[u8]> = None;
    let mut budget = Budget::default();
    for index in 0..table.len() {
        let path = table.path(index);
        let bytes = path.as_bytes();
        budget.give(bytes);
        let parent = parent_of(bytes);
        if parent == last {
            continue;
        }
        last = parent;
        for directory in ancestors_of(bytes) {
            if missing.contains(directory) {
                break;
            }
            match table.find(directory).next() {
                Some(found) if table.is_put_dir(found) => break,
                Some(found) => {
                    return Err(SnapshotError::BelowFile {
                        path: path.to_owned(),
                        file: table.path(found).to_owned(),
                    });
                }
                None => {
                    budget
                        .add(directory)
                        .map_err(|TooMuch| SnapshotError::TooDeep {
                            path: path.to_owned(),
                        })?;
                    missing.insert(directory);
                }
            }
        }
    }
    let mut missing: Vec<_> = missing
        .into_iter()
        .map(ManifestPath::from_ancestor)
        .collect();
    missing.sort_unstable();
    Ok(missing)
}

/// Puts entries together that come in any order, for [`Snapshot::new`] and the readers of the formats.
pub(crate) fn push_all(
    table: &mut Table,
    entries: impl IntoIterator<Item = (ManifestPath, Change)>,
) -> Result<(), SnapshotError> {
    for (path, change) in entries {
        if let Err(TooLarge) = table.push(path.borrowed(), change) {
            return Err(SnapshotError::TooLarge { path });
        }
    }
    Ok(())
}

impl Snapshot {
    /// A snapshot of these entries, in any order. Directories above them that are not among them
    /// are added. `parent` is the hash of the manifest that this one came from, if that is known.
    pub fn new(
        chunk_size: ChunkSize,
        parent: Option<ContentHash>,
        entries: impl IntoIterator<Item = (ManifestPath, Node)>,
    ) -> Result<Self, SnapshotError> {
        let entries = entries.into_iter();
        let mut table = Table::with_capacity(entries.size_hint().0);
        push_all(
            &mut table,
            entries.map(|(path, node)| (path, Change::Put(node))),
        )?;
        Self::from_table(chunk_size, parent, table)
    }

    /// A snapshot of entries, none of which is a deletion.
    pub(crate) fn from_table(
        chunk_size: ChunkSize,
        parent: Option<ContentHash>,
        mut table: Table,
    ) -> Result<Self, SnapshotError> {
        table.sort();
        let mut total_size = 0;
        for index in 0..table.len() {
            let path = table.path(index);
            if index > 0 && table.path(index - 1) == path {
                return Err(SnapshotError::Duplicate {
                    path: path.to_owned(),
                });
            }
            if let Some(node) = table.node(index) {
                total_size = check_node(path, &node, chunk_size, total_size)?;
            }
        }
        let missing = missing_directories(&table)?;
        if !missing.is_empty() {
            push_all(
                &mut table,
                missing
                    .into_iter()
                    .map(|path| (path, Change::Put(Node::Dir))),
            )?;
            table.sort();
        }
        table.shrink();
        Ok(Self {
            chunk_size,
            parent,
            table,
            total_size,
        })
    }

    /// A snapshot of some entries of another: in order, with every directory above them.
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

    /// The hash of the manifest that this one came from, if it says so.
    pub fn parent(&self) -> Option<ContentHash> {
        self.parent
    }

    /// This snapshot as one that came from the manifest with this hash, or from none.
    #[must_use]
    pub fn with_parent(mut self, parent: Option<ContentHash>) -> Self {
        self.parent = parent;
        self
    }

    /// Every entry, in the order of [`ManifestPath`].
    pub fn entries(
        &self,
    ) -> impl ExactSizeIterator<Item = (PathRef<'_>, Node)> + DoubleEndedIterator + Clone {
        (0..self.len()).map(|index| (self.table.path(index), self.node_at(index)))
    }

    fn node_at(&self, index: usize) -> Node {
        self.table.node(index).expect("a snapshot deletes nothing")
    }

    /// The targets of all links.
    pub(crate) fn targets(&self) -> &[crate::LinkTarget] {
        self.table.targets()
    }

    /// What is at this path.
    pub fn get<'p>(&self, path: impl Into<PathRef<'p>>) -> Option<Node> {
        let found = self.table.find(path.into().as_bytes()).next()?;
        self.table.node(found)
    }

    /// How many directories, files and links there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all files together.
    pub fn total_size(&self) -> u64 {
        self.total_size
    }

    /// The entries, packed.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// This snapshot with its files as if they had not been hashed.
    pub(crate) fn forget_hashes(mut self) -> Self {
        self.table.forget_hashes();
        self
    }
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        (self.chunk_size, self.parent) == (other.chunk_size, other.parent)
            && self.entries().eq(other.entries())
    }
}

impl Eq for Snapshot {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chunks, dir, file, link, path, snapshot};

    #[test]
    fn parents_that_nobody_listed_are_directories() {
        let tree = snapshot([("a/b/c", file(1))]);
        let listed: Vec<_> = tree.entries().map(|(path, _)| path.to_string()).collect();
        assert_eq!(listed, ["a", "a/b", "a/b/c"]);
        assert_eq!(tree.get(&path("a/b")), Some(Node::Dir));
        assert_eq!(tree.total_size(), 1);
    }

    #[test]
    fn entries_come_in_utf16_order_whatever_order_they_were_given_in() {
        let tree = snapshot([
            ("\u{e000}", file(1)),
            ("a/b", file(1)),
            ("\u{1f600}", file(1)),
            ("a-b", file(1)),
        ]);
        let listed: Vec<_> = tree.entries().map(|(path, _)| path.to_string()).collect();
        assert_eq!(listed, ["a", "a-b", "a/b", "\u{1f600}", "\u{e000}"]);
    }

    fn refused<const N: usize>(entries: [(&str, Node); N]) -> SnapshotError {
        let entries = entries.map(|(text, node)| (path(text), node));
        Snapshot::new(ChunkSize::DEFAULT, None, entries).unwrap_err()
    }

    #[test]
    fn one_path_cannot_be_two_things() {
        assert_eq!(
            refused([("a", file(1)), ("b", dir()), ("a", dir())]),
            SnapshotError::Duplicate { path: path("a") }
        );
    }

    #[test]
    fn nothing_lies_below_a_file_or_a_link() {
        for node in [file(1), link("x")] {
            assert_eq!(
                refused([("a", node), ("a-b", file(1)), ("a/b/c", file(1))]),
                SnapshotError::BelowFile {
                    path: path("a/b/c"),
                    file: path("a")
                }
            );
        }
    }

    #[test]
    fn chunks_and_sizes_that_cannot_be_are_refused() {
        assert!(matches!(
            refused([("a", chunks(5, 2))]),
            SnapshotError::Layout {
                source: LayoutError::NotCut { .. },
                ..
            }
        ));
        assert!(matches!(
            refused([("a", file(1 << 63))]),
            SnapshotError::FileSize { .. }
        ));
        let longest = || file(i64::MAX as u64);
        assert_eq!(
            refused([("a", longest()), ("b", longest()), ("c", file(2))]),
            SnapshotError::TotalSize { path: path("c") }
        );
    }

    #[test]
    fn paths_of_a_thousand_directories_each_do_not_fill_the_memory() {
        let entries = (0..200).map(|i| {
            let text = format!("{i}/{}f", "a/".repeat(2000));
            (path(&text), file(1))
        });
        let error = Snapshot::new(ChunkSize::DEFAULT, None, entries).unwrap_err();
        assert!(matches!(error, SnapshotError::TooDeep { .. }));
    }
}
