//! [`FileReader`]: the reading of one open file.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use attachfs_manifest::{ChunkLayout, OwnedChunkLayout, Piece};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::ahead::Ahead;
use crate::fetcher::Core;
use crate::pending::{PendingPiece, Reading};
use crate::{FetchError, Priority};

/// Reads one open file. Belongs to its handle: it knows which objects the file's bytes lie in, what was asked for
/// through the handle, what is fetched ahead of that, and how much of it was verified. Dropping it cancels what
/// was fetched ahead.
///
/// A read is answered at once, on any thread, if its bytes are in memory or in the disk cache.
#[derive(Debug)]
pub struct FileReader {
    shared: Arc<Core>,
    layout: OwnedChunkLayout,
    /// Of a file that is longer than what is fetched whole. Taken before the locks of the scheduler.
    ahead: Option<Arc<Mutex<Ahead>>>,
    /// Bytes of objects that are too long to be verified before they are given out.
    unverified: AtomicU64,
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
        let is_long = layout.size() > shared.options.whole_object_limit;
        let ahead = is_long.then(|| Arc::new(Mutex::new(Ahead::new())));
        if let Some(ahead) = &ahead {
            shared.quiet.add_reader(ahead);
        }
        Self {
            shared,
            layout: layout.to_owned(),
            ahead,
            unverified: AtomicU64::new(0),
        }
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
        let read = self.look(&layout, range.clone());
        // Only now: what is waited for comes first.
        if let (Some(ahead), Some(seen)) = (&self.ahead, seen) {
            let missed = matches!(read, FileRead::Pending(_));
            ahead
                .lock()
                .go_on(&self.shared, &layout, &range, &seen, missed);
        }
        read
    }

    fn look(&self, layout: &ChunkLayout<'_>, range: Range<u64>) -> FileRead {
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
            self.unverified.fetch_add(len, Ordering::Relaxed);
        }
        self.shared.begin(piece, Priority::Read)
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        let unverified = self.unverified.load(Ordering::Relaxed);
        tracing::trace!(size = self.size(), unverified, "done reading a file");
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
