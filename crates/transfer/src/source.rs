//! Where bytes to be stored come from.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::{FileStamp, open_file_through_links};
use attachfs_manifest::ContentHash;
use attachfs_store::{Payload, SourceStamp};

use crate::error::TransferError;

/// A regular file that is to stay as it is until it is stored.
#[derive(Debug, Clone)]
pub struct FileToStore {
    /// What to call it in messages, and where it is opened if it is not open.
    pub path: PathBuf,
    /// The file.
    pub file: SourceFile,
    /// The file's state, taken before the first byte of it is read.
    pub stamp: FileStamp,
    /// How many bytes of it count, from its beginning.
    pub size: u64,
}

/// A file that is open, or one that is opened each time it is read.
#[derive(Debug, Clone)]
pub enum SourceFile {
    /// Open for reading. Read by position, so it can be shared.
    Open(Arc<File>),
    /// To be opened at [`FileToStore::path`]: a plan of many files keeps none of them open. The stamp says
    /// whether what is found there is the same file, so a link or another file in its place is one
    /// that changed.
    AtPath,
}

impl FileToStore {
    /// The file, open. One that is opened for it is what its stamp says. Blocks.
    pub(crate) fn open(&self) -> Result<Arc<File>, TransferError> {
        match &self.file {
            SourceFile::Open(file) => Ok(Arc::clone(file)),
            SourceFile::AtPath => {
                let opened = open_file_through_links(&self.path);
                let file = opened.map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => TransferError::changed(&self.path),
                    _ => TransferError::read(&self.path, error),
                })?;
                self.check_unchanged(&file)?;
                Ok(Arc::new(file))
            }
        }
    }

    /// Fails if the file, which is open as `file`, is not what it was when its stamp was taken.
    pub(crate) fn check_unchanged(&self, file: &File) -> Result<(), TransferError> {
        let now = FileStamp::of(file).map_err(|e| TransferError::read(&self.path, e))?;
        if now == self.stamp {
            Ok(())
        } else {
            Err(TransferError::changed(&self.path))
        }
    }

    /// A range of the file, for a store that checks the stamp itself. Blocks.
    pub(crate) fn payload(&self, range: Range<u64>) -> Result<Payload, TransferError> {
        Ok(Payload::File {
            file: self.open()?,
            range,
            stamp: SourceStamp {
                path: self.path.clone(),
                stamp: self.stamp,
            },
        })
    }
}

/// An object to be stored: a range of a file, and its hash.
#[derive(Debug, Clone)]
pub struct ChunkSource {
    /// The hash of the bytes.
    pub hash: ContentHash,
    /// The file; its stamp must be from before it was hashed.
    pub source: FileToStore,
    /// Which bytes of it.
    pub range: Range<u64>,
}

impl ChunkSource {
    /// The length of the object.
    pub fn object_len(&self) -> u64 {
        self.range.end - self.range.start
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_fifo_in_the_place_of_a_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "bytes").unwrap();
        let source = FileToStore {
            path: path.clone(),
            file: SourceFile::AtPath,
            stamp: FileStamp::at(&path).unwrap(),
            size: 5,
        };
        source.open().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        assert!(source.open().unwrap_err().to_string().contains("file"));
    }
}
