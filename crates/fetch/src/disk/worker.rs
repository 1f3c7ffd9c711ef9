//! [`Worker`]: a thread of the cache.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;

/// A thread that can be waited for.
#[derive(Debug)]
pub(super) struct Worker {
    thread: JoinHandle<()>,
    /// Disconnected when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

impl Worker {
    pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (ending, ended) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            let _ending = ending;
            work();
        })?;
        Ok(Self {
            thread,
            ended: Mutex::new(ended),
        })
    }

    /// Waits until it has ended, not longer than until then. Says whether it has.
    pub(super) fn ended(self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        if let Err(RecvTimeoutError::Timeout) = self.ended.lock().recv_timeout(left) {
            return false;
        }
        // A panic was reported where it happened.
        let _ = self.thread.join();
        true
    }
}
