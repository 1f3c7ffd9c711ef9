//! The account of what was used: sums over all files of the base, and the largest of each kind by name.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::time::Duration;

use attachfs_manifest::ContentHash;
use attachfs_tree::{BaseKind, Ino, LayeredBase};

use crate::Vfs;
use crate::inputs::{Used, UsedFiles};

/// How many files, or objects, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileTotal {
    /// How many.
    pub count: u64,
    /// Their lengths.
    pub bytes: u64,
}

impl FileTotal {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// A file of the base that was opened or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadInput {
    /// Its path for messages.
    pub path: String,
    /// Its length in the base.
    pub size: u64,
    /// How often it was opened for reading.
    pub opens: u64,
    /// Bytes that reads asked for, those asked for again included.
    pub asked: u64,
    /// The ranges that were read: of these bytes were given out.
    pub ranges: Vec<Range<u64>>,
    /// Whether bytes lie in these ranges that were not read: there were too many.
    pub is_rough: bool,
    /// Bytes in these ranges that were given out and that nobody has verified so far.
    pub unverified: u64,
    /// When it was opened first, since the mount.
    pub first: Duration,
}

/// A file of the base that nobody opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadInput {
    /// Its path for messages.
    pub path: String,
    /// Its length.
    pub size: u64,
}

/// What was used of the base, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputAccount {
    /// How long the mount has been there.
    pub age: Duration,
    /// The files that the base shows.
    pub shown: FileTotal,
    /// The objects that these are made of, each once.
    pub objects: FileTotal,
    /// Files that were opened or read.
    pub used: u64,
    /// The part of these of which no byte was asked for.
    pub only_opened: u64,
    /// Bytes that reads asked for, those asked for again included.
    pub asked: u64,
    /// Bytes that were read, each once.
    pub covered: u64,
    /// The part of these that was given out and that nobody has verified so far.
    pub unverified: u64,
    /// Files that were used, and of which nothing else is known but `asked`: there are too many.
    pub without_detail: u64,
    /// Files that the base shows and nobody opened.
    pub unused: FileTotal,
    /// When each file was used first, since the mount; in no order.
    pub first_uses: Vec<Duration>,
    /// Those of which most was read.
    pub most_read: Vec<ReadInput>,
    /// The longest ones of which nothing was read.
    pub longest_unused: Vec<UnreadInput>,
}

/// The largest of many, as many as are wanted.
struct Largest<T: Ord> {
    kept: BinaryHeap<Reverse<T>>,
    most: usize,
}

impl<T: Ord> Largest<T> {
    fn new(most: usize) -> Self {
        Self {
            kept: BinaryHeap::new(),
            most,
        }
    }

    fn add(&mut self, what: T) {
        self.kept.push(Reverse(what));
        if self.kept.len() > self.most {
            self.kept.pop();
        }
    }

    /// The largest first.
    fn sorted(self) -> impl Iterator<Item = T> {
        let sorted = self.kept.into_sorted_vec();
        sorted.into_iter().map(|Reverse(largest)| largest)
    }
}

impl Vfs {
    /// What was used so far, through handles that are open too.
    fn used_files(&self) -> UsedFiles {
        for open in self.handles.open_handles() {
            self.inputs.keep(&open.used);
        }
        self.inputs.so_far()
    }

    /// What was used of the base since the mount, `most` files of each kind by name. Walks through all of the base.
    pub fn input_account(&self, most: usize) -> InputAccount {
        let used = self.used_files();
        let base = self.namespace.read().base().clone();
        let mut account = InputAccount {
            age: self.inputs.age(),
            used: used.detailed.len() as u64 + used.other_count,
            asked: used.other_asked,
            without_detail: used.other_count,
            ..InputAccount::default()
        };
        self.account_unused(&mut account, &base, &used, most);
        let mut largest = Largest::new(most);
        for used in used.detailed.values() {
            account.first_uses.push(used.first);
            account.only_opened += u64::from(used.asked == 0);
            account.asked += used.asked;
            account.covered += used.ranges.len();
            account.unverified += self.unverified(&base, used);
            let size = size_of(&base, used.ino);
            // Of two that are alike, the one with the lower number.
            largest.add((used.asked, size, Reverse(used.ino)));
        }
        let most_read = largest.sorted().filter_map(|(_, size, Reverse(ino))| {
            let used = used.detailed.get(&ino)?;
            Some(ReadInput {
                path: self.describe(ino),
                size,
                opens: used.opens,
                asked: used.asked,
                ranges: used.ranges.parts().to_vec(),
                is_rough: used.ranges.is_rough(),
                unverified: self.unverified(&base, used),
                first: used.first,
            })
        });
        account.most_read = most_read.collect();
        account
    }

    /// Walks through the base as it is shown.
    fn account_unused(
        &self,
        account: &mut InputAccount,
        base: &LayeredBase,
        used: &UsedFiles,
        most: usize,
    ) {
        let mut objects: Vec<(ContentHash, u64)> = Vec::new();
        let mut largest = Largest::new(most);
        let mut dirs = vec![Ino::ROOT];
        while let Some(dir) = dirs.pop() {
            for ino in base.children(dir) {
                let size = match base.kind(ino) {
                    Some(BaseKind::File { size, .. }) => size,
                    Some(BaseKind::Dir) => {
                        dirs.push(ino);
                        continue;
                    }
                    Some(BaseKind::Symlink(_)) | None => continue,
                };
                account.shown.add(size);
                if let Some(layout) = base.layout(ino) {
                    let pieces = layout.pieces(0..size);
                    objects.extend(pieces.map(|piece| (piece.hash, piece.object_len)));
                }
                if !used.has(ino) {
                    account.unused.add(size);
                    largest.add((size, Reverse(ino)));
                }
            }
        }
        objects.sort_unstable();
        objects.dedup();
        for (_, len) in objects {
            account.objects.add(len);
        }
        let longest = largest.sorted().map(|(size, Reverse(ino))| UnreadInput {
            path: self.describe(ino),
            size,
        });
        account.longest_unused = longest.collect();
    }

    /// Bytes of a file that were given out and that nobody has verified so far.
    fn unverified(&self, base: &LayeredBase, used: &Used) -> u64 {
        let Some(layout) = base.layout(used.ino) else {
            return 0;
        };
        let parts = used.ranges.parts().iter();
        let pieces = parts.flat_map(|part| layout.pieces(part.clone()));
        let unverified = pieces.filter(|piece| self.fetcher.gave_unverified(piece));
        unverified
            .map(|piece| piece.range.end - piece.range.start)
            .sum()
    }
}

fn size_of(base: &LayeredBase, ino: Ino) -> u64 {
    match base.kind(ino) {
        Some(BaseKind::File { size, .. }) => size,
        Some(BaseKind::Dir | BaseKind::Symlink(_)) | None => 0,
    }
}
