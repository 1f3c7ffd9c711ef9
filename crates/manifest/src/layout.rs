//! The only arithmetic between offsets in a file and chunks of it.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{Content, ContentHash};

/// How a manifest cuts large files (`fileChunkSizeBytes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChunkSize {
    /// Every file is one object (`-1`; always so in 2023-03-03).
    WholeFile,
    /// Files longer than this many bytes are cut into objects of this length.
    Bytes(NonZeroU64),
}

impl fmt::Display for ChunkSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WholeFile => f.write_str("the whole file"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

impl ChunkSize {
    /// 256 MiB, what 2025-12 manifests mean when they say nothing
    /// (`openjd-snapshots` 0.3.2, `DEFAULT_FILE_CHUNK_SIZE`).
    pub const DEFAULT: Self = Self::Bytes(NonZeroU64::new(256 << 20).expect("not zero"));

    /// How many objects a file of `size` bytes is stored as. An empty file is one object.
    pub fn count(self, size: u64) -> u64 {
        match self {
            Self::WholeFile => 1,
            Self::Bytes(chunk) => size.div_ceil(chunk.get()).max(1),
        }
    }

    /// Whether a file of `size` bytes may be stored as this many objects: one, or as many as the size
    /// asks for.
    pub fn allows(self, size: u64, objects: u64) -> bool {
        objects == 1 || objects == self.count(size)
    }

    /// The byte ranges of those objects, in order.
    pub fn ranges(self, size: u64) -> impl ExactSizeIterator<Item = Range<u64>> {
        let chunk = match self {
            Self::WholeFile => size,
            Self::Bytes(chunk) => chunk.get(),
        };
        let count = usize::try_from(self.count(size)).expect("chunks are counted in memory");
        (0..count).map(move |i| {
            let start = i as u64 * chunk;
            start..start.saturating_add(chunk).min(size)
        })
    }
}

/// Why a file's chunks do not fit its size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A different number of chunk hashes than the size asks for.
    #[error("a file of {size} bytes in chunks of {chunk_size} has {expected} of them, not {found}")]
    Count {
        /// The file's length.
        size: u64,
        /// The manifest's chunk size; the file's length if files are not cut.
        chunk_size: u64,
        /// Chunks that length asks for.
        expected: u64,
        /// Chunk hashes given.
        found: u64,
    },
    /// Chunk hashes for a file that is one object.
    #[error(
        "a file of {size} bytes has chunk hashes, but files are cut only above {chunk_size} bytes"
    )]
    NotCut {
        /// The file's length.
        size: u64,
        /// The manifest's chunk size.
        chunk_size: u64,
    },
    /// Chunk hashes in a manifest that cuts no files.
    #[error("the file has chunk hashes in a manifest of whole files")]
    WholeFiles,
    /// The file has no hash at all.
    #[error("the file has no hash")]
    Unhashed,
}

/// Checks that a manifest of this chunk size may say this of a file of `size` bytes: chunk hashes
/// only for a file longer than a chunk, and one for each chunk. One hash is right for any length.
pub(crate) fn check(
    size: u64,
    chunk_size: ChunkSize,
    content: &Content,
) -> Result<(), LayoutError> {
    match (content, chunk_size) {
        (Content::Whole(_) | Content::Unhashed, _) => Ok(()),
        (Content::Chunks(_), ChunkSize::WholeFile) => Err(LayoutError::WholeFiles),
        (Content::Chunks(_), ChunkSize::Bytes(chunk)) if size <= chunk.get() => {
            Err(LayoutError::NotCut {
                size,
                chunk_size: chunk.get(),
            })
        }
        (Content::Chunks(hashes), ChunkSize::Bytes(chunk)) => {
            let expected = chunk_size.count(size);
            let found = hashes.len() as u64;
            if found == expected {
                return Ok(());
            }
            Err(LayoutError::Count {
                size,
                chunk_size: chunk.get(),
                expected,
                found,
            })
        }
    }
}

/// A part of a read that falls into one stored object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The object.
    pub hash: ContentHash,
    /// The whole length of that object.
    pub object_len: u64,
    /// Which bytes of the object.
    pub range: Range<u64>,
}

/// How one file's bytes lie in stored objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkLayout<'a> {
    size: u64,
    chunk_len: u64,
    hashes: &'a [ContentHash],
}

impl<'a> ChunkLayout<'a> {
    /// The layout of a file of `size` bytes in a manifest of this chunk size.
    pub fn new(
        size: u64,
        chunk_size: ChunkSize,
        content: &'a Content,
    ) -> Result<Self, LayoutError> {
        let (hashes, chunk_size) = match content {
            Content::Unhashed => return Err(LayoutError::Unhashed),
            Content::Whole(hash) => (std::slice::from_ref(hash), ChunkSize::WholeFile),
            Content::Chunks(hashes) => (&**hashes, chunk_size),
        };
        Self::from_hashes(size, chunk_size, hashes)
    }

    /// The layout of a file whose hashes are these. One hash is the whole file.
    pub fn from_hashes(
        size: u64,
        chunk_size: ChunkSize,
        hashes: &'a [ContentHash],
    ) -> Result<Self, LayoutError> {
        let chunk_len = match chunk_size {
            ChunkSize::Bytes(bytes) if hashes.len() > 1 => bytes.get(),
            _ => size,
        };
        let found = hashes.len() as u64;
        if !chunk_size.allows(size, found) {
            return Err(LayoutError::Count {
                size,
                chunk_size: chunk_len,
                expected: chunk_size.count(size),
                found,
            });
        }
        Ok(Self {
            size,
            chunk_len,
            hashes,
        })
    }

