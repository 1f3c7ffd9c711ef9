//! The journal's bytes.
//!
//! ```text
//!     "attachfs journal 6 0123456789abcdef\n"     the secret, in hexadecimal
//!     | length, u32 | number, u64 | sum, u64 | sum, u64   | payload, postcard | 0xE5 | ...     little-endian
//!                     0, 1, 2 ...   of the     of the 20
//!                                   payload    bytes before
//! ```
//!
//! The sums are XXH3-64; that of the payload is seeded with the number, that of the 20 bytes with the secret. A job chooses bytes of payloads: names, and
//! values of attributes. It cannot read the journal, so it cannot choose them such that they pass for a record where a damaged header no longer
//! says where records begin.
//!
//! A version adds records and changes none. Versions 4 and 5 have no secret: theirs is 0. A journal of version 4 gets a 5 when it is taken over, before
//! a record is appended that its program does not know; a compaction makes both a 6.
//!
//! What follows the last sound record is one of two things, and can be told apart with certainty:
//!
//! *Torn* is what a killed process or a power loss can leave of an append that did not return, or was never synced:
//! the bytes end before the record does, or they are zero from the record's beginning or from a block boundary in it
//! up to the end of the file. The second happens if a file system lengthens a file before it writes the blocks,
//! which are written whole. The last byte of a record is not zero, so no complete record looks like that. The header
//! has a sum of its own, so that a wrong bit in a length is not taken for a record that ends too early.
//!
//! *Damaged* is everything else. Nothing is dropped then.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

use attachfs_durable::random_bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{JournalError, Record};

/// The first line up to the secret.
const BEGIN: &[u8] = b"attachfs journal 6 ";
/// Has no secret.
pub(super) const WITHOUT_SECRET: &[u8] = b"attachfs journal 5\n";
/// Does not say which start of the machine wrote, and whether the bytes are on the disk, either.
const WITHOUT_BOOT: &[u8] = b"attachfs journal 4\n";
/// The versions that are read, for messages.
pub(super) const READ: &str = "4 to 6";
/// How the first line of any version begins.
const ANY: &[u8] = b"attachfs journal ";
/// So many bytes more of the first line are read to tell its number.
const LONGEST_NUMBER: usize = 16;
/// Length, number and the payload's sum.
const SUMMED: usize = 20;
const HEADER: usize = SUMMED + 8;
/// The last byte of each record.
const END: u8 = 0xE5;
/// Longer than any record that is written: a commit's list of clean files is the longest.
const LONGEST_RECORD: usize = 1 << 30;
/// The smallest block of a file system or disk: unwritten bytes are zero from a multiple of it on.
const BLOCK: u64 = 512;
/// How many bytes are read at once.
const BUFFER: usize = 64 << 10;

/// What the sums of a journal's headers are seeded with. 0 in journals that have no secret.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Secret(u64);

impl Secret {
    const NONE: Self = Self(0);
    /// How long it is in the first line, with the line's end.
    const LEN: usize = 17;

