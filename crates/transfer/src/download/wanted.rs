//! What is to be placed, as a list of changes.

use std::collections::BTreeSet;

use attachfs_manifest::{Change, ChunkSize, Diff, ManifestPath, Node, Snapshot};

/// What is to be placed.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// Everything that it holds. What else is in the folder stays.
    Snapshot(&'a Snapshot),
    /// What it puts; what it deletes is deleted.
    Diff(&'a Diff),
}

impl Wanted<'_> {
    pub(super) fn chunk_size(&self) -> ChunkSize {
        match self {
            Self::Snapshot(snapshot) => snapshot.chunk_size(),
            Self::Diff(diff) => diff.chunk_size(),
        }
    }

    /// In the order of their paths, a deletion before a put of the same path.
    pub(super) fn changes(&self) -> Vec<(ManifestPath, Change)> {
        match self {
            Self::Snapshot(snapshot) => {
                let entries = snapshot.entries();
                let put = entries.map(|(path, node)| (path.to_owned(), Change::Put(node)));
                put.collect()
            }
            Self::Diff(diff) => with_parents(diff),
        }
    }
}

/// The changes of a diff, and the directories that it leads to without a word: what it puts below a path
/// of which it says nothing, or that the directory is deleted, makes that a directory.
fn with_parents(diff: &Diff) -> Vec<(ManifestPath, Change)> {
    let mut needed: BTreeSet<ManifestPath> = BTreeSet::new();
    let puts = diff
        .changes()
        .filter(|(_, change)| change.as_put().is_some());
    for (path, _) in puts {
        for above in path.ancestors() {
            if !needed.insert(above.to_owned()) {
                break;
            }
        }
    }
    let mut changes = Vec::with_capacity(diff.len());
    for (path, change) in diff.changes() {
        match change {
            // It is made below, if it is not there.
            Change::DeleteDir | Change::Put(Node::Dir) if needed.contains(&path.to_owned()) => {}
            change => changes.push((path.to_owned(), change)),
        }
    }
    let dirs = needed.into_iter();
    changes.extend(dirs.map(|path| (path, Change::Put(Node::Dir))));
    // Stable: a deletion of a path stays before the put.
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_that_says_nothing_of_a_directory_makes_it_all_the_same() {
        let path = |text: &str| ManifestPath::new(text.as_bytes()).unwrap();
        let link = || Change::Put(Node::Symlink(attachfs_manifest::LinkTarget::Root));
        let diff = Diff::new(
            ChunkSize::WholeFile,
            None,
            [
                (path("a/b/c"), link()),
                (path("d"), Change::DeleteDir),
                (path("d/e"), link()),
                (path("f"), Change::DeleteFile),
                (path("f"), Change::Put(Node::Dir)),
                (path("f/g"), link()),
            ],
        )
        .unwrap();
        let dir = || Change::Put(Node::Dir);
        assert_eq!(
            with_parents(&diff),
            [
                (path("a"), dir()),
                (path("a/b"), dir()),
                (path("a/b/c"), link()),
                (path("d"), dir()),
                (path("d/e"), link()),
                (path("f"), Change::DeleteFile),
                (path("f"), dir()),
                (path("f/g"), link()),
            ]
        );
    }
}
