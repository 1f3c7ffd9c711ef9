//! The base: what the manifests say, compact and immutable.
//!
//! ```text
//!     nodes    [root][children of root, by name]...[children of one directory, by name]...
//!     names    every distinct name once, in the order of the manifest
//!     hashes   16 bytes for each object of each file, in the order of the manifest
//!     targets  what links point to, in the order of the manifest
//! ```
//!
//! The children of one directory lie side by side, sorted by the bytes of their names: a look-up is
//! a binary search, a listing a range. Directories are laid out in the order in which they lie
//! themselves, so nodes of depth n lie before those of depth n + 1. All of it is a function of the
//! snapshot: a tree that is built again has the same inode numbers.
//!
//! Each column is kept in pages, and what belongs together (a name, the hashes of one file) never
//! lies across two of them. A tree that was built has all its pages. One that was opened from a
//! saved [index](index) reads a page when something in it is looked at for the first time, and falls back
//! on a tree that is built from the manifests if that page turns out to be damaged.

mod build;
mod index;
mod layered;
mod names;
mod paged;
mod record;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use attachfs_manifest::{
    ChunkLayout, ChunkSize, Content, ContentHash, LinkTarget, ManifestPath, Mtime,
};

use crate::{Ino, Kind};

pub use build::BuildError;
use index::Opened;
pub use index::{Index, IndexError, IndexIdentity, IndexSource, Rebuild};
pub use layered::{AddLayerError, DiffLayer, Flip, LayeredBase};
use paged::{Cell, Paged};
use record::Record;

/// An immutable tree. Shared by everything that reads it.
#[derive(Debug)]
pub struct BaseTree {
    /// Which layer of the base it is: part of its nodes' numbers.
    layer: u32,
    chunk_size: ChunkSize,
    /// How many nodes there are.
    len: u32,
    nodes: Paged<Record>,
    names: Paged<u8>,
    hashes: Paged<ContentHash>,
    targets: Paged<LinkTarget>,
    /// Where pages come from that are not in memory yet.
    opened: Option<Opened>,
}

/// What a base node is.
#[derive(Debug, Clone, Copy)]
pub enum BaseKind<'a> {
    /// A directory.
    Dir,
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Modification time.
        mtime: Mtime,
        /// Whether it has execute bits.
        runnable: bool,
    },
    /// A symbolic link.
    Symlink(&'a LinkTarget),
}

/// Every answer is `None` (or nothing) also where a page of an index is damaged and the tree cannot be
/// built again.
/// How many nodes that are no files are passed over on the way to the next one.
const MOST_PASSED: usize = 1000;

