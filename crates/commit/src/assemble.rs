//! Assembles the chunks of a partly written file: written bytes from scratch, the rest from the
//! store, into a file of the session that exists as long as the commit.
//!
//! No byte of the base gets a new hash without having been verified. A base object that the fetcher
//! verifies is read where it is needed. Any other is read once from its beginning to its end and
//! copied into the file while it is hashed; the written bytes are copied over it afterwards.
//!
//! Where the file was made longer and nothing was written, the assembled file has a hole. A preview needs
//! only the hashes, and makes no file: then the objects of the base are read without that verification,
//! since nothing is published.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::{FileStamp, read_range, write_all_at};
use attachfs_fetch::{Fetcher, Verifier};
use attachfs_manifest::{ContentHash, Hasher, ManifestPath, Piece};
use attachfs_session::Session;
use attachfs_transfer::{FileToStore, SourceFile, hash_of_zeros};
use attachfs_tree::{FileContent, Ino, LayeredBase, Mapping};
use attachfs_vfs::{Vfs, read_content};
use bytes::Bytes;

use crate::error::CommitError;
use crate::plan::Unhashed;

/// How many bytes are read at once.
const STEP: u64 = 8 << 20;
/// Up to this many zeros are hashed in one go.
const FEW_ZEROS: u64 = 512 << 20;

/// A file with the touched chunks of another at their offsets. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Assembly {
    path: PathBuf,
}

impl Assembly {
    fn failed(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> CommitError + use<> {
        let path = self.path.display().to_string();
        move |source| CommitError::Io {
            doing,
            path,
            source,
        }
    }
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
    tree: &'a LayeredBase,
    mapping: &'a Arc<Mapping>,
    content: FileContent,
    scratch: &'a File,
    ino: Ino,
    name: ManifestPath,
    /// The file for the bytes; `None` if only their hashes are wanted.
    into: Option<(File, Assembly)>,
    /// The ranges of base objects that were copied into the file.
    laid: BTreeMap<u64, u64>,
}

/// Where a part of a chunk comes from.
enum ChunkPart {
    /// Bytes of a base object that was copied into the file.
    Laid(Range<u64>),
    /// Bytes that are read from scratch or through the fetcher.
    Read(Range<u64>),
    /// Zeros, which need not be read.
    Zero(Range<u64>),
}

impl<'a> Building<'a> {
    /// Begins an assembly. Without a session to keep the bytes in, only hashes are made.
    pub(crate) fn new(
        vfs: &'a Vfs,
        session: Option<&Session>,
        tree: &'a LayeredBase,
        mapping: &'a Arc<Mapping>,
        scratch: &'a File,
        unhashed: &Unhashed,
    ) -> Result<Self, CommitError> {
        let ino = unhashed.ino;
        let name = unhashed
            .paths()
            .next()
            .ok_or_else(|| CommitError::Damaged(format!("inode {ino} has no name")))?;
        let into = match session {
            Some(session) => Some(create(session, ino, mapping.size)?),
            None => None,
        };
        Ok(Self {
            fetcher: vfs.fetcher(),
            tree,
            mapping,
            content: FileContent::Mapped(mapping.clone()),
            scratch,
            ino,
            name,
            into,
            laid: BTreeMap::new(),
        })
    }

