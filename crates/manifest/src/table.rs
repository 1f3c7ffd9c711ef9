//! Changes by path, packed: what a [`Snapshot`](crate::Snapshot) and a [`Diff`](crate::Diff) are made of.
//!
//! ```text
//!     records  40 bytes an entry, in the order of the paths
//!     text     the bytes of all paths, one after the other
//!     lists    the hashes of files in chunks      targets  where links point
//! ```
//!
//! A manifest of a million files is two allocations, and takes a few dozen bytes an entry beside its
//! paths. An entry is unpacked when it is looked at, which costs nothing but copying it.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use crate::path::{PathRef, utf16_order};
use crate::{Change, Content, ContentHash, File, LinkTarget, Mtime, Node};

/// An entry. What `size` and `hash` mean depends on the kind.
#[derive(Debug, Clone)]
struct Record {
    /// Where the path begins in the text: the lower 32 of 40 bits.
    at_low: u32,
    path_len: u16,
    at_high: u8,
    kind: Kind,
    /// Of a file; for a link its place in `targets`.
    size: u64,
    mtime: i64,
    /// Of a file in one piece; for one in chunks the first 8 bytes are its place in `lists`.
    hash: [u8; 16],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DeleteDir,
    DeleteFile,
    Dir,
    Symlink,
    Whole,
    WholeRunnable,
    Chunks,
    ChunksRunnable,
    Unhashed,
    UnhashedRunnable,
}

/// Entries by path. A path may be there more than once until somebody looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    records: Vec<Record>,
    text: Vec<u8>,
    lists: Vec<Arc<[ContentHash]>>,
    targets: Vec<LinkTarget>,
    /// Whether an entry's path does not come after that of the one before it.
    is_unsorted: bool,
}

