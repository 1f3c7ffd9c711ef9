//! How a mount reads from its store.

use std::num::NonZeroU64;
use std::time::Duration;

use attachfs_fetch::{FetchOptions, Prefetch};

use crate::store::OpenStore;

/// How a mount reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether to fetch bytes ahead of the reads that will need them.
    pub prefetch: Prefetch,
    /// Whether nothing of an object is given out before all of it was verified. Otherwise that holds for objects of up to
    /// 8 MiB; longer ones are verified when all of them has been read.
    pub verifies_first: bool,
    /// How long an operation may take in which nothing moves. `None`: 60 seconds.
    pub op_timeout: Option<Duration>,
    /// Bytes of objects in memory: kept, on their way, or waiting to be written to the disk cache. `None`: 192 MiB.
    pub memory_target: Option<NonZeroU64>,
    /// Whether this process answers all reads, also of complete files of the disk cache, which the kernel otherwise reads by
    /// itself where it can.
    pub no_passthrough: bool,
}

impl ReadOptions {
    /// The settings of a fetcher for a store: it has no more requests at a time than the store makes, and is as
    /// patient.
    pub(crate) fn of(self, store: &OpenStore) -> FetchOptions {
        let usual = FetchOptions::default();
        let access = &store.settings.s3;
        FetchOptions {
            prefetch: self.prefetch,
            verifies_first: self.verifies_first,
            memory_bytes: self
                .memory_target
                .map_or(usual.memory_bytes, NonZeroU64::get),
            max_requests: access.max_connections.map_or(usual.max_requests, |most| {
                most.get().min(usual.max_requests)
            }),
            deadline: self.op_timeout.unwrap_or(usual.deadline),
            least_rate: access.min_rate.unwrap_or(usual.least_rate),
            ..usual
        }
    }
}
