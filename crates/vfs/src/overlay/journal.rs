//! The journal: an append-only file of records.
//!
//! ```text
//!     "attachfs journal 1\n"
//!     | length, u32 | number, u64 | XXH3-64, u64 | payload, postcard | ...     little-endian
//!                     0, 1, 2 ...   of the payload, seeded with the number
//! ```
//!
//! A record is in the kernel when `append` returns, so it outlives the process; `sync` makes
//! everything appended so far outlive a power loss, one fdatasync for all that wait. Space is
//! reserved ahead, so that deleting things works on a full disk, until records have used it up. A
//! record that could not be written
//! whole is cut off again; if not even that works, the journal takes no more records. After a sync
//! that failed the kernel no longer knows what it did not write, so no later one counts.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use attachfs_durable::{DurableError, create_own_file, open_own_file, sync_dir};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Record;

const MAGIC: &[u8] = b"attachfs journal 1\n";
const HEADER: usize = 20;
/// Longer than any record can be that we write: a commit's list of clean files is the longest.
const LONGEST_RECORD: usize = 1 << 30;
/// Reserved ahead of the end; at least half of it is kept. Room for some ten thousand deletions.
const RESERVE: u64 = 1 << 20;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused.
    #[error("cannot {doing} the journal {}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file does not begin as a journal does.
    #[error("{} is not a journal of this version of attachfs", .0.display())]
    NotAJournal(PathBuf),
    /// A record in the middle is damaged: what follows it cannot be trusted, and nothing is dropped
    /// silently.
    #[error("record {record} of the journal {} (at byte {offset}) is damaged", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// 1 for the first.
        record: u64,
        /// Where it starts.
        offset: u64,
    },
    /// A record that `open` would not read back.
    #[error("a record of {0} bytes is too long for the journal")]
    TooLong(usize),
    /// An earlier sync failed.
    #[error("an earlier sync of the journal failed: what it holds may not survive a power loss")]
    NotDurable,
    /// An earlier failure left the journal in an unknown state.
    #[error("the journal takes no more records after an earlier failure")]
    Poisoned,
    /// The file cannot be used, or its directory: the system refused, or it is not this user's alone.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// An open journal. Shared by all threads.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    tail: Mutex<Tail>,
    /// Held while syncing, so that one sync serves all who wait.
    synced: Mutex<Synced>,
}

#[derive(Debug, Default)]
struct Synced {
    /// How far everything is durable.
    upto: u64,
    failed: bool,
}

#[derive(Debug)]
struct Tail {
    end: u64,
    /// The number of the next record.
    number: u64,
    reserved: u64,
    poisoned: bool,
    buffer: Vec<u8>,
}

impl Journal {
    /// Creates an empty journal, durably.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let file = create_own_file(path)?;
        file.write_all_at(MAGIC, 0).map_err(failed("write", path))?;
        file.sync_all().map_err(failed("sync", path))?;
        if let Some(dir) = path.parent() {
            sync_dir(dir)?;
        }
        Ok(Self::at_end(path, file, MAGIC.len() as u64, 0))
    }

    fn at_end(path: &Path, file: File, end: u64, number: u64) -> Self {
        let mut tail = Tail {
            end,
            number,
            reserved: end,
            poisoned: false,
            buffer: Vec::new(),
        };
        tail.reserve(&file, 0);
        Self {
            path: path.to_owned(),
            file,
            tail: Mutex::new(tail),
            synced: Mutex::default(),
        }
    }

    /// Opens a journal and reads its records. A last record that was not written whole is cut off:
    /// its operation never returned.
    pub fn open(path: &Path) -> Result<(Self, Vec<Record>), JournalError> {
        let mut file = open_own_file(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read", path))?;
        if bytes.len() < MAGIC.len() && MAGIC.starts_with(&bytes) {
            // Its process died while it created it.
            file.write_all_at(MAGIC, 0).map_err(failed("write", path))?;
            return Ok((Self::at_end(path, file, MAGIC.len() as u64, 0), Vec::new()));
        }
        let mut rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| JournalError::NotAJournal(path.to_owned()))?;
        let mut records = Vec::new();
        let mut end = MAGIC.len() as u64;
        while let Some((payload, after)) = record_at(rest, records.len() as u64) {
            let record = postcard::from_bytes(payload).map_err(|_| JournalError::Damaged {
                path: path.to_owned(),
                record: records.len() as u64 + 1,
                offset: end,
            })?;
            records.push(record);
            end += (rest.len() - after.len()) as u64;
            rest = after;
        }
        if contains_later_record(rest, records.len() as u64) {
            return Err(JournalError::Damaged {
                path: path.to_owned(),
                record: records.len() as u64 + 1,
                offset: end,
            });
        }
        if !rest.is_empty() {
            file.set_len(end)
                .map_err(failed("cut off an unfinished record of", path))?;
        }
        Ok((Self::at_end(path, file, end, records.len() as u64), records))
    }

    /// Appends a record. When it returns, the record outlives this process.
    pub fn append(&self, record: &Record) -> Result<(), JournalError> {
        let mut tail = self.tail.lock();
        if tail.poisoned {
            return Err(JournalError::Poisoned);
        }
        let tail = &mut *tail;
        tail.buffer.clear();
        tail.buffer.resize(HEADER, 0);
        let buffer = std::mem::take(&mut tail.buffer);
        tail.buffer = postcard::to_extend(record, buffer)
            .expect("a record is made of plain data, which postcard can always write");
        let (header, payload) = tail.buffer.split_at_mut(HEADER);
        if payload.len() > LONGEST_RECORD {
            return Err(JournalError::TooLong(payload.len()));
        }
        header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[4..12].copy_from_slice(&tail.number.to_le_bytes());
        header[12..].copy_from_slice(&xxh3_64_with_seed(payload, tail.number).to_le_bytes());
        let len = tail.buffer.len() as u64;
        tail.reserve(&self.file, len);
        if let Err(source) = self.file.write_all_at(&tail.buffer, tail.end) {
            tail.poisoned = self.file.set_len(tail.end).is_err();
            tail.reserved = tail.end;
            return Err(failed("append to", &self.path)(source));
        }
        tail.end += len;
        tail.number += 1;
        Ok(())
    }

    /// Makes everything appended before this call durable.
    pub fn sync(&self) -> Result<(), JournalError> {
        let wanted = self.tail.lock().end;
        let mut synced = self.synced.lock();
        if synced.failed {
            return Err(JournalError::NotDurable);
        }
        if synced.upto < wanted {
            let end = self.tail.lock().end;
            if let Err(source) = self.file.sync_data() {
                synced.failed = true;
                return Err(failed("sync", &self.path)(source));
            }
            synced.upto = end;
        }
        Ok(())
    }
}

