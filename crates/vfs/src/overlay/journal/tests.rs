//! Reading journals that are whole, torn or damaged.

use super::*;
use crate::overlay::format::sound_records;
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
    Record::Commit(crate::overlay::CommitRecord::Intent {
        generation: 1,
        key: "k".repeat(len),
        hash: attachfs_manifest::ContentHash::from_bytes([7; 16]),
        clean: Vec::new(),
    })
}

/// Reads a journal to its end, and returns the bytes after the last record.
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
fn blocks_that_a_power_loss_left_unwritten_are_a_torn_tail() {
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
    // The zeros have bytes after them, or do not begin at a block boundary.
    zeroed(second..start).unwrap_err();
    zeroed(1024..start).unwrap_err();
    zeroed(start + 10..sound.len()).unwrap_err();
    zeroed(sound.len() - 1..sound.len()).unwrap_err();
}

#[test]
fn a_journal_without_its_first_line_is_an_error_that_says_how_much_there_is() {
    let first = Secret::new().unwrap().first_line();
    for len in [0, 5, 18, 19, 20, first.len() - 1] {
        let error = read(&first[..len], Path::new("j")).unwrap_err();
        assert!(
            matches!(error, JournalError::CutOff { len: said, .. } if said == len),
            "{error}"
        );
    }
    for other in [
        "something else entirely",
        "attachfs journal 6 0000000000000000\n",
        "attachfs journal 6 00000000000000g1\n",
        "attachfs journal 6 +000000000000001\n",
        "attachfs journal 6 00000000000000001",
    ] {
        let error = read(other.as_bytes(), Path::new("j")).unwrap_err();
        assert!(matches!(error, JournalError::NotAJournal(_)), "{other}");
    }
    for other in [
        "attachfs journal 3\n",
        "attachfs journal 7\n",
        "attachfs journal 40\n...",
    ] {
        let error = read(other.as_bytes(), Path::new("j")).unwrap_err();
        assert!(
            matches!(error, JournalError::OtherVersion { .. }),
            "{other}"
        );
    }
}

/// Records of a journal without its first line: one that holds bytes which look like a record, and one after it. The header of the
/// first one is damaged.
fn with_bytes_of_a_job(secret: Secret) -> (Vec<u8>, Record) {
    let (mut forged, mut bytes, mut after) = (Vec::new(), Vec::new(), Vec::new());
    encode(&record(7), 3, Secret::default(), &mut forged).unwrap();
    let holder = Record::Mutation(attachfs_tree::Mutation::SetXattr {
        ino: attachfs_tree::Ino::ROOT,
        name: b"user.x".to_vec().into(),
        value: forged.into(),
        time: Timestamp::default(),
    });
    encode(&holder, 3, secret, &mut bytes).unwrap();
    encode(&record(4), 4, secret, &mut after).unwrap();
    bytes.extend(after);
    bytes[20] ^= 1;
    (bytes, record(4))
}

#[test]
fn bytes_that_a_job_chose_are_no_record_behind_a_damaged_header() {
    let secret = Secret::new().unwrap();
    let (bytes, after) = with_bytes_of_a_job(secret);
    let found: Vec<_> = sound_records(&bytes, 3, secret).collect();
    assert_eq!(found, [after]);
    let (bytes, _) = with_bytes_of_a_job(Secret::default());
    assert_eq!(sound_records(&bytes, 3, Secret::default()).count(), 0);
}

#[test]
fn each_journal_has_a_secret_of_its_own() {
    let secret = || Journal::read(&journal_of(&[]).1).unwrap().secret();
    assert!(secret() != secret());
}

#[test]
fn a_journal_is_not_made_over_another_file() {
    let (_dir, path) = journal_of(&[record(1)]);
    Journal::create(&path).unwrap_err();
    assert_eq!(reopen(&path).1, [record(1)]);
}
