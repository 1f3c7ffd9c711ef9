//! For the tests of this crate.

use attachfs_manifest::Piece;
use bytes::Bytes;

use crate::reader::PieceRead;
use crate::{Fetcher, Priority};

/// The bytes of a piece, if that needs no store.
pub(crate) fn cached(fetcher: &Fetcher, piece: &Piece) -> Option<Bytes> {
    match fetcher.begin(piece.clone(), Priority::Read) {
        PieceRead::Ready(bytes) => Some(bytes),
        PieceRead::Pending(_) => None,
    }
}

/// A cache directory that takes what room there is: whether objects are kept must not depend on the disk that the
/// tests run on.
pub(crate) fn unbounded(path: impl Into<std::path::PathBuf>) -> attachfs_durable::CacheDir {
    let limits = attachfs_durable::CacheLimits {
        max_bytes: Some(u64::MAX),
        min_free: Some(0),
    };
    attachfs_durable::CacheDir::new(path).with_limits(limits)
}
