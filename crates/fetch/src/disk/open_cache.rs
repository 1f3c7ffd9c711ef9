//! What the readers, the thread that writes and the thread that keeps the bounds share.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use attachfs_durable::{HashBytes, ObjectFiles, SHELVES, Sum};
use attachfs_manifest::ContentHash;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::backlog::Backlog;
use super::health::Health;
use super::joining::Wanted;
use super::large::LargeFile;
use super::{DiskCounts, WrongObject};

/// Bytes that may wait to be written at most.
const QUEUE_BYTES: u64 = 64 << 20;
/// Bytes that are written until somebody looks again how full the cache is.
const SLACK: u64 = 64 << 20;
/// For so many milliseconds after a read another one is expected.
const BUSY: u64 = 50;

/// For the thread that writes.
pub(super) enum Order {
    Object(ContentHash, Bytes),
    Units {
        of: Arc<LargeFile>,
        first: u64,
        bytes: Bytes,
        version: Option<Arc<str>>,
    },
    /// Answered by dropping it, once everything before it is done.
    Flush(#[expect(dead_code, reason = "held for its Drop")] Sender<()>),
}

/// For the thread that keeps the bounds.
pub(super) enum Duty {
    Look,
    /// All units are there.
    Verify(Arc<LargeFile>),
    /// An open wanted one file of all these chunks.
    Join(Wanted),
    /// Answered by dropping it.
    Flush(#[expect(dead_code, reason = "held for its Drop")] Sender<()>),
}

type OnWrong = Box<dyn Fn(&WrongObject) + Send + Sync>;

/// An open cache, as its readers and its two threads share it.
pub(super) struct OpenCache {
    pub(super) objects: ObjectFiles,
    pub(super) counts: DiskCounts,
    pub(super) health: Health,
    /// Bytes that may be written until somebody looks again how full the cache is.
    room: AtomicI64,
    /// Bytes of a file that is being joined, of which nothing is written down.
    reserved: AtomicU64,
    /// Those of them that are not on the disk yet.
    to_come: AtomicU64,
    /// Bytes that were written since.
    written: AtomicU64,
    /// Whether the keeper knows that it is to look.
    is_asked: AtomicBool,
    /// What came to the shelves and is not written down yet. Held for single changes.
    fresh: Mutex<Vec<Sum>>,
    queued: AtomicU64,
    /// Tells of what could not wait.
    backlog: Backlog,
    /// Bytes that may wait to be written.
    most_queued: AtomicU64,
    /// What the threads did so far: it tells a slow disk from one that does not answer.
    steps: AtomicU64,
    /// Nothing once the cache ends. Held to send.
    orders: RwLock<Option<Sender<Order>>>,
    duties: RwLock<Option<Sender<Duty>>>,
    is_ending: AtomicBool,
    /// Files that are being joined, or wait for it. Held for single look-ups and changes.
    joining: Mutex<HashSet<HashBytes>>,
    begun: Instant,
    /// When somebody read of it last, in milliseconds after the beginning.
    read_at: AtomicU64,
    /// Objects whose bytes in the store are not what their hashes say, with the hashes of what came.
    wrong: Mutex<HashMap<ContentHash, ContentHash>>,
    pub(super) on_wrong: OnceLock<OnWrong>,
}

impl OpenCache {
    pub(super) fn new(
        objects: ObjectFiles,
        retry_after: Duration,
        orders: Sender<Order>,
        duties: Sender<Duty>,
    ) -> Self {
        Self {
            health: Health::new(objects.dir().to_owned(), retry_after),
            objects,
            counts: DiskCounts::default(),
            room: AtomicI64::new(0),
            reserved: AtomicU64::new(0),
            to_come: AtomicU64::new(0),
            written: AtomicU64::new(0),
            is_asked: AtomicBool::new(false),
            fresh: Mutex::new(vec![Sum::default(); SHELVES]),
            queued: AtomicU64::new(0),
            backlog: Backlog::default(),
            most_queued: AtomicU64::new(QUEUE_BYTES),
            steps: AtomicU64::new(0),
            orders: RwLock::new(Some(orders)),
            duties: RwLock::new(Some(duties)),
            is_ending: AtomicBool::new(false),
            joining: Mutex::default(),
            begun: Instant::now(),
            read_at: AtomicU64::new(0),
            wrong: Mutex::default(),
            on_wrong: OnceLock::new(),
        }
    }

