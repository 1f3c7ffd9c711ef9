//! Where bytes to be stored come from.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::FileStamp;
use attachfs_manifest::ContentHash;
use attachfs_store::{Payload, SourceStamp};

use crate::TransferError;

/// A regular file, open for reading, that is to stay as it is until it is stored.
#[derive(Debug, Clone)]
pub struct Source {
    /// What to call it in messages.
    pub path: PathBuf,
    /// The file. Read by position, so it can be shared.
    pub file: Arc<File>,
    /// The file's state, taken before the first byte of it is read.
    pub stamp: FileStamp,
    /// How many bytes of it count, from its beginning.
    pub size: u64,
}

impl Source {
    /// Fails if the file is not what it was when its stamp was taken.
    pub(crate) fn check_unchanged(&self) -> Result<(), TransferError> {
        let now = FileStamp::of(&self.file).map_err(|e| TransferError::read(&self.path, e))?;
        if now == self.stamp {
            Ok(())
        } else {
            Err(TransferError::changed(&self.path))
        }
    }

    /// A range of the file, for a store that checks the stamp itself.
    pub(crate) fn payload(&self, range: Range<u64>) -> Payload {
        Payload::File {
            file: Arc::clone(&self.file),
            range,
            stamp: SourceStamp {
                path: self.path.clone(),
                stamp: self.stamp,
            },
        }
    }
}

/// An object to be stored: a range of a file, and its hash.
#[derive(Debug, Clone)]
pub struct ChunkSource {
    /// The hash of the bytes.
    pub hash: ContentHash,
    /// The file; its stamp must be from before it was hashed.
    pub source: Source,
    /// Which bytes of it.
    pub range: Range<u64>,
}

impl ChunkSource {
    /// The length of the object.
    pub fn object_len(&self) -> u64 {
        self.range.end - self.range.start
    }
}
