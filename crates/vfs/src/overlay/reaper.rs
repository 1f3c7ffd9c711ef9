//! Removes scratch files of deleted files, after the record of the deletion is durable.
//!
//! Were a scratch file removed earlier, a power loss could bring back the name without the bytes.
//! One thread collects what is to go, syncs the journal once for all of it, and removes.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use attachfs_tree::Ino;
use parking_lot::{Condvar, Mutex};

use super::{Journal, JournalError, Scratch};

/// How long deletions are collected before one sync serves them all.
const COLLECT: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Queue {
    doomed: Vec<Ino>,
    /// While a commit reads scratch files, none of them goes.
    pins: usize,
    closing: bool,
    /// All scratch files go, or have gone, with their directory.
    abandoned: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Owns the thread; dropping it removes what is still to go.
#[derive(Debug)]
pub(crate) struct Reaper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Keeps all scratch files as long as it lives.
#[derive(Debug)]
pub(crate) struct Pin(Arc<Shared>);

impl Reaper {
    pub(crate) fn start(journal: Arc<Journal>, scratch: Arc<Scratch>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("reaper".to_owned())
            .spawn({
                let shared = shared.clone();
                move || run(&shared, &journal, &scratch)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    pub(crate) fn remove_later(&self, ino: Ino) {
        self.shared.queue.lock().doomed.push(ino);
        self.shared.changed.notify_one();
    }

    /// From now on leaves scratch files to whoever deletes all of them.
    pub(crate) fn abandon(&self) {
        let mut queue = self.shared.queue.lock();
        queue.abandoned = true;
        queue.doomed.clear();
    }

    pub(crate) fn pin(&self) -> Pin {
        self.shared.queue.lock().pins += 1;
        Pin(self.shared.clone())
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.queue.lock().pins -= 1;
        self.0.changed.notify_one();
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.shared.queue.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(
                "the thread that removes scratch files panicked; they stay until discard"
            );
        }
    }
}

fn run(shared: &Shared, journal: &Journal, scratch: &Scratch) {
    loop {
        let (doomed, closing) = {
            let mut queue = shared.queue.lock();
            while !queue.closing && (queue.doomed.is_empty() || queue.pins > 0) {
                shared.changed.wait(&mut queue);
            }
            let until = Instant::now() + COLLECT;
            while !queue.closing && !shared.changed.wait_until(&mut queue, until).timed_out() {}
            if queue.pins > 0 && !queue.closing {
                continue;
            }
            (std::mem::take(&mut queue.doomed), queue.closing)
        };
        if !doomed.is_empty() {
            remove(&doomed, shared, journal, scratch);
        }
        if closing {
            return;
        }
    }
}

fn remove(doomed: &[Ino], shared: &Shared, journal: &Journal, scratch: &Scratch) {
    let synced = scratch.sync_names().map_err(JournalError::from);
    if let Err(error) = synced.and_then(|()| journal.sync()) {
        // The scratch files stay; recovery or discard removes them.
        if !shared.queue.lock().abandoned {
            tracing::error!(%error, files = doomed.len(), "scratch files of deleted files are kept");
        }
        return;
    }
    for &ino in doomed {
        if let Err(error) = scratch.remove(ino) {
            tracing::warn!(%error, path = %scratch.path(ino).display(), "cannot remove a scratch file");
        }
    }
}
