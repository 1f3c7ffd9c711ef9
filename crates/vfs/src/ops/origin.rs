//! Where a file comes from: a manifest or the job, its hashes, and how much of its content is on this machine.
//!
//! The base is one tree, whatever number of manifests it was made of. Which of them a path comes from is told by
//! whoever knows the manifests ([`Vfs::set_sources`]).

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use attachfs_fetch::Fetcher;
use attachfs_manifest::{ContentHash, ManifestPath, Piece};
use attachfs_tree::{BaseKind, FileContent, Ino, Kind, Namespace, SegmentSource};

use crate::{FsError, FsErrorKind, Vfs};

/// How much of an inode the job made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Nothing: it is as the manifests say, up to its name and attributes.
    Nothing,
    /// Some bytes of a file; the others are those of the manifests.
    Part,
    /// All of it.
    All,
}

/// Where an inode comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What it is.
    pub kind: Kind,
    /// How much of it the job made.
    pub written: Written,
    /// The path at which the manifests have it, which may not be its path now. `None` for the root and for what the
    /// job made.
    pub path: Option<ManifestPath>,
}

/// The content of a file: what the scratch file has or what is zero, and the rest of it, which is in objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// The length of the file in bytes.
    pub size: u64,
    /// The parts of objects that it needs, in order; of a file that is as its manifest says, one for each chunk.
    pub pieces: Vec<Piece>,
}

/// How much of a file is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The length of the file in bytes.
    pub size: u64,
    /// How many bytes of it are here: in scratch, in the disk cache, or zeros that are nowhere.
    pub here: u64,
    /// Of each chunk that it needs, how many bytes it needs of it, and how many of these are in the disk cache.
    pub chunks: Vec<(u64, u64)>,
}

/// What says which manifest a path of the base comes from, in words for people, given how many layers were added to the base.
/// `None` if no manifest has the path. It may read files.
pub type SourceOf = dyn Fn(u32, &ManifestPath) -> Result<Option<String>, Box<dyn StdError + Send + Sync>>
    + Send
    + Sync;

/// Holds a [`SourceOf`] once there is one.
#[derive(Default)]
pub(crate) struct Sources(OnceLock<Arc<SourceOf>>);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = if self.0.get().is_some() {
            "told"
        } else {
            "not told"
        };
        f.debug_tuple("Sources").field(&told).finish()
    }
}

fn len(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// How much of an inode the job made.
fn written(namespace: &Namespace, ino: Ino) -> Written {
    let base = namespace.base();
    match namespace.content(ino) {
        Some(FileContent::Mapped(mapping)) => {
            let was = base.kind(mapping.base);
            let is_as_long =
                matches!(was, Some(BaseKind::File { size, .. }) if size == mapping.size);
            // A file that was opened for writing, and not written to.
            if is_as_long && !mapping.touches(0..mapping.size) {
                Written::Nothing
            } else {
                Written::Part
            }
        }
        Some(FileContent::Base) | None if base.contains(ino) => Written::Nothing,
        Some(FileContent::Base | FileContent::Scratch) | None => Written::All,
    }
}

impl Vfs {
    /// Has [`SourceOf`] asked for the names of manifests from now on. The first one counts.
    pub fn set_sources(&self, source_of: Arc<SourceOf>) {
        // A second call changes nothing, as said.
        let _ = self.sources.0.set(source_of);
    }

    /// What says which manifest a path comes from, with the number of layers at this moment.
    pub(crate) fn source_of(&self) -> Option<(u32, Arc<SourceOf>)> {
        Some((self.layer_count(), self.sources.0.get()?.clone()))
    }

    /// Where an inode comes from.
    pub fn origin(&self, ino: Ino) -> Result<Origin, FsError> {
        let namespace = self.namespace.read();
        let kind = namespace.kind(ino);
        let kind = kind.ok_or(FsError::plain(FsErrorKind::NotFound))?;
        let base = namespace.base();
        Ok(Origin {
            kind,
            written: written(&namespace, ino),
            // What another layer hides has no path in it any more.
            path: base.place(ino).and_then(|_| base.path(ino)),
        })
    }

    /// The hashes of a file's chunks, in order. `None` for what is no file, and for a file that the job wrote to: nobody
    /// has hashed it.
    pub fn hashes(&self, ino: Ino) -> Option<Vec<ContentHash>> {
        let namespace = self.namespace.read();
        if namespace.kind(ino)? != Kind::File || written(&namespace, ino) != Written::Nothing {
            return None;
        }
        Some(namespace.base().layout(ino)?.hashes().to_vec())
    }

    /// Where a file's bytes are.
    pub fn whereabouts(&self, ino: Ino) -> Result<Whereabouts, FsError> {
        let size = self.getattr(ino)?.size;
        let namespace = self.namespace.read();
        if namespace.kind(ino) != Some(Kind::File) {
            return Err(FsErrorKind::Invalid.into());
        }
        let of_base = |file: Ino, range: Range<u64>| {
            let layout = namespace.base().layout(file);
            layout
                .into_iter()
                .flat_map(move |layout| layout.pieces(range.clone()))
        };
        let pieces = match namespace.content(ino) {
            Some(FileContent::Base) => of_base(ino, 0..size).collect(),
            Some(FileContent::Mapped(mapping)) => {
                let segments = mapping.plan_read(0..size).into_iter();
                let from_base = segments.filter(|part| part.source == SegmentSource::Base);
                from_base
                    .flat_map(|part| of_base(mapping.base, part.range))
                    .collect()
            }
            Some(FileContent::Scratch) | None => Vec::new(),
        };
        Ok(Whereabouts { size, pieces })
    }
}

impl Whereabouts {
    /// How many chunks it needs.
    pub fn chunk_count(&self) -> u64 {
        chunk_of(&self.pieces)
            .last()
            .map_or(0, |last| *last as u64 + 1)
    }

    /// Whether all of it is in scratch, or it is empty: then no disk cache need be asked.
    pub fn is_local(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How much of it is on this machine. `None` if the disk of the cache does not answer.
    pub async fn presence(self, fetcher: &Fetcher) -> Option<Presence> {
        let chunk_of = chunk_of(&self.pieces);
        let lens: Vec<u64> = self.pieces.iter().map(|piece| len(&piece.range)).collect();
        let on_disk = if lens.is_empty() {
            Vec::new()
        } else {
            fetcher.bytes_on_disk(self.pieces).await?
        };
        let elsewhere = lens.iter().sum::<u64>() - on_disk.iter().sum::<u64>();
        let mut chunks = vec![(0, 0); chunk_of.last().map_or(0, |last| last + 1)];
        for (chunk, (len, on_disk)) in chunk_of.into_iter().zip(lens.into_iter().zip(on_disk)) {
            let (needed, here) = &mut chunks[chunk];
            *needed += len;
            *here += on_disk;
        }
        Some(Presence {
            size: self.size,
            here: self.size.saturating_sub(elsewhere),
            chunks,
        })
    }
}

/// The number of the chunk that each piece is of. What the job wrote in the middle of a chunk leaves two pieces of it.
fn chunk_of(pieces: &[Piece]) -> Vec<usize> {
    let mut number = 0;
    let of = pieces.iter().enumerate().map(|(at, piece)| {
        let before = at.checked_sub(1).and_then(|before| pieces.get(before));
        let goes_on = before.is_none_or(|before| {
            before.hash == piece.hash && before.range.end <= piece.range.start
        });
        number += usize::from(!goes_on);
        number
    });
    of.collect()
}
