//! Tells whether a file has changed.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::Facts;

/// A file's identity, size and times at one moment.
///
/// Equal stamps mean that the file was not written to in between, as far as the file system's clock
/// can tell: a write within the same tick as an earlier one (a few milliseconds at most) may keep
/// the times. Anything that changes the inode changes the stamp too (mode, links), so a stamp may
/// report a change that is none, and never the reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    /// The device the file is on.
    pub dev: u64,
    /// The file's number on it.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Last change of content or inode, nanoseconds since 1970. No program can set it.
    pub ctime_ns: i128,
}

impl FileStamp {
    /// The stamp of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(Facts::of(file)?.stamp)
    }

    /// The stamp of the entry at a path. A link there is not followed.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Facts::at(path)?.stamp)
    }

    /// Last change of the content: seconds since 1970, and nanoseconds beyond them.
    pub fn modified(&self) -> (i64, u32) {
        seconds_and_nanoseconds(self.mtime_ns)
    }

    /// Last change of content or inode: seconds since 1970, and nanoseconds beyond them.
    pub fn changed(&self) -> (i64, u32) {
        seconds_and_nanoseconds(self.ctime_ns)
    }

    /// Whether both are stamps of one file, whatever its names and its changes in between.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

fn seconds_and_nanoseconds(nanoseconds: i128) -> (i64, u32) {
    const SECOND: i128 = 1_000_000_000;
    let seconds = nanoseconds.div_euclid(SECOND);
    let seconds = seconds.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    (seconds, nanoseconds.rem_euclid(SECOND) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_have_nanoseconds_that_count_forward() {
        assert_eq!(seconds_and_nanoseconds(1_500_000_000), (1, 500_000_000));
        assert_eq!(seconds_and_nanoseconds(-1), (-1, 999_999_999));
        assert_eq!(seconds_and_nanoseconds(i128::MAX).0, i64::MAX);
    }
}
