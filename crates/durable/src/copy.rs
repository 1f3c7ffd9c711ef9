//! Bytes from one file into another, sharing their blocks on disk where the file system can.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use crate::error::At as _;
use crate::{DurableError, Staged, buffer, data_in, platform};

/// How bytes were put into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// Both files share the blocks until one of them is written to; no room was taken.
    Reflinked,
    /// The bytes were copied.
    Copied,
}

/// Puts `range` of `source` at the start of `target`, as a reflink where that works.
///
/// Fails with [`io::ErrorKind::UnexpectedEof`] if `source` ends within the range. After an error
/// the target may hold part of it.
pub fn clone_or_copy(source: &File, range: Range<u64>, target: &File) -> io::Result<Copied> {
    if reflink(source, range.clone(), target, 0) {
        return Ok(Copied::Reflinked);
    }
    copy_range(source, range, target, 0)?;
    Ok(Copied::Copied)
}

/// Puts `range` of `source` at `offset` of `target` by sharing its blocks. `false` if it cannot
/// be done: the file system has no reflinks or these are two, or range and offset are neither aligned to
/// its blocks nor ends the range where the source ends, or something is wrong, which a copy will find out.
pub fn reflink(source: &File, range: Range<u64>, target: &File, offset: u64) -> bool {
    // To the kernel an empty range means "to the end".
    !range.is_empty() && platform::reflink(source, range, target, offset)
}

/// Copies `range` of `source` to `offset` of `target`, within the kernel where it can. A hole at the
/// current end of `target` stays a hole. The caller is the only writer of `target`. Fails as
/// [`clone_or_copy`] does.
pub fn copy_range(source: &File, range: Range<u64>, target: &File, offset: u64) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let data = data_in(source, at..range.end)?;
        let to = offset + (data.start - range.start);
        if data.start > at {
            let from = offset + (at - range.start);
            if target.metadata()?.len() <= from {
                platform::lengthen(target, to)?;
            } else {
                copy_data(source, at..data.start, target, from)?;
            }
        }
        copy_data(source, data.clone(), target, to)?;
        at = data.end;
    }
    Ok(())
}

/// [`copy_range`], holes as zeros.
fn copy_data(source: &File, range: Range<u64>, target: &File, offset: u64) -> io::Result<()> {
    const BLOCK: u64 = 256 << 10;
    let mut at = range.start + platform::copy_in_kernel(source, range.clone(), target, offset);
    while at < range.end {
        let bytes = read_range(source, at..range.end.min(at + BLOCK))?;
        if bytes.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the source ends at byte {at}, before byte {}", range.end),
            ));
        }
        write_all_at(target, &bytes, offset + (at - range.start))?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Reads `range` of a file, whatever its position is. Shorter than the range only where the
/// file ends. The caller bounds the range: this much memory is taken.
pub fn read_range(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(too_much)?;
    let (mut memory, start) = buffer::reserve(len).map_err(too_much)?;
    platform::read_at(file, &mut memory, len, range.start)?;
    Ok(buffer::appended((memory, start)))
}

fn too_much(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, error)
}

/// Reads from `offset` on until `bytes` are full or the file ends, and says how many bytes that were. On Windows
/// that moves the file's own position.
pub fn fill_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    platform::fill_at(file, bytes, offset)
}

/// Fills `bytes` from `offset` on; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
pub fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    if fill_at(file, bytes, offset)? < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Writes all bytes at `offset` of a file. On Windows that moves the file's own position.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match write_at(file, &bytes[written..], offset + written as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            more => written += more,
        }
    }
    Ok(())
}

/// Writes at `offset` of a file as many of the bytes as fit, and says how many that were. On Windows that moves the
/// file's own position.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    loop {
        match platform::write_at(file, bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

/// Whether files in `dir` can share the blocks of `source`.
pub fn can_reflink(source: &File, dir: &Path) -> Result<bool, DurableError> {
    let probe = Staged::create_in(dir)?;
    let len = source.metadata().at("look at the source for", dir)?.len();
    Ok(reflink(source, 0..len, probe.file(), 0))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;
    use crate::Facts;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn all_of(file: &File) -> Bytes {
        read_range(file, 0..1 << 24).unwrap()
    }

    #[test]
    fn a_range_is_copied_exactly() {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|i| (i / 7) as u8).collect();
        let source = file_of(&bytes);
        let target = file_of(b"");
        clone_or_copy(&source, 4096..700_001, &target).unwrap();
        assert_eq!(all_of(&target), &bytes[4096..700_001]);
    }

    #[test]
    fn an_empty_range_copies_nothing() {
        let source = file_of(b"bytes");
        let target = file_of(b"");
        assert_eq!(
            clone_or_copy(&source, 0..0, &target).unwrap(),
            Copied::Copied
        );
        assert!(all_of(&target).is_empty());
    }

    #[test]
    fn a_range_past_the_end_of_the_source_is_an_error() {
        let source = file_of(b"bytes");
        let target = file_of(b"");
        let error = clone_or_copy(&source, 0..6, &target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_copy_can_go_behind_what_is_there() {
        let source = file_of(b"0123456789");
        let target = file_of(b"abc");
        copy_range(&source, 2..5, &target, 3).unwrap();
        assert_eq!(all_of(&target), "abc234");
    }

    #[test]
    #[cfg_attr(windows, ignore = "NTFS has holes, the file systems of Wine do not")]
    fn holes_stay_holes_in_a_copy() {
        let source = file_of(b"begin");
        write_all_at(&source, b"end", 100 << 20).unwrap();
        source.set_len(200 << 20).unwrap();
        let target = file_of(b"abc");
        copy_range(&source, 0..150 << 20, &target, 3).unwrap();
        assert_eq!(target.metadata().unwrap().len(), 3 + (150 << 20));
        assert_eq!(read_range(&target, 0..8).unwrap(), "abcbegin");
        let end = (100 << 20) + 3;
        assert_eq!(read_range(&target, end..end + 5).unwrap(), "end\0\0");
        target.sync_all().unwrap();
        assert!(Facts::of(&target).unwrap().allocated < 1 << 20);
        // Over something that is there, zeros are zeros.
        let over = file_of(b"0123456789");
        copy_range(&source, 10..15, &over, 2).unwrap();
        assert_eq!(all_of(&over), "01\0\0\0\0\x00789");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_the_kernel_will_not_copy_is_read() {
        // Files in /proc say that they are empty, and copy_file_range believes them.
        let source = File::open("/proc/self/maps").unwrap();
        let target = file_of(b"");
        copy_range(&source, 0..64, &target, 0).unwrap();
        assert_eq!(all_of(&target).len(), 64);
    }

    #[test]
    fn the_probe_for_reflinks_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let source = file_of(&[1; 8192]);
        can_reflink(&source, dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn reading_a_range_past_the_end_gives_what_there_is() {
        let file = file_of(b"bytes");
        assert_eq!(read_range(&file, 3..100).unwrap(), "es");
        assert!(read_range(&file, 5..100).unwrap().is_empty());
        assert!(read_range(&file, 500..501).unwrap().is_empty());
    }
}
