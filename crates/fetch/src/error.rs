//! Why bytes of an object could not be read.

use std::sync::Arc;
use std::time::Duration;

use attachfs_manifest::ContentHash;
use attachfs_store::{Reach, StoreError};

/// Why a read failed. Every reader that waited for the same bytes gets the same error; the error is
/// not kept, so the next read tries again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// The store does not have the object.
    #[error("object {hash} is missing")]
    Missing {
        /// The object.
        hash: ContentHash,
        /// The store's answer.
        #[source]
        source: Arc<StoreError>,
    },
    /// The object's bytes do not have the hash in its name.
    #[error("object {hash} is damaged: its bytes have the hash {found}")]
    Damaged {
        /// The object.
        hash: ContentHash,
        /// The hash of the bytes that the store gave.
        found: ContentHash,
    },
    /// The object is shorter or longer than the manifest says.
    #[error("object {hash} should have {expected} bytes, but has {found}")]
    WrongLength {
        /// The object.
        hash: ContentHash,
        /// Its length in the manifest.
        expected: u64,
        /// Its length in the store, or the number of bytes that it gave.
        found: u64,
    },
    /// The store gave parts of two versions of it.
    #[error("object {hash} was replaced while it was being read")]
    Replaced {
        /// The object.
        hash: ContentHash,
    },
    /// The store failed.
    #[error("object {hash} could not be read")]
    Store {
        /// The object.
        hash: ContentHash,
        /// The store's error.
        #[source]
        source: Arc<StoreError>,
    },
    /// The bytes did not come in time.
    #[error("object {hash} did not come within {} s", after.as_secs_f32())]
    TimedOut {
        /// The object.
        hash: ContentHash,
        /// The deadline.
        after: Duration,
    },
}

impl FetchError {
    /// The object.
    pub fn object(&self) -> ContentHash {
        match self {
            Self::Missing { hash, .. }
            | Self::Damaged { hash, .. }
            | Self::WrongLength { hash, .. }
            | Self::Replaced { hash }
            | Self::Store { hash, .. }
            | Self::TimedOut { hash, .. } => *hash,
        }
    }

    /// Whether the store gave wrong bytes: another request may give the right ones.
    pub fn is_about_bytes(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::WrongLength { .. } | Self::Replaced { .. }
        )
    }

    /// Whether the store as a whole failed, so that other objects probably cannot be read either.
    pub fn is_of_the_store(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Damaged { .. }
            | Self::WrongLength { .. }
            | Self::Replaced { .. } => false,
            Self::Store { source, .. } => matches!(
                **source,
                StoreError::Unreachable { .. }
                    | StoreError::Denied {
                        reach: Reach::Everything,
                        ..
                    }
            ),
            Self::TimedOut { .. } => true,
        }
    }
}
