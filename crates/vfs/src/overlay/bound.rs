//! A bound on the room that a session's scratch files take on their disk.
//!
//! ```text
//!     grow      promises the room of a change, lets it happen, and looks how much the file has taken
//!     reserve   the same for room without bytes, which is remembered: later writes need none
//!     noted     looks again after a file was cut off, or a hole was made, and when it was closed (XFS gives room back then)
//!     gone      the file was removed, or is the session's no longer
//! ```
//!
//! A change that the bound has no room for fails as on a full disk. One of bytes that are on the disk already needs no room. So no
//! byte gets past the bound, except blocks in which the file system keeps its own lists: all that is written has to come
//! through here, and the kernel gets no scratch file of such a session to write by itself.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;

use attachfs_durable::{Facts, Space, data_in};
use attachfs_tree::{ExtentSet, Ino};
use parking_lot::Mutex;

/// Room is promised in units of so many bytes, the block size of nearly all file systems.
const BLOCK: u64 = 4096;

/// The bound, and what is taken of it.
#[derive(Debug)]
pub(crate) struct Bound {
    /// In bytes.
    limit: u64,
    /// Held while a file is looked at, with no other lock.
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    /// What each file has on the disk.
    files: HashMap<Ino, Taken>,
    /// The sum of these.
    taken: u64,
    /// Promised to changes that are under way.
    promised: u64,
}

#[derive(Debug, Default)]
struct Taken {
    /// In bytes.
    allocated: u64,
    /// Ranges that were reserved, and may have no bytes yet.
    reserved: ExtentSet,
}

impl Room {
    fn set(&mut self, ino: Ino, allocated: u64) {
        let taken = self.files.entry(ino).or_default();
        self.taken = self.taken - taken.allocated + allocated;
        taken.allocated = allocated;
    }
}

impl Bound {
    /// A bound of so many bytes. `files`: what is there already, which may be more.
    pub(crate) fn new(limit: u64, files: impl IntoIterator<Item = (Ino, u64)>) -> Self {
        let mut room = Room::default();
        for (ino, allocated) in files {
            room.set(ino, allocated);
        }
        Self {
            limit,
            room: Mutex::new(room),
        }
    }

    /// Changes a scratch file within a range. Fails with [`StorageFull`](io::ErrorKind::StorageFull), and changes nothing, if the
    /// bound has no room for what of the range is not on the disk yet.
    pub(crate) fn grow<T>(
        &self,
        ino: Ino,
        file: &File,
        range: Range<u64>,
        change: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let needed = range.end.next_multiple_of(BLOCK) - range.start / BLOCK * BLOCK;
        let promised = {
            let mut room = self.room.lock();
            let has_room = room
                .taken
                .saturating_add(room.promised)
                .saturating_add(needed)
                <= self.limit;
            if has_room {
                room.promised += needed;
            }
            has_room
        };
        if !promised && !self.has_place(ino, file, range.clone())? {
            return Err(self.full());
        }
        let changed = change();
        let mut room = self.room.lock();
        if promised {
            room.promised -= needed;
        }
        if let Ok(facts) = Facts::of(file) {
            room.set(ino, facts.allocated);
        }
        changed
    }

    /// As [`grow`](Self::grow), for a change that reserves the range.
    pub(crate) fn reserve(
        &self,
        ino: Ino,
        file: &File,
        range: Range<u64>,
        change: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        self.grow(ino, file, range.clone(), change)?;
        let mut room = self.room.lock();
        room.files.entry(ino).or_default().reserved.insert(range);
        Ok(())
    }

    /// A file was cut off, or got a hole. What was reserved of it may be gone.
    pub(crate) fn shrunk(&self, ino: Ino, file: &File) {
        if let Some(taken) = self.room.lock().files.get_mut(&ino) {
            taken.reserved = ExtentSet::default();
        }
        self.noted(ino, Facts::of(file));
    }

    /// Looks how much a file takes now.
    pub(crate) fn noted(&self, ino: Ino, facts: io::Result<Facts>) {
        if let Ok(facts) = facts {
            self.room.lock().set(ino, facts.allocated);
        }
    }

    /// Whether the file has a place on its disk for each byte of the range.
    fn has_place(&self, ino: Ino, file: &File, range: Range<u64>) -> io::Result<bool> {
        let is_reserved = {
            let room = self.room.lock();
            let taken = room.files.get(&ino);
            taken.is_some_and(|taken| taken.reserved.covers(range.clone()))
        };
        if is_reserved {
            return Ok(true);
        }
        let size = Facts::of(file)?.stamp.size;
        Ok(range.end <= size && data_in(file, range.clone())? == range)
    }

