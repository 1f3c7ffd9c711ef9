//! The blocks of files on Windows: holes, reserved room, blocks that two files share.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::windows::io::AsRawHandle as _;

use windows_sys::Win32::Foundation as codes;
use windows_sys::Win32::System::Ioctl::{
    DUPLICATE_EXTENTS_DATA, FILE_ALLOCATED_RANGE_BUFFER, FILE_ZERO_DATA_INFORMATION,
    FSCTL_DUPLICATE_EXTENTS_TO_FILE, FSCTL_QUERY_ALLOCATED_RANGES, FSCTL_SET_SPARSE,
    FSCTL_SET_ZERO_DATA,
};

use super::calls;
use crate::Allocation;

pub(crate) fn reserve(file: &File, len: u64) -> io::Result<()> {
    match calls::allocate(file, len.max(file.metadata()?.len())) {
        Err(error) if !is_unsupported(&error) => return Err(error),
        _ => {}
    }
    file.set_len(len)
}

pub(crate) fn reserve_beyond(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let end = offset.saturating_add(len);
    match calls::allocate(file, end.max(file.metadata()?.len())) {
        Err(error) if is_unsupported(&error) => Ok(()),
        allocated => allocated,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(i32::cast_unsigned),
        Some(
            codes::ERROR_NOT_SUPPORTED
                | codes::ERROR_INVALID_FUNCTION
                | codes::ERROR_CALL_NOT_IMPLEMENTED
                | codes::ERROR_INVALID_PARAMETER
        )
    )
}

/// Windows copies whole files only.
pub(crate) fn copy_in_kernel(_source: &File, _range: Range<u64>, _target: &File, _at: u64) -> u64 {
    0
}

/// The first run of data in a range that is not empty; an empty one at its end if all of it is a hole. What
/// lies behind the end of the file counts as data: reading it tells that there is nothing.
pub(crate) fn data_in(file: &File, range: Range<u64>) -> io::Result<Range<u64>> {
    let asked = FILE_ALLOCATED_RANGE_BUFFER {
        FileOffset: range.start.cast_signed(),
        Length: (range.end - range.start).cast_signed(),
    };
    let room = size_of::<FILE_ALLOCATED_RANGE_BUFFER>();
    let Ok(answer) = calls::control(file, FSCTL_QUERY_ALLOCATED_RANGES, Some(&asked), room) else {
        // The file system does not tell holes.
        return Ok(range);
    };
    let (Some(offset), Some(len)) = (answer.get(..8), answer.get(8..16)) else {
        let len = file.metadata()?.len();
        return Ok(len.clamp(range.start, range.end)..range.end);
    };
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rfold(0, |all, &byte| all << 8 | u64::from(byte))
    };
    let start = number(offset).clamp(range.start, range.end);
    let end = number(offset).saturating_add(number(len));
    Ok(start..end.clamp(start, range.end))
}

/// Gives back the blocks of a range, which reads as zeros from then on. The file keeps its length.
pub(crate) fn punch_hole(file: &File, range: Range<u64>) -> io::Result<()> {
    calls::control::<u32>(file, FSCTL_SET_SPARSE, None, 0)?;
    let zeros = FILE_ZERO_DATA_INFORMATION {
        FileOffset: range.start.cast_signed(),
        BeyondFinalZero: range.end.cast_signed(),
    };
    calls::control(file, FSCTL_SET_ZERO_DATA, Some(&zeros), 0).map(drop)
}

/// Reserves room for a range, or makes it zero. Zeros are a hole: no room is kept for them.
pub(crate) fn allocate(file: &File, how: Allocation, range: Range<u64>) -> io::Result<()> {
    let keeps_len = match how {
        Allocation::Room { keeps_len } => {
            reserve_beyond(file, range.start, range.end - range.start)?;
            keeps_len
        }
        Allocation::Zeros { keeps_len } => {
            punch_hole(file, range.clone())?;
            keeps_len
        }
        Allocation::Hole => return punch_hole(file, range),
    };
    if !keeps_len && file.metadata()?.len() < range.end {
        file.set_len(range.end)?;
    }
    Ok(())
}

/// Makes a file longer, by a hole where the file system can.
pub(crate) fn lengthen(file: &File, len: u64) -> io::Result<()> {
    // One that cannot be made sparse gets zeros.
    let _ = calls::control::<u32>(file, FSCTL_SET_SPARSE, None, 0);
    file.set_len(len)
}

/// On ReFS, whose blocks can be shared by files of one volume.
pub(crate) fn reflink(source: &File, range: Range<u64>, target: &File, offset: u64) -> bool {
    let len = range.end - range.start;
    let argument = DUPLICATE_EXTENTS_DATA {
        FileHandle: source.as_raw_handle(),
        SourceFileOffset: range.start.cast_signed(),
        TargetFileOffset: offset.cast_signed(),
        ByteCount: len.cast_signed(),
    };
    let share = || -> io::Result<()> {
        let (before, end) = (target.metadata()?.len(), offset + len);
        if before < end {
            // Blocks are not put behind the end of a file.
            target.set_len(end)?;
        }
        let shared = calls::control(target, FSCTL_DUPLICATE_EXTENTS_TO_FILE, Some(&argument), 0);
        if shared.is_err() && before < end {
            target.set_len(before)?;
        }
        shared.map(drop)
    };
    share().is_ok()
}
