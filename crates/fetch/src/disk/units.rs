//! The file beside a large object: which of its units are there, and whether they are what was written.
//!
//! ```text
//!     0     magic and version   16 bytes    "attachfs units" 0 1
//!     16    object              16          its hash
//!     32    length              u64         of the object
//!     40    unit                u64         131072
//!     48    version             16          hash of the version token that the store gave; zero if it gave none
//!     64    checksum            u64         XXH3-64 of bytes 0 to 63
//!     512   stamp               80          of the data file, once all of it was found right; see Stamp
//!     592   checksum            u64         XXH3-64 of the stamp
//!     4096  a checksum for each unit, u64   XXH3-64 of its bytes, 1 instead of 0; 0: the unit is not there
//! ```
//!
//! All numbers are little-endian. Nothing is synced: a header that was torn means that nothing is there, and so does
//! the checksum of a unit that does not fit its bytes, for that unit.

use std::fs::File;
use std::io;
use std::ops::Range;

use attachfs_durable::{FileStamp, read_exact_at, read_range, write_all_at};
use attachfs_manifest::ContentHash;
use xxhash_rust::xxh3::xxh3_64;

/// The length of a unit in bytes: what a large object is kept and checked in.
pub const UNIT: u64 = 128 << 10;

/// The longest object that is kept: the file about its units is 64 MiB then.
pub(super) const LONGEST: u64 = 1 << 40;

const MAGIC: &[u8; 16] = b"attachfs units\0\x01";
const HEADER: usize = 64;
const STAMP_AT: u64 = 512;
const STAMP: usize = 80;
const SUMS_AT: u64 = 4096;
const SUM: u64 = 8;
/// Checksums that are read at once when all are looked through.
const AT_ONCE: u64 = 8192;

/// Which object the file is about, and which version of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct About {
    pub(super) hash: ContentHash,
    pub(super) len: u64,
    pub(super) version: [u8; 16],
}

impl About {
    pub(super) fn new(hash: ContentHash, len: u64, version: Option<&str>) -> Self {
        Self {
            hash,
            len,
            version: version.map_or([0; 16], |version| {
                *ContentHash::of(version.as_bytes()).as_bytes()
            }),
        }
    }

    pub(super) fn units(&self) -> u64 {
        self.len.div_ceil(UNIT)
    }

    /// Where units lie in the object.
    pub(super) fn range(&self, units: &Range<u64>) -> Range<u64> {
        units.start * UNIT..(units.end * UNIT).min(self.len)
    }

    /// How long the file is.
    pub(super) fn file_len(&self) -> u64 {
        SUMS_AT + self.units() * SUM
    }

    /// What the file begins with.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + 8);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.hash.as_bytes());
        bytes.extend_from_slice(&self.len.to_le_bytes());
        bytes.extend_from_slice(&UNIT.to_le_bytes());
        bytes.extend_from_slice(&self.version);
        sealed(bytes)
    }

    /// What a file is about; `None` if it is none of these, or torn, or about another object.
    pub(super) fn read(file: &File, hash: ContentHash, len: u64) -> io::Result<Option<Self>> {
        let bytes = read_range(file, 0..HEADER as u64 + 8)?;
        let version = bytes.get(48..64).and_then(|bytes| bytes.try_into().ok());
        let about = version.map(|version| Self { hash, len, version });
        Ok(about.filter(|about| bytes == about.encode()))
    }
}

/// What the data file was when all of its bytes had the hash, and in which start of the machine that was: nothing is
/// synced, so after another start the bytes may be others under the same stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) file: FileStamp,
    pub(super) boot: String,
}

impl Stamp {
    fn encode(&self) -> Vec<u8> {
        let FileStamp {
            dev,
            ino,
            size,
            mtime_ns,
            ctime_ns,
        } = self.file;
        let mut bytes = Vec::with_capacity(STAMP + 8);
        for number in [dev, ino, size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [mtime_ns, ctime_ns] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(ContentHash::of(self.boot.as_bytes()).as_bytes());
        bytes.resize(STAMP, 0);
        sealed(bytes)
    }

    pub(super) fn write(&self, file: &File) -> io::Result<()> {
        write_all_at(file, &self.encode(), STAMP_AT)
    }

    /// Whether this is what was written last.
    pub(super) fn is_in(&self, file: &File) -> io::Result<bool> {
        let found = read_range(file, STAMP_AT..STAMP_AT + STAMP as u64 + 8)?;
        Ok(found == self.encode())
    }
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    bytes
}

/// The checksum of a unit's bytes. Never that of a unit that is not there.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes).max(1)
}

