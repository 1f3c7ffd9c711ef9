//! What is told of the reads of a mount: requests to the store, and the last one that failed.

use std::time::SystemTime;

use attachfs_fetch::FetchCounters;
use attachfs_transfer::error_chain;
use attachfs_vfs::{Blame, FailedRead};
use serde::{Deserialize, Serialize};

/// A read that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// The file.
    pub path: String,
    /// The key of the object, if it is this one's trouble and not the whole store's.
    pub object: Option<String>,
    /// Why, with all causes.
    pub text: String,
    /// When, in seconds since 1970.
    pub at: u64,
}

impl From<&FailedRead> for LastError {
    fn from(failed: &FailedRead) -> Self {
        let object = match failed.error.blame() {
            Some(Blame::Object(key)) => Some(key.to_string()),
            Some(Blame::Store) | None => None,
        };
        let since = failed.at.duration_since(SystemTime::UNIX_EPOCH);
        Self {
            path: failed.path.clone(),
            object,
            text: error_chain(&failed.error),
            at: since.unwrap_or_default().as_secs(),
        }
    }
}

/// Requests to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Requests that gave bytes.
    pub requests: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects, and units of large ones, found in the disk cache.
    pub disk_hits: u64,
    /// Their bytes.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Bytes that the disk cache did not keep, because its disk was too slow, full or failing.
    #[serde(default)]
    pub not_cached: u64,
    /// Objects whose bytes or length were wrong.
    pub damaged: u64,
    /// Objects that are not in the store.
    pub missing: u64,
    /// Requests that failed otherwise, or took too long.
    #[serde(default)]
    pub failed: u64,
}

impl From<&FetchCounters> for Fetched {
    fn from(counters: &FetchCounters) -> Self {
        Self {
            requests: counters.objects_from_store + counters.ranges_from_store,
            bytes: counters.bytes_from_store,
            disk_hits: counters.disk_hits,
            disk_bytes: counters.bytes_from_disk,
            not_cached: counters.disk_dropped_bytes,
            damaged: counters.damaged + counters.wrong_length,
            missing: counters.missing,
            failed: counters.failed + counters.timed_out,
        }
    }
}
