//! For the tests of this crate.

use attachfs_manifest::Piece;
use bytes::Bytes;

use crate::pending::Reading;
use crate::{Fetcher, Priority};

/// The bytes of a piece, if that needs no store.
pub(crate) fn cached(fetcher: &Fetcher, piece: &Piece) -> Option<Bytes> {
    match fetcher.begin(piece.clone(), Priority::Read) {
        Reading::Ready(bytes) => Some(bytes),
        Reading::Pending(_) => None,
    }
}
