//! Files with holes: ranges that read as zeros and take no room on the disk.
//!
//! A renderer's cache or a disk image may be a terabyte long and hold a few megabytes. To read such
//! a file, ask where its data is; to write one, leave out the zeros.

use std::fs::File;
use std::io;
use std::ops::Range;

use crate::{platform, write_all_at};

/// A run of zeros that is shorter is written: a hole costs a call and cuts the file in pieces on the disk.
const SHORTEST_HOLE: u64 = 1 << 20;
/// The unit that is searched for zeros: a multiple of the block sizes of file systems.
const GRAIN: u64 = 64 << 10;

/// The first run of data in `range` of a file; an empty one, at its end, if all of the range is a hole. A
/// file system without holes reports everything as data. The range after the end of the file is reported
/// as data too: reading it shows that there is nothing.
pub fn data_in(file: &File, range: Range<u64>) -> io::Result<Range<u64>> {
    if range.is_empty() {
        return Ok(range);
    }
    platform::data_in(file, range)
}

/// What is done to the room of a range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Room is reserved, and the bytes stay. A file that ends before the range does gets longer, unless its length is kept.
    Room {
        /// Whether the file keeps its length.
        keeps_len: bool,
    },
    /// The range reads as zeros, and its room is given back. The file keeps its length.
    Hole,
    /// The range reads as zeros, and keeps room where the file system can. Its length is as for `Room`.
    Zeros {
        /// Whether the file keeps its length.
        keeps_len: bool,
    },
}

/// Reserves room for a range of a file that is not empty, or makes it zero. [`Unsupported`](io::ErrorKind::Unsupported) if
/// the file system cannot.
pub fn allocate(file: &File, how: Allocation, range: Range<u64>) -> io::Result<()> {
    match platform::allocate(file, how, range.clone()) {
        // tmpfs, for one, makes holes and no zeros.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => match how {
            Allocation::Zeros { keeps_len } => {
                platform::allocate(file, Allocation::Hole, range.clone())?;
                platform::allocate(file, Allocation::Room { keeps_len }, range)
            }
            Allocation::Room { .. } | Allocation::Hole => Err(error),
        },
        done => done,
    }
}

/// Writes bytes at `offset` of a file. Where a megabyte or more of them is zero, the file has a hole
/// afterwards, if the file system supports that; room that was reserved there is given back.
pub fn write_with_holes(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    for zeros in zero_runs(bytes, offset) {
        let at = |index: usize| offset + index as u64;
        if platform::punch_hole(file, at(zeros.start)..at(zeros.end)).is_ok() {
            write_all_at(file, &bytes[written..zeros.start], at(written))?;
            written = zeros.end;
        }
    }
    let end = offset + bytes.len() as u64;
    if written == bytes.len() && written > 0 && file.metadata()?.len() < end {
        // The length is not used, because other threads may be writing after this range.
        written -= 1;
    }
    write_all_at(file, &bytes[written..], offset + written as u64)
}

/// The runs of zeros that become holes.
fn zero_runs(bytes: &[u8], offset: u64) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    if (bytes.len() as u64) < SHORTEST_HOLE {
        return runs;
    }
    let mut start = (offset.next_multiple_of(GRAIN) - offset) as usize;
    while let Some(grain) = bytes.get(start..start + GRAIN as usize) {
        let end = start + grain.len();
        if is_zero(grain) {
            match runs.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => runs.push(start..end),
            }
        }
        start = end;
    }
    runs.retain(|run| (run.end - run.start) as u64 >= SHORTEST_HOLE);
    runs
}

fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; GRAIN as usize] = [0; GRAIN as usize];
    // Most blocks that are not zero differ in their first bytes, where the comparison ends.
    bytes == &ZEROS[..bytes.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Facts, read_range};

    const MIB: usize = 1 << 20;

    fn allocated(file: &File) -> u64 {
        Facts::of(file).unwrap().allocated
    }

    #[test]
    #[cfg_attr(windows, ignore = "NTFS has holes, the file systems of Wine do not")]
    fn runs_of_data_are_found_between_holes() {
        let file = tempfile::tempfile().unwrap();
        let size = 64 * MIB as u64;
        file.set_len(size).unwrap();
        assert_eq!(data_in(&file, 0..size).unwrap(), size..size);
        write_all_at(&file, b"x", 32 * MIB as u64).unwrap();
        let data = data_in(&file, 0..size).unwrap();
        assert!(data.contains(&(32 * MIB as u64)), "{data:?}");
        assert!(data.end - data.start <= MIB as u64, "{data:?}");
        assert_eq!(data_in(&file, data.end..size).unwrap(), size..size);
        assert_eq!(
            data_in(&file, 0..data.start).unwrap(),
            data.start..data.start
        );
    }

    #[test]
    #[cfg_attr(windows, ignore = "NTFS has holes, the file systems of Wine do not")]
    fn what_lies_behind_the_end_counts_as_data() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(MIB as u64).unwrap();
        let more = 3 * MIB as u64;
        assert_eq!(data_in(&file, 0..more).unwrap(), MIB as u64..more);
        assert_eq!(data_in(&file, more..more).unwrap(), more..more);
    }

    #[cfg(unix)]
    #[test]
    fn a_special_file_is_all_data() {
        let file = File::open("/proc/self/maps").unwrap();
        assert_eq!(data_in(&file, 0..64).unwrap(), 0..64);
    }

    #[test]
    #[cfg_attr(windows, ignore = "NTFS has holes, the file systems of Wine do not")]
    fn long_runs_of_zeros_take_no_room_and_everything_reads_as_it_was_written() {
        let mut bytes = vec![0; 16 * MIB];
        bytes[..10].fill(1);
        bytes[9 * MIB + 5] = 2;
        let file = tempfile::tempfile().unwrap();
        // The earlier content and the reserved room are gone.
        write_all_at(&file, &vec![7; 20 * MIB], 0).unwrap();
        write_with_holes(&file, &bytes, 3).unwrap();
        file.sync_all().unwrap();
        assert_eq!(read_range(&file, 3..3 + 16 * MIB as u64).unwrap(), bytes);
        assert_eq!(read_range(&file, 0..3).unwrap(), &[7; 3][..]);
        let rest = 4 * MIB as u64;
        assert!(
            allocated(&file) < rest + 4 * MIB as u64,
            "{}",
            allocated(&file)
        );
    }

    #[test]
    #[cfg_attr(windows, ignore = "NTFS has holes, the file systems of Wine do not")]
    fn an_empty_file_becomes_as_long_as_what_is_written() {
        let file = tempfile::tempfile().unwrap();
        write_with_holes(&file, &vec![0; 5 * MIB], 0).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5 * MIB as u64);
        file.sync_all().unwrap();
        assert!(allocated(&file) < MIB as u64);
    }

    #[test]
    fn short_runs_of_zeros_are_written() {
        let mut bytes = vec![1; 4 * MIB];
        bytes[MIB..2 * MIB - 1].fill(0);
        assert_eq!(zero_runs(&bytes, 0), []);
        bytes[MIB..2 * MIB].fill(0);
        assert_eq!(zero_runs(&bytes, 0), vec![MIB..2 * MIB]);
    }
}
