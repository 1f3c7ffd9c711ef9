//! [`FileReader`]: the reading of one open file.
//!
//! ```text
//!     FileReader::read(range)
//!       note          what the reads of this file look like: in order, backward, in steps        ahead.rs
//!       pieces        the objects that the range lies in, each with a range of its own
//!       begin         each piece: the bytes, or a PendingPiece                  small_objects.rs, large_objects.rs
//!       go_on         begins to fetch ahead, after everything that this read waits for           ahead.rs
//!     PendingRead::bytes
//!       all pending pieces at once: each waits for its parts, and fetches those that nobody else does
//! ```
//!
//! An object that is verified as a whole before its bytes are given is *small*, any other one *large*.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use attachfs_manifest::{ChunkLayout, OwnedChunkLayout, Piece};
use attachfs_store::data_key;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::ahead::Ahead;
use crate::fetcher::Engine;
use crate::scheduler::Lookup;
use crate::{FetchError, Priority};

/// Reads one open file. Belongs to its handle: it knows which objects the file's bytes lie in, what was asked for
/// through the handle, what is fetched ahead of that, and how much of it was verified. Dropping it cancels what
/// was fetched ahead.
///
/// A read is answered at once, on any thread, if its bytes are in memory or in the disk cache.
#[derive(Debug)]
pub struct FileReader {
    engine: Arc<Engine>,
    layout: OwnedChunkLayout,
    /// Of a file that is longer than a small object. Taken before the locks of the scheduler.
    ahead: Option<Arc<Mutex<Ahead>>>,
    /// Bytes of large objects that were asked for: they are given out before the object is verified.
    unverified: AtomicU64,
    /// Whether what is read is given to programs, who cannot know whether it will turn out to be wrong.
    gives: bool,
}

/// The answer to a read of a file.
#[derive(Debug)]
pub enum FileRead {
    /// The bytes; fewer than asked for only at the end of the file.
    Ready(Bytes),
    /// They have to come from the store.
    Pending(PendingRead),
}

/// A read that waits for the store.
#[derive(Debug)]
#[must_use = "a read that nobody waits for fetches nothing"]
pub struct PendingRead(Vec<PieceRead>);

/// The beginning of a read of one piece of an object.
#[derive(Debug)]
pub(crate) enum PieceRead {
    Ready(Bytes),
    Pending(Box<PendingPiece>),
}

/// A piece whose object, or some units of it, are not in memory: other reads fetch them, or this one has to.
#[derive(Debug)]
pub(crate) struct PendingPiece {
    pub(crate) engine: Arc<Engine>,
    pub(crate) piece: Piece,
    pub(crate) priority: Priority,
    /// The look-up of its parts: the object if that is small, the units if it is large.
    pub(crate) lookup: Lookup,
    /// Whether a small object is looked for in the disk cache before it is fetched.
    pub(crate) looks_on_disk: bool,
    /// The generation of a large object when its units were looked up.
    pub(crate) generation: u32,
}

impl FileReader {
    pub(crate) fn new(engine: Arc<Engine>, layout: &ChunkLayout<'_>) -> Self {
        let is_long = layout.size() > engine.options.whole_object_limit;
        let ahead = is_long.then(|| Arc::new(Mutex::new(Ahead::new())));
        if let Some(ahead) = &ahead {
            engine.quiet.add_reader(ahead);
        }
        Self {
            engine,
            layout: layout.to_owned(),
            ahead,
            unverified: AtomicU64::new(0),
            gives: true,
        }
    }

    /// For a caller that hashes all that it reads before it makes use of it.
    pub(crate) fn for_verifying(mut self) -> Self {
        self.gives = false;
        self
    }

    /// The file's length.
    pub fn size(&self) -> u64 {
        self.layout.borrowed().size()
    }

    /// Reads a range; what lies beyond the end of the file is left out. Never waits for the store, and can be
    /// called on any thread.
    pub fn read(&self, range: Range<u64>) -> FileRead {
        let layout = self.layout.borrowed();
        let range = range.start..range.end.min(layout.size());
        if range.is_empty() {
            return FileRead::Ready(Bytes::new());
        }
        let seen = self.ahead.as_ref().map(|ahead| ahead.lock().note(&range));
        let read = self.begin_pieces(&layout, range.clone());
        // Only now: the bytes that this read waits for come first.
        if let (Some(ahead), Some(seen)) = (&self.ahead, seen) {
            let missed = matches!(read, FileRead::Pending(_));
            ahead
                .lock()
                .go_on(&self.engine, &layout, &range, &seen, missed);
        }
        read
    }

