//! A journal that is to replace another one.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use attachfs_durable::Staged;
use attachfs_durable::steps::{Step, perform};

use super::error::failed;
use super::format::{MAGIC, encode};
use super::{JournalError, Record};

/// How many bytes are written at once.
const BUFFER: usize = 256 << 10;

/// A journal that is being filled and has no name of its own yet.
#[derive(Debug)]
pub(super) struct Successor {
    staged: Staged,
    written: u64,
    number: u64,
    record: Vec<u8>,
    pending: Vec<u8>,
}

impl Successor {
    /// An empty successor of the journal at `path`.
    pub(super) fn new(path: &Path) -> Result<Self, JournalError> {
        Ok(Self {
            staged: Staged::create_in(dir_of(path))?,
            written: 0,
            number: 0,
            record: Vec::new(),
            pending: MAGIC.to_vec(),
        })
    }

    /// Appends a record, in memory or in the file.
    pub(super) fn put(&mut self, record: &Record) -> Result<(), JournalError> {
        encode(record, self.number, &mut self.record)?;
        self.number += 1;
        self.pending.extend_from_slice(&self.record);
        if self.pending.len() >= BUFFER {
            self.write()?;
        }
        Ok(())
    }

    /// Writes the records that are only in memory.
    pub(super) fn write(&mut self) -> Result<(), JournalError> {
        let mut file = self.staged.file();
        file.write_all(&self.pending)
            .map_err(failed("write", self.staged.path()))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Makes its records durable.
    pub(super) fn sync(&self, path: &Path) -> Result<(), JournalError> {
        let sync = || self.staged.file().sync_data();
        let synced = perform(
            Step::CompactedContent,
            || self.staged.path().to_owned(),
            sync,
        );
        synced.map_err(failed("sync what is to replace", path))
    }

    /// Renames it over the journal; returns its file, its length and the number of its next record.
    pub(super) fn place(self, path: &Path) -> Result<(File, u64, u64), JournalError> {
        Ok((self.staged.place(path)?, self.written, self.number))
    }
}

/// The directory of a journal.
pub(super) fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}
