//! That all bytes of a file have the hashes which the manifest says.

use std::fs::File;
use std::io;
use std::sync::Arc;

use attachfs_durable::fill_at;
use attachfs_fetch::{FetchError, Verifier};
use attachfs_manifest::{ChunkSize, ContentHash, Hasher, Piece};

use crate::download::failure::{FileResult, disk};
use crate::download::step::FileStep;
use crate::meter::Meter;

/// How much is read at once.
const BUFFER_LEN: u64 = 1 << 20;

pub(in crate::download) const READING: &str = "read what is there";

/// All bytes of one file were hashed and are right. Only the functions here make one.
#[derive(Debug)]
pub(in crate::download) struct Proof(());

impl Proof {
    /// Of a file that is one object, from its bytes.
    pub(in crate::download) fn of_bytes(
        object: ContentHash,
        bytes: &[u8],
    ) -> Result<Self, FetchError> {
        let found = ContentHash::of(bytes);
        if found == object {
            Ok(Self(()))
        } else {
            Err(FetchError::Damaged {
                hash: object,
                found,
            })
        }
    }

    /// Reads a file and compares its hashes with those that a step wants. `None` if they are others. Blocks.
    pub(in crate::download) fn of_file(
        file: &File,
        step: &FileStep,
        chunk_size: ChunkSize,
        meter: &Meter,
    ) -> FileResult<Option<Self>> {
        let size = step.file.size;
        let mut buffer = vec![0; BUFFER_LEN.min(size) as usize];
        let ranges = step.cut(chunk_size).ranges(size);
        for (range, expected) in ranges.zip(step.file.content.hashes()) {
            let mut hasher = Hasher::new();
            let mut at = range.start;
            while at < range.end {
                meter.go_on()?;
                let want = buffer.len().min((range.end - at) as usize);
                let read = fill_at(file, &mut buffer[..want], at);
                let read = read.map_err(|error: io::Error| disk(&step.path, READING, error))?;
                if read == 0 {
                    return Ok(None);
                }
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
            if hasher.finish() != *expected {
                return Ok(None);
            }
        }
        Ok(Some(Self(())))
    }
}

/// Hashes the bytes of a file as they come, in their order, object by object.
#[derive(Default)]
pub(in crate::download) struct InOrder {
    /// Of the object whose bytes come.
    verifier: Option<Verifier>,
    /// All bytes before this one are verified, but for those of an object that has not ended.
    at: u64,
}

impl InOrder {
    /// Takes the bytes of a piece that lies at `offset` in the file, and the version of the object that they
    /// come from if the store told. The first piece of an object may come again, and then all that follow do.
    /// Fails if the object was replaced since its first piece, and at its last piece if it is not what its hash says.
    pub(in crate::download) fn add(
        &mut self,
        piece: &Piece,
        offset: u64,
        bytes: &[u8],
        version: Option<&Arc<str>>,
    ) -> Result<(), FetchError> {
        if piece.range.start == 0 {
            self.verifier = None;
            self.at = self.at.min(offset);
        }
        let verifier = self
            .verifier
            .get_or_insert_with(|| Verifier::new(piece.hash, piece.object_len));
        verifier.add(bytes, version)?;
        // What leaves a gap proves nothing.
        if offset == self.at {
            self.at += bytes.len() as u64;
        }
        Ok(())
    }

    /// The proof, if all `size` bytes of the file have come.
    pub(in crate::download) fn end(self, size: u64) -> Option<Proof> {
        (self.at == size).then_some(Proof(()))
    }
}
