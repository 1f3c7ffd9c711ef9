//! The settings of a [`Fetcher`](crate::Fetcher).

use std::time::Duration;

/// Whether to fetch what nobody has asked for yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prefetch {
    /// Only what is read, rounded to units.
    Off,
    /// What the reads so far let expect.
    #[default]
    Auto,
    /// As `Auto`; and all that is mounted is fetched into the disk cache, behind everything else.
    All,
}

/// How much to fetch at once, to keep, and how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOptions {
    /// Objects of up to this many bytes are fetched whole and verified before a byte of them is given.
    pub whole_object_limit: u64,
    /// Longer objects are fetched and kept in aligned units of this many bytes, at least 4096: what a lone read costs. A
    /// shorter unit makes that cheaper, and a read in order has more of them to look for.
    pub unit_len: u64,
    /// Reading ahead asks for at most this many bytes at once. A longer part makes fewer requests; a shorter one
    /// needs less memory to keep as many connections busy.
    pub part_len: u64,
    /// Requests under way at once.
    pub max_requests: u32,
    /// Bytes of objects and units in memory, kept or under way. A read that finds no room has kept ones
    /// forgotten, or waits for its turn. Half of it, at most, is for what is fetched ahead, and with a disk cache a quarter, at most
    /// 64 MiB, for what waits to be written there.
    pub memory_bytes: u64,
    /// The longest that a fetch may take in which less than the [least rate](Self::least_rate) moves. Waiting in line
    /// does not count as long as the store gives something to somebody.
    pub deadline: Duration,
    /// In bytes a second. A fetch that moves at least so many goes on after its deadline.
    pub least_rate: u64,
    /// Whether nothing of a large object is given out before all of it was read and verified.
    pub verifies_first: bool,
    /// What is fetched before anybody asks for it.
    pub prefetch: Prefetch,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            whole_object_limit: 8 << 20,
            unit_len: 128 << 10,
            part_len: 4 << 20,
            max_requests: 128,
            memory_bytes: 192 << 20,
            deadline: Duration::from_mins(1),
            least_rate: 10_000,
            verifies_first: false,
            prefetch: Prefetch::Auto,
        }
    }
}
