//! [`Fetcher`]: what all readers of a mount share ([`Engine`]), how files are opened, and the errors of the store.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use attachfs_durable::BufferPool;
use attachfs_manifest::{ChunkLayout, ChunkSize, ContentHash, Piece};
use attachfs_store::{ChunkStore, LatencyCounts, ObjectPart, RequestCounts, StoreError};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::ahead::AheadBytes;
use crate::budget::{SharedPriority, Turns};
use crate::counters::Counts;
use crate::doubt::Doubts;
use crate::large_objects::KnownObjects;
use crate::link::Link;
use crate::outage::Outage;
use crate::overdue::Overdue;
use crate::patience::Pulse;
use crate::quiet::{self, Quiet};
use crate::scheduler::{Interest, Scheduler, TOGETHER};
use crate::traces::Unread;
use crate::{
    DiskCache, Doubt, FetchCounters, FetchError, FetchOptions, FileReader, HeldBytes, Priority,
    Recorder, UnderWay,
};

/// Gives the bytes of stored objects. One for each mount, shared by all its readers; clones are the same one.
#[derive(Debug, Clone)]
pub struct Fetcher {
    engine: Arc<Engine>,
}

/// What all readers of a mount share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) store: Arc<dyn ChunkStore>,
    pub(crate) disk: Option<Arc<DiskCache>>,
    pub(crate) options: FetchOptions,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) turns: Turns,
    /// How much may be fetched ahead.
    pub(crate) ahead: AheadBytes,
    /// Memory for units.
    pub(crate) landed: BufferPool,
    /// Memory for units that land together.
    pub(crate) landed_together: BufferPool,
    /// Memory for answers that are put together from several units.
    pub(crate) answers: BufferPool,
    /// The runtime for fetches ahead: the one on which a read waited last.
    runtime: Mutex<Option<Handle>>,
    pub(crate) counts: Counts,
    pub(crate) pulse: Pulse,
    pub(crate) link: Link,
    pub(crate) quiet: Quiet,
    pub(crate) known: KnownObjects,
    pub(crate) doubts: Doubts,
    pub(crate) overdue: Overdue,
    pub(crate) outage: Outage,
    /// Notes what is read, if that is recorded.
    pub(crate) recorder: OnceLock<Arc<Recorder>>,
    pub(crate) unread: Unread,
}

impl Fetcher {
    /// A fetcher that has read nothing yet.
    pub fn new(store: Arc<dyn ChunkStore>, disk: Option<DiskCache>, options: FetchOptions) -> Self {
        let idle = IDLE_UNITS.min(options.memory_bytes / 8);
        // What waits to be written to the disk has its part of the memory, whether it is kept for readers or not.
        let queue = disk
            .as_ref()
            .map_or(0, |disk| disk.queue_within(options.memory_bytes));
        let engine = Engine {
            store,
            disk: disk.map(Arc::new),
            scheduler: Scheduler::new(options.memory_bytes - queue),
            turns: Turns::new(options.max_requests),
            ahead: AheadBytes::new(options.memory_bytes / 2),
            landed: BufferPool::new(unit_len(&options), idle),
            landed_together: BufferPool::new(unit_len(&options) * TOGETHER, idle),
            answers: BufferPool::new(ANSWER, IDLE_ANSWERS),
            runtime: Mutex::new(None),
            counts: Counts::default(),
            pulse: Pulse::default(),
            link: Link::default(),
            quiet: Quiet::new(),
            known: KnownObjects::new(unit_len(&options), options.verifies_first),
            doubts: Doubts::default(),
            overdue: Overdue::default(),
            outage: Outage::default(),
            recorder: OnceLock::new(),
            unread: Unread::default(),
            options,
        };
        let engine = Arc::new(engine);
        if let Some(disk) = &engine.disk {
            let ours = Arc::downgrade(&engine);
            disk.on_wrong(move |wrong| {
                if let Some(ours) = ours.upgrade() {
                    ours.object_is_wrong(wrong.hash, wrong.len, wrong.found);
                }
            });
        }
        Self { engine }
    }

    /// Opens a file whose bytes lie in objects like this. Asks for nothing.
    pub fn open(&self, layout: &ChunkLayout<'_>) -> FileReader {
        FileReader::new(Arc::clone(&self.engine), layout)
    }

    /// Opens a whole object as if it was a file, for a caller that reads all of it in order and hashes it before it makes use
    /// of it: that no program has its bytes if it turns out to be wrong.
    pub fn open_object(&self, object: &Piece) -> FileReader {
        let hashes = [object.hash];
        let layout = ChunkLayout::from_hashes(object.object_len, ChunkSize::WholeFile, &hashes);
        let layout = layout.expect("one hash is right for any length");
        self.open(&layout).for_verifying()
    }