    /// The pieces of base objects in a range of the file, and their places in the file.
    fn base_pieces(&self, range: Range<u64>) -> Vec<(u64, Piece)> {
        let mut pieces = Vec::new();
        let Some(layout) = self.tree.layout(self.mapping.base) else {
            return pieces;
        };
        for segment in self.mapping.plan_read(range) {
            if segment.source == attachfs_tree::SegmentSource::Base {
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

    /// Copies the base objects into the file that a chunk has bytes of and that the fetcher does
    /// not verify.
    pub(crate) async fn lay_base(&mut self, chunk: Range<u64>) -> Result<(), CommitError> {
        if self.into.is_none() {
            return Ok(());
        }
        for (at, piece) in self.base_pieces(chunk) {
            let start = at - piece.range.start;
            if !self.fetcher.verifies(&piece) && !self.laid.contains_key(&start) {
                self.laid.insert(start, start + piece.object_len);
                self.lay(start, &piece).await?;
            }
        }
        Ok(())
    }

    /// Copies a whole base object into the file, and fails unless its bytes have the right hash.
    async fn lay(&self, start: u64, object: &Piece) -> Result<(), CommitError> {
        let failed = |source| CommitError::Base {
            path: self.name.clone(),
            source,
        };
        let mut verifier = Verifier::new(object.hash, object.object_len);
        let reader = self.fetcher.open_object(object);
        let mut at = 0;
        while at < object.object_len {
            let end = object.object_len.min(at + STEP);
            let bytes = reader.read(at..end).bytes().await.map_err(failed)?;
            verifier.add(&bytes, None).map_err(failed)?;
            self.put(start + at, &bytes, end - at)?;
            at = end;
        }
        Ok(())
    }

    fn put(&self, at: u64, bytes: &[u8], expected: u64) -> Result<(), CommitError> {
        if bytes.len() as u64 != expected {
            let (ino, found) = (self.ino, bytes.len());
            return Err(CommitError::Damaged(format!(
                "inode {ino} has {found} bytes at {at}, not {expected}"
            )));
        }
        match &self.into {
            Some((file, assembly)) => {
                write_all_at(file, bytes, at).map_err(assembly.failed("fill"))
            }
            None => Ok(()),
        }
    }

    /// Adds a chunk and hashes it on the way. The base objects that it needs have been copied into
    /// the file.
    pub(crate) async fn add(&self, chunk: Range<u64>) -> Result<ContentHash, CommitError> {
        let len = chunk.end - chunk.start;
        if len <= FEW_ZEROS && matches!(self.parts(chunk.clone())[..], [ChunkPart::Zero(_)]) {
            self.blank(&chunk)?;
            return Ok(hash_of_zeros(len));
        }
        let mut hasher = Hasher::new();
        let mut at = chunk.start;
        while at < chunk.end {
            let end = chunk.end.min(at + STEP);
            for part in self.parts(at..end) {
                match part {
                    ChunkPart::Laid(range) => hasher.update(&self.read_back(range)?),
                    ChunkPart::Read(range) => hasher.update(&self.read(range).await?),
                    ChunkPart::Zero(range) => {
                        self.blank(&range)?;
                        hasher.update_zeros(range.end - range.start);
                    }
                }
            }
            at = end;
            // Hashing a terabyte of zeros takes long without ever waiting, so other tasks get a
            // turn.
            tokio::task::yield_now().await;
        }
        Ok(hasher.finish())
    }

    /// Writes zeros over bytes of a copied base object that the file no longer has. All other zeros are
    /// holes.
    fn blank(&self, range: &Range<u64>) -> Result<(), CommitError> {
        for (&start, &end) in self.laid.range(..range.end) {
            let (mut at, end) = (start.max(range.start), end.min(range.end));
            while at < end {
                let len = (end - at).min(STEP);
                self.put(at, &vec![0; len as usize], len)?;
                at += len;
            }
        }
        Ok(())
    }

    /// Reads bytes of a copied base object.
    fn read_back(&self, range: Range<u64>) -> Result<Bytes, CommitError> {
        let (file, assembly) = self.into.as_ref().ok_or_else(|| {
            CommitError::Damaged(format!("nothing was laid down of inode {}", self.ino))
        })?;
        let len = range.end - range.start;
        let bytes = read_range(file, range).map_err(assembly.failed("read back"))?;
        if bytes.len() as u64 != len {
            let short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(assembly.failed("read back")(short));
        }
        Ok(bytes)
    }

    /// Reads other bytes, into the file.
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
    fn parts(&self, range: Range<u64>) -> Vec<ChunkPart> {
        let mut parts = Vec::new();
        let mut at = range.start;
        for (start, piece) in self.base_pieces(range.clone()) {
            if !self.laid.contains_key(&(start - piece.range.start)) {
                continue;
            }
            let end = start + (piece.range.end - piece.range.start);
            self.add_unlaid(at..start, &mut parts);
            parts.push(ChunkPart::Laid(start..end));
            at = end;
        }
        self.add_unlaid(at..range.end, &mut parts);
        parts
    }

    /// Adds the parts of a range without copied base objects.
    fn add_unlaid(&self, range: Range<u64>, parts: &mut Vec<ChunkPart>) {
        let mut read: Option<Range<u64>> = None;
        for segment in self.mapping.plan_read(range) {
            let Range { start, end } = segment.range;
            if segment.source == attachfs_tree::SegmentSource::Zero {
                parts.extend(read.take().map(ChunkPart::Read));
                parts.push(ChunkPart::Zero(start..end));
            } else {
                let start = read.map_or(start, |before| before.start);
                read = Some(start..end);
            }
        }
        parts.extend(read.map(ChunkPart::Read));
    }

    /// The file, complete, if there is one.
    pub(crate) fn finish(self) -> Result<Option<(FileToStore, Assembly)>, CommitError> {
        let Some((file, assembly)) = self.into else {
            return Ok(None);
        };
        let stamp = FileStamp::of(&file).map_err(assembly.failed("look at"))?;
        let source = FileToStore {
            path: assembly.path.clone(),
            file: SourceFile::AtPath,
            stamp,
            size: stamp.size,
        };
        Ok(Some((source, assembly)))
    }
}

/// A new file of the session, as long as the assembled one: all of it is a hole.
fn create(session: &Session, ino: Ino, size: u64) -> Result<(File, Assembly), CommitError> {
    let (file, path) = session.create_work_file(ino)?;
    let assembly = Assembly { path };
    file.set_len(size).map_err(assembly.failed("lengthen"))?;
    Ok((file, assembly))
}
