//! How much room the disk cache may take.
//!
//! Both bounds are over the whole cache directory, whatever stores its objects are of and whichever processes write
//! them. They are kept as exactly as it is known how full the cache is: within what processes write between two looks.

use crate::Space;

const GIB: u64 = 1 << 30;

/// The bounds of a disk cache, as they were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheLimits {
    /// The most bytes that the cache may take. `None`: half of the file system, since what jobs write, their scratch
    /// space and other programs are mostly on the same one.
    pub max_bytes: Option<u64>,
    /// Bytes that stay free on the file system whatever the cache could use. `None`: a tenth of the file system, at most
    /// 10 GiB; on large ones 5 %, at most 50 GiB. A job's frames then have room while the cache is full, and a small
    /// system disk is not mostly reserve.
    pub min_free: Option<u64>,
}

/// The bounds on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most bytes that the cache may take; not more than the file system has.
    pub max_bytes: u64,
    /// Bytes that stay free.
    pub min_free: u64,
}

impl CacheLimits {
    /// What they mean on a file system.
    pub fn on(&self, space: &Space) -> Bounds {
        let default_free = (space.total / 10)
            .min(10 * GIB)
            .max((space.total / 20).min(50 * GIB));
        Bounds {
            max_bytes: self.max_bytes.unwrap_or(space.total / 2).min(space.total),
            min_free: self.min_free.unwrap_or(default_free),
        }
    }
}

impl Bounds {
    /// Bytes that may still be written by a cache that takes `used`; negative if so many are too many.
    pub fn room(&self, used: u64, space: &Space) -> i64 {
        let below = signed(self.max_bytes) - signed(used);
        below.min(signed(space.available) - signed(self.min_free))
    }

    /// Bytes that are to be removed if so much room is left: some more than are too many, so that not every write needs
    /// this work. Nothing as long as there is half of that reserve.
    pub fn to_free(&self, room: i64) -> u64 {
        let spare = signed((self.max_bytes / 20).min(GIB));
        if room >= spare / 2 {
            return 0;
        }
        spare.saturating_sub(room).unsigned_abs()
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(total: u64, available: u64) -> Space {
        Space {
            total,
            free: available,
            available,
            files_total: 0,
            files_free: 0,
            block_size: 4096,
        }
    }

    #[test]
    fn the_disk_keeps_some_room_free() {
        let reserve = |gib: u64| CacheLimits::default().on(&space(gib * GIB, 0)).min_free / GIB;
        let disks = [20, 100, 150, 200, 1000, 20_000];
        assert_eq!(disks.map(reserve), [2, 10, 10, 10, 50, 50]);
        let bounds = CacheLimits::default().on(&space(20 * GIB, 0));
        assert_eq!(bounds.max_bytes, 10 * GIB);
        assert_eq!(bounds.room(GIB, &space(20 * GIB, 3 * GIB)), GIB as i64);
        assert_eq!(bounds.room(GIB, &space(20 * GIB, GIB)), -(GIB as i64));
        assert_eq!(
            bounds.room(11 * GIB, &space(20 * GIB, 9 * GIB)),
            -(GIB as i64)
        );
    }

    #[test]
    fn what_was_asked_for_counts() {
        let asked = CacheLimits {
            max_bytes: Some(1000),
            min_free: Some(0),
        };
        let bounds = asked.on(&space(20 * GIB, GIB));
        assert_eq!(bounds.room(1200, &space(20 * GIB, GIB)), -200);
        assert_eq!(
            [-200, 24, 25, 900].map(|room| bounds.to_free(room)),
            [250, 26, 0, 0]
        );
        let none = CacheLimits {
            max_bytes: Some(u64::MAX),
            min_free: Some(u64::MAX),
        };
        assert!(none.on(&space(1, 1)).room(u64::MAX, &space(1, 1)) < 0);
    }
}