impl BaseTree {
    /// How many directories, files and links there are, the root included.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.len == 1
    }

    /// How the manifest cuts large files.
    pub fn chunk_size(&self) -> ChunkSize {
        self.chunk_size
    }

    /// A page of a column, read if need be.
    fn page<T: Cell>(&self, number: usize) -> Option<&[T]> {
        match T::column(self).page(number) {
            Some(cells) => Some(cells),
            None => self.opened.as_ref()?.page(self, number),
        }
    }

    /// Cells that lie side by side in a column.
    fn run<T: Cell>(&self, first: u32, count: usize) -> Option<&[T]> {
        if count == 0 {
            return Some(&[]);
        }
        let (page, start) = paged::place::<T>(first);
        self.page(page)?.get(start..start.checked_add(count)?)
    }

    fn cell<T: Cell>(&self, index: u32) -> Option<&T> {
        let (page, at) = paged::place::<T>(index);
        self.page(page)?.get(at)
    }

    fn record(&self, ino: Ino) -> Option<&Record> {
        self.cell(self.index_of(ino)?)
    }

    /// The tree as another layer of a base. It is layer 0 as long as nobody says so.
    #[must_use]
    pub(crate) fn in_layer(mut self, layer: u32) -> Self {
        self.layer = layer;
        self
    }

    /// The root.
    pub(crate) fn root(&self) -> Ino {
        self.ino(0)
    }

    fn ino(&self, index: u32) -> Ino {
        Ino::from_base(self.layer, index)
    }

    fn index_of(&self, ino: Ino) -> Option<u32> {
        let (layer, index) = ino.in_base()?;
        (layer == self.layer).then_some(index)
    }

    /// Whether the number is one of this tree's.
    pub fn contains(&self, ino: Ino) -> bool {
        self.index_of(ino).is_some_and(|index| index < self.len)
    }

    /// What a node is.
    pub fn kind(&self, ino: Ino) -> Option<BaseKind<'_>> {
        let record = self.record(ino)?;
        Some(match record.kind {
            Kind::Dir => BaseKind::Dir,
            Kind::File => BaseKind::File {
                size: record.size,
                mtime: record.mtime,
                runnable: record.runnable,
            },
            Kind::Symlink => BaseKind::Symlink(self.cell(record.first)?),
            Kind::Special(_) => return None,
        })
    }

    /// What a node is, without the details.
    pub fn plain_kind(&self, ino: Ino) -> Option<Kind> {
        self.record(ino).map(|record| record.kind)
    }

    /// How a file's bytes lie in stored objects; `None` if it is no file of this tree.
    pub fn layout(&self, ino: Ino) -> Option<ChunkLayout<'_>> {
        let record = self
            .record(ino)
            .filter(|record| record.kind == Kind::File)?;
        let hashes = self.run(record.first, record.count as usize)?;
        // Checked when the tree was built, and again when the record came from an index.
        ChunkLayout::from_hashes(record.size, self.chunk_size, hashes).ok()
    }

    /// The layouts of all files, in the order of their numbers.
    pub fn layouts(&self) -> impl Iterator<Item = ChunkLayout<'_>> {
        (0..self.len).filter_map(|index| self.layout(self.ino(index)))
    }

    /// The objects of all files and their lengths, in the order of the files' numbers: as often as they are used.
    pub fn objects(self: Arc<Self>) -> impl Iterator<Item = (ContentHash, u64)> + use<> {
        let len = self.len;
        let of_file = move |index| {
            let layout = self.layout(self.ino(index))?;
            let pieces = layout.pieces(0..layout.size());
            Some(
                pieces
                    .map(|piece| (piece.hash, piece.object_len))
                    .collect::<Vec<_>>(),
            )
        };
        (0..len).filter_map(of_file).flatten()
    }

    /// The files that an object of this length is part of.
    pub fn files_with(&self, object: ContentHash, len: u64) -> impl Iterator<Item = Ino> {
        let has = move |layout: &ChunkLayout<'_>| {
            let may_have = layout.hashes().contains(&object);
            may_have
                && layout
                    .pieces(0..layout.size())
                    .any(|piece| piece.hash == object && piece.object_len == len)
        };
        (0..self.len)
            .map(|index| self.ino(index))
            .filter(move |&ino| self.layout(ino).is_some_and(|layout| has(&layout)))
    }

    /// A file's content, as a manifest says it.
    pub fn content(&self, ino: Ino) -> Option<Content> {
        let layout = self.layout(ino)?;
        Some(match layout.hashes() {
            [hash] => Content::Whole(*hash),
            hashes => Content::Chunks(hashes.into()),
        })
    }

    /// A node's name; empty for the root.
    pub fn name(&self, ino: Ino) -> Option<&[u8]> {
        self.name_of(self.record(ino)?)
    }

    fn name_of(&self, record: &Record) -> Option<&[u8]> {
        self.run(record.name, usize::from(record.name_len))
    }

    /// The directory a node is in; the root's is the root.
    pub fn parent(&self, ino: Ino) -> Option<Ino> {
        self.record(ino).map(|record| self.ino(record.parent))
    }

    fn children_range(&self, dir: Ino) -> Range<u32> {
        match self.record(dir) {
            Some(record) if record.kind == Kind::Dir => record.first..record.first + record.count,
            _ => 0..0,
        }
    }

    /// How many directories a directory has in it; 0 for anything else.
    pub(crate) fn subdirectories(&self, dir: Ino) -> u32 {
        match self.record(dir) {
            // No more than it has children.
            Some(record) if record.kind == Kind::Dir => record.size as u32,
            _ => 0,
        }
    }

    /// A directory's children, sorted by the bytes of their names; none for anything else.
    pub fn children(
        &self,
        dir: Ino,
    ) -> impl ExactSizeIterator<Item = Ino> + DoubleEndedIterator + use<> {
        let layer = self.layer;
        self.children_range(dir)
            .map(move |index| Ino::from_base(layer, index))
    }

    /// The child of a directory at a position of [`children`](Self::children).
    pub fn child_at(&self, dir: Ino, position: usize) -> Option<Ino> {
        let range = self.children_range(dir);
        let index = range.start.checked_add(u32::try_from(position).ok()?)?;
        range.contains(&index).then(|| self.ino(index))
    }

    /// The file that follows a node in the order of a manifest: entries in the order of their names, and what is in a
    /// directory before what follows it. Empty directories and links between the two are passed over, if there are
    /// not too many.
    pub fn next_file(&self, ino: Ino) -> Option<Ino> {
        let mut at = ino;
        for _ in 0..MOST_PASSED {
            at = self.next(at)?;
            if self.plain_kind(at)? == Kind::File {
                return Some(at);
            }
        }
        None
    }

    /// The node that follows in that order.
    fn next(&self, ino: Ino) -> Option<Ino> {
        let first = self.children_range(ino).next();
        if let Some(first) = first {
            return Some(self.ino(first));
        }
        let mut at = ino;
        while at != self.root() {
            let parent = self.parent(at)?;
            let index = self.index_of(at)?.checked_add(1)?;
            if self.children_range(parent).contains(&index) {
                return Some(self.ino(index));
            }
            at = parent;
        }
        None
    }

    /// The child of a directory with this name.
    pub fn child(&self, dir: Ino, name: &[u8]) -> Option<Ino> {
        let Range { mut start, mut end } = self.children_range(dir);
        while start < end {
            let middle = start + (end - start) / 2;
            match self.name_of(self.cell(middle)?)?.cmp(name) {
                Ordering::Less => start = middle + 1,
                Ordering::Equal => return Some(self.ino(middle)),
                Ordering::Greater => end = middle,
            }
        }
        None
    }

    /// A node's path; `None` for the root.
    pub fn path(&self, ino: Ino) -> Option<ManifestPath> {
        // Above a node there is always one of a smaller number, so this ends.
        path_below(self.root(), ino, |ino| {
            Some((self.name(ino)?, self.parent(ino)?))
        })
    }
}

/// The path from `root` to a node, where `place` gives a node's name and parent. `None` for the root.
fn path_below<'a>(
    root: Ino,
    ino: Ino,
    place: impl Fn(Ino) -> Option<(&'a [u8], Ino)>,
) -> Option<ManifestPath> {
    let mut names = Vec::new();
    let mut at = ino;
    while at != root {
        let (name, parent) = place(at)?;
        names.push(name);
        at = parent;
    }
    names.reverse();
    ManifestPath::new(&names.join(&b'/')).ok()
}
