//! The journal: an append-only file of records, as `format` says.
//!
//! A record is in the kernel when `append` returns, so it outlives the process; `sync` makes everything appended so
//! far survive a power loss, with one fdatasync for all callers that wait. Space is reserved ahead, so that files can
//! be deleted on a full disk, until records have used it up. A record that could not be written completely is cut off
//! again; if that fails too, the journal takes no more records. After a failed sync the kernel no longer knows which
//! bytes it did not write, so no later sync counts. Compaction replaces the journal by a shorter one
//! ([`Journal::give_way`]).

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::steps::{Step, perform};
use attachfs_durable::{
    Staged, open_own_file, open_own_file_to_read, reserve_beyond, sync_dir, write_all_at,
};
use parking_lot::Mutex;

use super::error::failed;
use super::format::{Reader, Secret, Torn, WITHOUT_SECRET, encode};
use super::record::Purpose;
use super::successor::{CopiedLast, Successor, dir_of};
use super::{JournalError, Record};
use crate::FsErrorKind;
use crate::error::kind_of_io;

/// Reserved ahead of the end, in bytes; at least half of it is kept while the disk has room.
const RESERVE: u64 = 1 << 20;
/// Less than this is not reserved.
const LEAST_RESERVED: u64 = 4 << 10;
/// What is left of it on a full disk by records that add something, in bytes: room for some thousand deletions, each of which may give back
/// room.
const KEPT_TO_REMOVE: u64 = 256 << 10;
/// What is left by those that remove something, too: room to commit and to end.
const KEPT_TO_END: u64 = 16 << 10;

/// An open journal. Shared by all threads.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Locked while syncing, so that one sync serves all callers that wait. Taken before `tail`.
    synced: Mutex<Synced>,
    tail: Mutex<Tail>,
}

#[derive(Debug, Default)]
struct Synced {
    /// How many of the appended records are durable.
    upto: u64,
    failed: bool,
}

#[derive(Debug, Default)]
struct Tail {
    /// `None` if it is only looked at.
    file: Option<Arc<File>>,
    end: u64,
    /// The number of the next record.
    number: u64,
    secret: Secret,
    /// How many records were appended. All records that were there at opening count as one.
    appended: u64,
    /// Up to where there is room for sure.
    reserved: u64,
    /// The disk had no room for more when it was asked last.
    is_full: bool,
    poisoned: bool,
    buffer: Vec<u8>,
}

