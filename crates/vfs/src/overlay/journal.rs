//! The journal: an append-only file of records, as `format` says.
//!
//! A record is in the kernel when `append` returns, so it outlives the process; `sync` makes
//! everything appended so far outlive a power loss, one fdatasync for all that wait. When it is compacted a
//! shorter one takes its place ([`Journal::give_way`]). Space is reserved ahead, so that deleting things works on a full disk, until records have used it up. A
//! record that could not be written
//! whole is cut off again; if not even that works, the journal takes no more records. After a sync
//! that failed the kernel no longer knows what it did not write, so no later one counts.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::steps::{Step, perform};
use attachfs_durable::{DurableError, Staged, open_own_file, open_own_file_to_read, sync_dir};
use parking_lot::Mutex;

use super::Record;
use super::compaction::Successor;
use super::format::{Damage, MAGIC, Reader, Torn, encode};

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
    /// Held while syncing, so that one sync serves all who wait. Taken before `tail`.
    synced: Mutex<Synced>,
    tail: Mutex<Tail>,
}

#[derive(Debug, Default)]
struct Synced {
    /// So many of the appended records are durable.
    upto: u64,
    failed: bool,
}

#[derive(Debug, Default)]
struct Tail {
    /// None if it is only looked at.
    file: Option<Arc<File>>,
    end: u64,
    /// The number of the next record.
    number: u64,
    /// How often something was appended. What was there when it was opened counts as one.
    appended: u64,
    reserved: u64,
    poisoned: bool,
    buffer: Vec<u8>,
}

impl Journal {
    /// Creates an empty journal, durably and with its first line: one that is there is never
    /// unfinished.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let staged = Staged::create_in(dir_of(path))?;
        staged
            .file()
            .write_all_at(MAGIC, 0)
            .map_err(failed("write", path))?;
        let exists = || failed("create", path)(io::ErrorKind::AlreadyExists.into());
        let file = staged.publish_if_absent(path)?.ok_or_else(exists)?;
        Ok(Self::at_end(path, file, MAGIC.len() as u64, 0))
    }

    fn at_end(path: &Path, file: File, end: u64, number: u64) -> Self {
        let mut tail = Tail {
            file: Some(Arc::new(file)),
            end,
            number,
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

    /// Begins to read the first `len` bytes of this journal.
    pub(super) fn read_to(&self, len: u64) -> Result<ReadJournal, JournalError> {
        ReadJournal::new(open_own_file_to_read(&self.path)?, len, &self.path)
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
        encode(record, tail.number, &mut tail.buffer)?;
        let len = tail.buffer.len() as u64;
        tail.reserve(len);
        let append = || file.write_all_at(&tail.buffer, tail.end);
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

    /// From now on no sync counts: what a record speaks of is lost.
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

    /// Lets a successor take its place, which has what `from` read up to now, and gets the rest from it. After
    /// an error before that the journal goes on as it was.
    ///
    /// No record that is durable is ever without one of the two names: first the successor durably gets what
    /// can be durable here, for no sync happens meanwhile; then it gets the name, within the kernel. What is
    /// appended from then on goes to it, and counts as durable after a sync that comes after that of the name.
    pub(super) fn give_way(
        &self,
        mut successor: Successor,
        from: &mut ReadJournal,
    ) -> Result<(), JournalError> {
        let mut synced = self.synced.lock();
        if synced.failed {
            return Err(JournalError::NotDurable);
        }
        successor.take_rest(from, self.len())?;
        successor.sync(&self.path)?;
        let (file, appended) = {
            let mut tail = self.tail.lock();
            if tail.poisoned {
                return Err(JournalError::Poisoned);
            }
            successor.take_rest(from, tail.end)?;
            let (file, end, number) = successor.place(&self.path)?;
            let file = Arc::new(file);
            tail.file = Some(file.clone());
            tail.end = end;
            tail.number = number;
            tail.reserved = end;
            tail.reserve(0);
            (file, tail.appended)
        };
        self.sync_file(&file, Step::CompactedRest, &mut synced)?;
        if let Err(error) = sync_dir(dir_of(&self.path), Step::CompactedName) {
            synced.failed = true;
            return Err(error.into());
        }
        synced.upto = appended;
        Ok(())
    }
}

impl Tail {
    /// Asks for space for `len` more bytes and those after them. That it is not granted is no
    /// failure: the write will say so.
    fn reserve(&mut self, len: u64) {
        use rustix::fs::{FallocateFlags, fallocate};
        let Some(file) = &self.file else {
            return;
        };
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

/// The directory of a journal.
pub(super) fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

pub(super) fn failed(
    doing: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> JournalError + use<> {
    let path = path.to_owned();
    move |source| JournalError::Io {
        doing,
        path: path.clone(),
        source,
    }
}

/// A journal that is being read, record by record.
#[derive(Debug)]
pub struct ReadJournal {
    path: PathBuf,
    reader: Reader<File>,
}

/// Where a journal ends.
#[derive(Debug)]
pub struct JournalEnd {
    path: PathBuf,
    end: u64,
    /// The number of the next record.
    number: u64,
    torn: Option<Torn>,
}

impl ReadJournal {
    fn new(file: File, len: u64, path: &Path) -> Result<Self, JournalError> {
        Ok(Self {
            path: path.to_owned(),
            reader: Reader::new(file, len, path)?,
        })
    }

    /// The next record; `None` after the last one.
    pub fn next_record(&mut self) -> Result<Option<Record>, JournalError> {
        self.reader.next()
    }

    /// How many records were read.
    pub fn count(&self) -> u64 {
        self.reader.number
    }

    /// Reads on to what is in the first `len` bytes by now.
    pub(super) fn read_on_to(&mut self, len: u64) {
        self.reader.read_on_to(len);
    }

    /// Where it ends, once all records were read.
    pub fn end(self) -> JournalEnd {
        JournalEnd {
            path: self.path,
            end: self.reader.end,
            number: self.reader.number,
            torn: self.reader.torn,
        }
    }
}

impl JournalEnd {
    /// What is behind the last record.
    pub fn torn(&self) -> Option<Torn> {
        self.torn
    }

    /// Opens the journal for more records. A torn end is cut off: its operation never returned, or was
    /// lost with the power.
    pub fn go_on(&self) -> Result<Journal, JournalError> {
        let path = &self.path;
        let file = open_own_file(path)?;
        if let Some(Torn { offset, len }) = self.torn {
            tracing::warn!(path = %path.display(), offset, len, "the last record of the journal is torn and is cut off");
            let cut = || file.set_len(offset);
            perform(Step::JournalCut, || path.clone(), cut)
                .map_err(failed("cut off an unfinished record of", path))?;
        }
        Ok(Journal::at_end(path, file, self.end, self.number))
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
        let mut records = Vec::new();
        while let Some(record) = read.next_record().unwrap() {
            records.push(record);
        }
        (read.end().go_on().unwrap(), records)
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

    /// Reads a journal to its end, and says what is behind the last record.
    fn read(bytes: &[u8], path: &Path) -> Result<Option<Torn>, JournalError> {
        let mut reader = Reader::new(std::io::Cursor::new(bytes), bytes.len() as u64, path)?;
        while reader.next()?.is_some() {}
        Ok(reader.torn)
    }

    fn torn(bytes: &[u8]) -> Option<Torn> {
        read(bytes, Path::new("j")).unwrap()
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
        let mut read = Journal::read(&path).unwrap();
        while read.next_record().unwrap().is_some() {}
        assert!(read.end().torn().is_some());
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