    /// The bytes of `piece`, exactly as many as its range asks for. What timed out a moment ago is not
    /// waited for again: it fails at once. Needs a tokio runtime with time enabled.
    pub async fn read(&self, piece: &Piece) -> Result<Bytes, FetchError> {
        if !self.engine.verifies(piece) {
            self.engine.known.of(piece).note_given();
        }
        let read = self.engine.begin_in_memory(piece.clone(), Priority::Read);
        read.bytes().await
    }

    /// Waits for room for bytes that are fetched and not kept.
    pub async fn room(&self, bytes: u64) -> HeldBytes {
        let priority = SharedPriority::new(Priority::Read);
        self.engine.scheduler.room(bytes, &priority).await
    }

    /// [`room`](Self::room), if there is some now.
    pub fn room_now(&self, bytes: u64) -> Option<HeldBytes> {
        self.engine.scheduler.room_now(bytes)
    }

    /// Fetches a piece from the store for a caller that has room for it, takes it once and verifies it. No other read shares
    /// it, and nothing is kept. Only its length and that of the object are checked. It takes as long as the
    /// store does.
    pub async fn fetch(&self, piece: &Piece, _room: &HeldBytes) -> Result<ObjectPart, FetchError> {
        let engine = &self.engine;
        let part = engine.request(piece.hash, piece.range.clone(), piece.object_len);
        let part = part.await?;
        engine.counts.bytes_from_store.add(part.bytes.len() as u64);
        Ok(part)
    }

    /// Whether every byte of the piece's object was verified before it is given. Otherwise the object
    /// is read in units, and a caller that needs to know that they are right has to hash all of it.
    pub fn verifies(&self, piece: &Piece) -> bool {
        self.engine.verifies(piece)
    }

    /// Whether a file of the disk cache has the name and the length of the piece's object. Nobody has
    /// looked at its bytes. Blocks.
    pub fn is_on_disk(&self, piece: &Piece) -> bool {
        let engine = &self.engine;
        let disk = engine.disk.as_ref().filter(|_| engine.verifies(piece));
        disk.is_some_and(|disk| disk.may_have(piece.hash, piece.object_len))
    }

    /// Has a function called when an object of which bytes were given out turns out to be wrong, or was replaced before it
    /// was verified. It must not block; it may be called on any thread. The first function counts.
    pub fn on_doubt(&self, tell: impl Fn(&Doubt) + Send + Sync + 'static) {
        self.engine.doubts.listen(Box::new(tell));
    }

    /// The objects of which bytes were given out before all of them was read and found wrong.
    pub fn wrong_and_given(&self) -> Vec<Doubt> {
        self.engine.doubts.wrong_and_given()
    }

    /// Has every read of a program from now on recorded. The first recorder counts.
    pub fn record(&self, recorder: Arc<Recorder>) {
        self.engine.recorder.get_or_init(|| recorder);
    }

    /// Whether bytes of a piece's object were given to programs before they were verified, and nobody has verified them since.
    pub fn gave_unverified(&self, piece: &Piece) -> bool {
        !self.engine.verifies(piece) && self.engine.known.gave_unverified(piece)
    }

    /// Why a file must not be opened: an object of it is known to be wrong. After some time it may be, so that the store
    /// is asked again.
    pub fn refused(&self, layout: &ChunkLayout<'_>) -> Option<FetchError> {
        let engine = &self.engine;
        if !engine.known.has_wrong() {
            return None;
        }
        let mut pieces = layout.pieces(0..layout.size());
        pieces.find_map(|piece| {
            let (hash, found) = (piece.hash, engine.known.refused(&piece)?);
            Some(FetchError::Damaged { hash, found })
        })
    }

    /// The disk cache, if it has one.
    pub fn disk(&self) -> Option<Arc<DiskCache>> {
        self.engine.disk.clone()
    }

    /// What has been done so far.
    pub fn counters(&self) -> FetchCounters {
        let counts = &self.engine.counts;
        let disk = self.engine.disk.as_ref().map(|disk| disk.counts());
        let (bytes_ahead, bytes_ahead_read) = self.engine.unread.so_far();
        FetchCounters {
            objects_from_store: counts.objects_from_store.get(),
            ranges_from_store: counts.ranges_from_store.get(),
            bytes_from_store: counts.bytes_from_store.get(),
            memory_hits: counts.memory_hits.get(),
            bytes_from_memory: counts.bytes_from_memory.get(),
            disk_hits: counts.disk_hits.get(),
            bytes_from_disk: counts.bytes_from_disk.get(),
            damaged: counts.damaged.get(),
            verified: counts.verified.get(),
            wrong: counts.wrong.get(),
            wrong_length: counts.wrong_length.get(),
            missing: counts.missing.get(),
            failed: counts.failed.get(),
            timed_out: counts.timed_out.get(),
            broken_off: counts.broken_off.get(),
            versions_changed: counts.versions_changed.get(),
            bytes_ahead,
            bytes_ahead_read,
            disk_written: disk.map_or(0, |disk| disk.written.get()),
            disk_dropped: disk.map_or(0, |disk| disk.dropped.get()),
            disk_dropped_bytes: disk.map_or(0, |disk| disk.dropped_bytes.get()),
            disk_damaged: disk.map_or(0, |disk| disk.damaged.get()),
            disk_failed: disk.map_or(0, |disk| disk.failed.get()),
            disk_evicted: disk.map_or(0, |disk| disk.evicted.get()),
            disk_verified: disk.map_or(0, |disk| disk.verified.get()),
            disk_joined: disk.map_or(0, |disk| disk.joined.get()),
            disk_joined_copied: disk.map_or(0, |disk| disk.joined_copied.get()),
            disk_joined_cloned: disk.map_or(0, |disk| disk.joined_cloned.get()),
            disk_wrong: disk.map_or(0, |disk| disk.wrong.get()),
        }
    }

