//! Memory that bytes land in, used again and again.
//!
//! Each buffer is a mapping of its own, which begins with a page: an allocator keeps for itself what it is given
//! back in between, and a mount that has read once would stay as large as its budget. The pages of a new mapping are
//! filled with zeros, which costs about as much as copying what lands in it, and more where each is faulted in by itself. So
//! a buffer gets all its pages at once, and comes back to its pool. A sequential reader gives many back at once and takes as many
//! again, so the pool keeps more unused buffers while more are in use, and few when none is.

use std::sync::Arc;

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};
use parking_lot::Mutex;

/// For so many buffers in use, one unused buffer is kept.
const KEPT_PER_USED: usize = 4;

/// Buffers of one length. Clones share them.
#[derive(Debug, Clone)]
pub struct BufferPool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    len: usize,
    /// How many are kept that nobody uses, if none is in use.
    least_kept: usize,
    buffers: Mutex<Pooled>,
}

#[derive(Debug, Default)]
struct Pooled {
    idle: Vec<Memory>,
    used: usize,
}

#[derive(Debug)]
enum Memory {
    Mapped(MmapMut),
    /// Where the system maps no more.
    Allocated(Vec<u8>),
    /// Nothing: it went back.
    Gone,
}

/// A buffer. Its content is that of an earlier user. It goes back to its pool when it is dropped.
#[derive(Debug)]
pub struct PooledBuffer {
    memory: Memory,
    pool: Arc<Pool>,
}

impl BufferPool {
    /// Buffers of `len` bytes. At most `kept` bytes of them lie unused when none is in use, and a quarter of what is in
    /// use if that is more.
    pub fn new(len: u64, kept: u64) -> Self {
        Self(Arc::new(Pool {
            len: len as usize,
            least_kept: (kept / len.max(1)) as usize,
            buffers: Mutex::default(),
        }))
    }

    /// A buffer, with the content of an earlier user in it, or zeros.
    pub fn take(&self) -> PooledBuffer {
        let idle = {
            let mut buffers = self.0.buffers.lock();
            buffers.used += 1;
            buffers.idle.pop()
        };
        PooledBuffer {
            memory: idle.unwrap_or_else(|| Memory::new(self.0.len)),
            pool: Arc::clone(&self.0),
        }
    }

    /// How long each is, in bytes.
    pub fn buffer_len(&self) -> usize {
        self.0.len
    }

    /// Frees those that nobody uses.
    pub fn free(&self) {
        let idle = std::mem::take(&mut self.0.buffers.lock().idle);
        drop(idle);
    }

    #[cfg(test)]
    fn idle(&self) -> usize {
        self.0.buffers.lock().idle.len()
    }
}

impl Memory {
    fn new(len: usize) -> Self {
        match MmapOptions::new().len(len).populate().map_anon() {
            Ok(mapped) => Self::Mapped(mapped),
            Err(error) => {
                tracing::debug!(%error, len, "the system maps no more memory; it is allocated");
                Self::Allocated(vec![0; len])
            }
        }
    }
}

impl PooledBuffer {
    /// Its first bytes, to be shared. It goes back when the last of them is dropped.
    pub fn freeze(self, len: usize) -> Bytes {
        Bytes::from_owner(self).slice(..len)
    }
}

impl AsMut<[u8]> for PooledBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Mapped(mapped) => mapped,
            Memory::Allocated(allocated) => allocated,
            Memory::Gone => &mut [],
        }
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        match &self.memory {
            Memory::Mapped(mapped) => mapped,
            Memory::Allocated(allocated) => allocated,
            Memory::Gone => &[],
        }
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::Gone);
        let mut buffers = self.pool.buffers.lock();
        buffers.idle.push(memory);
        buffers.used -= 1;
        let kept = self.pool.least_kept.max(buffers.used / KEPT_PER_USED);
        let too_many = buffers.idle.len().saturating_sub(kept);
        // The last ones were used last, and are in the processor's caches.
        let too_many: Vec<_> = buffers.idle.drain(..too_many).collect();
        // Unmapping takes a while.
        drop(buffers);
        drop(too_many);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_no_more_than_are_to_be_kept() {
        let pool = BufferPool::new(100, 250);
        let mut buffer = pool.take();
        buffer.as_mut()[..3].copy_from_slice(b"abc");
        let bytes = buffer.freeze(3);
        assert_eq!(bytes, "abc");
        drop(bytes);
        assert_eq!(pool.idle(), 1);
        let many: Vec<_> = (0..5).map(|_| pool.take()).collect();
        drop(many);
        assert_eq!(pool.idle(), 2);
        pool.free();
        assert_eq!(pool.idle(), 0);
    }

    #[test]
    fn more_are_kept_while_many_are_in_use() {
        let pool = BufferPool::new(100, 100);
        let mut many: Vec<_> = (0..50).map(|_| pool.take()).collect();
        many.truncate(40);
        assert_eq!(pool.idle(), 10);
        many.clear();
        assert_eq!(pool.idle(), 1);
    }
}
