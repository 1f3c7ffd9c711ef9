//! How much is on each shelf of the cache, so that nobody has to look at all objects to know how full it is.
//!
//! ```text
//!     v1/sums: 256 times   bytes u64 | objects u64 | checksum u64     little-endian
//! ```
//!
//! The numbers may be wrong or missing without harm. Who writes objects adds to them now and then, so a process that
//! is killed leaves them a little too low; whoever lists a shelf writes down what it found, so they do not stay
//! wrong. A record whose checksum is not right (a torn write, another version) means that the shelf is to be
//! listed. They are changed under the lock of who makes room.

use std::fs::File;
use std::io;

use super::Stock;
use crate::error::At as _;
use crate::{DurableError, read_range, write_all_at};

/// The number of shelves.
pub const SHELVES: usize = 256;

const NAME: &str = "sums";
const RECORD: usize = 24;

/// What is on a shelf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Objects.
    pub objects: u64,
}

/// What is on each shelf; nothing where it is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums(Vec<Option<Sum>>);

impl Sums {
    /// None known.
    pub fn unknown() -> Self {
        Self(vec![None; SHELVES])
    }

    /// What is on a shelf, if that is known.
    pub fn of(&self, shelf: u8) -> Option<Sum> {
        self.0[usize::from(shelf)]
    }

    /// Notes what was found on a shelf.
    pub fn set(&mut self, shelf: u8, sum: Sum) {
        self.0[usize::from(shelf)] = Some(sum);
    }

    /// Counts what came to a shelf. Where it is not known what was there, it still is not.
    pub fn add(&mut self, shelf: u8, more: Sum) {
        if let Some(sum) = &mut self.0[usize::from(shelf)] {
            sum.bytes = sum.bytes.saturating_add(more.bytes);
            sum.objects = sum.objects.saturating_add(more.objects);
        }
    }

    /// All shelves together, as far as they are known.
    pub fn total(&self) -> Sum {
        self.0
            .iter()
            .flatten()
            .fold(Sum::default(), |all, sum| Sum {
                bytes: all.bytes.saturating_add(sum.bytes),
                objects: all.objects.saturating_add(sum.objects),
            })
    }

    /// The shelves of which nothing is known.
    pub fn missing(&self) -> impl Iterator<Item = u8> + '_ {
        let numbered = (0..=u8::MAX).zip(&self.0);
        numbered.filter_map(|(shelf, sum)| sum.is_none().then_some(shelf))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SHELVES * RECORD);
        for (shelf, sum) in (0..).zip(&self.0) {
            let Sum { bytes: b, objects } = sum.unwrap_or_default();
            bytes.extend_from_slice(&b.to_le_bytes());
            bytes.extend_from_slice(&objects.to_le_bytes());
            let check = check(shelf, b, objects) ^ u64::from(sum.is_none());
            bytes.extend_from_slice(&check.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut all = Self::unknown();
        for (shelf, record) in (0..).zip(bytes.chunks_exact(RECORD).take(SHELVES)) {
            let (words, _) = record.as_chunks::<8>();
            let [b, objects, found] = [0, 1, 2].map(|at| u64::from_le_bytes(words[at]));
            if check(shelf, b, objects) == found {
                all.0[shelf as usize] = Some(Sum { bytes: b, objects });
            }
        }
        all
    }
}

/// Tells a record that was written whole from one that was not, or by something else. It need not withstand more:
/// a wrong number costs a shelf too many or too few, until it is listed.
fn check(shelf: u64, bytes: u64, objects: u64) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    [shelf ^ 0x6174_7461_6368_6673, bytes, objects]
        .into_iter()
        .fold(0, |state: u64, word| {
            (state ^ word).wrapping_mul(MULTIPLIER).rotate_left(29)
        })
}

impl Stock {
    /// How much is on each shelf, as far as it is written down.
    pub fn sums(&self) -> Result<Sums, DurableError> {
        let file = match self.dir().open_file(NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sums::unknown()),
            file => file?,
        };
        let read = read_range(&file, 0..(SHELVES * RECORD) as u64);
        Ok(Sums::decode(&read.at("read", &self.path().join(NAME))?))
    }

    /// Writes it down. The caller has the lock of who makes room.
    pub fn set_sums(&self, sums: &Sums) -> Result<(), DurableError> {
        let written = write_all_at(&self.sums_file()?, &sums.encode(), 0);
        written.at("write", &self.path().join(NAME))
    }

    fn sums_file(&self) -> Result<File, DurableError> {
        match self.dir().create_file(NAME) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.dir().open_file_to_write(NAME)
            }
            created => created,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CacheDir;

    fn some() -> Sums {
        let mut sums = Sums::unknown();
        for shelf in [0, 7, 255] {
            sums.set(
                shelf,
                Sum {
                    bytes: u64::from(shelf) * 1000,
                    objects: 3,
                },
            );
        }
        sums
    }

    #[test]
    fn sums_are_read_as_they_were_written() {
        let temp = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        cache.objects([1; 16]).unwrap();
        let stock = cache.stock().unwrap().unwrap();
        assert_eq!(stock.sums().unwrap(), Sums::unknown());
        stock.set_sums(&some()).unwrap();
        assert_eq!(stock.sums().unwrap(), some());
        assert_eq!(some().total().bytes, 262_000);
        assert_eq!(some().missing().count(), SHELVES - 3);
    }

    #[test]
    fn a_record_that_is_torn_altered_or_missing_is_not_known() {
        let good = some().encode();
        assert_eq!(Sums::decode(&[]), Sums::unknown());
        assert_eq!(Sums::decode(&vec![0; good.len()]), Sums::unknown());
        for at in 7 * RECORD..8 * RECORD {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let sums = Sums::decode(&bad);
            assert_eq!((sums.of(7), sums.of(255)), (None, some().of(255)));
        }
        assert_eq!(Sums::decode(&good[..8 * RECORD - 1]).of(7), None);
    }
}
