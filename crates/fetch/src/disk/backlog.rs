//! Says that bytes are not kept because the disk of the cache takes them more slowly than they come.
//!
//! It is said when that has become worth naming, and again each time it has doubled: a disk that is too slow for a whole job says so in
//! a dozen lines.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes are worth naming.
const FIRST: u64 = 16 << 20;

#[derive(Debug)]
pub(super) struct Backlog {
    bytes: AtomicU64,
    /// At how many bytes it is said next.
    next: AtomicU64,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            bytes: AtomicU64::new(0),
            next: AtomicU64::new(FIRST),
        }
    }
}

impl Backlog {
    /// Notes that so many bytes did not even wait to be written.
    pub(super) fn dropped(&self, dir: &Path, bytes: u64) {
        if let Some(bytes) = self.to_tell(bytes) {
            tracing::warn!(dir = %dir.display(), bytes,
                "the disk of the cache is too slow or busy: so many bytes were not kept in it so far, and are fetched again when they are read");
        }
    }

    /// How many bytes it was so far, if that is to be said now.
    fn to_tell(&self, more: u64) -> Option<u64> {
        let bytes = self.bytes.fetch_add(more, Ordering::Relaxed) + more;
        let next = self.next.load(Ordering::Relaxed);
        // Of several threads one says it.
        let is_first = bytes >= next
            && self
                .next
                .compare_exchange(
                    next,
                    bytes.saturating_mul(2),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        is_first.then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_when_it_is_worth_naming_and_when_it_has_doubled() {
        let backlog = Backlog::default();
        let told: Vec<u64> = (0..100).filter_map(|_| backlog.to_tell(1 << 20)).collect();
        assert_eq!(told, [16 << 20, 32 << 20, 64 << 20]);
    }
}
