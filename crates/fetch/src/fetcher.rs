//! [`Fetcher`]: where a read goes, and what is counted and logged on its way.

use std::ops::Range;
use std::sync::Arc;

use attachfs_manifest::{ChunkLayout, ContentHash, Piece};
use attachfs_store::{ChunkStore, ObjectPart, StoreError};
use bytes::Bytes;

use crate::budget::SharedPriority;
use crate::counters::Counts;
use crate::large_objects::Versions;
use crate::outage::Outage;
use crate::overdue::Overdue;
use crate::pending::Reading;
use crate::scheduler::Scheduler;
use crate::{DiskCache, FetchCounters, FetchError, FetchOptions, FileReader, HeldBytes, Priority};

/// Gives the bytes of stored objects. One for each mount, shared by all its readers; clones are the same one.
#[derive(Debug, Clone)]
pub struct Fetcher {
    shared: Arc<Core>,
}

/// What all reads share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Arc<dyn ChunkStore>,
    pub(crate) disk: Option<Arc<DiskCache>>,
    pub(crate) options: FetchOptions,
    pub(crate) scheduler: Arc<Scheduler>,
    pub(crate) counts: Counts,
    pub(crate) versions: Versions,
    pub(crate) overdue: Overdue,
    pub(crate) outage: Outage,
}

impl Fetcher {
    /// A fetcher that has read nothing yet.
    pub fn new(store: Arc<dyn ChunkStore>, disk: Option<DiskCache>, options: FetchOptions) -> Self {
        let shared = Core {
            store,
            disk: disk.map(Arc::new),
            scheduler: Scheduler::new(options.memory_bytes),
            counts: Counts::default(),
            versions: Versions::default(),
            overdue: Overdue::default(),
            outage: Outage::default(),
            options,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Opens a file whose bytes lie in objects like this. Asks for nothing.
    pub fn open(&self, layout: &ChunkLayout<'_>) -> FileReader {
        FileReader::new(Arc::clone(&self.shared), layout)
    }

    /// The bytes of `piece`, exactly as many as its range asks for. What timed out a moment ago is not
    /// waited for again: it fails at once. Needs a tokio runtime with time enabled.
    pub async fn read(&self, piece: &Piece) -> Result<Bytes, FetchError> {
        match self.shared.look_up(piece.clone(), Priority::Read) {
            Reading::Ready(bytes) => Ok(bytes),
            Reading::Pending(pending) => pending.bytes().await,
        }
    }

    /// Waits for room for bytes that are fetched and not kept.
    pub async fn room(&self, bytes: u64) -> HeldBytes {
        let priority = SharedPriority::new(Priority::Read);
        self.shared.scheduler.room(bytes, &priority).await
    }

    /// [`room`](Self::room), if there is some now.
    pub fn room_now(&self, bytes: u64) -> Option<HeldBytes> {
        self.shared.scheduler.room_now(bytes)
    }

    /// Fetches a piece from the store for somebody who has room for it, takes it once and verifies it. Nobody shares
    /// it, and nothing is kept. Only its length and that of the object are checked. It takes as long as the
    /// store does.
    pub async fn fetch(&self, piece: &Piece, _room: &HeldBytes) -> Result<ObjectPart, FetchError> {
        let shared = &self.shared;
        let part = shared.request(piece.hash, piece.range.clone(), piece.object_len);
        let part = part.await?;
        shared.counts.bytes_from_store.add(part.bytes.len() as u64);
        Ok(part)
    }

    /// Whether every byte of the piece's object was verified before it is given. Otherwise the object
    /// is read in blocks, and whoever needs to know that they are right has to hash all of it.
    pub fn verifies(&self, piece: &Piece) -> bool {
        self.shared.verifies(piece)
    }

    /// Whether a file of the disk cache has the name and the length of the piece's object. Nobody has
    /// looked at its bytes. Blocks.
    pub fn is_on_disk(&self, piece: &Piece) -> bool {
        let shared = &self.shared;
        let disk = shared.disk.as_ref().filter(|_| shared.verifies(piece));
        disk.is_some_and(|disk| disk.may_have(piece.hash, piece.object_len))
    }

    /// The disk cache, if it has one.
    pub fn disk(&self) -> Option<Arc<DiskCache>> {
        self.shared.disk.clone()
    }

    /// What has been done so far.
    pub fn counters(&self) -> FetchCounters {
        let counts = &self.shared.counts;
        let disk = self.shared.disk.as_ref().map(|disk| disk.counts());
        FetchCounters {
            objects_from_store: counts.objects_from_store.get(),
            blocks_from_store: counts.blocks_from_store.get(),
            bytes_from_store: counts.bytes_from_store.get(),
            memory_hits: counts.memory_hits.get(),
            disk_hits: counts.disk_hits.get(),
            damaged: counts.damaged.get(),
            wrong_length: counts.wrong_length.get(),
            missing: counts.missing.get(),
            failed: counts.failed.get(),
            timed_out: counts.timed_out.get(),
            versions_changed: counts.versions_changed.get(),
            disk_written: disk.map_or(0, |disk| disk.written.get()),
            disk_dropped: disk.map_or(0, |disk| disk.dropped.get()),
            disk_damaged: disk.map_or(0, |disk| disk.damaged.get()),
            disk_failed: disk.map_or(0, |disk| disk.failed.get()),
            disk_evicted: disk.map_or(0, |disk| disk.evicted.get()),
            disk_verified: disk.map_or(0, |disk| disk.verified.get()),
            disk_wrong: disk.map_or(0, |disk| disk.wrong.get()),
        }
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Core {
        &self.shared
    }

    #[cfg(test)]
    pub(crate) fn begin(&self, piece: Piece, priority: Priority) -> Reading {
        self.shared.begin(piece, priority)
    }
}

impl Core {
    pub(crate) fn verifies(&self, piece: &Piece) -> bool {
        piece.object_len <= self.options.whole_object_limit
    }

    /// Begins to read a piece: looks in memory and, for a small object, in the disk cache. Can be called on any
    /// thread; blocks for a local file at most.
    pub(crate) fn begin(self: &Arc<Self>, piece: Piece, priority: Priority) -> Reading {
        if piece.range.is_empty() {
            Reading::Ready(Bytes::new())
        } else if self.verifies(&piece) {
            self.begin_small(piece, priority)
        } else {
            self.begin_large(piece, priority)
        }
    }

    /// As [`begin`](Self::begin), without a look at the disk.
    fn look_up(self: &Arc<Self>, piece: Piece, priority: Priority) -> Reading {
        if piece.range.is_empty() {
            Reading::Ready(Bytes::new())
        } else if self.verifies(&piece) {
            self.look_up_small(piece, priority)
        } else {
            self.begin_large(piece, priority)
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

    /// Counts a failure of the store. Whoever reads says what could not be read, and why.
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
