//! A journal that is to replace another one, and takes over what is appended to that one meanwhile.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use attachfs_durable::Staged;
use attachfs_durable::steps::{Step, perform};

use super::error::failed;
use super::format::{Secret, encode};
use super::{Journal, JournalError, ReadJournal, Record};

/// How many bytes are written at once.
const BUFFER: usize = 256 << 10;
/// So many bytes of records may be left to copy while others wait: some thousand records, a few milliseconds.
pub(crate) const LITTLE: u64 = 128 << 10;
/// How often what came meanwhile is copied before that. Copying is much faster than appending, so a few times do.
const MOST_ROUNDS: u32 = 16;

/// How much was left to copy when others had to wait, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CopiedLast {
    /// While syncs and writes to files waited, with what follows.
    pub(crate) while_syncs_waited: u64,
    /// While all changes waited.
    pub(crate) while_all_waited: u64,
}

/// A journal that is being filled and has no name of its own yet.
#[derive(Debug)]
pub(super) struct Successor {
    /// The journal that it is to replace: what was read of it is in this one.
    from: ReadJournal,
    staged: Staged,
    written: u64,
    number: u64,
    secret: Secret,
    record: Vec<u8>,
    pending: Vec<u8>,
}

impl Successor {
    /// An empty successor of the journal at `path`, which gets the state that was read `from` it first.
    pub(super) fn new(path: &Path, from: ReadJournal) -> Result<Self, JournalError> {
        let secret = Secret::new().map_err(failed("choose a secret of", path))?;
        Ok(Self {
            from,
            staged: Staged::create_in(dir_of(path))?,
            written: 0,
            number: 0,
            secret,
            record: Vec::new(),
            pending: secret.first_line(),
        })
    }

    /// Appends a record, in memory or in the file.
    pub(super) fn put(&mut self, record: &Record) -> Result<(), JournalError> {
        encode(record, self.number, self.secret, &mut self.record)?;
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

    /// How many bytes of the other journal are in it.
    pub(super) fn copied(&self) -> u64 {
        self.from.position()
    }

    pub(super) fn secret(&self) -> Secret {
        self.secret
    }

    /// Copies the rest of the first `len` bytes of the other journal.
    pub(super) fn copy_to(&mut self, len: u64) -> Result<(), JournalError> {
        self.from.read_on_to(len);
        while let Some(record) = self.from.next_record()? {
            self.put(&record)?;
        }
        self.write()
    }

    /// Copies what is appended to the other journal meanwhile, in rounds, each of what came during the one before, until
    /// [little](LITTLE) is left. `complete` ends each round.
    pub(super) fn catch_up<E: From<JournalError>>(
        &mut self,
        journal: &Journal,
        complete: impl Fn(&Self) -> Result<(), E>,
    ) -> Result<(), E> {
        for _ in 0..MOST_ROUNDS {
            let len = journal.len();
            if len - self.copied() <= LITTLE {
                break;
            }
            self.copy_to(len)?;
            complete(self)?;
        }
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