impl Tail {
    /// Asks for space for `len` more bytes and those after them. That it is not granted is no
    /// failure: the write will say so.
    fn reserve(&mut self, file: &File, len: u64) {
        use rustix::fs::{FallocateFlags, fallocate};
        if self.end + len + RESERVE / 2 <= self.reserved {
            return;
        }
        let wanted = len + RESERVE;
        match fallocate(file, FallocateFlags::KEEP_SIZE, self.end, wanted) {
            Ok(()) => self.reserved = self.end + wanted,
            Err(error) => tracing::debug!(%error, "no space is reserved for the journal"),
        }
    }
}

fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io {
        doing,
        path: path.clone(),
        source,
    }
}

fn number_of(header: &[u8]) -> u64 {
    u64::from_le_bytes(header[4..12].try_into().expect("eight bytes"))
}

/// The payload of the record with this number and what follows it, if `bytes` begin with it whole
/// and sound.
fn record_at(bytes: &[u8], number: u64) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let len = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    let sum = u64::from_le_bytes(header[12..].try_into().ok()?);
    if number_of(header) != number || len == 0 || len > LONGEST_RECORD {
        return None;
    }
    let (payload, after) = rest.split_at_checked(len)?;
    (xxh3_64_with_seed(payload, number) == sum).then_some((payload, after))
}

/// Whether a sound record of a later number starts anywhere behind a damaged one. A torn tail has
/// none. Numbers make this quick: hardly any other bytes look like one that can be there.
fn contains_later_record(bytes: &[u8], damaged: u64) -> bool {
    let possible = damaged + 1..=damaged + 1 + (bytes.len() / HEADER) as u64;
    bytes.windows(HEADER).enumerate().any(|(start, header)| {
        let number = number_of(header);
        possible.contains(&number) && record_at(&bytes[start..], number).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use attachfs_tree::Timestamp;

    fn record(seconds: i64) -> Record {
        Record::Sealed {
            time: Timestamp {
                seconds,
                nanoseconds: 0,
            },
        }
    }

    fn journal_of(records: &[Record]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::create(&path).unwrap();
        for record in records {
            journal.append(record).unwrap();
        }
        (dir, path)
    }

    #[test]
    fn records_come_back_in_order_after_reopening() {
        let (_dir, path) = journal_of(&[record(1), record(2)]);
        let (journal, records) = Journal::open(&path).unwrap();
        assert_eq!(records, [record(1), record(2)]);
        journal.append(&record(3)).unwrap();
        drop(journal);
        assert_eq!(
            Journal::open(&path).unwrap().1,
            [record(1), record(2), record(3)]
        );
    }

    #[test]
    fn a_record_torn_at_any_byte_is_cut_off_and_the_others_stay() {
        let (_dir, path) = journal_of(&[record(1), record(2_000_000)]);
        let whole = std::fs::read(&path).unwrap();
        let (_one, one_path) = journal_of(&[record(1)]);
        let first_end = std::fs::read(&one_path).unwrap().len();
        for cut in first_end..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (journal, records) = Journal::open(&path).unwrap();
            assert_eq!(records, [record(1)], "cut at {cut}");
            journal.append(&record(7)).unwrap();
            drop(journal);
            assert_eq!(
                Journal::open(&path).unwrap().1,
                [record(1), record(7)],
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn damage_before_a_sound_record_is_an_error_that_names_the_record() {
        let (_dir, path) = journal_of(&[record(1), record(2), record(3)]);
        let mut bytes = std::fs::read(&path).unwrap();
        let (_one, one_path) = journal_of(&[record(1)]);
        let second = std::fs::read(&one_path).unwrap().len();
        bytes[second + HEADER] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        match Journal::open(&path) {
            Err(JournalError::Damaged {
                record: 2, offset, ..
            }) => assert_eq!(offset, second as u64),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn another_file_is_not_taken_for_a_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        std::fs::write(&path, b"something else").unwrap();
        assert!(matches!(
            Journal::open(&path),
            Err(JournalError::NotAJournal(_))
        ));
    }
}
