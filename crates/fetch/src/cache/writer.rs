//! The thread that writes the files, so that no read waits for the disk.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use attachfs_durable::{DurableError, Space, Staged, make_private_dir, space, sweep_abandoned};
use attachfs_manifest::ContentHash;
use bytes::Bytes;

use super::{CacheError, Shelf};

/// Bytes that may wait to be written. They are mostly in memory anyway, as what was read last.
const QUEUE_BYTES: u64 = 64 << 20;
/// How long a dropped cache waits for its queue.
const DRAIN: Duration = Duration::from_secs(10);
/// The disk keeps free this much or 5 %, whichever is more.
const KEEP_FREE: u64 = 1 << 30;
/// How long an answer about the free space is believed.
const SPACE_AGE: Duration = Duration::from_secs(1);

enum Order {
    Write(ContentHash, Bytes),
    /// Answered by dropping it, once everything before it is done.
    Flush(#[expect(dead_code, reason = "held for its Drop")] Sender<()>),
}

/// The handle on the thread. Dropping it lets the thread finish its queue.
pub(super) struct Writer {
    shelf: Arc<Shelf>,
    orders: Option<Sender<Order>>,
    queued: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended.
    ended: parking_lot::Mutex<Receiver<()>>,
}

impl Writer {
    pub(super) fn start(shelf: Arc<Shelf>) -> Result<Self, CacheError> {
        let (orders, receiver) = mpsc::channel();
        let (ending, ended) = mpsc::channel();
        let queued = Arc::new(AtomicU64::new(0));
        let writing = Writing {
            shelf: Arc::clone(&shelf),
            fanout: [false; 256],
            room: true,
            room_asked: None,
        };
        let thread_queued = Arc::clone(&queued);
        let thread = std::thread::Builder::new()
            .name("attachfs-cache".to_owned())
            .spawn(move || {
                let _ending: Sender<()> = ending;
                writing.run(&receiver, &thread_queued);
            })
            .map_err(|source| DurableError {
                doing: "start the writing thread of",
                path: shelf.dir.clone(),
                source,
            })?;
        Ok(Self {
            shelf,
            orders: Some(orders),
            queued,
            thread: Some(thread),
            ended: parking_lot::Mutex::new(ended),
        })
    }

    pub(super) fn send(&self, hash: ContentHash, object: Bytes) {
        let len = object.len() as u64;
        if self.queued.fetch_add(len, Ordering::Relaxed) + len > QUEUE_BYTES {
            self.queued.fetch_sub(len, Ordering::Relaxed);
            self.shelf.counts.dropped.add(1);
            return;
        }
        self.order(Order::Write(hash, object));
    }

    pub(super) fn flush(&self) {
        let (done, wait) = mpsc::channel();
        self.order(Order::Flush(done));
        // An error is the answer: the sender was dropped.
        let _ = wait.recv();
    }

    fn order(&self, order: Order) {
        // Fails only if the thread has panicked. Then nothing is cached any more, which is slow and
        // not wrong; the panic itself was reported on the thread.
        if self
            .orders
            .as_ref()
            .is_none_or(|orders| orders.send(order).is_err())
        {
            self.shelf.counts.dropped.add(1);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders = None;
        if let Err(RecvTimeoutError::Timeout) = self.ended.get_mut().recv_timeout(DRAIN) {
            tracing::warn!(dir = %self.shelf.dir.display(), "the disk cache is too slow; it is left unfinished");
            return;
        }
        if let Some(thread) = self.thread.take() {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("queued", &self.queued)
            .finish_non_exhaustive()
    }
}

/// What the thread knows.
struct Writing {
    shelf: Arc<Shelf>,
    /// Which of the 256 directories are known to exist.
    fanout: [bool; 256],
    room: bool,
    room_asked: Option<Instant>,
}

impl Writing {
    fn run(mut self, orders: &Receiver<Order>, queued: &AtomicU64) {
        match sweep_abandoned(&self.shelf.incoming()) {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "removed unfinished files from the disk cache"),
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "cannot remove unfinished files from the disk cache"
            ),
        }
        while let Ok(order) = orders.recv() {
            let Order::Write(hash, object) = order else {
                continue;
            };
            if self.has_room() {
                self.write(hash, &object);
            } else {
                self.shelf.counts.dropped.add(1);
            }
            queued.fetch_sub(object.len() as u64, Ordering::Relaxed);
        }
    }

    fn write(&mut self, hash: ContentHash, object: &[u8]) {
        let mut written = self.place(hash, object);
        if written
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            // The cache was deleted under us: begin a new one.
            self.fanout = [false; 256];
            written = match self.shelf.prepare() {
                Ok(()) => self.place(hash, object),
                Err(CacheError::Io(error)) => Err(error),
                Err(refused) => {
                    tracing::warn!(
                        error = &refused as &dyn std::error::Error,
                        "the disk cache was replaced; nothing more is written to it"
                    );
                    self.shelf.counts.dropped.add(1);
                    return;
                }
            };
        }
        match written {
            Ok(()) => self.shelf.counts.written.add(1),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "an object is not cached"
                );
                self.shelf.counts.dropped.add(1);
            }
        }
    }

    fn place(&mut self, hash: ContentHash, object: &[u8]) -> Result<(), DurableError> {
        let path = self.shelf.path(hash);
        let fanout = usize::from(hash.as_bytes()[0]);
        if !self.fanout[fanout] {
            let dir = path.parent().expect("a cache file is in a directory");
            match make_private_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => self.fanout[fanout] = true,
            }
        }
        let staged = Staged::create_in(&self.shelf.incoming())?;
        let written = staged.file().write_all(object);
        written.map_err(|source| DurableError {
            doing: "write",
            path: path.clone(),
            source,
        })?;
        staged.place(&path).map(drop)
    }

    fn has_room(&mut self) -> bool {
        if self.room_asked.is_none_or(|at| at.elapsed() > SPACE_AGE) {
            // A directory that is gone is made again by the write; until then there is room.
            let room = space(&self.shelf.partition).is_ok_and(|space| enough(&space))
                || !self.shelf.partition.exists();
            if self.room && !room {
                tracing::warn!(dir = %self.shelf.dir.display(),
                    "the disk is nearly full; nothing more is written to the disk cache for now");
            }
            self.room = room;
            self.room_asked = Some(Instant::now());
        }
        self.room
    }
}

fn enough(space: &Space) -> bool {
    space.available >= KEEP_FREE.max(space.total / 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_keeps_some_room_free() {
        let space = |total, available| Space {
            total,
            free: available,
            available,
            files_total: 0,
            files_free: 0,
            block_size: 4096,
        };
        assert!(enough(&space(10 << 30, 1 << 30)));
        assert!(!enough(&space(10 << 30, (1 << 30) - 1)));
        assert!(enough(&space(100 << 30, 5 << 30)));
        assert!(!enough(&space(100 << 30, 4 << 30)));
    }
}
