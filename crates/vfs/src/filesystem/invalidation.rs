//! What an adapter has to drop from its caches.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
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
    /// Names in a directory have changed, some of which nobody may have looked up: what is kept of its listing is out of date.
    Listing {
        /// The directory.
        dir: NodeId,
        /// How long to wait before the invalidation, as for a name.
        after: Duration,
    },
    /// Attributes of a file have changed, and none of its bytes.
    Attributes {
        /// The file.
        node: NodeId,
    },
    /// No change: the adapter answers once it has dropped all that was sent before and was due.
    Answer(Acknowledgement),
}

impl Invalidation {
    /// How long to wait before the invalidation.
    pub fn after(&self) -> Duration {
        match self {
            Self::Name { after, .. } | Self::Listing { after, .. } => *after,
            Self::Pages { .. } | Self::Attributes { .. } | Self::Answer(_) => Duration::ZERO,
        }
    }
}

/// Tells whoever waits for it that the adapter has come so far. An adapter that drops it without a word has ended, and its
/// caches with it: that is as good.
#[derive(Debug, Clone)]
pub struct Acknowledgement(Arc<SyncSender<()>>);

impl Acknowledgement {
    /// An acknowledgement, and where it arrives.
    pub(crate) fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = sync_channel(1);
        (Self(Arc::new(sender)), receiver)
    }

    /// The adapter has come so far.
    pub fn done(&self) {
        // Nobody may wait for it any more.
        let _ = self.0.try_send(());
    }
}

impl PartialEq for Acknowledgement {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Acknowledgement {}
