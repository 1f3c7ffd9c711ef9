//! One directory sync for many names that were changed at the same time.
//!
//! Syncing a directory costs a round trip to the disk however many names changed in it. Callers
//! that changed one gather while a sync is running; the next sync covers them all, and all learn
//! its outcome. A sync that began before a caller arrived never counts for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::steps::Step;
use crate::{DurableError, sync_dir};

/// The syncs of one directory.
#[derive(Debug)]
pub struct GroupSync {
    dir: PathBuf,
    /// Locked for a few instructions; never during a sync.
    state: Mutex<State>,
    finished: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    /// The batch that the next sync will cover.
    gathering: Arc<Mutex<Option<Outcome>>>,
}

/// The outcome of a sync; the parts of an error, because several callers get it.
type Outcome = Result<(), (std::io::ErrorKind, Option<i32>)>;

impl GroupSync {
    /// For the names in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            state: Mutex::default(),
            finished: Condvar::new(),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns when a sync that began after this call has ended.
    pub fn sync(&self) -> Result<(), DurableError> {
        self.sync_with(|dir| sync_dir(dir, Step::GroupNames))
    }

    fn sync_with(
        &self,
        sync: impl FnOnce(&Path) -> Result<(), DurableError>,
    ) -> Result<(), DurableError> {
        let mut state = self.state.lock();
        let batch = Arc::clone(&state.gathering);
        loop {
            if let Some(outcome) = *batch.lock() {
                return outcome.map_err(|(kind, code)| {
                    let source = code.map_or_else(
                        || std::io::Error::from(kind),
                        std::io::Error::from_raw_os_error,
                    );
                    DurableError::new("sync the directory", &self.dir, source)
                });
            }
            if !state.running {
                // No other caller took this batch: then its sync would be running, or have left an
                // outcome.
                break;
            }
            self.finished.wait(&mut state);
        }
        state.running = true;
        state.gathering = Arc::default();
        drop(state);

        let result = sync(&self.dir);

        let mut state = self.state.lock();
        state.running = false;
        *batch.lock() = Some(match &result {
            Ok(()) => Ok(()),
            Err(error) => Err((error.kind(), error.source.raw_os_error())),
        });
        drop(state);
        self.finished.notify_all();
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn callers_that_arrive_during_a_sync_share_the_next_one() {
        let group = GroupSync::new(PathBuf::from("/"));
        let syncs = AtomicUsize::new(0);
        let (first_runs, first_is_running) = mpsc::channel();
        let (finish_first, first_may_finish) = mpsc::channel::<()>();
        let (group, syncs) = (&group, &syncs);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                group
                    .sync_with(|_| {
                        syncs.fetch_add(1, Ordering::SeqCst);
                        first_runs.send(()).unwrap();
                        first_may_finish.recv().unwrap();
                        Ok(())
                    })
                    .unwrap();
            });
            first_is_running.recv().unwrap();
            for _ in 0..8 {
                scope.spawn(move || {
                    group
                        .sync_with(|_| {
                            syncs.fetch_add(1, Ordering::SeqCst);
                            Ok(())
                        })
                        .unwrap();
                });
            }
            // All eight hold the batch that is gathering, beside the state itself.
            while Arc::strong_count(&group.state.lock().gathering) < 9 {
                std::thread::yield_now();
            }
            finish_first.send(()).unwrap();
        });
        assert_eq!(syncs.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_failed_sync_fails_for_all_callers() {
        let dir = tempfile::tempdir().unwrap();
        let group = GroupSync::new(dir.path().join("gone"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    assert_eq!(
                        group.sync().unwrap_err().kind(),
                        std::io::ErrorKind::NotFound
                    );
                });
            }
        });
    }
}