    /// A file takes no room any more.
    pub(crate) fn gone(&self, ino: Ino) {
        let mut room = self.room.lock();
        let before = room.files.remove(&ino).unwrap_or_default();
        room.taken -= before.allocated;
    }

    /// The room of a disk as far as the bound lets this session have it.
    pub(crate) fn within(&self, space: Space) -> Space {
        let room = self.room.lock();
        let left = self.limit.saturating_sub(room.taken + room.promised);
        Space {
            total: self.limit.min(space.total),
            free: left.min(space.free),
            available: left.min(space.available),
            ..space
        }
    }

    fn full(&self) -> io::Error {
        let said = format!(
            "the files that were written take all of the {} bytes that this session may have (--max-scratch)",
            self.limit
        );
        io::Error::new(io::ErrorKind::StorageFull, said)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn ino(number: u64) -> Ino {
        Ino::from_raw((1 << 62) | number)
    }

    fn write(bound: &Bound, number: u64, file: &File, at: u64, len: usize) -> io::Result<()> {
        let range = at..at + len as u64;
        let data = vec![1; len];
        bound.grow(ino(number), file, range, || file.write_all_at(&data, at))
    }

    #[test]
    fn what_is_on_the_disk_is_written_again_and_nothing_more() {
        let bound = Bound::new(64 << 10, []);
        let (one, two) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        write(&bound, 1, &one, 0, 40 << 10).unwrap();
        write(&bound, 2, &two, 0, 24 << 10).unwrap();
        let full = write(&bound, 2, &two, 24 << 10, 1).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(full.to_string().contains("65536"), "{full}");
        assert_eq!(
            two.metadata().unwrap().len(),
            24 << 10,
            "nothing was written"
        );
        write(&bound, 1, &one, 0, 40 << 10).unwrap();
        write(&bound, 1, &one, (40 << 10) - 1, 2).unwrap_err();

        one.set_len(8 << 10).unwrap();
        bound.shrunk(ino(1), &one);
        write(&bound, 2, &two, 24 << 10, 32 << 10).unwrap();
        write(&bound, 1, &one, 8 << 10, 1).unwrap_err();
        bound.gone(ino(2));
        write(&bound, 1, &one, 8 << 10, 1).unwrap();
    }

    #[test]
    fn what_was_reserved_has_room_until_the_file_is_cut() {
        use attachfs_durable::{Allocation, allocate};
        let bound = Bound::new(64 << 10, []);
        let file = tempfile::tempfile().unwrap();
        let room = Allocation::Room { keeps_len: true };
        let all = 0..64 << 10;
        let reserved = bound.reserve(ino(1), &file, all.clone(), || allocate(&file, room, all));
        reserved.unwrap();
        write(&bound, 1, &file, 8 << 10, 40 << 10).unwrap();
        write(&bound, 1, &file, 60 << 10, 5 << 10).unwrap_err();
        file.set_len(0).unwrap();
        bound.shrunk(ino(1), &file);
        write(&bound, 2, &tempfile::tempfile().unwrap(), 0, 60 << 10).unwrap();
        write(&bound, 1, &file, 8 << 10, 40 << 10).unwrap_err();
    }

    #[test]
    fn what_a_session_has_already_counts() {
        let bound = Bound::new(10 << 10, [(ino(1), 4 << 10), (ino(2), 90 << 10)]);
        let file = tempfile::tempfile().unwrap();
        write(&bound, 3, &file, 0, 1).unwrap_err();
        bound.gone(ino(2));
        write(&bound, 3, &file, 0, 1).unwrap();
        let space = bound.within(Space {
            total: 1 << 40,
            free: 1 << 39,
            available: 1 << 38,
            files_total: 0,
            files_free: 0,
            block_size: 4096,
        });
        assert_eq!(
            (space.total, space.free, space.available),
            (10 << 10, 2 << 10, 2 << 10)
        );
    }

    #[test]
    fn a_change_that_fails_takes_no_room() {
        let bound = Bound::new(8 << 10, []);
        let file = tempfile::tempfile().unwrap();
        for _ in 0..9 {
            let failed = bound.grow(ino(1), &file, 0..4096, || {
                Err::<(), _>(io::ErrorKind::PermissionDenied.into())
            });
            assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        write(&bound, 1, &file, 0, 8 << 10).unwrap();
    }
}
