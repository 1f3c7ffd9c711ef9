//! A snapshot that is put together entry by entry.
//!
//! Each entry is packed as it comes, so an operation that walks over other manifests keeps only its
//! result. Entries that come in order are not moved again.

use crate::path::PathRef;
use crate::table::{Table, TooLarge};
use crate::{Change, ChunkSize, ContentHash, Node, Snapshot, SnapshotError};

/// The entries of a [`Snapshot`] to be.
#[derive(Debug, Clone, Default)]
pub struct SnapshotBuilder {
    table: Table,
}

impl SnapshotBuilder {
    /// An empty builder with room for this many entries.
    pub fn with_capacity(entries: usize) -> Self {
        Self {
            table: Table::with_capacity(entries),
        }
    }

    /// Adds an entry, in any order.
    pub fn push(&mut self, path: PathRef<'_>, node: Node) -> Result<(), SnapshotError> {
        let pushed = self.table.push(path, Change::Put(node));
        pushed.map_err(|TooLarge| SnapshotError::TooLarge {
            path: path.to_owned(),
        })
    }

    /// The snapshot, checked as [`Snapshot::new`] does it, with the directories above its entries.
    pub fn finish(
        self,
        chunk_size: ChunkSize,
        parent: Option<ContentHash>,
    ) -> Result<Snapshot, SnapshotError> {
        Snapshot::from_table(chunk_size, parent, self.table)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{any_snapshot, file, link, path};

    proptest! {
        #[test]
        fn entries_in_any_order_make_the_snapshot_that_they_came_from(
            (whole, seed) in (any_snapshot(), any::<u64>()),
        ) {
            let mut entries: Vec<_> = whole.entries().collect();
            entries.sort_by_key(|(path, _)| ContentHash::of(&[path.as_bytes(), &seed.to_le_bytes()].concat()).to_hex());
            let mut builder = SnapshotBuilder::default();
            for (path, node) in entries {
                builder.push(path, node).unwrap();
            }
            prop_assert_eq!(builder.finish(whole.chunk_size(), None), Ok(whole));
        }
    }

    #[test]
    fn entries_that_make_no_tree_are_refused_at_the_end() {
        let mut builder = SnapshotBuilder::with_capacity(2);
        builder.push(path("l").borrowed(), link("x")).unwrap();
        builder.push(path("l/f").borrowed(), file(1)).unwrap();
        let error = SnapshotError::BelowFile {
            path: path("l/f"),
            file: path("l"),
        };
        assert_eq!(builder.finish(ChunkSize::DEFAULT, None), Err(error));
    }
}
