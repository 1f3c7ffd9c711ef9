//! The bytes that are being stored: in memory, or a range of a file that must not change meanwhile.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::{FileStamp, fill_at, read_range};
use bytes::Bytes;

use crate::StoreError;

/// The source of a `put`. Its bytes were hashed before; the store that sends them checks with
/// [`SourceStamp`] that they are still the same.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of an open file.
    File {
        /// The file, open for reading.
        file: Arc<File>,
        /// Which bytes of it.
        range: Range<u64>,
        /// The state of the file when these bytes were hashed.
        stamp: SourceStamp,
    },
}

/// The state of a file when its bytes were hashed, and its name for messages.
#[derive(Debug, Clone)]
pub struct SourceStamp {
    /// For messages only.
    pub path: PathBuf,
    /// Size, times and identity.
    pub stamp: FileStamp,
}

impl Payload {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { range, .. } => range.end.saturating_sub(range.start),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a part, counted from the payload's start. Blocks. A file that ends before the part
    /// does is [`StoreError::SourceChanged`].
    pub fn read(&self, part: Range<u64>) -> Result<Bytes, StoreError> {
        debug_assert!(part.start <= part.end && part.end <= self.len());
        match self {
            Self::Bytes(bytes) => Ok(bytes.slice(part.start as usize..part.end as usize)),
            Self::File { file, range, stamp } => {
                let part = range.start + part.start..range.start + part.end;
                let len = part.end - part.start;
                let bytes = read_range(file, part).map_err(|source| stamp.unreadable(source))?;
                if bytes.len() as u64 == len {
                    Ok(bytes)
                } else {
                    Err(stamp.changed())
                }
            }
        }
    }

    /// [`read`](Self::read) into memory that the caller has: the bytes from `start` on that fill it.
    pub fn read_into(&self, start: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        match self {
            Self::Bytes(whole) => {
                let start = start as usize;
                bytes.copy_from_slice(&whole[start..start + bytes.len()]);
                Ok(())
            }
            Self::File { file, range, stamp } => {
                let read = fill_at(file, bytes, range.start + start)
                    .map_err(|source| stamp.unreadable(source))?;
                if read == bytes.len() {
                    Ok(())
                } else {
                    Err(stamp.changed())
                }
            }
        }
    }

    /// Fails with [`StoreError::SourceChanged`] if the file has changed since it was hashed. A
    /// store calls this after it read the bytes and before it gives them their name. Blocks.
    pub fn check_unchanged(&self) -> Result<(), StoreError> {
        match self {
            Self::Bytes(_) => Ok(()),
            Self::File { file, stamp, .. } => {
                let now = FileStamp::of(file).map_err(|source| stamp.unreadable(source))?;
                if now == stamp.stamp {
                    Ok(())
                } else {
                    Err(stamp.changed())
                }
            }
        }
    }
}

impl SourceStamp {
    pub(crate) fn changed(&self) -> StoreError {
        StoreError::SourceChanged {
            what: self.path.display().to_string(),
        }
    }

    fn unreadable(&self, source: std::io::Error) -> StoreError {
        StoreError::Source {
            what: self.path.display().to_string(),
            source,
        }
    }
}
