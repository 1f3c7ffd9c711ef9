//! What a format cannot hold.
//!
//! **Law:** nothing is lost if and only if the manifest, written in that format and read again, is the
//! same (for a diff: what was written of its puts, since 2023-03-03 holds no diff).

use crate::ManifestPath;
use crate::path::PathRef;
use crate::table::Table;
use crate::wire::{Format, Manifest};
use crate::{Content, Node};

/// How many entries lose something, and the first few of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// The first [`Lost::SHOWN`] of them, in the order of their paths.
    pub first: Vec<ManifestPath>,
}

impl Lost {
    /// How many paths are kept.
    pub const SHOWN: usize = 5;

    fn add(&mut self, path: PathRef<'_>) {
        self.count += 1;
        if self.first.len() < Self::SHOWN {
            self.first.push(path.to_owned());
        }
    }
}

/// What is lost when a manifest becomes one of another format.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losses {
    /// Empty directories: they are gone.
    pub empty_directories: Lost,
    /// Runnable files: they are no longer runnable.
    pub runnable: Lost,
    /// Links: what they point to takes their place.
    pub links: Lost,
    /// Files in chunks: they cannot be held, and have to be stored in one piece first.
    pub chunks: Lost,
    /// Files without a hash: they cannot be held, and have to be hashed first.
    pub unhashed: Lost,
    /// Deletions: what a diff deletes stays where its puts are laid over something.
    pub deletions: Lost,
    /// Whether the hash of the parent is lost.
    pub parent: bool,
}

impl Losses {
    /// Whether nothing is lost.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something stands in the way of the conversion
    /// ([`Manifest::downgrade`](crate::wire::Manifest::downgrade) fails) rather than being dropped.
    pub fn are_in_the_way(&self) -> bool {
        self.chunks.count > 0 || self.unhashed.count > 0
    }
}

/// What is lost when `manifest` becomes one of `format`. Every version of 2025-12 holds everything.
pub fn what_is_lost(manifest: &Manifest, format: Format) -> Losses {
    match format {
        Format::V2025_12 | Format::V2025_12Absolute | Format::Draft2025_12_04 => Losses::default(),
        Format::V2023_03_03 => {
            let mut losses = match manifest {
                Manifest::Snapshot(snapshot) => of_table(snapshot.table()),
                Manifest::Diff(diff) => of_table(diff.table()),
            };
            losses.parent = manifest.parent().is_some();
            losses
        }
    }
}

fn of_table(table: &Table) -> Losses {
    let mut losses = Losses::default();
    for index in 0..table.len() {
        let path = table.path(index);
        match table.node(index) {
            None => losses.deletions.add(path),
            Some(Node::Symlink(_)) => losses.links.add(path),
            Some(Node::Dir) => {
                let mut below = table.below(path.as_bytes());
                if !below.any(|index| !table.is_deletion(index)) {
                    losses.empty_directories.add(path);
                }
            }
            Some(Node::File(file)) => {
                match file.content {
                    Content::Whole(_) => {}
                    Content::Chunks(_) => losses.chunks.add(path),
                    Content::Unhashed => losses.unhashed.add(path),
                }
                if file.runnable {
                    losses.runnable.add(path);
                }
            }
        }
    }
    losses
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{
        any_snapshot, chunks, dir, file, link, path, snapshot, unhashed, variant,
    };
    use crate::wire::{decode, encode_snapshot};
    use crate::{ChunkSize, ContentHash, Snapshot};

    proptest! {
        #[test]
        fn nothing_is_lost_if_the_same_is_read_again(tree in any_snapshot()) {
            let entries = tree.entries().map(|(path, node)| (path.to_owned(), node));
            let Ok(tree) = Snapshot::new(ChunkSize::WholeFile, None, entries) else { return Ok(()) };
            let manifest = Manifest::Snapshot(tree.clone());
            let losses = what_is_lost(&manifest, Format::V2023_03_03);
            let text = encode_snapshot(&tree, Format::V2023_03_03);
            let again = text.ok().and_then(|text| decode(&text).ok());
            let is_same = again.is_some_and(|(_, again)| again == manifest);
            prop_assert_eq!(losses.is_empty(), is_same);
        }
    }

    #[test]
    fn every_kind_of_loss_is_counted_and_named() {
        let tree = snapshot([
            ("chunks", chunks((1 << 28) + 1, 2)),
            ("empty/er", dir()),
            ("l", link("run")),
            ("run", variant(1, true, 0)),
            ("un", unhashed(1)),
        ]);
        let base = snapshot([("gone/a", file(1))]);
        let parent = Some(ContentHash::of(b"p"));
        let lost = |paths: &[&str]| Lost {
            count: paths.len() as u64,
            first: paths.iter().copied().map(path).collect(),
        };
        let mut expected = Losses {
            empty_directories: lost(&["empty/er"]),
            runnable: lost(&["chunks", "run"]),
            links: lost(&["l"]),
            chunks: lost(&["chunks"]),
            unhashed: lost(&["un"]),
            deletions: lost(&["gone", "gone/a"]),
            parent: true,
        };
        let diff = Manifest::Diff(tree.diff(&base, parent));
        assert_eq!(what_is_lost(&diff, Format::V2023_03_03), expected);
        assert!(expected.are_in_the_way());
        assert!(what_is_lost(&diff, Format::V2025_12).is_empty());
        expected.deletions = Lost::default();
        let manifest = Manifest::Snapshot(tree.with_parent(parent));
        assert_eq!(what_is_lost(&manifest, Format::V2023_03_03), expected);
    }

    #[test]
    fn only_the_first_few_are_named() {
        let entries = (0..20).map(|i| (path(&format!("{i:02}")), dir()));
        let tree = Snapshot::new(ChunkSize::DEFAULT, None, entries).unwrap();
        let losses = what_is_lost(&Manifest::Snapshot(tree), Format::V2023_03_03);
        assert_eq!(losses.empty_directories.count, 20);
        let first = ["00", "01", "02", "03", "04"].map(path);
        assert_eq!(losses.empty_directories.first, first);
    }
}