/// More text than a record can point to. Nothing that fits into memory today is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Table {
    /// How many bytes of paths a table can hold.
    const MOST_TEXT: usize = 1 << 40;

    pub(crate) fn with_capacity(entries: usize) -> Self {
        Self {
            records: Vec::with_capacity(entries),
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Appends an entry. `path` was checked.
    pub(crate) fn push(&mut self, path: PathRef<'_>, change: Change) -> Result<(), TooLarge> {
        let start = self.text.len();
        self.text.extend_from_slice(path.as_bytes());
        if self.text.len() > Self::MOST_TEXT {
            return Err(TooLarge);
        }
        if !self.is_unsorted
            && let Some(last) = self.records.last()
        {
            let last = self.path_of(last);
            self.is_unsorted = utf16_order(last, path.as_bytes()) != Ordering::Less;
        }
        let record = self.pack(start, change);
        self.records.push(record);
        Ok(())
    }

    fn pack(&mut self, start: usize, change: Change) -> Record {
        let (mut size, mut mtime, mut hash) = (0, 0, [0; 16]);
        let kind = match change {
            Change::DeleteDir => Kind::DeleteDir,
            Change::DeleteFile => Kind::DeleteFile,
            Change::Put(Node::Dir) => Kind::Dir,
            Change::Put(Node::Symlink(target)) => {
                size = self.targets.len() as u64;
                self.targets.push(target);
                Kind::Symlink
            }
            Change::Put(Node::File(file)) => {
                (size, mtime) = (file.size, file.mtime.0);
                match (file.content, file.runnable) {
                    (Content::Whole(whole), runnable) => {
                        hash = *whole.as_bytes();
                        if runnable {
                            Kind::WholeRunnable
                        } else {
                            Kind::Whole
                        }
                    }
                    (Content::Chunks(list), runnable) => {
                        hash[..8].copy_from_slice(&(self.lists.len() as u64).to_le_bytes());
                        self.lists.push(list);
                        if runnable {
                            Kind::ChunksRunnable
                        } else {
                            Kind::Chunks
                        }
                    }
                    (Content::Unhashed, false) => Kind::Unhashed,
                    (Content::Unhashed, true) => Kind::UnhashedRunnable,
                }
            }
        };
        Record {
            at_low: start as u32,
            path_len: (self.text.len() - start) as u16,
            at_high: (start >> 32) as u8,
            kind,
            size,
            mtime,
            hash,
        }
    }

    fn path_of(&self, record: &Record) -> &[u8] {
        let at = usize::from(record.at_high) << 32 | record.at_low as usize;
        &self.text[at..at + usize::from(record.path_len)]
    }

    pub(crate) fn path(&self, index: usize) -> PathRef<'_> {
        PathRef::from_checked(self.path_of(&self.records[index]))
    }

    pub(crate) fn change(&self, index: usize) -> Change {
        let record = &self.records[index];
        let file = |content| {
            let runnable = matches!(
                record.kind,
                Kind::WholeRunnable | Kind::ChunksRunnable | Kind::UnhashedRunnable
            );
            Change::Put(Node::File(File {
                size: record.size,
                mtime: Mtime(record.mtime),
                runnable,
                content,
            }))
        };
        match record.kind {
            Kind::DeleteDir => Change::DeleteDir,
            Kind::DeleteFile => Change::DeleteFile,
            Kind::Dir => Change::Put(Node::Dir),
            Kind::Symlink => Change::Put(Node::Symlink(self.targets[record.size as usize].clone())),
            Kind::Whole | Kind::WholeRunnable => {
                file(Content::Whole(ContentHash::from_bytes(record.hash)))
            }
            Kind::Chunks | Kind::ChunksRunnable => {
                let (place, _) = record.hash.split_first_chunk().expect("16 bytes hold 8");
                let list = &self.lists[u64::from_le_bytes(*place) as usize];
                file(Content::Chunks(Arc::clone(list)))
            }
            Kind::Unhashed | Kind::UnhashedRunnable => file(Content::Unhashed),
        }
    }

    /// What is put, if something is.
    pub(crate) fn node(&self, index: usize) -> Option<Node> {
        match self.change(index) {
            Change::Put(node) => Some(node),
            Change::DeleteDir | Change::DeleteFile => None,
        }
    }

    /// Whether something is put, and it is a directory, without unpacking it.
    pub(crate) fn is_put_dir(&self, index: usize) -> bool {
        self.records[index].kind == Kind::Dir
    }

    pub(crate) fn is_deletion(&self, index: usize) -> bool {
        matches!(self.records[index].kind, Kind::DeleteDir | Kind::DeleteFile)
    }

    /// The links that are put, in no particular order.
    pub(crate) fn targets(&self) -> &[LinkTarget] {
        &self.targets
    }

    /// Puts the entries in the order of their paths, a deletion before a put of the same path, and
    /// otherwise leaves equal paths in the order in which they came.
    pub(crate) fn sort(&mut self) {
        if !self.is_unsorted {
            return;
        }
        let mut records = std::mem::take(&mut self.records);
        let is_put = |kind| !matches!(kind, Kind::DeleteDir | Kind::DeleteFile);
        let order = |a: &Record, b: &Record| {
            utf16_order(self.path_of(a), self.path_of(b))
                .then_with(|| is_put(a.kind).cmp(&is_put(b.kind)))
        };
        records.sort_by(order);
        self.records = records;
        self.is_unsorted = false;
    }

    /// Of entries of the same path leaves the one that came last.
    pub(crate) fn keep_last(&mut self) {
        self.sort();
        let mut records = std::mem::take(&mut self.records);
        records.dedup_by(|later, earlier| {
            let same = self.path_of(later) == self.path_of(earlier);
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        self.records = records;
    }

    /// The places of the entries of one path in a sorted table.
    pub(crate) fn find(&self, path: &[u8]) -> Range<usize> {
        let order = |record: &Record| utf16_order(self.path_of(record), path);
        let start = self.records.partition_point(|record| order(record).is_lt());
        let same = self.records[start..].iter();
        start..start + same.take_while(|record| order(record).is_eq()).count()
    }

    /// The places of what lies below a directory in a sorted table; of everything if its path is empty.
    pub(crate) fn below(&self, directory: &[u8]) -> Range<usize> {
        if directory.is_empty() {
            return 0..self.len();
        }
        let at = |end: u8| {
            let border = [directory, &[end]].concat();
            self.records
                .partition_point(|record| utf16_order(self.path_of(record), &border).is_lt())
        };
        // Whatever begins with the directory and a slash lies together, before the character after it.
        at(b'/')..at(b'/' + 1)
    }

    /// Whether an entry says the same as one of another table, without unpacking them.
    pub(crate) fn says_the_same(&self, index: usize, other: &Self, other_index: usize) -> bool {
        let (a, b) = (&self.records[index], &other.records[other_index]);
        a.kind == b.kind
            && match a.kind {
                Kind::DeleteDir | Kind::DeleteFile | Kind::Dir => true,
                Kind::Whole | Kind::WholeRunnable => {
                    (a.size, a.mtime, a.hash) == (b.size, b.mtime, b.hash)
                }
                Kind::Unhashed | Kind::UnhashedRunnable => (a.size, a.mtime) == (b.size, b.mtime),
                Kind::Symlink | Kind::Chunks | Kind::ChunksRunnable => {
                    self.change(index) == other.change(other_index)
                }
            }
    }

    /// Whether a file is put whose hash is not known.
    pub(crate) fn is_unhashed(&self, index: usize) -> bool {
        matches!(
            self.records[index].kind,
            Kind::Unhashed | Kind::UnhashedRunnable
        )
    }

    /// The bytes of all files that are put.
    pub(crate) fn total_size(&self) -> u64 {
        let files = self.records.iter().filter(|record| {
            !matches!(
                record.kind,
                Kind::DeleteDir | Kind::DeleteFile | Kind::Dir | Kind::Symlink
            )
        });
        files.fold(0, |total, record| total.saturating_add(record.size))
    }

    /// Forgets the hashes of all files.
    pub(crate) fn forget_hashes(&mut self) {
        for record in &mut self.records {
            record.kind = match record.kind {
                Kind::Whole | Kind::Chunks => Kind::Unhashed,
                Kind::WholeRunnable | Kind::ChunksRunnable => Kind::UnhashedRunnable,
                kind => kind,
            };
            record.hash = [0; 16];
        }
        self.lists = Vec::new();
    }

    /// Gives back memory that was set aside for more entries.
    pub(crate) fn shrink(&mut self) {
        self.records.shrink_to_fit();
        self.text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chunks, file, link, path};

    #[test]
    fn a_record_is_small() {
        assert_eq!(std::mem::size_of::<Record>(), 40);
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        let unhashed = Node::File(File {
            size: 9,
            mtime: Mtime(-1),
            runnable: true,
            content: Content::Unhashed,
        });
        let all = [
            Change::Put(Node::Dir),
            Change::Put(file(u64::MAX)),
            Change::Put(chunks(25, 3)),
            Change::Put(unhashed),
            Change::Put(link("a/b")),
            Change::Put(Node::Symlink(LinkTarget::Root)),
            Change::DeleteDir,
            Change::DeleteFile,
        ];
        let mut table = Table::default();
        for (i, change) in all.iter().enumerate() {
            let path = path(&format!("p{i}"));
            table.push(path.borrowed(), change.clone()).unwrap();
        }
        for (i, change) in all.iter().enumerate() {
            assert_eq!(table.change(i), *change);
            assert_eq!(table.path(i).to_string(), format!("p{i}"));
            assert_eq!(table.find(format!("p{i}").as_bytes()), i..i + 1);
        }
    }

    #[test]
    fn what_lies_below_a_directory_lies_together() {
        let mut table = Table::default();
        for at in [
            "a",
            "a-b",
            "a/b",
            "a/b/c",
            "a/\u{1f600}",
            "a/\u{e000}",
            "a0",
            "b",
        ] {
            table
                .push(path(at).borrowed(), Change::Put(file(1)))
                .unwrap();
        }
        table.sort();
        let below = |directory: &str| {
            let places = table.below(directory.as_bytes());
            places
                .map(|index| table.path(index).to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(below("a"), ["a/b", "a/b/c", "a/\u{1f600}", "a/\u{e000}"]);
        assert_eq!(below("a/b"), ["a/b/c"]);
        assert_eq!(below("b"), [""; 0]);
        assert_eq!(below("").len(), 8);
    }

    #[test]
    fn sorting_puts_deletions_first_and_keeps_the_order_of_equals() {
        let mut table = Table::default();
        for (at, change) in [
            ("b", Change::Put(file(1))),
            ("a", Change::Put(file(2))),
            ("a", Change::DeleteDir),
            ("a", Change::Put(file(3))),
        ] {
            table.push(path(at).borrowed(), change).unwrap();
        }
        table.sort();
        let sorted: Vec<_> = (0..4)
            .map(|i| (table.path(i).to_string(), table.change(i)))
            .collect();
        let expected = [
            ("a", Change::DeleteDir),
            ("a", Change::Put(file(2))),
            ("a", Change::Put(file(3))),
            ("b", Change::Put(file(1))),
        ];
        assert_eq!(sorted, expected.map(|(at, change)| (at.to_owned(), change)));
        assert_eq!((table.find(b"a"), table.find(b"aa")), (0..3, 3..3));
    }
}
