//! One piece of an object on its way: what of it is here, what others fetch, and what this read has to fetch.

use std::sync::Arc;

use attachfs_manifest::Piece;
use attachfs_store::data_key;
use bytes::Bytes;

use crate::fetcher::Core;
use crate::scheduler::{Lead, Lookup, Waiting};
use crate::{FetchError, Priority};

/// The beginning of a read of a piece.
#[derive(Debug)]
pub(crate) enum Reading {
    Ready(Bytes),
    Pending(Box<PendingPiece>),
}

/// A piece that waits for the store.
#[derive(Debug)]
pub(crate) struct PendingPiece {
    pub(crate) shared: Arc<Core>,
    pub(crate) piece: Piece,
    pub(crate) priority: Priority,
    pub(crate) parts: Vec<PendingPart>,
    /// Of the object, when the parts were looked up.
    pub(crate) generation: u32,
}

/// One part of an object, which one request fetches.
#[derive(Debug)]
pub(crate) enum PendingPart {
    Here(Bytes),
    /// Somebody fetches it.
    Join(Waiting),
    /// It is neither in memory nor in the disk cache.
    Fetch(Lead),
    /// It is not in memory; nobody has looked into the disk cache.
    Find(Lead),
}

impl From<Lookup> for PendingPart {
    fn from(found: Lookup) -> Self {
        match found {
            Lookup::Here(bytes) => Self::Here(bytes),
            Lookup::Join(waiting) => Self::Join(waiting),
            Lookup::Lead(lead) => Self::Find(lead),
        }
    }
}

impl PendingPiece {
    /// The bytes, exactly as many as the piece's range asks for. What timed out a moment ago is not waited for
    /// again: it fails at once.
    pub(crate) async fn bytes(self: Box<Self>) -> Result<Bytes, FetchError> {
        let (shared, piece) = (Arc::clone(&self.shared), self.piece.clone());
        let (hash, after) = (piece.hash, shared.options.deadline);
        if shared.overdue.has(&piece) {
            tracing::debug!(key = %data_key(hash), "the store did not answer a moment ago");
            return Err(FetchError::TimedOut { hash, after });
        }
        let read = async {
            if shared.verifies(&piece) {
                self.whole().await
            } else {
                self.blocks().await
            }
        };
        let Ok(outcome) = tokio::time::timeout(after, read).await else {
            shared.overdue.note(&piece);
            shared.counts.timed_out.add(1);
            let error = FetchError::TimedOut { hash, after };
            shared.outage.note(&error);
            return Err(error);
        };
        outcome
    }
}