    /// One that nobody can guess.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(u64::from_le_bytes(random_bytes()?) | 1))
    }

    /// The first line of a journal that has it.
    pub(super) fn first_line(self) -> Vec<u8> {
        let mut line = BEGIN.to_vec();
        line.extend(format!("{:016x}\n", self.0).bytes());
        line
    }

    /// The end of a first line.
    fn parse(end: &[u8]) -> Option<Self> {
        let digits = end.strip_suffix(b"\n").filter(|digits| {
            let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            digits.iter().all(is_digit)
        })?;
        let secret = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        (secret != 0).then_some(Self(secret))
    }

    fn sum(self, header: &[u8]) -> u64 {
        xxh3_64_with_seed(&header[..SUMMED], self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The bytes after the last sound record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Where it starts.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
}

/// Encodes a record into `buffer`, replacing its content.
pub(super) fn encode(
    record: &Record,
    number: u64,
    secret: Secret,
    buffer: &mut Vec<u8>,
) -> Result<(), JournalError> {
    buffer.clear();
    buffer.resize(HEADER, 0);
    *buffer = postcard::to_extend(record, std::mem::take(buffer))
        .expect("a record is made of plain data, which postcard can always write");
    let (header, payload) = buffer.split_at_mut(HEADER);
    if payload.len() > LONGEST_RECORD {
        return Err(JournalError::TooLong(payload.len()));
    }
    header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[4..12].copy_from_slice(&number.to_le_bytes());
    header[12..SUMMED].copy_from_slice(&xxh3_64_with_seed(payload, number).to_le_bytes());
    let sum = secret.sum(header);
    header[SUMMED..].copy_from_slice(&sum.to_le_bytes());
    buffer.push(END);
    Ok(())
}

/// The number that a first line has at its end.
fn number_in(rest: &[u8]) -> String {
    let end = rest.iter().position(|byte| !byte.is_ascii_digit());
    match &rest[..end.unwrap_or(rest.len())] {
        [] => "?".to_owned(),
        digits => String::from_utf8_lossy(digits).into_owned(),
    }
}

/// The records after some that cannot be used, as far as they are sound: those whose header and payload have the right sums, and
/// whose number is `least` or higher. `rest` are the bytes of a journal from anywhere on. Without a secret they end at the first header that is damaged:
/// what looks like a record behind that may be bytes that a job chose.
pub(super) fn sound_records(
    rest: &[u8],
    least: u64,
    secret: Secret,
) -> impl Iterator<Item = Record> {
    let (mut at, mut number) = (0, least);
    std::iter::from_fn(move || {
        while let Some(header) = rest.get(at..at + HEADER) {
            let u64_at = |at: usize| {
                let bytes = header[at..at + 8].try_into();
                u64::from_le_bytes(bytes.expect("eight bytes"))
            };
            let found = u64_at(4);
            let len = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
            let begin = at + HEADER;
            let is_sound = found >= number && secret.sum(header) == u64_at(SUMMED);
            let payload = rest.get(begin..begin + len).filter(|_| is_sound);
            let Some(payload) = payload else {
                if secret == Secret::NONE {
                    return None;
                }
                at += 1;
                continue;
            };
            // Its header says where the next one is, whatever became of its payload.
            at = begin + len + 1;
            number = found;
            if xxh3_64_with_seed(payload, found) == u64_at(12)
                && let Ok(record) = postcard::from_bytes(payload)
            {
                return Some(record);
            }
        }
        None
    })
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The sum of its header is wrong.
    #[error("its header has a wrong checksum")]
    HeaderSum,
    /// It is sound, but has the number of another place.
    #[error("it has the number {0}")]
    Number(u64),
    /// Its length is impossible.
    #[error("it says that it has {0} bytes")]
    Length(usize),
    /// The sum of its payload is wrong.
    #[error("its content has a wrong checksum")]
    Sum,
    /// Its payload is sound, but is no record.
    #[error("its content cannot be understood")]
    Payload(#[source] postcard::Error),
    /// Its bytes are zero or missing, in a journal that has had them since it was opened.
    #[error("its bytes were written, and are zero or missing now")]
    Gone,
}

/// Reads a journal record by record, in bounded memory.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: BufReader<Take<R>>,
    path: PathBuf,
    /// How far it is read.
    len: u64,
    /// Where the next record starts.
    pub(super) end: u64,
    /// The number of the next record.
    pub(super) number: u64,
    /// The bytes after the last record.
    pub(super) torn: Option<Torn>,
    /// Whether it is of a version that has no `Boot` and `Saved`.
    pub(super) is_without_boot: bool,
    pub(super) secret: Secret,
    payload: Vec<u8>,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads what is in the first `len` bytes.
    pub(super) fn new(input: R, len: u64, path: &Path) -> Result<Self, JournalError> {
        let mut reader = Self {
            input: BufReader::with_capacity(BUFFER, input.take(len)),
            path: path.to_owned(),
            len,
            end: BEGIN.len() as u64,
            number: 0,
            torn: None,
            is_without_boot: false,
            secret: Secret::NONE,
            payload: Vec::new(),
        };
        let first = reader.read_up_to(BEGIN.len())?;
        if first == BEGIN {
            let end = reader.read_up_to(Secret::LEN)?;
            reader.end += end.len() as u64;
            match Secret::parse(&end) {
                Some(secret) => reader.secret = secret,
                None if end.len() < Secret::LEN => {
                    return Err(reader.cut_off(first.len() + end.len()));
                }
                None => return Err(JournalError::NotAJournal(path.to_owned())),
            }
            return Ok(reader);
        }
        reader.is_without_boot = first == WITHOUT_BOOT;
        let begins = |line: &&[u8]| line.starts_with(&first);
        if first == WITHOUT_SECRET || reader.is_without_boot {
            Ok(reader)
        } else if [BEGIN, WITHOUT_SECRET, WITHOUT_BOOT].iter().any(begins) {
            // A journal is created together with its first line, so a shorter one lost its end.
            Err(reader.cut_off(first.len()))
        } else if first.starts_with(ANY) {
            let rest = reader.read_up_to(LONGEST_NUMBER)?;
            Err(JournalError::OtherVersion {
                path: path.to_owned(),
                found: number_in(&[&first[ANY.len()..], &rest].concat()),
            })
        } else {
            Err(JournalError::NotAJournal(path.to_owned()))
        }
    }

    /// The next so many bytes, or as many as are left.
    fn read_up_to(&mut self, len: usize) -> Result<Vec<u8>, JournalError> {
        let mut bytes = Vec::new();
        let rest = Read::by_ref(&mut self.input).take(len as u64);
        let read = { rest }.read_to_end(&mut bytes);
        read.map_err(self.unreadable())?;
        Ok(bytes)
    }

    fn cut_off(&self, len: usize) -> JournalError {
        JournalError::CutOff {
            path: self.path.clone(),
            len,
        }
    }

    /// Continues up to `len` bytes, which are there by now.
    pub(super) fn read_on_to(&mut self, len: u64) {
        let more = len.saturating_sub(self.len);
        let input = self.input.get_mut();
        input.set_limit(input.limit() + more);
        self.len += more;
    }

    /// The next record; `None` after the last sound one.
    pub(super) fn next(&mut self) -> Result<Option<Record>, JournalError> {
        let rest = self.len - self.end;
        if self.torn.is_some() || rest == 0 {
            return Ok(None);
        }
        if rest < HEADER as u64 {
            return Ok(self.tear());
        }
        let mut header = [0; HEADER];
        self.fill(&mut header)?;
        let u64_at = |at: usize| {
            let bytes = header[at..at + 8].try_into();
            u64::from_le_bytes(bytes.expect("eight bytes"))
        };
        if self.secret.sum(&header) != u64_at(SUMMED) {
            return self.tear_if_unwritten(HEADER as u64, Damage::HeaderSum);
        }
        if u64_at(4) != self.number {
            return Err(self.damaged(Damage::Number(u64_at(4))));
        }
        let len = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
        if len == 0 || len > LONGEST_RECORD {
            return Err(self.damaged(Damage::Length(len)));
        }
        let whole = (HEADER + len + 1) as u64;
        if rest < whole {
            return Ok(self.tear());
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(len + 1, 0);
        let filled = self.fill(&mut payload);
        self.payload = payload;
        filled?;
        let (sound, end) = (&self.payload[..len], self.payload[len]);
        if end != END || xxh3_64_with_seed(sound, self.number) != u64_at(12) {
            return self.tear_if_unwritten(whole, Damage::Sum);
        }
        let record =
            postcard::from_bytes(sound).map_err(|error| self.damaged(Damage::Payload(error)))?;
        self.end += whole;
        self.number += 1;
        Ok(Some(record))
    }

    /// Fails if the rest is torn, for a journal that is in use: what is in its first `len` bytes was written by this
    /// process, or was sound when it was opened.
    pub(super) fn nothing_is_torn(&self) -> Result<(), JournalError> {
        match self.torn {
            None => Ok(()),
            Some(_) => Err(self.damaged(Damage::Gone)),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), JournalError> {
        self.input.read_exact(bytes).map_err(self.unreadable())
    }

    /// Takes the rest for torn.
    fn tear(&mut self) -> Option<Record> {
        self.torn = Some(Torn {
            offset: self.end,
            len: self.len - self.end,
        });
        None
    }

    /// The next record, of this many bytes, is unsound. It is torn if everything from its beginning, or from
    /// a block boundary in it, is zero.
    fn tear_if_unwritten(
        &mut self,
        record: u64,
        damage: Damage,
    ) -> Result<Option<Record>, JournalError> {
        let written = self.last_written().map_err(self.unreadable())?;
        let is_unwritten =
            written.is_none_or(|last| (last + 1).next_multiple_of(BLOCK) < self.end + record);
        if is_unwritten {
            Ok(self.tear())
        } else {
            Err(self.damaged(damage))
        }
    }

    /// The offset of the last byte, from the next record on, that is not zero.
    fn last_written(&mut self) -> io::Result<Option<u64>> {
        let input = self.input.get_mut().get_mut();
        input.seek(SeekFrom::Start(self.end))?;
        let mut block = vec![0; BUFFER];
        let (mut at, mut last) = (self.end, None);
        while at < self.len {
            let most = (self.len - at).min(BUFFER as u64) as usize;
            let read = match input.read(&mut block[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                break;
            }
            if let Some(found) = block[..read].iter().rposition(|&byte| byte != 0) {
                last = Some(at + found as u64);
            }
            at += read as u64;
        }
        Ok(last)
    }

    fn damaged(&self, cause: Damage) -> JournalError {
        JournalError::Damaged {
            path: self.path.clone(),
            record: self.number + 1,
            offset: self.end,
            cause,
        }
    }

    fn unreadable(&self) -> impl Fn(io::Error) -> JournalError + use<R> {
        let path = self.path.clone();
        move |source| JournalError::Io {
            doing: "read",
            path: path.clone(),
            source,
        }
    }
}
