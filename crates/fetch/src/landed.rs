//! Bytes in memory that may have landed together with those before and after them.

use std::ops::Range;

use bytes::Bytes;

/// Some of the bytes of a buffer. Neighbours are given out as one without being copied.
#[derive(Debug, Clone)]
pub(crate) struct Landed {
    buffer: Bytes,
    range: Range<usize>,
}

impl Landed {
    /// A part of what landed together.
    pub(crate) fn part(buffer: &Bytes, range: Range<usize>) -> Self {
        debug_assert!(range.start < range.end && range.end <= buffer.len());
        Self {
            buffer: buffer.clone(),
            range,
        }
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.buffer.slice(self.range.clone())
    }

    /// Those bytes of consecutive parts, counted from the beginning of the first, if they landed together.
    pub(crate) fn slice(parts: &[Self], range: &Range<usize>) -> Option<Bytes> {
        let first = parts.first()?;
        let follows = |pair: &[Self]| {
            // Both are alive, so what begins at one address is one buffer.
            pair[0].buffer.as_ptr() == pair[1].buffer.as_ptr()
                && pair[0].range.end == pair[1].range.start
        };
        let start = first.range.start;
        parts
            .windows(2)
            .all(follows)
            .then(|| first.buffer.slice(start + range.start..start + range.end))
    }
}

impl From<Bytes> for Landed {
    fn from(bytes: Bytes) -> Self {
        Self {
            range: 0..bytes.len(),
            buffer: bytes,
        }
    }
}

impl AsRef<[u8]> for Landed {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_landed_together_and_in_order_is_one() {
        let buffer = Bytes::from(b"abcdefgh".to_vec());
        let parts = [0..3, 3..6, 6..8].map(|range| Landed::part(&buffer, range));
        assert_eq!(Landed::slice(&parts, &(1..7)).unwrap(), "bcdefg");
        assert_eq!(Landed::slice(&parts[1..], &(0..4)).unwrap(), "defg");
        let [first, second, third] = parts;
        let gap = [first.clone(), third];
        assert!(Landed::slice(&gap, &(0..4)).is_none());
        let other = [first, Bytes::from(b"def".to_vec()).into()];
        assert!(Landed::slice(&other, &(0..4)).is_none());
        assert_eq!(second.bytes(), "def");
    }
}
