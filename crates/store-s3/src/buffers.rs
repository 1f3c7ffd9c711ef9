//! The buffers that large objects move in, used again and again.
//!
//! A buffer this long is its own mapping: the system takes its pages back when it is freed, and gives them
//! out again one fault at a time, each filled with zeros. For gigabytes that took longer than sending them.
//! So buffers of [`LEN`] bytes, the length of a part and of a download's block, come back here when
//! the last [`Bytes`] of them is gone. Bodies of other lengths are allocated as usual.

use std::sync::Arc;

use attachfs_durable::ReadBuffer;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

/// The length of a buffer.
pub(crate) const LEN: usize = 8 << 20;

/// Buffers that are kept for later: as many as the memory for bodies fits.
const MOST_IDLE: usize = 8;

/// Buffers that are not in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<ReadBuffer>>>);

impl Buffers {
    /// A buffer with anything in it.
    pub(crate) fn take(&self) -> Buffer {
        let idle = self.0.lock().pop();
        Buffer {
            bytes: idle.unwrap_or_else(|| ReadBuffer::new(LEN)),
            home: self.clone(),
        }
    }
}

/// A buffer of [`LEN`] bytes. It goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: ReadBuffer,
    home: Buffers,
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut()
    }

    /// As bytes that can be shared. It goes back when the last of them is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = self.home.0.lock();
        if idle.len() < MOST_IDLE {
            idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Room for a body that comes piece by piece.
#[derive(Debug)]
pub(crate) enum Room {
    /// Of another length than a buffer's.
    Own(BytesMut),
    /// A buffer, and how much of it is filled.
    Lent(Buffer, usize),
}

impl Room {
    /// For a body of `len` bytes, of which at most `reserve` are allocated before any arrived.
    pub(crate) fn new(len: u64, reserve: u64, buffers: &Buffers) -> Self {
        if len == LEN as u64 {
            Self::Lent(buffers.take(), 0)
        } else {
            Self::Own(BytesMut::with_capacity(len.min(reserve) as usize))
        }
    }

    /// Adds a piece. All pieces together are no longer than the body.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        match self {
            Self::Own(bytes) => bytes.extend_from_slice(piece),
            Self::Lent(buffer, filled) => {
                let end = *filled + piece.len();
                buffer.as_mut()[*filled..end].copy_from_slice(piece);
                *filled = end;
            }
        }
    }

    /// What came, all of it.
    pub(crate) fn freeze(self) -> Bytes {
        match self {
            Self::Own(bytes) => bytes.freeze(),
            Self::Lent(buffer, filled) => buffer.freeze().slice(..filled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_last_of_its_bytes_is_gone() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.as_mut()[..3].copy_from_slice(b"abc");
        let bytes = buffer.freeze();
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!(buffers.0.lock().len(), 0);
        assert_eq!(part, "bc");
        drop(part);
        assert_eq!(buffers.0.lock().len(), 1);
        assert_eq!(&buffers.take().as_ref()[..3], b"abc");
    }

    #[test]
    fn no_more_buffers_are_kept_than_are_used_at_once() {
        let buffers = Buffers::default();
        let many: Vec<_> = (0..MOST_IDLE + 3).map(|_| buffers.take()).collect();
        drop(many);
        assert_eq!(buffers.0.lock().len(), MOST_IDLE);
    }

    #[test]
    fn pieces_are_put_together_in_rooms_of_both_kinds() {
        let buffers = Buffers::default();
        for len in [LEN, LEN - 1] {
            let whole: Vec<u8> = (0..len).map(|i| (i / 5) as u8).collect();
            let mut room = Room::new(len as u64, 1 << 30, &buffers);
            for piece in whole.chunks(1_000_003) {
                room.add(piece);
            }
            assert!(room.freeze() == whole);
        }
    }
}
