//! What an adapter has to drop from its caches.

use std::ops::Range;
use std::time::Duration;

use attachfs_manifest::Name;

use super::NodeId;

/// Something in an adapter's cache that is out of date. Sent with no lock held; the receiving thread must not be one
/// that answers the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// A name leads to another node, or to none.
    Name {
        /// The directory.
        parent: NodeId,
        /// The name in it.
        name: Name,
        /// How long to wait before the invalidation: a listing that was on its way when the name
        /// changed can bring the old entry back.
        after: Duration,
    },
    /// Bytes and attributes of a file have changed. Bytes that are still in the adapter's write cache are written to
    /// the file system first.
    Pages {
        /// The file.
        node: NodeId,
        /// The bytes; to [`u64::MAX`] means to the end, wherever that is.
        range: Range<u64>,
    },
}

impl Invalidation {
    /// How long to wait before the invalidation.
    pub fn after(&self) -> Duration {
        match self {
            Self::Name { after, .. } => *after,
            Self::Pages { .. } => Duration::ZERO,
        }
    }
}