    /// The file's length.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The objects, in order.
    pub fn hashes(&self) -> &'a [ContentHash] {
        self.hashes
    }

    /// The pieces that make up `range`, in order; what lies beyond the file's end is left out.
    pub fn pieces(&self, range: Range<u64>) -> impl Iterator<Item = Piece> + use<'a> {
        let Self {
            size,
            chunk_len,
            hashes,
        } = *self;
        let end = range.end.min(size);
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let index = at / chunk_len;
            let start = index * chunk_len;
            let object_len = chunk_len.min(size - start);
            let upto = end.min(start + object_len);
            let piece = Piece {
                hash: hashes[usize::try_from(index).expect("an index into memory")],
                object_len,
                range: at - start..upto - start,
            };
            at = upto;
            Some(piece)
        })
    }
}

/// A [`ChunkLayout`] that has its own hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedChunkLayout {
    size: u64,
    chunk_len: u64,
    hashes: Box<[ContentHash]>,
}

impl ChunkLayout<'_> {
    /// The same layout, for longer.
    pub fn to_owned(&self) -> OwnedChunkLayout {
        OwnedChunkLayout {
            size: self.size,
            chunk_len: self.chunk_len,
            hashes: self.hashes.into(),
        }
    }
}

impl OwnedChunkLayout {
    /// The layout.
    pub fn borrowed(&self) -> ChunkLayout<'_> {
        ChunkLayout {
            size: self.size,
            chunk_len: self.chunk_len,
            hashes: &self.hashes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(chunk: u64) -> ChunkSize {
        ChunkSize::Bytes(NonZeroU64::new(chunk).unwrap())
    }

    fn hashes(count: u8) -> Vec<ContentHash> {
        (0..count)
            .map(|i| ContentHash::from_bytes([i; 16]))
            .collect()
    }

    #[test]
    fn an_empty_file_is_one_empty_object() {
        for chunk_size in [ChunkSize::WholeFile, bytes(10)] {
            assert!(chunk_size.ranges(0).eq(std::iter::once(0..0)));
        }
    }

    #[test]
    fn chunks_cover_the_file_and_only_the_last_is_short() {
        assert_eq!(
            bytes(10).ranges(25).collect::<Vec<_>>(),
            [0..10, 10..20, 20..25]
        );
        assert_eq!(bytes(10).ranges(20).collect::<Vec<_>>(), [0..10, 10..20]);
        assert_eq!(bytes(10).ranges(10).len(), 1);
        assert!(ChunkSize::WholeFile.ranges(25).eq(std::iter::once(0..25)));
    }

    #[test]
    fn a_read_across_a_chunk_border_has_two_pieces() {
        let hashes = hashes(3);
        let layout = ChunkLayout::from_hashes(25, bytes(10), &hashes).unwrap();
        let pieces: Vec<_> = layout.pieces(8..12).collect();
        assert_eq!(
            pieces,
            [
                Piece {
                    hash: hashes[0],
                    object_len: 10,
                    range: 8..10
                },
                Piece {
                    hash: hashes[1],
                    object_len: 10,
                    range: 0..2
                },
            ]
        );
        let last: Vec<_> = layout.pieces(20..u64::MAX).collect();
        assert_eq!(
            last,
            [Piece {
                hash: hashes[2],
                object_len: 5,
                range: 0..5
            }]
        );
    }

    #[test]
    fn reading_past_the_end_gives_nothing() {
        let hashes = hashes(1);
        let layout = ChunkLayout::from_hashes(5, bytes(10), &hashes).unwrap();
        assert_eq!(layout.pieces(5..9).count(), 0);
        let empty = ChunkLayout::from_hashes(0, bytes(10), &hashes).unwrap();
        assert_eq!(empty.pieces(0..9).count(), 0);
    }

    #[test]
    fn one_hash_is_the_whole_file_whatever_its_length() {
        let hashes = hashes(1);
        let layout = ChunkLayout::from_hashes(25, bytes(10), &hashes).unwrap();
        let pieces: Vec<_> = layout.pieces(0..25).collect();
        assert_eq!(
            pieces,
            [Piece {
                hash: hashes[0],
                object_len: 25,
                range: 0..25
            }]
        );
    }

    #[test]
    fn chunk_hashes_must_be_as_many_as_the_size_asks_for() {
        let chunks = |count| Content::Chunks(hashes(count).into());
        assert_eq!(check(25, bytes(10), &chunks(3)), Ok(()));
        assert!(matches!(
            check(25, bytes(10), &chunks(2)),
            Err(LayoutError::Count {
                expected: 3,
                found: 2,
                ..
            })
        ));
        assert!(matches!(
            check(10, bytes(10), &chunks(1)),
            Err(LayoutError::NotCut { .. })
        ));
        assert_eq!(
            check(25, ChunkSize::WholeFile, &chunks(3)),
            Err(LayoutError::WholeFiles)
        );
        assert_eq!(check(25, bytes(10), &Content::Unhashed), Ok(()));
    }

    #[test]
    fn a_file_without_a_hash_has_no_layout() {
        let error = ChunkLayout::new(1, bytes(10), &Content::Unhashed);
        assert_eq!(error, Err(LayoutError::Unhashed));
    }
}