impl Journal {
    /// Creates an empty journal, durably and with its first line: an existing journal is never
    /// unfinished.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let staged = Staged::create_in(dir_of(path))?;
        let secret = Secret::new().map_err(failed("choose a secret of", path))?;
        let line = secret.first_line();
        write_all_at(staged.file(), &line, 0).map_err(failed("write", path))?;
        let exists = || failed("create", path)(io::ErrorKind::AlreadyExists.into());
        let file = staged.publish_if_absent(path)?.ok_or_else(exists)?;
        Ok(Self::at_end(path, file, line.len() as u64, 0, secret))
    }

    fn at_end(path: &Path, file: File, end: u64, number: u64, secret: Secret) -> Self {
        let mut tail = Tail {
            file: Some(Arc::new(file)),
            end,
            number,
            secret,
            appended: 1,
            reserved: end,
            ..Tail::default()
        };
        tail.reserve(0);
        Self {
            path: path.to_owned(),
            tail: Mutex::new(tail),
            synced: Mutex::default(),
        }
    }

    /// Begins to read the records of a journal; nothing is changed.
    pub fn read(path: &Path) -> Result<ReadJournal, JournalError> {
        let file = open_own_file_to_read(path)?;
        let len = file.metadata().map_err(failed("look at", path))?.len();
        ReadJournal::new(file, len, path)
    }

    /// Begins to read the first `len` bytes of a journal; nothing is changed.
    pub(super) fn read_first(path: &Path, len: u64) -> Result<ReadJournal, JournalError> {
        ReadJournal::new(open_own_file_to_read(path)?, len, path)
    }

    /// Begins to read the first `len` bytes of this journal, which were all appended. If some are not there, what
    /// this returns fails: they are no torn end.
    pub(super) fn read_to(&self, len: u64) -> Result<ReadJournal, JournalError> {
        let file = open_own_file_to_read(&self.path)?;
        Ok(ReadJournal {
            is_in_use: true,
            ..ReadJournal::new(file, len, &self.path)?
        })
    }

    /// A journal that takes no records.
    pub(crate) fn looked_at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            tail: Mutex::default(),
            synced: Mutex::default(),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a record. When it returns, the record outlives this process.
    pub fn append(&self, record: &Record) -> Result<(), JournalError> {
        let mut tail = self.tail.lock();
        if tail.poisoned {
            return Err(JournalError::Poisoned);
        }
        let file = tail.file.clone().ok_or(JournalError::LookedAt)?;
        let tail = &mut *tail;
        encode(record, tail.number, tail.secret, &mut tail.buffer)?;
        let len = tail.buffer.len() as u64;
        tail.reserve(len);
        if !tail.has_room(len, record.purpose()) {
            let full = io::ErrorKind::StorageFull.into();
            return Err(failed("append to", &self.path)(full));
        }
        let append = || write_all_at(&file, &tail.buffer, tail.end);
        if let Err(source) = perform(Step::JournalAppend, || self.path.clone(), append) {
            let undo = || file.set_len(tail.end);
            tail.poisoned = perform(Step::JournalUndo, || self.path.clone(), undo).is_err();
            tail.reserved = tail.end;
            return Err(failed("append to", &self.path)(source));
        }
        tail.end += len;
        tail.number += 1;
        tail.appended += 1;
        Ok(())
    }

    /// Whether records that remove something have room, after it was looked for anew.
    pub(crate) fn has_room_to_remove(&self) -> bool {
        let mut tail = self.tail.lock();
        tail.reserve(KEPT_TO_REMOVE / 2);
        tail.has_room(KEPT_TO_REMOVE / 2, Purpose::Removing)
    }

    /// How much was appended up to now.
    pub(crate) fn appended(&self) -> u64 {
        self.tail.lock().appended
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> u64 {
        self.tail.lock().end
    }

    /// Whether everything up to there is durable already.
    pub(crate) fn is_synced(&self, appended: u64) -> bool {
        let synced = self.synced.lock();
        !synced.failed && synced.upto >= appended
    }

    /// From now on no sync counts, because bytes that a record needs are lost.
    pub(crate) fn fail(&self) {
        self.synced.lock().failed = true;
    }

    /// Makes everything appended before this call durable.
    pub fn sync(&self) -> Result<(), JournalError> {
        let wanted = self.appended();
        let mut synced = self.synced.lock();
        if synced.failed {
            return Err(JournalError::NotDurable);
        }
        if synced.upto < wanted {
            let (file, appended) = {
                let tail = self.tail.lock();
                (tail.file.clone(), tail.appended)
            };
            if let Some(file) = file {
                self.sync_file(&file, Step::JournalSync, &mut synced)?;
            }
            synced.upto = appended;
        }
        Ok(())
    }

    fn sync_file(&self, file: &File, step: Step, synced: &mut Synced) -> Result<(), JournalError> {
        let result = perform(step, || self.path.clone(), || file.sync_data());
        synced.failed |= result.is_err();
        result.map_err(failed("sync", &self.path))
    }

    /// Replaces the journal by a successor, which gets the rest of the records before. After an error before the
    /// rename the journal continues unchanged.
    ///
    /// A durable record is always under the journal's name, in the old file or in the new one: first everything
    /// that can be durable in the old file is made durable in the new one, and no sync happens meanwhile; then the
    /// new one is renamed. Later records go to the new file, and are durable at the earliest when the rename is.
    pub(super) fn give_way(&self, mut successor: Successor) -> Result<CopiedLast, JournalError> {
        let mut synced = self.synced.lock();
        if synced.failed {
            return Err(JournalError::NotDurable);
        }
        let first = successor.copied();
        successor.copy_to(self.len())?;
        successor.sync(&self.path)?;
        // What came during that sync cannot be durable in the old file, and need not be in the new one.
        successor.catch_up::<JournalError>(self, |_| Ok(()))?;
        let (file, appended, copied) = {
            let mut tail = self.tail.lock();
            if tail.poisoned {
                return Err(JournalError::Poisoned);
            }
            let copied = CopiedLast {
                while_syncs_waited: tail.end - first,
                while_all_waited: tail.end - successor.copied(),
            };
            successor.copy_to(tail.end)?;
            tail.secret = successor.secret();
            let (file, end, number) = successor.place(&self.path)?;
            let file = Arc::new(file);
            tail.file = Some(file.clone());
            tail.end = end;
            tail.number = number;
            tail.reserved = end;
            tail.reserve(0);
            (file, tail.appended, copied)
        };
        self.sync_file(&file, Step::CompactedRest, &mut synced)?;
        if let Err(error) = sync_dir(dir_of(&self.path), Step::CompactedName) {
            synced.failed = true;
            return Err(error.into());
        }
        synced.upto = appended;
        Ok(copied)
    }
}

