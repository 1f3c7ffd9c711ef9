//! Reads that failed: how many there were, and the last of them.

use std::time::SystemTime;

use attachfs_store::Count;
use parking_lot::Mutex;

use crate::FsError;

/// A read that failed.
#[derive(Debug, Clone)]
pub struct FailedRead {
    /// The name of the file for messages.
    pub path: String,
    /// Why.
    pub error: FsError,
    /// When, by this machine's clock.
    pub at: SystemTime,
}

/// The failed reads since the mount.
#[derive(Debug, Default)]
pub(crate) struct FailedReads {
    count: Count,
    last: Mutex<Option<FailedRead>>,
}

impl FailedReads {
    pub(crate) fn note(&self, path: String, error: &FsError) {
        self.count.add(1);
        *self.last.lock() = Some(FailedRead {
            path,
            error: error.clone(),
            at: SystemTime::now(),
        });
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    pub(crate) fn last(&self) -> Option<FailedRead> {
        self.last.lock().clone()
    }
}
