//! [`Fetcher`]: where a read goes, and what is counted and logged on its way.

use std::sync::Arc;

use attachfs_manifest::{ContentHash, Piece};
use attachfs_store::{ChunkStore, StoreError, data_key};
use bytes::Bytes;

use crate::counters::Counts;
use crate::memory::Memory;
use crate::outage::Outage;
use crate::overdue::Overdue;
use crate::ranged::Versions;
use crate::whole::Loading;
use crate::{ByteBudget, DiskCache, FetchCounters, FetchError, FetchOptions};

/// Gives the bytes of stored objects. One for each mount, shared by all its readers.
#[derive(Debug)]
pub struct Fetcher {
    pub(crate) store: Arc<dyn ChunkStore>,
    pub(crate) disk: Option<Arc<DiskCache>>,
    pub(crate) options: FetchOptions,
    pub(crate) memory: Memory,
    pub(crate) in_flight: ByteBudget,
    pub(crate) counts: Counts,
    pub(crate) versions: Versions,
    pub(crate) loading: Loading,
    pub(crate) overdue: Overdue,
    pub(crate) outage: Outage,
}

impl Fetcher {
    /// A fetcher that has read nothing yet.
    pub fn new(store: Arc<dyn ChunkStore>, disk: Option<DiskCache>, options: FetchOptions) -> Self {
        Self {
            store,
            disk: disk.map(Arc::new),
            memory: Memory::new(options.memory_bytes),
            in_flight: ByteBudget::new(options.in_flight_bytes),
            counts: Counts::default(),
            versions: Versions::default(),
            loading: Loading::default(),
            overdue: Overdue::default(),
            outage: Outage::default(),
            options,
        }
    }

    /// The bytes of `piece`, exactly as many as its range asks for, if that needs no store: from memory,
    /// or from the disk cache. `None` means that [`Fetcher::read`] has to be asked. Can be called on
    /// any thread.
    pub fn read_cached(&self, piece: &Piece) -> Option<Bytes> {
        if piece.range.is_empty() {
            return Some(Bytes::new());
        }
        if self.is_whole(piece) {
            self.whole_cached(piece).map(|object| cut(&object, piece))
        } else {
            self.range_cached(piece)
        }
    }

    /// The bytes of `piece`, exactly as many as its range asks for. What timed out a moment ago is not
    /// waited for again: it fails at once.
    pub async fn read(&self, piece: &Piece) -> Result<Bytes, FetchError> {
        if piece.range.is_empty() {
            return Ok(Bytes::new());
        }
        let after = self.options.deadline;
        if self.overdue.has(piece) {
            let hash = piece.hash;
            tracing::debug!(key = %data_key(hash), "the store did not answer a moment ago");
            return Err(FetchError::TimedOut { hash, after });
        }
        let read = async {
            if self.is_whole(piece) {
                let object = self.whole(piece).await?;
                Ok(cut(&object, piece))
            } else {
                self.range(piece).await
            }
        };
        let Ok(outcome) = tokio::time::timeout(after, read).await else {
            let hash = piece.hash;
            self.overdue.note(piece);
            self.counts.timed_out.add(1);
            let error = FetchError::TimedOut { hash, after };
            self.outage.note(&error);
            return Err(error);
        };
        outcome
    }

    /// What has been done so far.
    pub fn counters(&self) -> FetchCounters {
        let counts = &self.counts;
        let disk = self.disk.as_ref().map(|disk| disk.counts());
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
        }
    }

    /// Whether every byte of the piece's object was verified before it is given. Otherwise the object
    /// is read in blocks, and whoever needs to know that they are right has to hash all of it.
    pub fn verifies(&self, piece: &Piece) -> bool {
        self.is_whole(piece)
    }

    fn is_whole(&self, piece: &Piece) -> bool {
        piece.object_len <= self.options.whole_object_limit
    }

    /// Whether a file of the disk cache has the name and the length of the piece's object. Nobody has
    /// looked at its bytes. Blocks.
    pub fn is_on_disk(&self, piece: &Piece) -> bool {
        let disk = self.disk.as_ref().filter(|_| self.is_whole(piece));
        disk.is_some_and(|disk| disk.may_have(piece.hash, piece.object_len))
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

/// `piece` out of its whole object. The range lies in the object: the layout that made the piece
/// says so, and the object's length was compared with it.
fn cut(object: &Bytes, piece: &Piece) -> Bytes {
    object.slice(piece.range.start as usize..piece.range.end as usize)
}
