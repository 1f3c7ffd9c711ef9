//! What faults make of a stream.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};

use super::{Failure, Fault};
use crate::{Call, StoreError};

pub(super) type Pieces = BoxStream<'static, Result<Bytes, StoreError>>;

impl Fault {
    /// The bytes of a stream as the fault leaves them.
    pub(super) fn spoil(self, call: &Call, pieces: Pieces) -> Pieces {
        match self {
            Self::Truncate(len) => first(pieces, len),
            Self::Break(len) => {
                let broken = Failure::Unreachable.of(call);
                let broken = stream::iter([Err(broken)]);
                first(pieces, len).chain(broken).boxed()
            }
            Self::Trickle { piece, every } => pieces
                .flat_map(move |bytes| cut(bytes, piece))
                .then(move |piece| async move {
                    tokio::time::sleep(every).await;
                    piece
                })
                .boxed(),
            Self::Corrupt => pieces
                .enumerate()
                .map(|(number, piece)| match number {
                    0 => piece.map(|bytes| Self::damage(Some(Self::Corrupt), bytes)),
                    _ => piece,
                })
                .boxed(),
            _ => pieces,
        }
    }
}

/// The first `len` bytes, and no more.
pub(super) fn first(pieces: Pieces, len: usize) -> Pieces {
    let first = pieces.scan(len, |left, piece| {
        let piece = piece.map(|bytes| {
            let bytes = bytes.slice(..bytes.len().min(*left));
            *left -= bytes.len();
            bytes
        });
        let is_end = piece.as_ref().is_ok_and(Bytes::is_empty);
        std::future::ready((!is_end).then_some(piece))
    });
    first.boxed()
}

/// The same bytes in pieces of at most `len`.
fn cut(
    piece: Result<Bytes, StoreError>,
    len: usize,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    let cut = match piece {
        Ok(bytes) => (0..bytes.len())
            .step_by(len)
            .map(|at| Ok(bytes.slice(at..bytes.len().min(at + len))))
            .collect(),
        Err(error) => vec![Err(error)],
    };
    stream::iter(cut)
}
