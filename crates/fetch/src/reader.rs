//! [`FileReader`]: the reading of one open file.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use attachfs_manifest::{ChunkLayout, OwnedChunkLayout, Piece};
use bytes::{Bytes, BytesMut};

use crate::fetcher::Core;
use crate::pending::{PendingPiece, Reading};
use crate::{FetchError, Priority};

/// Reads one open file. Belongs to its handle: it knows which objects the file's bytes lie in, what was asked for
/// through the handle, and how much of that was verified.
///
/// A read is answered at once, on any thread, if its bytes are in memory or in the disk cache. Read-ahead belongs
/// here: `History` sees every read, and `Core::begin` takes a `Priority`.
#[derive(Debug)]
pub struct FileReader {
    shared: Arc<Core>,
    layout: OwnedChunkLayout,
    history: History,
}

/// What a reader was asked for.
#[derive(Debug, Default)]
struct History {
    /// Where the last read ended.
    last_end: AtomicU64,
    reads: AtomicU64,
    /// Reads that began where the one before ended.
    in_order: AtomicU64,
    /// Bytes of objects that are too long to be verified before they are given out.
    unverified: AtomicU64,
}

impl History {
    fn note(&self, range: &Range<u64>) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.last_end.swap(range.end, Ordering::Relaxed) == range.start {
            self.in_order.fetch_add(1, Ordering::Relaxed);
        }
    }
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
#[must_use = "nobody waits for it"]
pub struct PendingRead(Vec<Reading>);

impl FileReader {
    pub(crate) fn new(shared: Arc<Core>, layout: &ChunkLayout<'_>) -> Self {
        Self {
            shared,
            layout: layout.to_owned(),
            history: History::default(),
        }
    }

    /// The file's length.
    pub fn size(&self) -> u64 {
        self.layout.borrowed().size()
    }

    /// Reads a range; what lies beyond the end of the file is left out. Never waits for the store, and can be
    /// called on any thread.
    pub fn read(&self, range: Range<u64>) -> FileRead {
        self.history.note(&range);
        let layout = self.layout.borrowed();
        let mut pieces = layout.pieces(range);
        let Some(first) = pieces.next() else {
            return FileRead::Ready(Bytes::new());
        };
        let first = self.begin(first);
        let Some(second) = pieces.next() else {
            return match first {
                Reading::Ready(bytes) => FileRead::Ready(bytes),
                pending @ Reading::Pending(_) => FileRead::Pending(PendingRead(vec![pending])),
            };
        };
        let mut readings = vec![first, self.begin(second)];
        readings.extend(pieces.map(|piece| self.begin(piece)));
        match ready(&readings) {
            Some(bytes) => FileRead::Ready(bytes),
            None => FileRead::Pending(PendingRead(readings)),
        }
    }

    fn begin(&self, piece: Piece) -> Reading {
        if !self.shared.verifies(&piece) {
            let len = piece.range.end - piece.range.start;
            self.history.unverified.fetch_add(len, Ordering::Relaxed);
        }
        self.shared.begin(piece, Priority::Read)
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        let History {
            reads,
            in_order,
            unverified,
            ..
        } = &self.history;
        tracing::trace!(
            size = self.size(),
            reads = reads.load(Ordering::Relaxed),
            in_order = in_order.load(Ordering::Relaxed),
            unverified = unverified.load(Ordering::Relaxed),
            "done reading a file"
        );
    }
}

impl PendingRead {
    /// The bytes. Needs a tokio runtime with time enabled.
    pub async fn bytes(self) -> Result<Bytes, FetchError> {
        let all = self.0.into_iter().map(|reading| async move {
            match reading {
                Reading::Ready(bytes) => Ok(bytes),
                Reading::Pending(pending) => PendingPiece::bytes(pending).await,
            }
        });
        let mut parts = futures::future::try_join_all(all).await?;
        match &mut parts[..] {
            [only] => Ok(std::mem::take(only)),
            parts => Ok(joined(parts.iter())),
        }
    }
}

/// The bytes of readings of which nothing is missing.
fn ready(readings: &[Reading]) -> Option<Bytes> {
    let here = |reading: &Reading| matches!(reading, Reading::Ready(_));
    readings.iter().all(here).then(|| {
        joined(readings.iter().filter_map(|reading| match reading {
            Reading::Ready(bytes) => Some(bytes),
            Reading::Pending(_) => None,
        }))
    })
}

fn joined<'a>(parts: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let mut all = BytesMut::new();
    parts.for_each(|part| all.extend_from_slice(part));
    all.freeze()
}
