//! All that is counted of a mount, read in one place: `status`, `stats` and the metrics show parts of the same numbers.
//!
//! Nothing is counted here. Each number is added to where the thing happens: operations where every adapter passes
//! ([`Operations`]), bytes of the base and of scratch in the file system, fetches and the disk cache in the fetcher, requests
//! in the store.

use std::time::Duration;

use attachfs_fetch::{FetchCounters, UnderWay};
use attachfs_store::{LatencyCounts, RequestCounts};
use attachfs_vfs::{Counters, OperationCounts, Operations, Vfs};

/// The counts of a mount at a moment.
#[derive(Debug)]
pub(crate) struct MountCounts {
    /// Since when they are counted.
    pub(crate) age: Duration,
    pub(crate) operations: Vec<OperationCounts>,
    pub(crate) operations_under_way: u64,
    /// Look-ups of names that are not there.
    pub(crate) names_missing: u64,
    /// Bytes that reads were answered with.
    pub(crate) bytes_read: u64,
    pub(crate) files: Counters,
    pub(crate) fetch: FetchCounters,
    pub(crate) under_way: UnderWay,
    /// How long the store took to begin its answers.
    pub(crate) first_byte: LatencyCounts,
    /// Nothing if the store does not count them.
    pub(crate) requests: Option<RequestCounts>,
    pub(crate) open_files: u64,
    /// Whether the kernel reads complete files of the disk cache by itself.
    pub(crate) uses_passthrough: bool,
    /// Whether each open and close is heard of.
    pub(crate) hears_of_opens: bool,
}

impl MountCounts {
    pub(crate) fn of(vfs: &Vfs, operations: &Operations) -> Self {
        let fetcher = vfs.fetcher();
        Self {
            age: operations.age(),
            operations: operations.so_far(),
            operations_under_way: operations.under_way(),
            names_missing: operations.names_missing(),
            bytes_read: operations.bytes_read(),
            files: vfs.counters(),
            fetch: fetcher.counters(),
            under_way: fetcher.under_way(),
            first_byte: fetcher.first_byte(),
            requests: fetcher.requests(),
            open_files: vfs.open_file_count(),
            uses_passthrough: vfs.uses_passthrough(),
            hears_of_opens: vfs.hears_of_opens(),
        }
    }

    /// Requests that were made again, and bodies whose rest was asked for.
    pub(crate) fn retries(&self) -> u64 {
        let requests = self.requests.map_or(0, |requests| requests.retries);
        requests + self.fetch.broken_off
    }
}
