//! How a mount reads from its store.

use std::num::NonZeroU64;

use attachfs_fetch::{FetchOptions, Prefetch};

use crate::store::OpenStore;

/// How a mount reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether to fetch bytes ahead of the reads that will need them.
    pub prefetch: Prefetch,
    /// Bytes of objects in memory, kept or on their way. `None`: 192 MiB.
    pub memory_target: Option<NonZeroU64>,
}

impl ReadOptions {
    /// The settings of a fetcher for a store: it has no more requests at a time than the store makes, and is as
    /// patient.
    pub(crate) fn of(self, store: &OpenStore) -> FetchOptions {
        let usual = FetchOptions::default();
        let access = &store.settings.s3;
        FetchOptions {
            prefetch: self.prefetch,
            memory_bytes: self
                .memory_target
                .map_or(usual.memory_bytes, NonZeroU64::get),
            max_requests: access.max_connections.map_or(usual.max_requests, |most| {
                most.get().min(usual.max_requests)
            }),
            least_rate: access.min_rate.unwrap_or(usual.least_rate),
            ..usual
        }
    }
}