    /// How long the store took to begin its answers.
    pub fn first_byte(&self) -> LatencyCounts {
        self.engine.counts.first_byte.so_far()
    }

    /// The requests that the store has been asked for since it was opened, if it counts them.
    pub fn requests(&self) -> Option<RequestCounts> {
        self.engine.store.requests()
    }

    /// The fetches at this moment.
    pub fn under_way(&self) -> UnderWay {
        let (requests, waiting) = self.engine.turns.now();
        UnderWay {
            requests,
            waiting: waiting + self.engine.scheduler.waiting_for_room(),
        }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    #[cfg(test)]
    pub(crate) fn begin(&self, piece: Piece, priority: Priority) -> crate::reader::PieceRead {
        self.engine.begin(piece, priority)
    }
}

/// How long an answer is at most that is put together in memory that is used again: what a kernel asks for at once.
const ANSWER: u64 = 1 << 20;
/// Memory for answers that is kept unused, in bytes.
const IDLE_ANSWERS: u64 = 4 << 20;
/// Memory of each kind for units that is kept unused, in bytes: beside the budget.
const IDLE_UNITS: u64 = 4 << 20;

/// The shortest unit, in bytes.
const LEAST_UNIT: u64 = 4096;

/// How long a unit is, but for an object's last.
pub(crate) fn unit_len(options: &FetchOptions) -> u64 {
    options.unit_len.max(LEAST_UNIT)
}

impl Engine {
    /// The runtime of the thread that waited for the store last.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.runtime.lock().clone()
    }

    /// Notes the runtime of this thread as the one for fetches ahead, and returns it. Needs one.
    pub(crate) fn note_runtime(self: &Arc<Self>) -> Handle {
        let runtime = Handle::current();
        let before = self.runtime.lock().replace(runtime.clone());
        drop(before);
        quiet::look_after(self, &runtime);
        runtime
    }

    /// Begins to fetch the parts of a piece that are neither here nor under way, for a read that may come. Each fetch goes on as
    /// long as its [`Interest`] lives.
    pub(crate) fn fetch_ahead(
        self: &Arc<Self>,
        piece: &Piece,
        priority: Priority,
    ) -> Vec<Interest> {
        let Some(runtime) = self.runtime() else {
            return Vec::new();
        };
        if self.verifies(piece) {
            let interest = self.fetch_small_ahead(&runtime, piece, priority);
            interest.into_iter().collect()
        } else {
            self.fetch_large_ahead(&runtime, piece, priority)
        }
    }

    /// Asks the store for part of an object whose length is known.
    pub(crate) async fn request(
        &self,
        hash: ContentHash,
        range: Range<u64>,
        object_len: u64,
    ) -> Result<ObjectPart, FetchError> {
        let (start, len) = (range.start, range.end - range.start);
        let part = match self.store.get(hash, range).await {
            Ok(part) => part,
            Err(error) => return Err(self.store_failed(hash, error)),
        };
        self.outage.over();
        let found = match part.bytes.len() as u64 {
            _ if part.object_len != object_len => part.object_len,
            got if got != len => start + got,
            _ => return Ok(part),
        };
        Err(self.wrong_length(hash, object_len, found))
    }

    /// Counts a failure of the store and makes it an error. The reader says what could not be read.
    pub(crate) fn store_failed(&self, hash: ContentHash, error: StoreError) -> FetchError {
        let source = Arc::new(error);
        if let StoreError::NotFound { .. } = *source {
            self.counts.missing.add(1);
            self.outage.over();
            return FetchError::Missing { hash, source };
        }
        self.counts.failed.add(1);
        let error = FetchError::Store { hash, source };
        self.outage.note(&error);
        error
    }

    /// Counts an object of another length than the manifest says.
    pub(crate) fn wrong_length(&self, hash: ContentHash, expected: u64, found: u64) -> FetchError {
        self.counts.wrong_length.add(1);
        FetchError::WrongLength {
            hash,
            expected,
            found,
        }
    }
}
