//! Memory that bytes land in, used again and again.
//!
//! A buffer of the length of a unit is its own mapping in glibc's allocator: its pages are given back when it is
//! freed, and faulted in one by one, each filled with zeros, when the next one is made. That costs more than copying
//! what lands in it. So buffers come back here, and are freed when nothing was read for a while.

use std::sync::Arc;

use attachfs_durable::ReadBuffer;
use bytes::Bytes;
use parking_lot::Mutex;

/// Buffers of one length.
#[derive(Debug, Clone)]
pub(crate) struct Buffers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    len: usize,
    /// How many are kept that nobody uses.
    most: usize,
    idle: Mutex<Vec<ReadBuffer>>,
}

/// A buffer. It goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: ReadBuffer,
    home: Arc<Shared>,
}

impl Buffers {
    /// Buffers of `len` bytes, of which at most so many bytes are kept unused.
    pub(crate) fn new(len: u64, kept: u64) -> Self {
        Self(Arc::new(Shared {
            len: len as usize,
            most: (kept / len.max(1)) as usize,
            idle: Mutex::default(),
        }))
    }

    /// A buffer with anything in it.
    pub(crate) fn take(&self) -> Buffer {
        let idle = self.0.idle.lock().pop();
        Buffer {
            memory: idle.unwrap_or_else(|| ReadBuffer::new(self.0.len)),
            home: Arc::clone(&self.0),
        }
    }

    /// How long they are.
    pub(crate) fn len(&self) -> usize {
        self.0.len
    }

    /// Frees those that nobody uses.
    pub(crate) fn free(&self) {
        let idle = std::mem::take(&mut *self.0.idle.lock());
        drop(idle);
    }
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut()
    }

    /// Its first bytes, to be shared. It goes back when the last of them is dropped.
    pub(crate) fn freeze(self, len: usize) -> Bytes {
        Bytes::from_owner(self).slice(..len)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_ref()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut idle = self.home.idle.lock();
        if idle.len() < self.home.most {
            idle.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_no_more_than_are_to_be_kept() {
        let buffers = Buffers::new(100, 250);
        let idle = || buffers.0.idle.lock().len();
        let mut buffer = buffers.take();
        buffer.as_mut()[..3].copy_from_slice(b"abc");
        let bytes = buffer.freeze(3);
        assert_eq!(bytes, "abc");
        drop(bytes);
        assert_eq!(idle(), 1);
        let many: Vec<_> = (0..5).map(|_| buffers.take()).collect();
        drop(many);
        assert_eq!(idle(), 2);
        buffers.free();
        assert_eq!(idle(), 0);
    }
}
