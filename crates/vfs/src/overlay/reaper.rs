//! Syncs changes that no program syncs, and removes the scratch files of deleted files after the
//! record of the deletion is durable.
//!
//! If a scratch file were removed earlier, a power loss could bring back the name without the bytes. And if
//! the journal were left to the kernel, it could be written before the bytes that have to come first (see
//! [`Disk`]). One thread collects the files to remove, syncs once for all of them, and removes them. It also
//! begins compactions of the journal, on a thread of their own: one takes seconds where a million paths changed, and syncs do not wait
//! for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use attachfs_tree::Ino;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::disk::Disk;

/// How long deletions are collected before one sync serves them all.
const COLLECT: Duration = Duration::from_millis(500);
/// How long a change stays unsynced. ext4 uses the same time (`commit=5`); the kernel would write the journal after
/// 30 seconds.
const LONGEST_UNSYNCED: Duration = Duration::from_secs(5);
/// How long a request of the kernel waits for the room of deleted files: a disk may hang.
const ROOM_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Queue {
    doomed: Vec<Ino>,
    /// When the first of them came.
    doomed_since: Option<Instant>,
    /// Somebody waits for their room: nothing is collected.
    is_urgent: bool,
    /// Whether the disk was looked at since the first of them came: it may be nearly full.
    is_looked_at: bool,
    /// Whether some that were taken are being removed.
    is_removing: bool,
    /// When the first unsynced change came.
    changed_since: Option<Instant>,
    /// How many commits read scratch files, so that none is removed.
    pins: usize,
    closing: bool,
    /// The session is being deleted, with all scratch files.
    abandoned: bool,
}

impl Queue {
    fn may_remove(&self) -> bool {
        !self.doomed.is_empty() && self.pins == 0
    }

    /// The files to remove now.
    fn take(&mut self) -> Vec<Ino> {
        self.doomed_since = None;
        self.is_urgent = false;
        self.is_looked_at = false;
        self.is_removing = !self.doomed.is_empty();
        std::mem::take(&mut self.doomed)
    }

    /// Whether room comes without anybody's doing more.
    fn gives_room(&self) -> bool {
        self.may_remove() || self.is_removing
    }

    /// When the next work is due.
    fn due(&self) -> Option<Instant> {
        let removing = self.doomed_since.filter(|_| self.may_remove());
        let collect = if self.is_urgent {
            Duration::ZERO
        } else {
            COLLECT
        };
        let times = [
            removing.map(|since| since + collect),
            self.changed_since.map(|since| since + LONGEST_UNSYNCED),
        ];
        times.into_iter().flatten().min()
    }
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Locked while some of them are removed, and from before they are taken from the queue. Taken before `queue`.
    removing: Mutex<()>,
    changed: Condvar,
    /// Some were removed.
    removed: Condvar,
    /// Whether the thread was told of a change already.
    told: AtomicBool,
}

/// Owns the thread; dropping it removes the files that still wait.
#[derive(Debug)]
pub(crate) struct Reaper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    disk: Option<Arc<Disk>>,
}

/// Prevents the removal of scratch files as long as it exists.
#[derive(Debug)]
pub(crate) struct Pin(Arc<Shared>);

impl Reaper {
    pub(crate) fn start(disk: Arc<Disk>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("reaper".to_owned())
            .spawn({
                let (shared, disk) = (shared.clone(), disk.clone());
                move || run(&shared, &disk)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
            disk: Some(disk),
        })
    }

    /// A reaper that does nothing, for a session that is only looked at.
    pub(crate) fn idle() -> Self {
        Self {
            shared: Arc::default(),
            thread: None,
            disk: None,
        }
    }

    /// A record was appended.
    pub(crate) fn note_change(&self) {
        if !self.shared.told.swap(true, Ordering::AcqRel) {
            self.shared.queue.lock().changed_since = Some(Instant::now());
            self.shared.changed.notify_one();
        }
    }

    /// Removes a scratch file before long; on a disk that is nearly full as soon as the sync before that has ended. Asks nothing of the disk: the
    /// caller has the turn to change names.
    pub(crate) fn remove_later(&self, ino: Ino) {
        let mut queue = self.shared.queue.lock();
        queue.doomed.push(ino);
        queue.doomed_since.get_or_insert_with(Instant::now);
        drop(queue);
        self.shared.changed.notify_one();
    }

    fn is_tight(&self) -> bool {
        let disk = self.disk.as_ref();
        disk.is_some_and(|disk| disk.scratch.is_tight())
    }

    /// Waits until the thread has removed what waits for that, but not for long: for an answer to the kernel.
    pub(crate) fn wait_for_room(&self) {
        let late = Instant::now() + ROOM_WITHIN;
        let mut queue = self.shared.queue.lock();
        while queue.gives_room() {
            if !queue.doomed.is_empty() {
                queue.is_urgent = true;
                self.shared.changed.notify_one();
            }
            if self.shared.removed.wait_until(&mut queue, late).timed_out() {
                return;
            }
        }
    }

