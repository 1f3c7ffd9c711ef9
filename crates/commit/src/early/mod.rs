//! Early upload: what a job has written and closed is hashed and sent while the job goes on, so that the commit has little left to send.
//!
//! ```text
//!     file system --closed, renamed--> settling --some seconds--> quiesce, hash, still? --> upload --> sent
//!                                                                                                        |
//!     commit: freeze -> plan, with these hashes where the stamps are the same <--------------------------'
//!             -> hash the rest -> ask for each object, send what is missing -> ...
//! ```
//!
//! It is the commit's own work done sooner: the same token says that a file may be hashed, the same pipeline sends its chunks, and only
//! what a commit would take is sent. It promises nothing: a commit asks the store for every object all the same, and whatever
//! goes wrong here only leaves more to the commit.
//!
//! Nobody waits for it. One thread of low priority hashes; it lets reads go first that wait for the store, sends few files at a time,
//! and waits longer and longer where the store has trouble. A commit has it pause, the end of the mount stops it.
//!
//! Only files all of whose bytes are in scratch are sent: what is partly the base's is put together by the commit.

mod options;
mod sent;
mod settling;
mod trouble;
mod worker;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use attachfs_durable::lower_priority;
use attachfs_store::ChunkStore;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

pub use self::options::EarlyOptions;
pub use self::sent::{EarlyCounts, SentEarly};
use self::worker::Worker;
use crate::open::OpenSession;

/// How long the end of a mount waits for what is under way to be given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends a session's outputs until it is stopped or dropped.
#[derive(Debug)]
pub struct EarlyUpload {
    sent: Arc<SentEarly>,
    /// Closed when the thread has ended.
    alive: watch::Receiver<()>,
}

impl EarlyUpload {
    /// Starts the thread. Requests to the store run on `runtime`.
    pub fn start(
        session: &OpenSession,
        store: Arc<dyn ChunkStore>,
        options: EarlyOptions,
        runtime: Handle,
    ) -> io::Result<Self> {
        // For the waiting of the thread, which so does not end badly where the other runtime ends first.
        let waiting = Builder::new_current_thread().enable_time().build()?;
        let sent = Arc::clone(session.early());
        session.vfs().watch_changes();
        let worker = Worker::new(session.clone(), store, options, runtime);
        let (ends, alive) = watch::channel(());
        let work = move || {
            lower_priority();
            waiting.block_on(worker.run());
            drop(ends);
        };
        thread::Builder::new()
            .name("early-upload".to_owned())
            .spawn(work)?;
        Ok(Self { sent, alive })
    }

    /// Ends it: when this returns the thread has ended and what it was sending is given up, unless it hangs in a disk for longer
    /// than some seconds.
    pub async fn stop(&self) {
        self.sent.stop();
        let mut alive = self.alive.clone();
        if tokio::time::timeout(PATIENCE, alive.changed())
            .await
            .is_err()
        {
            tracing::warn!("what sends outputs before the commit does not end");
        }
    }
}

impl Drop for EarlyUpload {
    fn drop(&mut self) {
        self.sent.stop();
    }
}
