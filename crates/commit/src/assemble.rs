//! Puts together the chunks of a file that was partly written: what was written from scratch, the
//! rest from the store, into a file of the session that lives as long as the commit.
//!
//! No byte of the base comes under a new hash unverified. A base object that the fetcher verifies is
//! read where it is needed. Any other is read once from its beginning to its end and laid into the
//! file while it is hashed; what was written goes over it afterwards.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use attachfs_durable::{FileStamp, read_range};
use attachfs_fetch::{FetchError, Fetcher};
use attachfs_manifest::{ContentHash, Hasher, ManifestPath, Piece};
use attachfs_transfer::{Source, SourceFile};
use attachfs_tree::{BaseTree, FileContent, Ino, Mapping};
use attachfs_vfs::{Vfs, read_content};
use bytes::Bytes;

use crate::CommitError;
use crate::plan::Unhashed;

/// How much is read at once.
const STEP: u64 = 8 << 20;

/// A file with the touched chunks of another at their offsets. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Assembly {
    path: PathBuf,
}

impl Drop for Assembly {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            // Discard removes it with the session.
            tracing::warn!(%error, path = %self.path.display(), "cannot remove a file of a commit");
        }
    }
}

/// An assembly that is not complete.
pub(crate) struct Building<'a> {
    fetcher: &'a Fetcher,
    tree: &'a BaseTree,
    mapping: &'a Mapping,
    content: FileContent,
    scratch: &'a File,
    ino: Ino,
    name: ManifestPath,
    file: File,
    assembly: Assembly,
    /// Where base objects begin that were laid down.
    laid: HashSet<u64>,
}

/// A part of a chunk.
enum Part {
    /// Bytes of a base object that is laid down.
    Laid(Range<u64>),
    /// Bytes that are read from where they are.
    Read(Range<u64>),
}

impl<'a> Building<'a> {
    pub(crate) fn new(
        vfs: &'a Vfs,
        tree: &'a BaseTree,
        mapping: &'a Mapping,
        scratch: &'a File,
        unhashed: &Unhashed,
    ) -> Result<Self, CommitError> {
        let ino = unhashed.ino;
        let session = vfs.session().ok_or(CommitError::ReadOnly)?;
        let name = unhashed
            .paths()
            .next()
            .ok_or_else(|| CommitError::Damaged(format!("inode {ino} has no name")))?;
        let (file, path) = session.create_work_file(ino)?;
        Ok(Self {
            fetcher: vfs.fetcher(),
            tree,
            mapping,
            content: FileContent::Mapped(mapping.clone()),
            scratch,
            ino,
            name,
            file,
            assembly: Assembly { path },
            laid: HashSet::new(),
        })
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> CommitError {
        let path = self.assembly.path.display().to_string();
        move |source| CommitError::Io {
            doing,
            path,
            source,
        }
    }

    /// The pieces of base objects of which a range of the file has bytes, and where these are in it.
    fn base_pieces(&self, range: Range<u64>) -> Vec<(u64, Piece)> {
        let mut pieces = Vec::new();
        let Some(layout) = self.tree.layout(self.mapping.base) else {
            return pieces;
        };
        for segment in self.mapping.plan_read(range) {
            if segment.source == attachfs_tree::Source::Base {
                let mut at = segment.range.start;
                for piece in layout.pieces(segment.range) {
                    let len = piece.range.end - piece.range.start;
                    pieces.push((at, piece));
                    at += len;
                }
            }
        }
        pieces
    }

    /// Lays down the base objects of which a chunk has bytes and that the fetcher does not verify.
    pub(crate) async fn lay_base(&mut self, chunk: Range<u64>) -> Result<(), CommitError> {
        for (at, piece) in self.base_pieces(chunk) {
            let start = at - piece.range.start;
            if !self.fetcher.verifies(&piece) && self.laid.insert(start) {
                self.lay(start, &piece).await?;
            }
        }
        Ok(())
    }

    /// Lays a whole base object into the file, and fails unless its bytes are what its name says.
    async fn lay(&self, start: u64, object: &Piece) -> Result<(), CommitError> {
        let failed = |source| CommitError::Base {
            path: self.name.clone(),
            source,
        };
        let mut hasher = Hasher::new();
        let mut at = 0;
        while at < object.object_len {
            let end = object.object_len.min(at + STEP);
            let piece = Piece {
                range: at..end,
                ..object.clone()
            };
            let bytes = self.fetcher.read(&piece).await.map_err(failed)?;
            hasher.update(&bytes);
            self.put(start + at, &bytes, end - at)?;
            at = end;
        }
        let (hash, found) = (object.hash, hasher.finish());
        if found == hash {
            Ok(())
        } else {
            Err(failed(FetchError::Damaged { hash, found }))
        }
    }

    fn put(&self, at: u64, bytes: &[u8], expected: u64) -> Result<(), CommitError> {
        if bytes.len() as u64 != expected {
            let short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(self.failed("fill")(short));
        }
        self.file
            .write_all_at(bytes, at)
            .map_err(self.failed("fill"))
    }

    /// Adds a chunk and hashes it on the way. The base objects it needs are laid down.
    pub(crate) async fn add(&self, chunk: Range<u64>) -> Result<ContentHash, CommitError> {
        let mut hasher = Hasher::new();
        let mut at = chunk.start;
        while at < chunk.end {
            let end = chunk.end.min(at + STEP);
            for part in self.parts(at..end) {
                let bytes = match part {
                    Part::Laid(range) => {
                        let bytes = read_range(&self.file, range.clone())
                            .map_err(self.failed("read back"))?;
                        if bytes.len() as u64 != range.end - range.start {
                            let short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                            return Err(self.failed("read back")(short));
                        }
                        bytes
                    }
                    Part::Read(range) => self.read(range).await?,
                };
                hasher.update(&bytes);
            }
            at = end;
        }
        Ok(hasher.finish())
    }

    /// Reads what is not laid down, into the file.
    async fn read(&self, range: Range<u64>) -> Result<Bytes, CommitError> {
        let name = self.name.to_string();
        let (start, len) = (range.start, range.end - range.start);
        let bytes = read_content(
            self.fetcher,
            self.tree,
            self.ino,
            &self.content,
            Some(self.scratch),
            range,
            &name,
        )
        .await?;
        self.put(start, &bytes, len)?;
        Ok(bytes)
    }

    /// Where the bytes of a range come from, in order.
    fn parts(&self, range: Range<u64>) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut at = range.start;
        for (start, piece) in self.base_pieces(range.clone()) {
            if !self.laid.contains(&(start - piece.range.start)) {
                continue;
            }
            let end = start + (piece.range.end - piece.range.start);
            if at < start {
                parts.push(Part::Read(at..start));
            }
            parts.push(Part::Laid(start..end));
            at = end;
        }
        if at < range.end {
            parts.push(Part::Read(at..range.end));
        }
        parts
    }

    /// The file, complete.
    pub(crate) fn finish(self) -> Result<(Source, Assembly), CommitError> {
        let stamp = FileStamp::of(&self.file).map_err(self.failed("look at"))?;
        let source = Source {
            path: self.assembly.path.clone(),
            file: SourceFile::AtPath,
            stamp,
            size: stamp.size,
        };
        Ok((source, self.assembly))
    }
}
