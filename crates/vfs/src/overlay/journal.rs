//! The journal: an append-only file of records, as `format` says.
//!
//! A record is in the kernel when `append` returns, so it outlives the process; `sync` makes
//! everything appended so far outlive a power loss, one fdatasync for all that wait. Space is
//! reserved ahead, so that deleting things works on a full disk, until records have used it up. A
//! record that could not be written
//! whole is cut off again; if not even that works, the journal takes no more records. After a sync
//! that failed the kernel no longer knows what it did not write, so no later one counts.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::{
    DurableError, Staged, open_own_file, read_own_file, reserve_beyond, write_all_at,
};
use parking_lot::Mutex;

use super::Record;
use super::format::{Contents, Damage, MAGIC, Torn, encode, read};

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
    /// The file is shorter than a journal is from its beginning on.
    #[error("the journal {} has only {len} bytes: what it said is lost", path.display())]
    CutOff {
        /// The journal.
        path: PathBuf,
        /// Its length.
        len: usize,
    },
    /// A record is damaged: what follows it cannot be trusted, and nothing is dropped silently.
    #[error("record {record} of the journal {} (at byte {offset}) is damaged", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// 1 for the first.
        record: u64,
        /// Where it starts.
        offset: u64,
        /// What is wrong with it.
        #[source]
        cause: Damage,
    },
    /// A record that `open` would not read back.
    #[error("a record of {0} bytes is too long for the journal")]
    TooLong(usize),
    /// An earlier sync failed.
    #[error(
        "an earlier sync of the session's files failed: what they hold may not survive a power loss"
    )]
    NotDurable,
    /// An earlier failure left the journal in an unknown state.
    #[error("the journal takes no more records after an earlier failure")]
    Poisoned,
    /// It was opened to be looked at.
    #[error("the journal is only looked at")]
    LookedAt,
    /// The file cannot be used, or its directory: the system refused, or it is not this user's alone.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// An open journal. Shared by all threads.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// None if it is only looked at.
    file: Option<File>,
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

#[derive(Debug, Default)]
struct Tail {
    end: u64,
    /// The number of the next record.
    number: u64,
    reserved: u64,
    poisoned: bool,
    buffer: Vec<u8>,
}

