//! Reads that failed: how many there were, and the last of each of some files.

use std::collections::VecDeque;
use std::time::SystemTime;

use attachfs_store::Count;
use attachfs_tree::Ino;
use parking_lot::Mutex;

use crate::FsError;

/// Files of which the last read that failed is kept.
const MOST: usize = 64;

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
    /// The last one of each file, the newest last.
    last: Mutex<VecDeque<(Ino, FailedRead)>>,
}

impl FailedReads {
    pub(crate) fn note(&self, ino: Ino, path: String, error: &FsError) {
        self.count.add(1);
        let failed = FailedRead {
            path,
            error: error.clone(),
            at: SystemTime::now(),
        };
        let mut last = self.last.lock();
        last.retain(|(of, _)| *of != ino);
        if last.len() == MOST {
            last.pop_front();
        }
        last.push_back((ino, failed));
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    pub(crate) fn last(&self) -> Option<FailedRead> {
        let last = self.last.lock();
        last.back().map(|(_, failed)| failed.clone())
    }

    /// The last one of a file, if it is known.
    pub(crate) fn last_of(&self, ino: Ino) -> Option<FailedRead> {
        let last = self.last.lock();
        let mut all = last.iter();
        all.find(|(of, _)| *of == ino)
            .map(|(_, failed)| failed.clone())
    }
}