    /// As [`wait_for_room`](Self::wait_for_room), if the disk is nearly full: for who is about to write what may need the room of what was deleted
    /// shortly before. The caller has no [`SyncHold`](super::disk::SyncHold) and no [`Turn`](crate::change::Turn).
    pub(crate) fn reap_if_tight(&self) {
        let gives_room = self.shared.queue.lock().gives_room();
        if gives_room && self.is_tight() {
            self.wait_for_room();
        }
    }

    /// Does the waiting work at once, on this thread, and waits for what another thread is doing of it.
    pub(crate) fn reap_now(&self) {
        let _removing = self.shared.removing.lock();
        let doomed = {
            let mut queue = self.shared.queue.lock();
            if !queue.may_remove() {
                return;
            }
            queue.take()
        };
        if let Some(disk) = &self.disk {
            sync_and_remove(&doomed, &self.shared, disk);
        }
    }

    /// Stops removing scratch files, because the whole session is being deleted.
    pub(crate) fn abandon(&self) {
        let mut queue = self.shared.queue.lock();
        queue.abandoned = true;
        queue.doomed.clear();
        drop(queue);
        self.stop_compacting();
    }

    fn stop_compacting(&self) {
        if let Some(disk) = &self.disk {
            disk.stop_compacting();
        }
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
        self.stop_compacting();
        self.shared.queue.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(
                "the thread that removes scratch files panicked; they stay until discard"
            );
        }
    }
}

fn run(shared: &Shared, disk: &Arc<Disk>) {
    let mut compaction = Compaction(None);
    loop {
        let (doomed, closing, removing) = {
            let mut queue = shared.queue.lock();
            while !queue.closing {
                if queue.may_remove() && !queue.is_looked_at {
                    queue.is_looked_at = true;
                    let is_tight = MutexGuard::unlocked(&mut queue, || disk.scratch.is_tight());
                    queue.is_urgent |= is_tight && queue.may_remove();
                    continue;
                }
                match queue.due() {
                    None => shared.changed.wait(&mut queue),
                    Some(due) if due <= Instant::now() => break,
                    Some(due) => {
                        shared.changed.wait_until(&mut queue, due);
                    }
                }
            }
            // `removing` comes first. Meanwhile another thread may take what was due: then there is nothing to do.
            drop(queue);
            let removing = shared.removing.lock();
            let mut queue = shared.queue.lock();
            queue.changed_since = None;
            // Reset before the sync, so that later changes are announced again.
            shared.told.store(false, Ordering::Release);
            let doomed = if queue.may_remove() || queue.closing {
                queue.take()
            } else {
                Vec::new()
            };
            (doomed, queue.closing, removing)
        };
        if !doomed.is_empty() || (!closing && !disk.is_synced()) {
            sync_and_remove(&doomed, shared, disk);
        }
        drop(removing);
        if closing {
            return;
        }
        compaction.begin_if_due(disk);
    }
}

/// The thread of the last compaction. Dropping it waits for its end, which comes soon if compacting was stopped.
struct Compaction(Option<JoinHandle<()>>);

impl Compaction {
    fn begin_if_due(&mut self, disk: &Arc<Disk>) {
        let is_running = self.0.as_ref().is_some_and(|last| !last.is_finished());
        if is_running || !disk.is_large() {
            return;
        }
        self.end();
        let disk = disk.clone();
        let thread = std::thread::Builder::new().name("compaction".to_owned());
        match thread.spawn(move || disk.compact_if_large()) {
            Ok(thread) => self.0 = Some(thread),
            // It is tried again after the next sync.
            Err(error) => {
                tracing::warn!(%error, "the journal is not compacted: there is no thread for it");
            }
        }
    }

    fn end(&mut self) {
        if let Some(Err(_)) = self.0.take().map(JoinHandle::join) {
            tracing::error!(
                "the thread that compacts the journal panicked; the journal is as it was"
            );
        }
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.end();
    }
}

fn sync_and_remove(doomed: &[Ino], shared: &Shared, disk: &Disk) {
    sync_then_remove(doomed, shared, disk);
    shared.queue.lock().is_removing = false;
    shared.removed.notify_all();
}

fn sync_then_remove(doomed: &[Ino], shared: &Shared, disk: &Disk) {
    if let Err(error) = disk.sync() {
        // The scratch files stay; recovery or discard removes them.
        if !shared.queue.lock().abandoned {
            tracing::error!(%error, files = doomed.len(), "what was written may not survive a power loss; scratch files of deleted files are kept");
        }
        return;
    }
    for &ino in doomed {
        disk.remove(ino);
    }
}