    /// Begins to read each piece of a range, and puts them together if all are here. Usually there is one.
    fn begin_pieces(&self, layout: &ChunkLayout<'_>, range: Range<u64>) -> FileRead {
        let mut pieces = layout.pieces(range);
        let Some(first) = pieces.next() else {
            return FileRead::Ready(Bytes::new());
        };
        let first = self.begin(first);
        let Some(second) = pieces.next() else {
            return match first {
                PieceRead::Ready(bytes) => FileRead::Ready(bytes),
                pending @ PieceRead::Pending(_) => FileRead::Pending(PendingRead(vec![pending])),
            };
        };
        let mut reads = vec![first, self.begin(second)];
        reads.extend(pieces.map(|piece| self.begin(piece)));
        match joined_if_ready(&reads) {
            Some(bytes) => FileRead::Ready(bytes),
            None => FileRead::Pending(PendingRead(reads)),
        }
    }

    fn begin(&self, piece: Piece) -> PieceRead {
        if self.gives {
            self.engine.note_read(&piece);
        }
        if !self.engine.verifies(&piece) {
            let len = piece.range.end - piece.range.start;
            self.unverified.fetch_add(len, Ordering::Relaxed);
            if self.gives {
                self.engine.known.of(&piece).note_given();
            }
        }
        self.engine.begin(piece, Priority::Read)
    }
}

impl Engine {
    /// Begins to read a piece: looks in memory and, for a small object, in the disk cache. Can be called on any
    /// thread; blocks for a local file at most.
    pub(crate) fn begin(self: &Arc<Self>, piece: Piece, priority: Priority) -> PieceRead {
        self.quiet.end();
        if piece.range.is_empty() {
            PieceRead::Ready(Bytes::new())
        } else if self.verifies(&piece) {
            self.begin_small(piece, priority)
        } else {
            self.begin_large(piece, priority)
        }
    }

    /// As [`begin`](Self::begin), without looking on the disk: the piece does that when it is waited for.
    pub(crate) fn begin_in_memory(self: &Arc<Self>, piece: Piece, priority: Priority) -> PieceRead {
        self.quiet.end();
        if piece.range.is_empty() {
            PieceRead::Ready(Bytes::new())
        } else if self.verifies(&piece) {
            self.begin_small_in_memory(piece, priority)
        } else {
            self.begin_large(piece, priority)
        }
    }

    /// Whether the piece's object is small: fetched whole, and verified before a byte of it is given.
    pub(crate) fn verifies(&self, piece: &Piece) -> bool {
        piece.object_len <= self.options.whole_object_limit
    }
}

impl FileRead {
    /// The bytes. Needs a tokio runtime with time enabled if they are not here.
    pub async fn bytes(self) -> Result<Bytes, FetchError> {
        match self {
            Self::Ready(bytes) => Ok(bytes),
            Self::Pending(read) => read.bytes().await,
        }
    }
}

impl PendingRead {
    /// The bytes. Needs a tokio runtime with time enabled.
    pub async fn bytes(self) -> Result<Bytes, FetchError> {
        let all = self.0.into_iter().map(PieceRead::bytes);
        let mut parts = futures::future::try_join_all(all).await?;
        match &mut parts[..] {
            [only] => Ok(std::mem::take(only)),
            parts => Ok(joined(parts.iter())),
        }
    }
}

impl PieceRead {
    /// The bytes, exactly as many as the piece's range asks for. Needs a tokio runtime with time enabled.
    pub(crate) async fn bytes(self) -> Result<Bytes, FetchError> {
        match self {
            Self::Ready(bytes) => Ok(bytes),
            Self::Pending(pending) => pending.bytes().await,
        }
    }
}

impl PendingPiece {
    /// Waits for the parts, and fetches those that no other read does. A range that timed out a moment ago is not waited
    /// for again: it fails at once.
    pub(crate) async fn bytes(self: Box<Self>) -> Result<Bytes, FetchError> {
        let (engine, piece) = (Arc::clone(&self.engine), self.piece.clone());
        if engine.overdue.has(&piece) {
            tracing::debug!(key = %data_key(piece.hash), "the store did not answer a moment ago");
            return Err(engine.timed_out(piece.hash));
        }
        let read = if engine.verifies(&piece) {
            self.from_small().await
        } else {
            self.from_large().await
        };
        if let Err(error @ FetchError::TimedOut { .. }) = &read {
            engine.overdue.note(&piece);
            engine.counts.timed_out.add(1);
            engine.outage.note(error);
        }
        read
    }
}

/// The bytes of all pieces, if none is pending.
fn joined_if_ready(reads: &[PieceRead]) -> Option<Bytes> {
    let is_ready = |read: &PieceRead| matches!(read, PieceRead::Ready(_));
    reads.iter().all(is_ready).then(|| {
        joined(reads.iter().filter_map(|read| match read {
            PieceRead::Ready(bytes) => Some(bytes),
            PieceRead::Pending(_) => None,
        }))
    })
}

fn joined<'a>(parts: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let mut all = BytesMut::new();
    parts.for_each(|part| all.extend_from_slice(part));
    all.freeze()
}

impl Drop for FileReader {
    fn drop(&mut self) {
        let unverified = self.unverified.load(Ordering::Relaxed);
        tracing::trace!(size = self.size(), unverified, "done reading a file");
    }
}
