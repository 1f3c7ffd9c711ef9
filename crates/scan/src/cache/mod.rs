//! Hashes of files, and objects seen in buckets, remembered from earlier runs in SQLite.
//!
//! ```text
//!     HashCaches --- HashCache           our own file: exact stamps                    own.rs
//!                \-- DeadlineHashCache   the Python client's hash_cache.db, on request  deadline.rs
//!     S3CheckCache                       the Python client's s3_check_cache.db          seen.rs
//! ```
//!
//! A cache saves reading files, and nothing else depends on it: if it cannot be opened, read or written,
//! a warning is logged and look-ups miss. It must never give a hash that is not the file's.
//!
//! # When a hash is kept
//! Only if the file had *settled* when its stamp was taken, before its first byte was read: its
//! modification and change times were then [`SETTLED`] in the past. A file system's clock has ticks; a file
//! that is hashed and then changed within the tick of its last change keeps its stamp. A settled file
//! cannot be changed without getting a later stamp, with one exception: a write through a shared mapping to
//! a page that was written to shortly before, because the kernel only notes the first of such writes.
//!
//! # When a hash is believed
//! From our own cache, if length, modification time, change time and inode are unchanged. From the client's
//! cache, which has only the modification time, if that is [`SETTLED`] in the past and our own cache has no
//! row with the same modification time and another stamp: such a row shows that the file was altered and
//! then given its old time. Sharing the client's cache means to believe what the client would. It is
//! therefore off by default, and its hashes are never copied to our own cache.

mod database;
mod deadline;
mod local_time;
mod own;
mod seen;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attachfs_durable::FileStamp;
use attachfs_manifest::{ChunkSize, ContentHash};

use crate::ScannedFile;

pub use database::{BUSY_TIMEOUT, CacheError};
pub use deadline::DeadlineHashCache;
pub use local_time::LocalZone;
pub use own::{Day, HashCache, HashCacheOptions};
pub use seen::S3CheckCache;

/// How long ago the last change of a file must be for its stamp to be certain. The coarsest clock of a
/// file system in use ticks every two seconds (FAT).
pub const SETTLED: Duration = Duration::from_secs(2);

/// The answer of our own cache for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// The hashes of its chunks.
    Hit(Vec<ContentHash>),
    /// The file was altered, and has its old modification time.
    Altered,
    Unknown,
}

impl Answer {
    fn hashes(self) -> Option<Vec<ContentHash>> {
        match self {
            Self::Hit(hashes) => Some(hashes),
            Self::Altered | Self::Unknown => None,
        }
    }
}

/// The hash caches that are in use.
#[derive(Debug, Default)]
pub struct HashCaches {
    /// Our own.
    pub own: Option<HashCache>,
    /// The Python client's.
    pub deadline: Option<DeadlineHashCache>,
}

impl HashCaches {
    /// Opens the caches that are asked for. A cache that cannot be opened is left out with a warning.
    /// `deadline` is the client's cache directory and its time zone.
    pub fn open(own: Option<&HashCacheOptions>, deadline: Option<(&Path, LocalZone)>) -> Self {
        Self {
            own: own.and_then(|options| usable(HashCache::open(options))),
            deadline: deadline.and_then(|(directory, zone)| {
                usable(DeadlineHashCache::open(directory, zone, BUSY_TIMEOUT))
            }),
        }
    }

    /// The hashes of each file's chunks, if they are known for the state that it was scanned in. In the
    /// order of `files`. Blocks. A few thousand files at once, in the order of their paths, are best.
    pub fn look_up(
        &self,
        files: &[&ScannedFile],
        chunk_size: ChunkSize,
        now: SystemTime,
    ) -> Vec<Option<Vec<ContentHash>>> {
        let own = match &self.own {
            Some(own) => own.look_up(files, chunk_size),
            None => vec![Answer::Unknown; files.len()],
        };
        let ask_for = |(at, found): (usize, &Answer)| {
            let settled = is_before(files[at].stamp.mtime_ns, now);
            (*found == Answer::Unknown && settled).then_some(at)
        };
        let asked: Vec<usize> = match &self.deadline {
            Some(_) => own.iter().enumerate().filter_map(ask_for).collect(),
            None => Vec::new(),
        };
        let mut known: Vec<_> = own.into_iter().map(Answer::hashes).collect();
        if let Some(deadline) = &self.deadline {
            let unknown: Vec<_> = asked.iter().map(|&at| files[at]).collect();
            for (at, hashes) in asked
                .into_iter()
                .zip(deadline.look_up(&unknown, chunk_size))
            {
                known[at] = hashes;
            }
        }
        known
    }

    /// Keeps the hashes of a file's chunks, if they are certain. `file` is its state at `seen`, before
    /// its first byte was read; the caller has checked that this was still its state after the last
    /// byte. Blocks now and then, for a batch of rows.
    pub fn remember(
        &self,
        file: &ScannedFile,
        chunk_size: ChunkSize,
        hashes: &[ContentHash],
        seen: SystemTime,
    ) {
        if !is_settled(&file.stamp, seen) {
            return;
        }
        if let Some(own) = &self.own {
            own.remember(file, chunk_size, hashes);
        }
        if let Some(deadline) = &self.deadline {
            deadline.remember(file, chunk_size, hashes);
        }
    }

    /// Writes the rows that wait to be written. Dropping does so too.
    pub fn flush(&self) {
        if let Some(own) = &self.own {
            own.flush();
        }
        if let Some(deadline) = &self.deadline {
            deadline.flush();
        }
    }
}

fn usable<T>(opened: Result<T, CacheError>) -> Option<T> {
    opened
        .inspect_err(|error| {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "continuing without a cache"
            );
        })
        .ok()
}

/// Whether every later change shows in the stamp. The file system itself sets the change time. A
/// modification time far in the future was set by a program and is ignored; one in the near future may
/// come from a clock that is ahead.
pub fn is_settled(stamp: &FileStamp, now: SystemTime) -> bool {
    is_before(stamp.ctime_ns, now)
        && (is_before(stamp.mtime_ns, now) || !is_before(stamp.mtime_ns, now + 2 * SETTLED))
}

fn is_before(moment_ns: i128, now: SystemTime) -> bool {
    let now_ns = match now.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    };
    now_ns - moment_ns >= SETTLED.as_nanos() as i128
}
