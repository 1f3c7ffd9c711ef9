//! Forgetting hashes, and finding files that have none.
//!
//! **Law:** `m.without_hashes()` names every file of `m` in [`Snapshot::unhashed`], and is the same
//! in everything else.

use crate::path::PathRef;
use crate::table::Table;
use crate::{Diff, Snapshot};

fn unhashed(table: &Table) -> impl Iterator<Item = PathRef<'_>> {
    (0..table.len())
        .filter(|&index| table.is_unhashed(index))
        .map(|index| table.path(index))
}

impl Snapshot {
    /// This snapshot as if its files had not been hashed yet. It keeps its parent.
    #[must_use]
    pub fn without_hashes(self) -> Self {
        self.forget_hashes()
    }

    /// The files that have no hash.
    pub fn unhashed(&self) -> impl Iterator<Item = PathRef<'_>> {
        unhashed(self.table())
    }
}

impl Diff {
    /// This diff as if the files that it puts had not been hashed yet. It keeps its parent.
    #[must_use]
    pub fn without_hashes(self) -> Self {
        self.forget_hashes()
    }

    /// The files that are put without a hash.
    pub fn unhashed(&self) -> impl Iterator<Item = PathRef<'_>> {
        unhashed(self.table())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::any_snapshot;
    use crate::{Content, Node};

    proptest! {
        #[test]
        fn nothing_but_the_hashes_is_forgotten(tree in any_snapshot()) {
            let bare = tree.clone().without_hashes();
            let mut files = Vec::new();
            for ((path, node), (bare_path, bare)) in tree.entries().zip(bare.entries()) {
                let mut node = node;
                if let Node::File(file) = &mut node {
                    file.content = Content::Unhashed;
                    files.push(path);
                }
                prop_assert_eq!((path, node), (bare_path, bare));
            }
            prop_assert_eq!(bare.len(), tree.len());
            prop_assert_eq!(bare.unhashed().collect::<Vec<_>>(), files);
            let diff = tree.diff(&bare, None).without_hashes();
            prop_assert_eq!(diff.unhashed().count(), diff.len());
        }
    }
}