impl Tail {
    /// Reserves space for `len` more bytes and some more, or as much of that as the disk has.
    fn reserve(&mut self, len: u64) {
        let Some(file) = &self.file else {
            return;
        };
        if self.end + len + RESERVE / 2 <= self.reserved {
            return;
        }
        let mut more = RESERVE;
        self.is_full = false;
        while self.end + len + more > self.reserved {
            match reserve_beyond(file, self.end, len + more) {
                Ok(()) => {
                    self.reserved = self.end + len + more;
                    return;
                }
                Err(error) if kind_of_io(&error) != FsErrorKind::NoSpace => {
                    tracing::debug!(%error, "no space is reserved for the journal");
                    return;
                }
                Err(_) => self.is_full = true,
            }
            more /= 2;
            if more < LEAST_RESERVED {
                return;
            }
        }
    }

    /// Whether a record of this length may be appended. On a full disk it has to leave room for those that give back some.
    fn has_room(&self, len: u64, purpose: Purpose) -> bool {
        let left = match purpose {
            Purpose::Adding => KEPT_TO_REMOVE + KEPT_TO_END,
            Purpose::Removing => KEPT_TO_END,
            // The write tells.
            Purpose::Ending => return true,
        };
        !self.is_full || self.end + len + left <= self.reserved
    }
}

/// A journal that is being read, record by record.
#[derive(Debug)]
pub struct ReadJournal {
    path: PathBuf,
    reader: Reader<File>,
    /// Whether this process appends to it, so that nothing can be torn.
    is_in_use: bool,
}

/// Where a journal ends.
#[derive(Debug)]
pub struct JournalEnd {
    path: PathBuf,
    end: u64,
    /// The number of the next record.
    number: u64,
    secret: Secret,
    torn: Option<Torn>,
    is_without_boot: bool,
}

impl ReadJournal {
    fn new(file: File, len: u64, path: &Path) -> Result<Self, JournalError> {
        Ok(Self {
            path: path.to_owned(),
            reader: Reader::new(file, len, path)?,
            is_in_use: false,
        })
    }

    /// The next record; `None` after the last one.
    pub fn next_record(&mut self) -> Result<Option<Record>, JournalError> {
        let next = self.reader.next()?;
        if next.is_none() && self.is_in_use {
            self.reader.nothing_is_torn()?;
        }
        Ok(next)
    }

    /// How many records were read.
    pub fn count(&self) -> u64 {
        self.reader.number
    }

    pub(super) fn secret(&self) -> Secret {
        self.reader.secret
    }

    /// Where the next record starts, or the journal ends.
    pub(super) fn position(&self) -> u64 {
        self.reader.end
    }

    /// Continues up to `len` bytes, which are there by now.
    pub(super) fn read_on_to(&mut self, len: u64) {
        self.reader.read_on_to(len);
    }

    /// The end of the journal, once all records were read.
    pub fn end(self) -> JournalEnd {
        JournalEnd {
            path: self.path,
            end: self.reader.end,
            number: self.reader.number,
            torn: self.reader.torn,
            secret: self.reader.secret,
            is_without_boot: self.reader.is_without_boot,
        }
    }
}

impl JournalEnd {
    /// The bytes after the last record.
    pub fn torn(&self) -> Option<Torn> {
        self.torn
    }

    /// Opens the journal for more records. A torn end is cut off: its operation never returned, or was
    /// lost in a power loss.
    pub fn go_on(&self) -> Result<Journal, JournalError> {
        let path = &self.path;
        let file = open_own_file(path)?;
        if let Some(Torn { offset, len }) = self.torn {
            tracing::warn!(path = %path.display(), offset, len, "the last record of the journal is torn and is cut off");
            let cut = || file.set_len(offset);
            perform(Step::JournalCut, || path.clone(), cut)
                .map_err(failed("cut off an unfinished record of", path))?;
        }
        if self.is_without_boot {
            // One byte differs: whatever a power loss leaves of it, the journal has one of the two numbers. It is durable with the
            // next record.
            let renumber = || write_all_at(&file, WITHOUT_SECRET, 0);
            perform(Step::JournalVersion, || path.clone(), renumber)
                .map_err(failed("write the version of", path))?;
        }
        let (end, number) = (self.end, self.number);
        Ok(Journal::at_end(path, file, end, number, self.secret))
    }
}
