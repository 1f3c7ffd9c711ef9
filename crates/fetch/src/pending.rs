//! One piece of an object on its way: what of it is here, what others fetch, and what this read has to fetch.

use std::sync::Arc;

use attachfs_manifest::Piece;
use attachfs_store::data_key;
use bytes::Bytes;

use crate::fetcher::Core;
use crate::scheduler::Found;
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
    /// Its parts, when they were looked up.
    pub(crate) found: Found,
    /// Whether nobody has looked into the disk cache for what is to be fetched.
    pub(crate) is_on_disk: bool,
    /// Of the object, when the parts were looked up.
    pub(crate) generation: u32,
}

impl PendingPiece {
    /// The bytes, exactly as many as the piece's range asks for. What timed out a moment ago is not waited for
    /// again: it fails at once.
    pub(crate) async fn bytes(self: Box<Self>) -> Result<Bytes, FetchError> {
        let (shared, piece) = (Arc::clone(&self.shared), self.piece.clone());
        if shared.overdue.has(&piece) {
            tracing::debug!(key = %data_key(piece.hash), "the store did not answer a moment ago");
            return Err(shared.late(piece.hash));
        }
        let read = if shared.verifies(&piece) {
            self.whole().await
        } else {
            self.units().await
        };
        if let Err(error @ FetchError::TimedOut { .. }) = &read {
            shared.overdue.note(&piece);
            shared.counts.timed_out.add(1);
            shared.outage.note(error);
        }
        read
    }
}
