//! A tree as a file that is opened without reading it.
//!
//! ```text
//!      0   8  "attfstre"
//!      8   4  format version (2)
//!     12   4  number of nodes
//!     16  16  hash of the layers, chosen by the caller
//!     32  16  hash of the composed manifest
//!     48   8  chunk size; 0 if files are not cut
//!     56   8  length of the whole file
//!     64  16  how many pages of nodes, names, hashes and targets, 4 bytes each
//!     80      for each page in that order: 8 bytes length in the file, 8 bytes XXH3-64 of it there
//!          8  XXH3-64 of everything before it
//!             the pages, in the same order, each as `record` says
//! ```
//!
//! Numbers are little-endian. Opening reads the header alone, which is 16 bytes for 32 KiB of tree. A page
//! is read when something in it is looked at for the first time: its bytes are compared with the checksum,
//! decoded, checked and kept. It is not mapped into memory, because a mapping would show whatever is in
//! the file at each moment, bytes that were never checked included, and a file that is cut off under it
//! kills the process. A page that was read once stays in memory.
//!
//! Damage is therefore found when it is first touched, possibly long after the tree was opened. Then a
//! function that was given at opening builds the tree from its manifests, and the pages that are not in
//! memory yet come from that tree. The two trees are the same, because a tree is a function of its
//! manifests; as a check, the new tree must have exactly the header that was opened.
//!
//! This module does no I/O of its own: an [`IndexSource`] reads, and the caller writes.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};

use attachfs_manifest::{ChunkSize, ContentHash, LinkTarget};
use xxhash_rust::xxh3::xxh3_64;

use super::BaseTree;
use super::paged::{Cell, Paged, page_len};
use super::record::Record;

const MAGIC: &[u8; 8] = b"attfstre";
const VERSION: u32 = 2;
/// The header up to its table of pages.
const FIXED: usize = 80;
/// A page in the table.
const ROW: usize = 16;
const CHECKSUM: usize = 8;
/// The longest header that is read: that of a tree of 2^32 nodes with long names has less.
const LONGEST_HEADER: u64 = 1 << 28;

/// Something that an index can be read from. What it holds may change or vanish at any time.
pub trait IndexSource: fmt::Debug + Send + Sync {
    /// How many bytes there are.
    fn size(&self) -> io::Result<u64>;

    /// Exactly `len` bytes from `offset` on. The tree asks for no more than [`size`](Self::size) said.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

/// An index in memory.
impl IndexSource for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let start = usize::try_from(offset).map_err(|_| end())?;
        let range = start..start.checked_add(len).ok_or_else(end)?;
        self.get(range).map(<[u8]>::to_vec).ok_or_else(end)
    }
}

/// Builds the tree of an opened index from its manifests, when a page of the index is damaged. It gets
/// the damage as its argument, and is called once at most. `None` if the tree cannot be built.
pub type Rebuild = Box<dyn Fn(IndexError) -> Option<Arc<BaseTree>> + Send + Sync>;

/// What an index says of the manifests it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexIdentity {
    /// A hash of all that the tree depends on: the index is opened only under this.
    pub layers: ContentHash,
    /// The hash of the composed manifest, so that it is known without reading the manifests.
    pub composed: ContentHash,
}

/// Why an index, or a page of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It cannot be read.
    #[error("the index cannot be read")]
    Read(#[from] io::Error),
    /// The file is no index.
    #[error("the file is no index of a tree")]
    NotAnIndex,
    /// Another version of this program wrote it.
    #[error("the index has format {0}, this program reads {VERSION}")]
    Version(u32),
    /// It belongs to other manifests.
    #[error("the index is that of other manifests ({0})")]
    OtherLayers(ContentHash),
    /// Its header is damaged.
    #[error("the header of the index is damaged")]
    Header,
    /// A page is damaged.
    #[error("page {page} of the {column} of the index is damaged")]
    Page {
        /// Which column.
        column: &'static str,
        /// Which page of it.
        page: usize,
    },
}

/// A page in the file.
#[derive(Debug, Clone, Copy)]
struct Stored {
    offset: u64,
    len: u64,
    checksum: u64,
}

/// Where the pages of an opened tree come from.
pub(super) struct Opened {
    source: Box<dyn IndexSource>,
    /// The checksum of the header.
    checksum: u64,
    identity: IndexIdentity,
    /// All pages, column after column.
    stored: Vec<Stored>,
    rebuild: Rebuild,
    rebuilt: OnceLock<Option<Arc<BaseTree>>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("source", &self.source)
            .field("identity", &self.identity)
            .field("rebuilt", &self.rebuilt.get().is_some())
            .finish_non_exhaustive()
    }
}

