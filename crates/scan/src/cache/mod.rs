//! What is known of files and objects from an earlier time, in SQLite.
//!
//! ```text
//!     HashCaches --- HashCache           our own file: exact stamps                    own.rs
//!                \-- DeadlineHashCache   the Python client's hash_cache.db, on request  deadline.rs
//!     S3CheckCache                       the Python client's s3_check_cache.db          seen.rs
//! ```
//!
//! A cache saves reading, and nothing else depends on it: one that cannot be opened, read or written is a
//! warning in the log and a miss. What must never happen is a hash that is not the file's.
//!
//! # When a hash is kept
//! Only if the file had *settled* when its stamp was taken, before its first byte was read: its modification
//! and change times were then [`SETTLED`] in the past. A file system's clock has ticks; a file that is
//! hashed and then changed within the tick of its last change keeps its stamp. A settled file cannot be
//! changed without getting a later one. What no stamp shows is a write through a shared mapping to a page
//! that was written to shortly before: the kernel notes the first of such writes only.
//!
//! # When a hash is believed
//! From our own cache, if length, modification time, change time and inode are what they were. From the
//! client's cache, which knows only the modification time, if that is [`SETTLED`] in the past and our own cache does
//! not know better: a row of it with the same modification time and another stamp says that the file was
//! altered under its old time. Sharing means to believe what the client would. It is therefore off unless
//! somebody asks for it, and what comes from there is never copied to our own cache.

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

/// How long ago a file must have changed last to be certain. The coarsest clock of a file system in use
/// ticks every two seconds (FAT).
pub const SETTLED: Duration = Duration::from_secs(2);

/// What our own cache says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// The hashes of its chunks.
    Hit(Vec<ContentHash>),
    /// It has the modification time that it had, and is not what it was.
    Altered,
    Unknown,
}

impl Found {
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
    /// Opens what is asked for. One that cannot be opened is left out with a warning. `deadline` is the
    /// client's cache directory and its time zone.
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
            None => vec![Found::Unknown; files.len()],
        };
        let ask_for = |(at, found): (usize, &Found)| {
            let settled = is_before(files[at].stamp.mtime_ns, now);
            (*found == Found::Unknown && settled).then_some(at)
        };
        let asked: Vec<usize> = match &self.deadline {
            Some(_) => own.iter().enumerate().filter_map(ask_for).collect(),
            None => Vec::new(),
        };
        let mut known: Vec<_> = own.into_iter().map(Found::hashes).collect();
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

    /// Keeps the hashes of a file's chunks, if they are certain. `file` is what it was at `seen`, before
    /// its first byte was read, and was found to be still after the last. Blocks now and then, for a
    /// batch of rows.
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

    /// Writes what waits to be written. Dropping does so too.
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
                "going on without a cache"
            );
        })
        .ok()
}

/// Whether every later change shows in the stamp. The change time is the file system's own; a modification
/// time far in the future was set by somebody and says nothing, one that is near may be a clock that is
/// ahead.
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
