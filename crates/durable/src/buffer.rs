//! Memory that the kernel copies files into at full speed.
//!
//! Processors of AMD's Zen 3 and 4 copy five times slower (`rep movsb`) to an address that lies a few bytes further behind the
//! beginning of its page than the source does behind that of its own. A file's bytes begin with a page in the page cache, and a large
//! block of glibc's allocator begins 16 bytes behind one, always. So what is read into begins with a cache line.

use bytes::Bytes;

/// The alignment of memory for files, in bytes: a line of the processor's cache.
const ALIGNMENT: usize = 64;

/// How many bytes lie between this address and the next that is aligned.
fn padding(of: *const u8) -> usize {
    of.addr().next_multiple_of(ALIGNMENT) - of.addr()
}

/// A buffer that files are read into, again and again.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    memory: Vec<u8>,
    len: usize,
}

impl ReadBuffer {
    /// A buffer of this many bytes, which are zeros.
    pub fn new(len: usize) -> Self {
        let mut buffer = Self::default();
        buffer.grow(len);
        buffer
    }

    /// Where the buffer begins in its memory, which may be empty.
    fn start(&self) -> usize {
        padding(self.memory.as_ptr()).min(self.memory.len())
    }

    /// Makes it at least this long. Its content is lost if it was shorter.
    pub fn grow(&mut self, len: usize) {
        if self.len < len {
            self.memory = vec![0; len + ALIGNMENT];
            self.len = len;
        }
    }
}

impl AsMut<[u8]> for ReadBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        let start = self.start();
        &mut self.memory[start..][..self.len]
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start()..][..self.len]
    }
}

/// Memory to which `len` bytes can be appended, and how many bytes at its beginning are padding.
pub(crate) fn reserve(len: usize) -> Result<(Vec<u8>, usize), std::collections::TryReserveError> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(len + ALIGNMENT)?;
    let start = padding(memory.as_ptr());
    memory.resize(start, 0);
    Ok((memory, start))
}

/// The bytes that were appended to [`reserve`]d memory.
pub(crate) fn appended((memory, start): (Vec<u8>, usize)) -> Bytes {
    Bytes::from(memory).slice(start..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_with_a_cache_line_and_is_as_long_as_it_should_be() {
        let mut buffer = ReadBuffer::default();
        assert!(buffer.as_ref().is_empty());
        for len in [1, 100, 50, 1 << 20] {
            buffer.grow(len);
            assert!(buffer.as_ref().len() >= len);
            assert!(buffer.as_ref().as_ptr().addr().is_multiple_of(ALIGNMENT));
        }
        assert_eq!(buffer.as_mut().len(), 1 << 20);
    }

    #[test]
    fn reserved_memory_begins_with_a_cache_line_and_does_not_move() {
        for len in [0, 1, 4096, 1 << 20] {
            let (mut memory, start) = reserve(len).unwrap();
            memory.extend(std::iter::repeat_n(7, len));
            assert!(memory.capacity() <= len + 2 * ALIGNMENT);
            let bytes = appended((memory, start));
            assert_eq!(bytes.len(), len);
            assert!(bytes.iter().all(|&byte| byte == 7));
            assert!(len == 0 || bytes.as_ptr().addr().is_multiple_of(ALIGNMENT));
        }
    }
}