    /// Has fewer bytes wait to be written: a quarter of these. Returns how many may wait.
    pub(super) fn queue_within(&self, memory: u64) -> u64 {
        let most = QUEUE_BYTES.min(memory / 4);
        self.most_queued.store(most, Ordering::Relaxed);
        most
    }

    /// Whether so many bytes more would be too many to wait, while some do wait.
    pub(super) fn is_behind(&self, more: u64) -> bool {
        let waits = self.queued.load(Ordering::Relaxed);
        waits > 0 && waits.saturating_add(more) > self.most_queued.load(Ordering::Relaxed)
    }

    /// Has something written, unless too much waits already. Never blocks.
    pub(super) fn write(&self, order: Order, bytes: u64) -> bool {
        let waits = self.queued.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // What is longer than the queue goes alone.
        let most = self.most_queued.load(Ordering::Relaxed);
        if (waits <= most || waits == bytes) && self.order(order) {
            return true;
        }
        self.done(bytes);
        self.dropped(bytes);
        self.backlog.dropped(&self.health.dir, bytes);
        false
    }

    /// Counts bytes that are not kept.
    pub(super) fn dropped(&self, bytes: u64) {
        self.counts.dropped.add(1);
        self.counts.dropped_bytes.add(bytes);
    }

    /// Counts something that a thread did.
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Notes that bytes wait no longer.
    pub(super) fn done(&self, bytes: u64) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// `false` if nobody takes orders any more: the cache ends, or its thread has panicked, which was reported there.
    pub(super) fn order(&self, order: Order) -> bool {
        let orders = self.orders.read();
        orders
            .as_ref()
            .is_some_and(|orders| orders.send(order).is_ok())
    }

    pub(super) fn duty(&self, duty: Duty) -> bool {
        let duties = self.duties.read();
        duties
            .as_ref()
            .is_some_and(|duties| duties.send(duty).is_ok())
    }

    /// No more orders are taken.
    pub(super) fn end_orders(&self) {
        *self.orders.write() = None;
    }

