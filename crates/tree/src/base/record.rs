//! What a tree keeps of each node, and how an index stores it and the other cells.
//!
//! ```text
//!     node    size 8 | mtime 8 | parent 4 | name 4 | first 4 | count 4 | name length 1 | kind 1 | runnable 1 | 0
//!     name    its bytes                         hash    its 16 bytes
//!     target  length 2 | its path               (length 0: the root)
//! ```
//!
//! Numbers are little-endian. Kinds: 0 directory, 1 file, 2 link. What is read is believed only after
//! each number was found to lie within the tree: nothing that is in an index can make a look-up panic
//! or go round in circles.

use attachfs_manifest::{ContentHash, LinkTarget, ManifestPath, Mtime};

use super::BaseTree;
use super::paged::{Cell, Paged, page_len, place};
use crate::Kind;

/// One node, 40 bytes. `first` and `count` are the children of a directory, the hashes of a file,
/// or the target of a link. `size` is the length of a file, and of a directory the number of directories in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) size: u64,
    pub(super) mtime: Mtime,
    pub(super) parent: u32,
    pub(super) name: u32,
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) name_len: u8,
    pub(super) kind: Kind,
    pub(super) runnable: bool,
}

impl Record {
    /// How many bytes an index takes for one.
    pub(super) const STORED: usize = 36;

    fn store(&self) -> [u8; Self::STORED] {
        let mut bytes = [0; Self::STORED];
        bytes[0..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.mtime.0.to_le_bytes());
        for (at, number) in [self.parent, self.name, self.first, self.count]
            .into_iter()
            .enumerate()
        {
            bytes[16 + 4 * at..20 + 4 * at].copy_from_slice(&number.to_le_bytes());
        }
        bytes[32] = self.name_len;
        bytes[33] = match self.kind {
            Kind::Dir => 0,
            Kind::File => 1,
            Kind::Symlink => 2,
            Kind::Special(_) => unreachable!("a manifest has no FIFOs and no sockets"),
        };
        bytes[34] = u8::from(self.runnable);
        bytes
    }

    fn load(bytes: &[u8; Self::STORED]) -> Option<Self> {
        let (longs, rest) = bytes.as_chunks::<8>();
        let [size, mtime, parent_name, first_count] =
            [0, 1, 2, 3].map(|at| u64::from_le_bytes(longs[at]));
        let &[name_len, kind, runnable, 0] = rest else {
            return None;
        };
        Some(Self {
            size,
            mtime: Mtime(mtime as i64),
            parent: parent_name as u32,
            name: (parent_name >> 32) as u32,
            first: first_count as u32,
            count: (first_count >> 32) as u32,
            name_len,
            kind: match kind {
                0 => Kind::Dir,
                1 => Kind::File,
                2 => Kind::Symlink,
                _ => return None,
            },
            runnable: match runnable {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }

    /// Whether the record can be node `index` of the tree. The pages it points to may not be in
    /// memory yet.
    fn fits(&self, tree: &BaseTree, index: u32) -> bool {
        let named = (index == 0) == (self.name_len == 0);
        // A parent comes before its children, so the way up ends.
        let below = self.parent < index || index == 0 && self.parent == 0;
        let has_page = |page, count| page < count;
        named
            && below
            && (index == 0 || has_page(place::<u8>(self.name).0, tree.names.page_count()))
            && match self.kind {
                Kind::Dir => {
                    let end = self.first.checked_add(self.count);
                    // Children come after their parent, so the way down ends.
                    self.size <= self.count.into()
                        && (self.count == 0
                            || self.first > index && end.is_some_and(|end| end <= tree.len))
                }
                Kind::File => {
                    let pages = tree.hashes.page_count();
                    has_page(place::<ContentHash>(self.first).0, pages)
                        && tree.chunk_size.allows(self.size, self.count.into())
                }
                Kind::Symlink => {
                    has_page(place::<LinkTarget>(self.first).0, tree.targets.page_count())
                }
                Kind::Special(_) => false,
            }
    }
}

impl Cell for Record {
    const COLUMN: &str = "nodes";
    const NUMBER: usize = 0;
    const PAGE_BITS: u32 = 10;

    fn column(tree: &BaseTree) -> &Paged<Self> {
        &tree.nodes
    }

    fn encode(cells: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend(cells.iter().flat_map(Self::store));
    }

    fn decode(tree: &BaseTree, number: usize, bytes: &[u8]) -> Option<Box<[Self]>> {
        let (rows, []) = bytes.as_chunks() else {
            return None;
        };
        let first = number * page_len::<Self>();
        let expected = tree.len().checked_sub(first)?.min(page_len::<Self>());
        if rows.len() != expected {
            return None;
        }
        let load =
            |(at, row)| Self::load(row).filter(|record| record.fits(tree, (first + at) as u32));
        rows.iter().enumerate().map(load).collect()
    }
}

impl Cell for u8 {
    const COLUMN: &str = "names";
    const NUMBER: usize = 1;
    const PAGE_BITS: u32 = 15;

    fn column(tree: &BaseTree) -> &Paged<Self> {
        &tree.names
    }

    fn encode(cells: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(cells);
    }

    fn decode(_tree: &BaseTree, _number: usize, bytes: &[u8]) -> Option<Box<[Self]>> {
        Some(bytes.into())
    }
}

impl Cell for ContentHash {
    const COLUMN: &str = "hashes";
    const NUMBER: usize = 2;
    const PAGE_BITS: u32 = 11;

    fn column(tree: &BaseTree) -> &Paged<Self> {
        &tree.hashes
    }

    fn encode(cells: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend(cells.iter().flat_map(ContentHash::as_bytes));
    }

    fn decode(_tree: &BaseTree, _number: usize, bytes: &[u8]) -> Option<Box<[Self]>> {
        let (hashes, []) = bytes.as_chunks() else {
            return None;
        };
        Some(hashes.iter().map(|hash| Self::from_bytes(*hash)).collect())
    }
}

impl Cell for LinkTarget {
    const COLUMN: &str = "targets";
    const NUMBER: usize = 3;
    const PAGE_BITS: u32 = 8;

    fn column(tree: &BaseTree) -> &Paged<Self> {
        &tree.targets
    }

    fn encode(cells: &[Self], bytes: &mut Vec<u8>) {
        for target in cells {
            let path = match target {
                Self::Root => b"".as_slice(),
                Self::Below(path) => path.as_bytes(),
            };
            let len = u16::try_from(path.len()).expect("a path has at most 4095 bytes");
            bytes.extend(len.to_le_bytes());
            bytes.extend_from_slice(path);
        }
    }

    fn decode(_tree: &BaseTree, _number: usize, mut bytes: &[u8]) -> Option<Box<[Self]>> {
        let mut targets = Vec::new();
        while let Some((len, rest)) = bytes.split_first_chunk() {
            let (path, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
            bytes = rest;
            targets.push(match path {
                b"" => Self::Root,
                path => Self::Below(ManifestPath::new(path).ok()?),
            });
        }
        bytes.is_empty().then(|| targets.into())
    }
}