impl Journal {
    /// Creates an empty journal, durably and with its first line: one that is there is never
    /// unfinished.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let staged = Staged::create_in(dir)?;
        write_all_at(staged.file(), MAGIC, 0).map_err(failed("write", path))?;
        let exists = || failed("create", path)(io::ErrorKind::AlreadyExists.into());
        let file = staged.publish_if_absent(path)?.ok_or_else(exists)?;
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
            file: Some(file),
            tail: Mutex::new(tail),
            synced: Mutex::default(),
        }
    }

    /// Reads the records of a journal, and changes nothing.
    pub fn read(path: &Path) -> Result<ReadJournal, JournalError> {
        let bytes = read_own_file(path)?;
        let contents = read(&bytes, path)?;
        Ok(ReadJournal {
            path: path.to_owned(),
            number: contents.records.len() as u64,
            contents,
        })
    }

    /// A journal that takes no records.
    pub(crate) fn looked_at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            tail: Mutex::default(),
            synced: Mutex::default(),
        }
    }

    /// Appends a record. When it returns, the record outlives this process.
    pub fn append(&self, record: &Record) -> Result<(), JournalError> {
        let mut tail = self.tail.lock();
        if tail.poisoned {
            return Err(JournalError::Poisoned);
        }
        let file = self.file.as_ref().ok_or(JournalError::LookedAt)?;
        let tail = &mut *tail;
        encode(record, tail.number, &mut tail.buffer)?;
        let len = tail.buffer.len() as u64;
        tail.reserve(file, len);
        if let Err(source) = write_all_at(file, &tail.buffer, tail.end) {
            tail.poisoned = file.set_len(tail.end).is_err();
            tail.reserved = tail.end;
            return Err(failed("append to", &self.path)(source));
        }
        tail.end += len;
        tail.number += 1;
        Ok(())
    }

    /// How long it is. What was appended up to now ends here or before.
    pub(crate) fn end(&self) -> u64 {
        self.tail.lock().end
    }

    /// Whether everything up to an end is durable already.
    pub(crate) fn is_synced(&self, end: u64) -> bool {
        let synced = self.synced.lock();
        !synced.failed && synced.upto >= end
    }

    /// From now on no sync counts: what a record speaks of is lost.
    pub(crate) fn fail(&self) {
        self.synced.lock().failed = true;
    }

    /// Makes everything appended before this call durable.
    pub fn sync(&self) -> Result<(), JournalError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let wanted = self.end();
        let mut synced = self.synced.lock();
        if synced.failed {
            return Err(JournalError::NotDurable);
        }
        if synced.upto < wanted {
            let end = self.end();
            if let Err(source) = file.sync_data() {
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
        if self.end + len + RESERVE / 2 <= self.reserved {
            return;
        }
        let wanted = len + RESERVE;
        match reserve_beyond(file, self.end, wanted) {
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

/// What a journal said when it was read.
#[derive(Debug)]
pub struct ReadJournal {
    path: PathBuf,
    contents: Contents,
    /// The number of the next record.
    number: u64,
}

impl ReadJournal {
    /// Takes the records out.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.contents.records)
    }

    /// What is behind the last of them.
    pub fn torn(&self) -> Option<Torn> {
        self.contents.torn
    }

    /// Opens the journal for more records. A torn end is cut off: its operation never returned, or was
    /// lost with the power.
    pub fn go_on(&self) -> Result<Journal, JournalError> {
        let path = &self.path;
        let file = open_own_file(path)?;
        if let Some(Torn { offset, len }) = self.contents.torn {
            tracing::warn!(path = %path.display(), offset, len, "the last record of the journal is torn and is cut off");
            file.set_len(offset)
                .map_err(failed("cut off an unfinished record of", path))?;
        }
        Ok(Journal::at_end(path, file, self.contents.end, self.number))
    }
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

    fn reopen(path: &Path) -> (Journal, Vec<Record>) {
        let mut read = Journal::read(path).unwrap();
        let records = read.take_records();
        (read.go_on().unwrap(), records)
    }

    /// The bytes of a journal of these records, and where the last one starts.
    fn bytes_of(records: &[Record]) -> (Vec<u8>, usize) {
        let (_dir, path) = journal_of(records);
        let (_before, before) = journal_of(&records[..records.len() - 1]);
        let len = std::fs::read(before).unwrap().len();
        (std::fs::read(path).unwrap(), len)
    }

    /// A record of at least this many bytes, without zeros in it.
    fn long(len: usize) -> Record {
        Record::Commit(super::super::CommitRecord::Intent {
            generation: 1,
            key: "k".repeat(len),
            hash: attachfs_manifest::ContentHash::from_bytes([7; 16]),
            clean: Vec::new(),
        })
    }

    fn torn(bytes: &[u8]) -> Option<Torn> {
        read(bytes, Path::new("j")).unwrap().torn
    }

    #[test]
    fn records_come_back_in_order_after_reopening() {
        let (_dir, path) = journal_of(&[record(1), record(2)]);
        let (journal, records) = reopen(&path);
        assert_eq!(records, [record(1), record(2)]);
        journal.append(&record(3)).unwrap();
        drop(journal);
        assert_eq!(reopen(&path).1, [record(1), record(2), record(3)]);
    }

    #[test]
    fn a_record_torn_at_any_byte_is_cut_off_and_the_others_stay() {
        let (whole, first_end) = bytes_of(&[record(1), record(2_000_000)]);
        let (_dir, path) = journal_of(&[]);
        for cut in first_end..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (journal, records) = reopen(&path);
            assert_eq!(records, [record(1)], "cut at {cut}");
            journal.append(&record(7)).unwrap();
            drop(journal);
            assert_eq!(reopen(&path).1, [record(1), record(7)], "cut at {cut}");
        }
    }

    #[test]
    fn reading_a_torn_journal_changes_nothing() {
        let (whole, _) = bytes_of(&[record(1), record(2)]);
        let (_dir, path) = journal_of(&[]);
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(Journal::read(&path).unwrap().torn().is_some());
        assert_eq!(std::fs::read(&path).unwrap(), whole[..whole.len() - 1]);
    }

    #[test]
    fn a_wrong_bit_anywhere_in_a_whole_record_is_damage_that_names_it() {
        let (sound, start) = bytes_of(&[record(1), record(2)]);
        for bit in start * 8..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match read(&bytes, Path::new("j")) {
                Err(JournalError::Damaged {
                    record: 2, offset, ..
                }) => assert_eq!(offset, start as u64),
                other => panic!("bit {bit}: {other:?}"),
            }
        }
    }

    #[test]
    fn several_damaged_records_at_the_end_are_damage() {
        let records: Vec<Record> = (0..8).map(record).collect();
        let (_, start) = bytes_of(&records[..4]);
        let (mut bytes, _) = bytes_of(&records);
        for byte in &mut bytes[start..] {
            *byte ^= 0x55;
        }
        let error = read(&bytes, Path::new("j")).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { record: 4, .. }));
    }

    #[test]
    fn what_a_power_loss_left_unwritten_is_a_torn_tail() {
        let (sound, start) = bytes_of(&[record(1), long(3000)]);
        // All of the record, and more.
        for len in [1, HEADER_LEN - 1, HEADER_LEN, 500, 9000] {
            let mut bytes = sound[..start].to_vec();
            bytes.resize(start + len, 0);
            let expected = Torn {
                offset: start as u64,
                len: len as u64,
            };
            assert_eq!(torn(&bytes), Some(expected), "{len} zeros");
        }
        // From a block of it on.
        for block in [512, 1024, 2560] {
            for more in [0, 4096] {
                let mut bytes = sound.clone();
                bytes[block..].fill(0);
                bytes.resize(sound.len() + more, 0);
                assert!(torn(&bytes).is_some(), "from {block} on");
            }
        }
    }

    const HEADER_LEN: usize = 28;

    #[test]
    fn zeros_that_no_power_loss_leaves_are_damage() {
        let (sound, start) = bytes_of(&[record(1), long(3000), record(3)]);
        let (_, second) = bytes_of(&[record(1), long(3000)]);
        assert!(second < 100 && start > 3000);
        let zeroed = |range: std::ops::Range<usize>| {
            let mut bytes = sound.clone();
            bytes[range].fill(0);
            read(&bytes, Path::new("j"))
        };
        // Something is behind them, or they begin where no block does.
        zeroed(second..start).unwrap_err();
        zeroed(1024..start).unwrap_err();
        zeroed(start + 10..sound.len()).unwrap_err();
        zeroed(sound.len() - 1..sound.len()).unwrap_err();
    }

    #[test]
    fn a_journal_without_its_first_line_is_an_error_that_says_how_much_there_is() {
        for len in [0, 5, 18] {
            let error = read(&MAGIC[..len], Path::new("j")).unwrap_err();
            assert!(matches!(error, JournalError::CutOff { len: said, .. } if said == len));
        }
        let error = read(b"something else entirely", Path::new("j")).unwrap_err();
        assert!(matches!(error, JournalError::NotAJournal(_)));
    }

    #[test]
    fn a_journal_is_not_made_over_another_file() {
        let (_dir, path) = journal_of(&[record(1)]);
        Journal::create(&path).unwrap_err();
        assert_eq!(reopen(&path).1, [record(1)]);
    }
}
