//! How much of the memory each reader may fill with what it has not read yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that all readers together may have ahead of them.
#[derive(Debug, Clone)]
pub(crate) struct AheadBytes(Arc<Total>);

#[derive(Debug)]
struct Total {
    most: u64,
    used: AtomicU64,
}

impl AheadBytes {
    pub(crate) fn new(most: u64) -> Self {
        Self(Arc::new(Total {
            most,
            used: AtomicU64::new(0),
        }))
    }

    /// What one reader may have if there is no other.
    pub(super) fn most_of_one(&self) -> u64 {
        self.0.most
    }
}

/// What one reader has of them; given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    of: Option<AheadBytes>,
    bytes: u64,
}

impl Share {
    /// Asks for `wanted` bytes in all, and gives how many it has now: as many as nobody else has, and no more than half
    /// of those, so that there is something for the next reader.
    pub(super) fn resize(&mut self, of: &AheadBytes, wanted: u64) -> u64 {
        let Total { most, used } = &*of.0;
        let others = used.load(Ordering::Relaxed).saturating_sub(self.bytes);
        let left = most.saturating_sub(others);
        let bytes = wanted.min(if others == 0 { left } else { left / 2 });
        // Two readers at the same moment may both get it: the budget of bytes is what bounds them then.
        used.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        self.bytes = bytes;
        self.of = Some(of.clone());
        bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(of) = &self.of {
            of.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_alone_has_all_and_leaves_something_to_others() {
        let all = AheadBytes::new(100);
        let (mut first, mut second) = (Share::default(), Share::default());
        assert_eq!(first.resize(&all, 80), 80);
        assert_eq!(second.resize(&all, 80), 10);
        assert_eq!(first.resize(&all, 80), 45);
        assert_eq!(second.resize(&all, 80), 27);
        drop(first);
        assert_eq!(second.resize(&all, 200), 100);
    }
}
