//! A store in an S3 bucket. No other crate knows the AWS SDK.
//!
//! Objects go the direct way (`direct.rs`): signed requests over the HTTP client below the SDK. The SDK
//! finds credentials and configuration, knows where a bucket is, and makes the less frequent requests:
//! manifests, listings, and the beginning and end of uploads in parts. Both keep these promises:
//!
//! - An answer whose body breaks off or stops is asked for again; it is never short data. A stream ends in an error
//!   then, and whoever reads it asks for the rest.
//! - Every call ends: [`S3Options::operation_timeout`] bounds it. Bodies take the time that they
//!   need as long as they move ([`S3Options::stall_timeout`]) and do not crawl
//!   ([`S3Access::min_rate`](attachfs_store::S3Access::min_rate)).
//! - A server that asks for slower requests gets fewer at a time, from all callers together.
//! - Credentials are renewed before they end, and read anew where they come from when the server does not take
//!   them any more.
//! - Large objects are sent in parts, several at a time, and an upload that fails or is cancelled is
//!   aborted in the bucket. A program that is about to end waits for that with [`uploads_ended`]; what
//!   one leaves that is killed is for the bucket's rules to remove.
//! - Errors say what to check, and hold no secrets.
//!
//! Bodies are sent with a CRC32, which the server checks and keeps, instead of a signature over
//! their bytes: the checksum is signed, costs a fraction of a SHA-256, and is there on connections
//! without TLS too. Checksums of answers are asked for with manifests only: whoever reads an object
//! knows its hash.

mod attempts;
mod bandwidth;
mod body;
mod buffers;
mod common_headers;
mod concurrency;
mod connect;
mod connections;
mod credentials;
mod direct;
mod endpoint;
mod error;
mod list;
mod manifest;
mod options;
mod pace;
mod read;
mod refusal;
mod retry;
mod settings;
mod sign;
mod sources;
mod upload;
mod via_sdk;

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use attachfs_manifest::ContentHash;
use attachfs_store::{
    BucketName, ChunkStore, Folder, ListStore, ManifestKey, ManifestStore, Metadata, ObjectMeta,
    ObjectPart, ObjectStream, Page, Payload, PutOutcome, RequestCounts, RootPrefix, Store,
    StoreAddress, StoreError, StoredManifest, data_key, old_data_key,
};
use aws_sdk_s3::Client;
use bytes::Bytes;

pub use options::{S3Credentials, S3Options};
pub use settings::SettingError;
pub use upload::uploads_ended;

/// Objects and manifests below a prefix of a bucket. Clones share connections and credentials.
#[derive(Clone)]
pub struct S3Store {
    client: Client,
    bucket: BucketName,
    prefix: RootPrefix,
    direct: Arc<direct::Direct>,
    /// What bounds the objects that are put.
    putting: Arc<bandwidth::Bandwidth>,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store")
            .field("address", &self.address().to_string())
            .finish_non_exhaustive()
    }
}

impl S3Store {
    /// Makes a store for the options, without asking the bucket anything: a wrong name or missing
    /// credentials are found by the first call. Reads the environment and the AWS configuration files, and, if
    /// nothing else names a region, asks the instance's metadata service. A setting that cannot be used is
    /// [`StoreError::Setting`].
    pub async fn connect(options: S3Options) -> Result<Self, StoreError> {
        connect::connect(options).await
    }

    /// Where the bucket turned out to be, as a URL: two buckets of one name on two servers differ in it.
    pub fn bucket_url(&self) -> &str {
        self.direct.bucket.as_str()
    }

    fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}

#[async_trait]
impl ChunkStore for S3Store {
    /// Old clients stored objects without the extension: those are found too, at the price of a
    /// second request for what is not there.
    async fn get(&self, chunk: ContentHash, range: Range<u64>) -> Result<ObjectPart, StoreError> {
        let key = self.prefix.join(&data_key(chunk));
        match self.get_part(&key, range.clone()).await {
            Err(StoreError::NotFound { what }) => {
                let key = self.prefix.join(&old_data_key(chunk));
                self.get_part(&key, range)
                    .await
                    .map_err(|error| named(error, what))
            }
            found => found,
        }
    }

    async fn stream(
        &self,
        chunk: ContentHash,
        range: Range<u64>,
    ) -> Result<ObjectStream, StoreError> {
        let key = self.prefix.join(&data_key(chunk));
        match self.stream_part(&key, range.clone()).await {
            Err(StoreError::NotFound { what }) => {
                let key = self.prefix.join(&old_data_key(chunk));
                self.stream_part(&key, range)
                    .await
                    .map_err(|error| named(error, what))
            }
            found => found,
        }
    }

    fn requests(&self) -> Option<RequestCounts> {
        Some(self.direct.retries.requests.so_far())
    }

    async fn head(&self, chunk: ContentHash) -> Result<ObjectMeta, StoreError> {
        let head = self
            .head_object(&self.prefix.join(&data_key(chunk)))
            .await?;
        Ok(ObjectMeta { len: head.len })
    }

    fn slowed(&self, bytes_per_second: NonZeroU64) -> Option<Arc<dyn ChunkStore>> {
        let putting = bandwidth::Bandwidth::within(&self.putting, bytes_per_second);
        Some(Arc::new(Self {
            putting: Arc::new(putting),
            ..self.clone()
        }))
    }

    async fn put(&self, chunk: ContentHash, payload: Payload) -> Result<(), StoreError> {
        let key = self.prefix.join(&data_key(chunk));
        self.put_payload(&key, payload).await
    }
}

/// Says of an object that is not there under its old name that it is not there under its own.
fn named(error: StoreError, what: String) -> StoreError {
    match error {
        StoreError::NotFound { .. } => StoreError::NotFound { what },
        error => error,
    }
}

#[async_trait]
impl ManifestStore for S3Store {
    async fn get_manifest(&self, key: &ManifestKey) -> Result<StoredManifest, StoreError> {
        self.read_manifest(&self.prefix.join(&key.object_key()))
            .await
    }

    /// Asks first whether the key is taken, because some servers do not know conditional writes
    /// and would replace it. If this call's own write succeeded but its answer was lost, it is made
    /// again and the outcome is `Exists`.
    async fn put_manifest_if_absent(
        &self,
        key: &ManifestKey,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<PutOutcome, StoreError> {
        let key = self.prefix.join(&key.object_key());
        self.write_manifest_if_absent(&key, bytes, metadata).await
    }
}

#[async_trait]
impl ListStore for S3Store {
    async fn list(&self, folder: &Folder, after: Option<&str>) -> Result<Page, StoreError> {
        self.list_page(folder, after).await
    }
}

impl Store for S3Store {
    fn address(&self) -> StoreAddress {
        StoreAddress::S3 {
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
