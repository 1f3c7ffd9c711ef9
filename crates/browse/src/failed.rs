//! [`Failed`]: what could not be listed or read.

use std::time::SystemTime;

use attachfs_vfs::{FailedRead, FsError, FsErrorKind};
use parking_lot::Mutex;

/// How often that happened, and the last time.
#[derive(Debug, Default)]
pub(crate) struct Failed {
    /// Held for single operations, with no other lock.
    so_far: Mutex<(u64, Option<FailedRead>)>,
}

impl Failed {
    /// Counts a failure of a disk or a store, and gives it back. That a name does not exist, for example, is an answer and no failure.
    pub(crate) fn note(&self, path: &[u8], error: FsError) -> FsError {
        if error.kind() == FsErrorKind::Io {
            let failed = FailedRead {
                path: String::from_utf8_lossy(path).into_owned(),
                error: error.clone(),
                at: SystemTime::now(),
            };
            let mut so_far = self.so_far.lock();
            so_far.0 += 1;
            so_far.1 = Some(failed);
        }
        error
    }

    pub(crate) fn count(&self) -> u64 {
        self.so_far.lock().0
    }

    pub(crate) fn last(&self) -> Option<FailedRead> {
        self.so_far.lock().1.clone()
    }
}
