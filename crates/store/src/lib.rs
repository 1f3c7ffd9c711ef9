//! Content-addressed stores: objects named by the hash of their bytes, and manifests beside them.
//!
//! Every store has the same layout below its root, that of AWS Deadline Cloud's job attachments:
//!
//! ```text
//!     <root>/Data/<xxh128 of the object, 32 hex digits>.xxh128
//!     <root>/Manifests/<manifest key>
//! ```
//!
//! Readers and writers see the traits [`ChunkStore`] and [`ManifestStore`]; verbs that list, check or clean a
//! store see [`ListStore`]. Every implementation passes the one suite `conformance`. Tests of other crates get it, a
//! store in memory and stores that record or fail calls with the feature `testing`.

mod address;
mod blocking;
mod counts;
mod directory;
mod error;
mod key;
mod list;
mod metadata;
mod payload;
mod s3_access;
mod stream;
#[cfg(any(test, feature = "testing"))]
mod testing;

use std::fmt::Debug;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use attachfs_manifest::ContentHash;
use bytes::Bytes;

pub use address::{ManifestAddress, ParseAddressError, StoreAddress};
pub use blocking::run_blocking;
pub use counts::{Count, Latencies, LatencyCounts, RequestCounts, RequestKind, Requests};
pub use directory::DirectoryStore;
pub use error::{Reach, StoreError};
pub use key::{
    BucketName, KeyPrefix, ManifestKey, ParseKeyError, RootPrefix, data_key, old_data_key,
};
pub use list::{Folder, Listed, ListedName, Page};
pub use metadata::{Metadata, MetadataError};
pub use payload::{Payload, SourceStamp};
pub use s3_access::{AccountId, Addressing, Encryption, KmsKey, ParseAccessError, S3Access};
pub use stream::ObjectStream;
#[cfg(any(test, feature = "testing"))]
pub use testing::{Call, CallKind, MemoryStore, conformance, fault, record};

/// Some bytes of an object, and what the store told about the whole object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPart {
    /// The bytes asked for. Shorter than the range only where the object ends.
    pub bytes: Bytes,
    /// The length of the whole object in bytes.
    pub object_len: u64,
    /// Changes when the object is replaced (the ETag in S3), if the store has such a thing.
    pub version: Option<Arc<str>>,
}

/// What a store tells about an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The length of the object in bytes.
    pub len: u64,
}

/// Whether a conditional write wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object was not there; now it is.
    Created,
    /// There is an object under this key already; it was left as it is.
    Exists,
}

/// A store of objects that are named by their hash.
///
/// Every method may fail with [`StoreError`]; only [`StoreError::NotFound`] says that the object is
/// not there. A method may be cancelled by dropping its future: a `put` then either happened or did
/// not, and never leaves part of an object under its key.
#[async_trait]
pub trait ChunkStore: Send + Sync + Debug {
    /// Reads `range` of an object. The range is not empty unless the object may be (`0..0` asks for its length
    /// only). A range that starts at or after the object's end gives no bytes and the object's true length: the
    /// caller knows how long the object should be. All the bytes are held in memory, so the caller also bounds
    /// the range.
    async fn get(&self, chunk: ContentHash, range: Range<u64>) -> Result<ObjectPart, StoreError>;

    /// As [`get`](Self::get), but gives the bytes as they arrive. Returns when the store has begun to answer.
    /// A body that breaks off is not asked for again here: whoever has what came of it asks for the rest. A
    /// store that has all bytes at once gives them as one piece.
    async fn stream(
        &self,
        chunk: ContentHash,
        range: Range<u64>,
    ) -> Result<ObjectStream, StoreError> {
        Ok(self.get(chunk, range).await?.into())
    }

    /// How many parts of an object should be asked for at once for somebody who reads it in order; nothing if the store is
    /// the faster the more they are, as it is where each comes over a connection of its own.
    fn parts_at_once(&self) -> Option<NonZero<u32>> {
        None
    }

    /// The requests that were made since the store was opened; nothing if it does not count them.
    fn requests(&self) -> Option<RequestCounts> {
        None
    }

    /// The same store, for who puts objects of which at most so many bytes are to move in a second, within one object too.
    /// Nothing if it cannot be had.
    fn slowed(&self, _bytes_per_second: NonZero<u64>) -> Option<Arc<dyn ChunkStore>> {
        None
    }

    /// Asks for the length of an object under the name that [`put`](Self::put) gives it. The names that
    /// old clients gave are tried by [`get`](Self::get) only: here they would cost an upload a second
    /// request for each missing object.
    async fn head(&self, chunk: ContentHash) -> Result<ObjectMeta, StoreError>;

    /// Stores an object, replacing one of the same name. Atomic (a reader sees the whole object or
    /// none of it) and idempotent. Returns once the object is as durable as the store makes things.
    /// Fails with [`StoreError::SourceChanged`] if the payload's file has changed.
    async fn put(&self, chunk: ContentHash, payload: Payload) -> Result<(), StoreError>;
}

/// The longest manifest that is read into memory, in bytes: more than 5,000,000 files. Without a limit, a
/// huge object in a store, or a file that is named by mistake, could fill its readers' memory.
pub const LARGEST_MANIFEST: u64 = 1 << 30;

/// A manifest as a store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// The bytes as they were written.
    pub bytes: Bytes,
    /// The metadata that was written with them.
    pub metadata: Metadata,
    /// When it was written, by the store's clock, if the store tells.
    pub modified: Option<SystemTime>,
}

impl StoredManifest {
    /// Whether this is what a writer of these bytes and this metadata wrote: the same bytes, and at
    /// least this metadata. So a writer learns whether an earlier write, or one with an unknown
    /// outcome, was its own: the same bytes with the metadata of another writer are another manifest.
    pub fn is(&self, bytes: &[u8], metadata: &Metadata) -> bool {
        self.bytes == bytes && self.metadata.includes(metadata)
    }
}

/// A store of manifests, named by keys.
#[async_trait]
pub trait ManifestStore: Send + Sync + Debug {
    /// Reads a manifest.
    async fn get_manifest(&self, key: &ManifestKey) -> Result<StoredManifest, StoreError>;

    /// Writes a manifest and its metadata under a key that is free, atomically (`If-None-Match:
    /// *`). After an error the outcome is unknown: read the key to learn it, with
    /// [`StoredManifest::is`].
    async fn put_manifest_if_absent(
        &self,
        key: &ManifestKey,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<PutOutcome, StoreError>;
}

/// A store that lists what is in it.
#[async_trait]
pub trait ListStore: Send + Sync + Debug {
    /// The next page of what is in a folder: of the keys that come after `after`, which is a full key
    /// below the store's prefix or anything else, from the first if `None`. What is written or removed
    /// meanwhile may or may not be seen; everything else is listed exactly once. A folder that is not
    /// there is empty.
    async fn list(&self, folder: &Folder, after: Option<&str>) -> Result<Page, StoreError>;
}

/// All of a store.
pub trait Store: ChunkStore + ManifestStore + ListStore {
    /// The address by which people and sessions name this store.
    fn address(&self) -> StoreAddress;
}