impl Opened {
    /// Loads page `number` of a column; `None` if the column has no such page or it can neither be
    /// read nor built again.
    #[cold]
    pub(super) fn page<'a, T: Cell>(
        &'a self,
        tree: &'a BaseTree,
        number: usize,
    ) -> Option<&'a [T]> {
        if number >= T::column(tree).page_count() {
            return None;
        }
        if let Some(Some(rebuilt)) = self.rebuilt.get() {
            return rebuilt.page(number);
        }
        match self.read(tree, number) {
            Ok(cells) => T::column(tree).keep(number, cells),
            Err(error) => {
                let rebuilt = self.rebuilt.get_or_init(|| self.rebuild(error));
                rebuilt.as_ref()?.page(number)
            }
        }
    }

    fn rebuild(&self, error: IndexError) -> Option<Arc<BaseTree>> {
        let tree = (self.rebuild)(error)?;
        let header = tree.header(&self.identity)?;
        (checksum_of(&header) == Some(self.checksum)).then_some(tree)
    }

    fn read<T: Cell>(&self, tree: &BaseTree, number: usize) -> Result<Box<[T]>, IndexError> {
        let damaged = || IndexError::Page {
            column: T::COLUMN,
            page: number,
        };
        let before: usize = page_counts(tree)[..T::NUMBER].iter().sum();
        let stored = self.stored.get(before + number).ok_or_else(damaged)?;
        let len = usize::try_from(stored.len).map_err(|_| damaged())?;
        let bytes = self.source.read_at(stored.offset, len)?;
        if bytes.len() != len || xxh3_64(&bytes) != stored.checksum {
            return Err(damaged());
        }
        T::decode(tree, number, &bytes).ok_or_else(damaged)
    }
}

/// How many pages each column has.
fn page_counts(tree: &BaseTree) -> [usize; 4] {
    [
        tree.nodes.page_count(),
        tree.names.page_count(),
        tree.hashes.page_count(),
        tree.targets.page_count(),
    ]
}

fn checksum_of(header: &[u8]) -> Option<u64> {
    header.last_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// A tree that can be written as an index.
#[derive(Debug)]
pub struct Index<'a> {
    tree: &'a BaseTree,
    header: Vec<u8>,
    size: u64,
}

impl Index<'_> {
    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes the index, from its first byte to its last.
    pub fn write<E>(&self, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        write(&self.header)?;
        write_column::<Record, E>(self.tree, &mut write)?;
        write_column::<u8, E>(self.tree, &mut write)?;
        write_column::<ContentHash, E>(self.tree, &mut write)?;
        write_column::<LinkTarget, E>(self.tree, &mut write)
    }
}

fn write_column<T: Cell, E>(
    tree: &BaseTree,
    write: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut bytes = Vec::new();
    for number in 0..T::column(tree).page_count() {
        bytes.clear();
        // Making the header has loaded every page.
        T::encode(tree.page(number).unwrap_or_default(), &mut bytes);
        write(&bytes)?;
    }
    Ok(())
}

/// Adds the rows of a column to the table and gives the length of its pages.
fn describe_column<T: Cell>(tree: &BaseTree, table: &mut Vec<u8>) -> Option<u64> {
    let mut bytes = Vec::new();
    let mut len = 0;
    for number in 0..T::column(tree).page_count() {
        bytes.clear();
        T::encode(tree.page(number)?, &mut bytes);
        len += bytes.len() as u64;
        table.extend((bytes.len() as u64).to_le_bytes());
        table.extend(xxh3_64(&bytes).to_le_bytes());
    }
    Some(len)
}