/// The checksums of units.
pub(super) fn read_sums(file: &File, units: &Range<u64>) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; ((units.end - units.start) * SUM) as usize];
    read_exact_at(file, &mut bytes, SUMS_AT + units.start * SUM)?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

/// Writes the checksums of units from `first` on.
pub(super) fn write_sums(file: &File, first: u64, sums: &[u64]) -> io::Result<()> {
    let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    write_all_at(file, &bytes, SUMS_AT + first * SUM)
}

/// How many units are not there.
pub(super) fn missing(file: &File, about: &About) -> io::Result<u64> {
    let mut missing = 0;
    let mut at = 0;
    while at < about.units() {
        let next = (at + AT_ONCE).min(about.units());
        let sums = read_sums(file, &(at..next))?;
        missing += sums.iter().filter(|&&sum| sum == 0).count() as u64;
        at = next;
    }
    Ok(missing)
}

/// Whether bytes, which begin with the unit of the first checksum, are what was written.
pub(super) fn all_right(bytes: &[u8], sums: &[u64]) -> bool {
    let units = bytes.chunks(UNIT as usize);
    units.len() == sums.len()
        && units
            .zip(sums)
            .all(|(unit, &expected)| sum(unit) == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About::new(ContentHash::of(b"x"), 3 * UNIT + 5, Some("etag"))
    }

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(about().file_len()).unwrap();
        write_all_at(&file, &about().encode(), 0).unwrap();
        file
    }

    #[test]
    fn a_header_is_believed_only_if_it_is_whole_and_about_this_object() {
        let file = file();
        let About { hash, len, .. } = about();
        assert_eq!(About::read(&file, hash, len).unwrap(), Some(about()));
        assert_eq!(About::read(&file, hash, len + 1).unwrap(), None);
        let other = ContentHash::of(b"y");
        assert_eq!(About::read(&file, other, len).unwrap(), None);
        let header = about().encode();
        for at in 0..header.len() {
            let mut torn = header.clone();
            torn[at] ^= 1;
            write_all_at(&file, &torn, 0).unwrap();
            assert_eq!(About::read(&file, hash, len).unwrap(), None, "byte {at}");
        }
        file.set_len(10).unwrap();
        assert_eq!(About::read(&file, hash, len).unwrap(), None);
    }

    #[test]
    fn units_are_missing_until_their_checksums_are_there() {
        let file = file();
        assert_eq!(about().units(), 4);
        assert_eq!(missing(&file, &about()).unwrap(), 4);
        write_sums(&file, 1, &[7, 8]).unwrap();
        assert_eq!(missing(&file, &about()).unwrap(), 2);
        assert_eq!(read_sums(&file, &(0..4)).unwrap(), [0, 7, 8, 0]);
        file.set_len(SUMS_AT).unwrap();
        missing(&file, &about()).unwrap_err();
    }

    #[test]
    fn a_stamp_counts_for_one_file_and_one_start_of_the_machine() {
        let file = file();
        let stamp = Stamp {
            file: FileStamp::of(&file).unwrap(),
            boot: "one".to_owned(),
        };
        assert!(!stamp.is_in(&file).unwrap());
        stamp.write(&file).unwrap();
        assert!(stamp.is_in(&file).unwrap());
        let boot = "two".to_owned();
        assert!(
            !Stamp {
                boot,
                ..stamp.clone()
            }
            .is_in(&file)
            .unwrap()
        );
        let mut changed = stamp;
        changed.file.ctime_ns += 1;
        assert!(!changed.is_in(&file).unwrap());
    }

    #[test]
    fn no_unit_has_the_checksum_of_one_that_is_missing() {
        assert_eq!(sum(b"x"), xxh3_64(b"x"));
        assert!(all_right(
            &vec![0; UNIT as usize + 1],
            &[sum(&vec![0; UNIT as usize]), sum(&[0])]
        ));
        assert!(!all_right(b"x", &[0]));
        assert!(!all_right(b"", &[5]));
    }
}