    /// The keeper is to end, too.
    pub(super) fn end_duties(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        *self.duties.write() = None;
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Takes room for bytes that are written next, if there is some.
    pub(super) fn take_room(&self, bytes: u64) -> bool {
        let wanted = i64::try_from(bytes).unwrap_or(i64::MAX);
        let had = self.room.fetch_sub(wanted, Ordering::Relaxed);
        let is_enough = had >= wanted;
        if !is_enough {
            self.room.fetch_add(wanted, Ordering::Relaxed);
        }
        let written = self.written.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !is_enough || had - wanted < SLACK as i64 || written > SLACK {
            self.ask_to_look();
        }
        is_enough
    }

    /// Takes room for a file that is being joined, if there is some, until it is given back.
    pub(super) fn reserve(&self, bytes: u64) -> bool {
        let has_room = self.take_room(bytes);
        if has_room {
            self.reserved.fetch_add(bytes, Ordering::Relaxed);
            self.to_come.fetch_add(bytes, Ordering::Relaxed);
        }
        has_room
    }

    /// Notes that so many of the bytes that room was taken for are on the disk: they are no longer free there.
    pub(super) fn reserved_is_written(&self, bytes: u64) {
        self.to_come.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives room back, of which `written` was written: what takes it is written down now, or gone.
    pub(super) fn give_back(&self, bytes: u64, written: u64) {
        if bytes > 0 {
            self.reserved.fetch_sub(bytes, Ordering::Relaxed);
            self.to_come.fetch_sub(bytes - written, Ordering::Relaxed);
            self.ask_to_look();
        }
    }

    /// Bytes that room was taken for on the disk, and that still look free there.
    pub(super) fn to_come(&self) -> u64 {
        self.to_come.load(Ordering::Relaxed)
    }

    pub(super) fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Notes that a file is to be joined. `false` if that was noted before.
    pub(super) fn begin_joining(&self, name: HashBytes) -> bool {
        self.joining.lock().insert(name)
    }

    /// Whether no file is being joined or waits for it.
    #[cfg(test)]
    pub(super) fn joins_nothing(&self) -> bool {
        self.joining.lock().is_empty()
    }

    /// Notes that it is joined, or is not going to be.
    pub(super) fn end_joining(&self, name: HashBytes) {
        self.joining.lock().remove(&name);
    }

    /// Notes that somebody waits for bytes of it.
    pub(super) fn somebody_reads(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.read_at.store(now, Ordering::Relaxed);
    }

    /// Whether somebody reads of it, or something waits to be written.
    pub(super) fn is_busy(&self) -> bool {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let read_at = self.read_at.load(Ordering::Relaxed);
        self.queued.load(Ordering::Relaxed) > 0
            || (read_at > 0 && now.saturating_sub(read_at) < BUSY)
    }

    /// Has the keeper look how full the cache is.
    pub(super) fn ask_to_look(&self) {
        if !self.is_asked.swap(true, Ordering::Relaxed) {
            self.duty(Duty::Look);
        }
    }

    /// Whether the keeper is to look, which it does now.
    pub(super) fn was_asked(&self) -> bool {
        self.is_asked.swap(false, Ordering::Relaxed)
    }

    /// Sets how much may be written by what was written down; what came since takes of it.
    pub(super) fn set_room(&self, room: i64) {
        let fresh = i64::try_from(self.fresh_bytes()).unwrap_or(i64::MAX);
        self.written.store(0, Ordering::Relaxed);
        self.room
            .store(room.saturating_sub(fresh), Ordering::Relaxed);
    }

    /// Counts what came to a shelf.
    pub(super) fn came(&self, hash: ContentHash, bytes: u64, objects: u64) {
        let mut fresh = self.fresh.lock();
        let sum = &mut fresh[usize::from(hash.as_bytes()[0])];
        sum.bytes += bytes;
        sum.objects += objects;
    }

    /// Takes the bytes and objects that were written to each shelf since the last call. The caller stores them, or puts
    /// them back.
    pub(super) fn take_fresh(&self) -> Vec<Sum> {
        let mut fresh = self.fresh.lock();
        fresh.iter_mut().map(std::mem::take).collect()
    }

    /// Puts back counts that could not be stored.
    pub(super) fn put_fresh_back(&self, taken: &[Sum]) {
        let mut fresh = self.fresh.lock();
        for (sum, more) in fresh.iter_mut().zip(taken) {
            sum.bytes += more.bytes;
            sum.objects += more.objects;
        }
    }

    /// Bytes that came and are not written down.
    fn fresh_bytes(&self) -> u64 {
        self.fresh.lock().iter().map(|sum| sum.bytes).sum()
    }

    /// Counts and tells a file that cannot be read. Whoever wanted it asks the store.
    pub(super) fn read_failed(&self, hash: ContentHash, error: &io::Error) {
        self.counts.failed.add(1);
        let path = self.objects.path(*hash.as_bytes());
        tracing::warn!(path = %path.display(), error = error as &dyn Error,
            "a file of the disk cache cannot be read; the store is asked");
    }

    /// Remembers an object that the store has wrong, and tells it.
    pub(super) fn quarantine(&self, wrong: WrongObject) {
        self.counts.wrong.add(1);
        self.wrong.lock().insert(wrong.hash, wrong.found);
        if let Some(tell) = self.on_wrong.get() {
            tell(&wrong);
        }
    }

    /// Forgets that an object is wrong.
    pub(super) fn forgive(&self, hash: ContentHash) {
        self.wrong.lock().remove(&hash);
    }

    /// The hash of what the store has in the place of this object, if that is known to be wrong.
    pub(super) fn wrong(&self, hash: ContentHash) -> Option<ContentHash> {
        self.wrong.lock().get(&hash).copied()
    }
}

impl fmt::Debug for OpenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenCache")
            .field("objects", &self.objects)
            .field("room", &self.room)
            .field("queued", &self.queued)
            .finish_non_exhaustive()
    }
}
