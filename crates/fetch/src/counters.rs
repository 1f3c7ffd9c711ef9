//! What a fetcher has done so far.

use attachfs_store::{Count, Latencies};

/// What a [`Fetcher`](crate::Fetcher) has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchCounters {
    /// Objects fetched whole and found sound.
    pub objects_from_store: u64,
    /// Runs of units of large objects asked for.
    pub ranges_from_store: u64,
    /// Bytes of both that came, also of requests that failed.
    pub bytes_from_store: u64,
    /// Objects and units that were in memory when a read asked for them.
    pub memory_hits: u64,
    /// Bytes that reads got out of those.
    pub bytes_from_memory: u64,
    /// Objects found in the disk cache, and sound.
    pub disk_hits: u64,
    /// Their bytes.
    pub bytes_from_disk: u64,
    /// Objects whose bytes were not those that their hash names.
    pub damaged: u64,
    /// Large objects of which all bytes were read and found right.
    pub verified: u64,
    /// Large objects of which all bytes were read and found wrong.
    pub wrong: u64,
    /// Objects that were shorter or longer than the manifest says.
    pub wrong_length: u64,
    /// Objects that were not in the store.
    pub missing: u64,
    /// Requests that failed otherwise.
    pub failed: u64,
    /// Reads that took longer than the deadline.
    pub timed_out: u64,
    /// Bodies that broke off, and whose rest was asked for again.
    pub broken_off: u64,
    /// Times the store had another version of a large object than before.
    pub versions_changed: u64,
    /// Bytes that came into the disk cache before anybody asked for them ([`Fetcher::fetch_behind`](crate::Fetcher::fetch_behind)).
    pub bytes_ahead: u64,
    /// Those of them that were read since.
    pub bytes_ahead_read: u64,
    /// Objects written to the disk cache.
    pub disk_written: u64,
    /// Objects not written to the disk cache: it was too slow, too full, or failed.
    pub disk_dropped: u64,
    /// Their bytes.
    pub disk_dropped_bytes: u64,
    /// Files of the disk cache that were damaged, and deleted.
    pub disk_damaged: u64,
    /// Times the disk under the cache failed.
    pub disk_failed: u64,
    /// Objects removed from the disk cache to make room.
    pub disk_evicted: u64,
    /// Large objects in the disk cache of which all bytes were found right.
    pub disk_verified: u64,
    /// Files whose chunks were joined to one file of the disk cache, for the kernel to read.
    pub disk_joined: u64,
    /// Bytes of chunks that were copied for that.
    pub disk_joined_copied: u64,
    /// Bytes of chunks whose blocks are shared for that.
    pub disk_joined_cloned: u64,
    /// Large objects in the store of which all bytes were read and found wrong.
    pub disk_wrong: u64,
}

/// The fetches at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Requests to the store that have their turn.
    pub requests: u64,
    /// Fetches that wait for a turn or for room in memory.
    pub waiting: u64,
}

/// The counters of the memory and store side; the disk cache has its own.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) objects_from_store: Count,
    pub(crate) ranges_from_store: Count,
    pub(crate) bytes_from_store: Count,
    pub(crate) memory_hits: Count,
    pub(crate) bytes_from_memory: Count,
    pub(crate) disk_hits: Count,
    pub(crate) bytes_from_disk: Count,
    pub(crate) damaged: Count,
    pub(crate) verified: Count,
    pub(crate) wrong: Count,
    pub(crate) wrong_length: Count,
    pub(crate) missing: Count,
    pub(crate) failed: Count,
    pub(crate) timed_out: Count,
    pub(crate) broken_off: Count,
    /// From a request to the first byte of its answer.
    pub(crate) first_byte: Latencies,
    pub(crate) versions_changed: Count,
}
