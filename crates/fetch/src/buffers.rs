//! Memory that bytes land in, used again and again.
//!
//! Each buffer is a mapping of its own, which begins with a page: an allocator keeps for itself what it is given
//! back in between, and a mount that has read once would stay as large as its budget. The pages of a new mapping are faulted in
//! one by one, each filled with zeros, which costs more than copying what lands in it. So buffers come
//! back here, and are unmapped when nothing was read for a while.

use std::sync::Arc;

use bytes::Bytes;
use memmap2::MmapMut;
use parking_lot::Mutex;

/// Buffers of one length.
#[derive(Debug, Clone)]
pub(crate) struct Buffers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    len: usize,
    /// How many are kept that nobody uses.
    most: usize,
    idle: Mutex<Vec<Memory>>,
}

#[derive(Debug)]
enum Memory {
    Mapped(MmapMut),
    /// Where the system maps no more.
    Allocated(Vec<u8>),
    /// Nothing: it went back.
    Gone,
}

/// A buffer. It goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Memory,
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
            memory: idle.unwrap_or_else(|| Memory::new(self.0.len)),
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

impl Memory {
    fn new(len: usize) -> Self {
        match MmapMut::map_anon(len) {
            Ok(mapped) => Self::Mapped(mapped),
            Err(error) => {
                tracing::debug!(%error, len, "the system maps no more memory; it is allocated");
                Self::Allocated(vec![0; len])
            }
        }
    }
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Mapped(mapped) => mapped,
            Memory::Allocated(allocated) => allocated,
            Memory::Gone => &mut [],
        }
    }

    /// Its first bytes, to be shared. It goes back when the last of them is dropped.
    pub(crate) fn freeze(self, len: usize) -> Bytes {
        Bytes::from_owner(self).slice(..len)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        match &self.memory {
            Memory::Mapped(mapped) => mapped,
            Memory::Allocated(allocated) => allocated,
            Memory::Gone => &[],
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::Gone);
        let mut idle = self.home.idle.lock();
        if idle.len() < self.home.most {
            idle.push(memory);
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
