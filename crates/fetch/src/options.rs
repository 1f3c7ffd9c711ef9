//! The settings of a [`Fetcher`](crate::Fetcher).

use std::time::Duration;

/// How much to fetch at once, to keep, and how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOptions {
    /// Objects of up to this many bytes are fetched whole and verified before a byte of them is given.
    pub whole_object_limit: u64,
    /// Longer objects are fetched in aligned blocks of this many bytes. A longer block makes reading
    /// in order faster (each block costs the store's latency once), a shorter one makes reading here
    /// and there cheaper (each read pulls a block). 4 MiB at 30 ms and 1 Gbit/s spends as long
    /// waiting as receiving.
    pub block_len: u64,
    /// Bytes of objects and blocks in memory, kept or under way. A read that finds no room has kept ones
    /// forgotten, or waits for its turn.
    pub memory_bytes: u64,
    /// The longest that one read may take, waiting for its turn included.
    pub deadline: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            whole_object_limit: 8 << 20,
            block_len: 4 << 20,
            memory_bytes: 192 << 20,
            deadline: Duration::from_mins(1),
        }
    }
}