impl BaseTree {
    /// The tree as an index. `None` if the tree was opened from an index itself, and one of its
    /// pages can neither be read nor built again.
    pub fn index(&self, identity: &IndexIdentity) -> Option<Index<'_>> {
        let header = self.header(identity)?;
        let size = Fixed::parse(&header).ok()?.file_len;
        Some(Index {
            tree: self,
            header,
            size,
        })
    }

    fn header(&self, identity: &IndexIdentity) -> Option<Vec<u8>> {
        let mut table = Vec::new();
        let pages_len = describe_column::<Record>(self, &mut table)?
            + describe_column::<u8>(self, &mut table)?
            + describe_column::<ContentHash>(self, &mut table)?
            + describe_column::<LinkTarget>(self, &mut table)?;
        let chunk_size = match self.chunk_size {
            ChunkSize::WholeFile => 0,
            ChunkSize::Bytes(bytes) => bytes.get(),
        };
        let header_len = (FIXED + table.len() + CHECKSUM) as u64;
        let mut header = Vec::with_capacity(header_len as usize);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend(self.len.to_le_bytes());
        header.extend(identity.layers.as_bytes());
        header.extend(identity.composed.as_bytes());
        header.extend(chunk_size.to_le_bytes());
        header.extend((header_len + pages_len).to_le_bytes());
        for count in page_counts(self) {
            header.extend(u32::try_from(count).ok()?.to_le_bytes());
        }
        header.extend(table);
        header.extend(xxh3_64(&header).to_le_bytes());
        Some(header)
    }

    /// Opens an index that was saved under this hash of its layers. Reads its header alone; `rebuild` is
    /// called if a page turns out to be damaged later.
    pub fn open(
        source: Box<dyn IndexSource>,
        layers: ContentHash,
        rebuild: Rebuild,
    ) -> Result<Self, IndexError> {
        let size = source.size()?;
        let fixed_len = FIXED.min(usize::try_from(size).unwrap_or(FIXED));
        let fixed = Fixed::parse(&source.read_at(0, fixed_len)?)?;
        if fixed.identity.layers != layers {
            return Err(IndexError::OtherLayers(fixed.identity.layers));
        }
        let pages: u64 = fixed
            .page_counts
            .iter()
            .map(|&count| u64::from(count))
            .sum();
        let header_len = FIXED as u64 + pages * ROW as u64 + CHECKSUM as u64;
        if fixed.file_len != size || header_len > size.min(LONGEST_HEADER) {
            return Err(IndexError::Header);
        }
        let header = source.read_at(0, header_len as usize)?;
        let (described, _) = header
            .split_at_checked(header.len().saturating_sub(CHECKSUM))
            .ok_or(IndexError::Header)?;
        let checksum = checksum_of(&header).filter(|&sum| sum == xxh3_64(described));
        let checksum = checksum.ok_or(IndexError::Header)?;
        // The file may have changed since the beginning of the header was looked at.
        if Fixed::parse(described)? != fixed {
            return Err(IndexError::Header);
        }
        let stored = table(&described[FIXED..], header_len, size).ok_or(IndexError::Header)?;
        let [nodes, names, hashes, targets] = fixed.page_counts.map(|count| count as usize);
        if fixed.nodes == 0 || nodes != (fixed.nodes as usize).div_ceil(page_len::<Record>()) {
            return Err(IndexError::Header);
        }
        Ok(Self {
            layer: 0,
            chunk_size: NonZeroU64::new(fixed.chunk_size)
                .map_or(ChunkSize::WholeFile, ChunkSize::Bytes),
            len: fixed.nodes,
            nodes: Paged::absent(nodes),
            names: Paged::absent(names),
            hashes: Paged::absent(hashes),
            targets: Paged::absent(targets),
            opened: Some(Opened {
                source,
                checksum,
                identity: fixed.identity,
                stored,
                rebuild,
                rebuilt: OnceLock::new(),
            }),
        })
    }

    /// What the index that the tree was opened from says of its manifests.
    pub fn identity(&self) -> Option<&IndexIdentity> {
        self.opened.as_ref().map(|opened| &opened.identity)
    }
}

/// The header without its table.
#[derive(Debug, PartialEq, Eq)]
struct Fixed {
    nodes: u32,
    identity: IndexIdentity,
    chunk_size: u64,
    file_len: u64,
    page_counts: [u32; 4],
}

impl Fixed {
    fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let bytes = bytes.strip_prefix(MAGIC).ok_or(IndexError::NotAnIndex)?;
        let (version, bytes) = bytes.split_first_chunk().ok_or(IndexError::NotAnIndex)?;
        match u32::from_le_bytes(*version) {
            VERSION => Self::fields(bytes).ok_or(IndexError::Header),
            other => Err(IndexError::Version(other)),
        }
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        let (nodes, bytes) = bytes.split_first_chunk()?;
        let (layers, bytes) = bytes.split_first_chunk()?;
        let (composed, bytes) = bytes.split_first_chunk()?;
        let (chunk_size, bytes) = bytes.split_first_chunk()?;
        let (file_len, bytes) = bytes.split_first_chunk()?;
        let (page_counts, _) = bytes.as_chunks();
        Some(Self {
            nodes: u32::from_le_bytes(*nodes),
            identity: IndexIdentity {
                layers: ContentHash::from_bytes(*layers),
                composed: ContentHash::from_bytes(*composed),
            },
            chunk_size: u64::from_le_bytes(*chunk_size),
            file_len: u64::from_le_bytes(*file_len),
            page_counts: page_counts.first_chunk::<4>()?.map(u32::from_le_bytes),
        })
    }
}

/// Where the pages are. `None` unless they fill the file from the end of the header to its own.
fn table(rows: &[u8], header_len: u64, size: u64) -> Option<Vec<Stored>> {
    let (rows, []) = rows.as_chunks::<ROW>() else {
        return None;
    };
    let mut offset = header_len;
    let mut stored = Vec::with_capacity(rows.len());
    for row in rows {
        let (numbers, _) = row.as_chunks();
        let [len, checksum] = [0, 1].map(|at| u64::from_le_bytes(numbers[at]));
        stored.push(Stored {
            offset,
            len,
            checksum,
        });
        offset = offset.checked_add(len)?;
    }
    (offset == size).then_some(stored)
}
