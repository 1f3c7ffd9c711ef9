//! Room that is reserved for a file, and ranges that become zeros: fallocate(2), in terms of no platform.
//!
//! ```text
//!     all scratch   the scratch file is asked for the same
//!     mapped        the scratch file is asked for the same, within the file as it is or is to be; then the record of a write: the
//!                   range is scratch from now on, and reads as zeros
//! ```
//!
//! Nothing of the base is fetched for it. Bytes, records and a power loss are in the same order as for a write (`write.rs`).

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;

use attachfs_durable::steps::{Step, perform};
use attachfs_durable::{Allocation, allocate, write_all_at};
use attachfs_tree::{FileContent, Ino, Mutation};

use crate::handles::Handles;
use crate::overlay::Record;
use crate::vfs::{Overlay, journal_failed, now};
use crate::{FsError, FsErrorKind, HandleId, Vfs};

impl Vfs {
    /// Reserves room for a range of an open file, or makes the range zero. When it returns, that outlives this process.
    pub fn allocate(
        &self,
        handle: HandleId,
        how: Allocation,
        range: Range<u64>,
    ) -> Result<(), FsError> {
        let change = self.begin_change()?;
        let overlay = change.overlay;
        let open = self.handles.file(handle)?;
        if !open.access.write {
            return Err(FsErrorKind::BadHandle.into());
        }
        if range.is_empty() {
            return Err(FsErrorKind::Invalid.into());
        }
        if i64::try_from(range.end).is_err() {
            return Err(FsErrorKind::TooLarge.into());
        }
        overlay.reaper.reap_if_tight();
        let ino = open.ino();
        let scratch = self.open_scratch_of(&open)?;
        let opened = || overlay.append(&Record::Opened(ino)).map_err(journal_failed);
        Handles::begin_writing(&open, opened)?;
        if self.mapped_size(ino).is_none() {
            return fit_scratch(overlay, ino, &scratch, how, range);
        }
        // As for a write: no other thread cuts the scratch file until the range is recorded.
        let no_sync = overlay.disk.hold_sync();
        let size = self.mapped_size(ino).unwrap_or_default();
        let within = range.start.min(size)..range.end.min(size);
        let zeros = match how {
            Allocation::Room { keeps_len: false } => range.end..range.end,
            Allocation::Room { keeps_len: true } => within.end..within.end,
            Allocation::Hole | Allocation::Zeros { keeps_len: true } => within,
            Allocation::Zeros { keeps_len: false } => range.clone(),
        };
        // Of the room behind the end of the file the scratch file has no length: the record gives the file its length.
        let room = match how {
            Allocation::Room { .. } => Allocation::Room { keeps_len: true },
            Allocation::Hole => how,
            Allocation::Zeros { .. } => Allocation::Zeros { keeps_len: true },
        };
        if !zeros.is_empty() {
            reach(overlay, ino, &scratch, zeros.end)?;
        }
        fit_scratch(overlay, ino, &scratch, room, range)?;
        overlay.disk.bytes_first(&no_sync, ino);
        // Without a byte, a write makes the file as long as it has to be. Its times change in any case, as on ext4.
        self.turn(overlay).mutate(Mutation::Write {
            ino,
            offset: zeros.start,
            len: zeros.end - zeros.start,
            time: now(),
        })
    }

    /// The length of a file that is partly the base's; `None` if it is not.
    fn mapped_size(&self, ino: Ino) -> Option<u64> {
        match self.namespace.read().content(ino) {
            Some(FileContent::Mapped(mapping)) => Some(mapping.size),
            _ => None,
        }
    }
}

fn fit_scratch(
    overlay: &Overlay,
    ino: Ino,
    scratch: &File,
    how: Allocation,
    range: Range<u64>,
) -> Result<(), FsError> {
    let path = || overlay.disk.scratch.path(ino);
    let allocate = || match how {
        Allocation::Hole => {
            allocate(scratch, how, range)?;
            overlay.disk.scratch.shrunk(ino, scratch);
            Ok(())
        }
        Allocation::Room { .. } | Allocation::Zeros { .. } => {
            let in_scratch = &overlay.disk.scratch;
            in_scratch.reserve(ino, scratch, range.clone(), || {
                allocate(scratch, how, range)
            })
        }
    };
    perform(Step::ScratchWrite, path, allocate).map_err(|error| {
        let doing = "make room in a scratch file";
        match error.kind() {
            ErrorKind::Unsupported => FsError::caused(FsErrorKind::NotSupported, doing, error),
            _ => FsError::io(doing, error),
        }
    })
}

/// Makes a scratch file at least so long: what a read of the range asks it for is there. What is added is zero.
fn reach(overlay: &Overlay, ino: Ino, scratch: &File, end: u64) -> Result<(), FsError> {
    let path = || overlay.disk.scratch.path(ino);
    let failed = |error| FsError::io("lengthen a scratch file", error);
    if scratch.metadata().map_err(failed)?.len() >= end {
        return Ok(());
    }
    // A byte is written and no length set, because another thread may be writing behind it.
    let last = || {
        let in_scratch = &overlay.disk.scratch;
        in_scratch.grow(ino, scratch, end - 1..end, || {
            write_all_at(scratch, &[0], end - 1)
        })
    };
    perform(Step::ScratchWrite, path, last).map_err(failed)
}
