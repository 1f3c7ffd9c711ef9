//! What an adapter has to forget.

use std::ops::Range;
use std::time::Duration;

use attachfs_manifest::Name;

use super::NodeId;

/// Something in an adapter's cache that is no longer so. Sent with no lock held; whoever receives it must not be on a thread
/// that answers the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// A name no longer means what it meant.
    Name {
        /// The directory.
        parent: NodeId,
        /// The name in it.
        name: Name,
        /// How long to wait before telling: a listing that was on its way when the name got its new
        /// meaning can bring the old one back.
        after: Duration,
    },
    /// Bytes of a file are no longer what they were, nor are its attributes. What was written through the adapter's cache
    /// is written to the file system first.
    Pages {
        /// The file.
        node: NodeId,
        /// The bytes; to [`u64::MAX`] means to the end, wherever that is.
        range: Range<u64>,
    },
}

impl Invalidation {
    /// How long to wait before telling.
    pub fn after(&self) -> Duration {
        match self {
            Self::Name { after, .. } => *after,
            Self::Pages { .. } => Duration::ZERO,
        }
    }
}
