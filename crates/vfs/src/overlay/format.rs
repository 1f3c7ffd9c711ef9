//! The journal's bytes.
//!
//! ```text
//!     "attachfs journal 2\n"
//!     | length, u32 | number, u64 | sum, u64 | sum, u64   | payload, postcard | 0xE5 | ...     little-endian
//!                     0, 1, 2 ...   of the     of the 20
//!                                   payload    bytes before
//! ```
//!
//! The sums are XXH3-64; that of the payload is seeded with the number. What follows the last sound
//! record is one of two things, and they are told apart without a guess:
//!
//! *Torn* is what a process or a power supply that failed can leave of an append that did not return,
//! or was never synced: the bytes end before the record does, or they are zero from the record's
//! beginning or from a block boundary in it up to the end of the file. The second is what a file
//! system shows whose file has grown before the blocks were written: they come to the disk whole. The last byte of a
//! record is not zero, so no record that was ever whole looks like that. Its header has a sum of its
//! own, so that one wrong bit in a length does not make a record look as if it did not fit.
//!
//! *Damaged* is everything else. Nothing is dropped then.

use std::path::Path;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{JournalError, Record};

pub(super) const MAGIC: &[u8] = b"attachfs journal 2\n";
/// Length, number and the payload's sum.
const SUMMED: usize = 20;
const HEADER: usize = SUMMED + 8;
/// The last byte of each record.
const END: u8 = 0xE5;
/// Longer than any record can be that we write: a commit's list of clean files is the longest.
const LONGEST_RECORD: usize = 1 << 30;
/// The smallest block of a file system or disk: what was not written is zero from a multiple of it on.
const BLOCK: u64 = 512;

/// What is behind the last sound record, and is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Where it starts.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
}

/// What a journal says.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) records: Vec<Record>,
    /// Where the next record goes.
    pub(super) end: u64,
    pub(super) torn: Option<Torn>,
}

/// Puts a record into `buffer`, replacing what is there.
pub(super) fn encode(
    record: &Record,
    number: u64,
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
    let sum = xxh3_64(&header[..SUMMED]);
    header[SUMMED..].copy_from_slice(&sum.to_le_bytes());
    buffer.push(END);
    Ok(())
}

/// Reads a whole journal.
pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Contents, JournalError> {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        // A journal appears complete with its first line, so a shorter one lost its end.
        return Err(if MAGIC.starts_with(bytes) {
            JournalError::CutOff {
                path: path.to_owned(),
                len: bytes.len(),
            }
        } else {
            JournalError::NotAJournal(path.to_owned())
        });
    };
    let mut contents = Contents {
        records: Vec::new(),
        end: MAGIC.len() as u64,
        torn: None,
    };
    while !rest.is_empty() {
        let number = contents.records.len() as u64;
        let damaged = |cause| JournalError::Damaged {
            path: path.to_owned(),
            record: number + 1,
            offset: contents.end,
            cause,
        };
        match next(rest, contents.end, number) {
            Next::Payload(payload, after) => {
                let record = postcard::from_bytes(payload)
                    .map_err(|error| damaged(Damage::Payload(error)))?;
                contents.records.push(record);
                contents.end += (rest.len() - after.len()) as u64;
                rest = after;
            }
            Next::Torn => {
                contents.torn = Some(Torn {
                    offset: contents.end,
                    len: rest.len() as u64,
                });
                break;
            }
            Next::Damaged(cause) => return Err(damaged(cause)),
        }
    }
    Ok(contents)
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Its header does not have the sum that it says.
    #[error("its header has a wrong checksum")]
    HeaderSum,
    /// It is sound, and belongs elsewhere.
    #[error("it has the number {0}")]
    Number(u64),
    /// No record is that long.
    #[error("it says that it has {0} bytes")]
    Length(usize),
    /// Its payload does not have the sum that the header says.
    #[error("its content has a wrong checksum")]
    Sum,
    /// Its payload is sound, and no record.
    #[error("its content cannot be understood")]
    Payload(#[source] postcard::Error),
}

enum Next<'a> {
    /// A sound record's payload, and what follows the record.
    Payload(&'a [u8], &'a [u8]),
    Torn,
    Damaged(Damage),
}

/// What `bytes`, which are at `offset` and not empty, begin with: the record of this number?
fn next(bytes: &[u8], offset: u64, number: u64) -> Next<'_> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
        return Next::Torn;
    };
    let u64_at = |at: usize| {
        let bytes = header[at..at + 8].try_into();
        u64::from_le_bytes(bytes.expect("eight bytes"))
    };
    if xxh3_64(&header[..SUMMED]) != u64_at(SUMMED) {
        return if is_unwritten_within(bytes, offset, HEADER) {
            Next::Torn
        } else {
            Next::Damaged(Damage::HeaderSum)
        };
    }
    if u64_at(4) != number {
        return Next::Damaged(Damage::Number(u64_at(4)));
    }
    let len = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
    if len == 0 || len > LONGEST_RECORD {
        return Next::Damaged(Damage::Length(len));
    }
    let Some((payload, after)) = rest.split_at_checked(len) else {
        return Next::Torn;
    };
    let Some((&end, after)) = after.split_first() else {
        return Next::Torn;
    };
    if end == END && xxh3_64_with_seed(payload, number) == u64_at(12) {
        Next::Payload(payload, after)
    } else if is_unwritten_within(bytes, offset, HEADER + len + 1) {
        Next::Torn
    } else {
        Next::Damaged(Damage::Sum)
    }
}

/// Whether all of `bytes` from their beginning, or from a block boundary in the first `len` of them, is
/// zero.
fn is_unwritten_within(bytes: &[u8], offset: u64, len: usize) -> bool {
    let written = bytes.iter().rposition(|&byte| byte != 0);
    match written {
        None => true,
        Some(last) => {
            let zero_from = offset + last as u64 + 1;
            zero_from.next_multiple_of(BLOCK) < offset + len as u64
        }
    }
}
