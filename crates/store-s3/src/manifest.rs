//! Manifests: read whole with what is said of them, and written where nothing is.
//!
//! What is said travels as user metadata (`x-amz-meta-*`). These are few requests among many, so they go
//! through the SDK.

use std::time::{Duration, SystemTime};

use attachfs_store::{Metadata, PutOutcome, StoreError, StoredManifest};
use aws_sdk_s3::config::Builder as ConfigBuilder;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;

use crate::S3Store;
use crate::error::{Failure, NoAnswer, unreachable};
use crate::rare::Purpose;

/// The slowest transfer that is waited for, in bytes a second: a manifest adds its length divided by
/// this to its request's time.
const BYTES_PER_SECOND: u64 = 10_000;

/// How often an answer whose body broke is asked for in all. What the SDK does ends where a body
/// begins.
const BODIES: u32 = 3;

impl S3Store {
    pub(crate) async fn read_manifest(&self, key: &str) -> Result<StoredManifest, StoreError> {
        let mut tries = 1;
        loop {
            let answer = self.request_manifest(key).await?;
            match self.receive_manifest(answer).await {
                Ok(manifest) => return Ok(manifest),
                Err(broken) if tries == BODIES => {
                    return Err(unreachable(format!("reading {}", self.url(key)), broken));
                }
                Err(broken) => {
                    tracing::debug!(
                        error = &broken as &dyn std::error::Error,
                        tries,
                        "the body of a manifest broke, it is asked for again"
                    );
                    tries += 1;
                }
            }
        }
    }

    async fn request_manifest(&self, key: &str) -> Result<GetObjectOutput, StoreError> {
        let request = self.client.get_object().bucket(self.bucket.as_str());
        // Nobody knows the hash of a manifest, so the server's checksum is held against its bytes.
        let request = request.key(key).checksum_mode(ChecksumMode::Enabled);
        let purpose = Purpose {
            doing: "reading",
            url: &self.url(key),
        };
        let send = || request.clone().send();
        let sent = self.lean.persist(purpose, Duration::ZERO, send).await;
        sent.map_err(|failure| failure.error)
    }

    async fn receive_manifest(&self, answer: GetObjectOutput) -> Result<StoredManifest, NoAnswer> {
        let len = answer.content_length().and_then(|len| len.try_into().ok());
        let said = answer.metadata().into_iter().flatten();
        let metadata =
            Metadata::of_foreign(said.map(|(name, value)| (name.as_str(), value.as_str())));
        let modified = answer.last_modified().and_then(time);
        let time = self.lean.operation + transfer_time(len.unwrap_or_default());
        let bytes = match tokio::time::timeout(time, answer.body.collect()).await {
            Ok(Ok(body)) => body.into_bytes(),
            Ok(Err(error)) => return Err(NoAnswer::because("the body broke off", &error)),
            Err(late) => return Err(NoAnswer::because("the body took too long", &late)),
        };
        if len.is_some_and(|len| len != bytes.len() as u64) {
            return Err(NoAnswer::new("the body is shorter than its length"));
        }
        Ok(StoredManifest {
            bytes,
            metadata,
            modified,
        })
    }

    pub(crate) async fn write_manifest_if_absent(
        &self,
        key: &str,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<PutOutcome, StoreError> {
        if self.is_taken(key).await? {
            return Ok(PutOutcome::Exists);
        }
        match self.write_manifest(key, bytes, metadata).await {
            Ok(()) => Ok(PutOutcome::Created),
            Err(Failure {
                status: Some(412), ..
            }) => Ok(PutOutcome::Exists),
            // Another writer was there at the same time; whether it won is not said.
            Err(Failure {
                status: Some(409),
                error,
            }) => {
                if self.is_taken(key).await? {
                    return Ok(PutOutcome::Exists);
                }
                Err(StoreError::Unreachable {
                    what: format!("storing {}", self.url(key)),
                    source: Box::new(error),
                })
            }
            Err(failure) => Err(failure.error),
        }
    }

    /// Whether there is something under a key. Who may not ask learns it from the write itself.
    async fn is_taken(&self, key: &str) -> Result<bool, StoreError> {
        match self.head_object(key).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. } | StoreError::Denied { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn write_manifest(
        &self,
        key: &str,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<(), Failure> {
        let time = transfer_time(bytes.len() as u64);
        let purpose = Purpose {
            doing: "storing",
            url: &self.url(key),
        };
        let send = || {
            let mut request = self
                .client
                .put_object()
                .bucket(self.bucket.as_str())
                .key(key)
                .if_none_match("*")
                .body(ByteStream::from(bytes.clone()));
            for (name, value) in metadata.iter() {
                request = request.metadata(name, value);
            }
            let request = request.customize().disable_payload_signing();
            let request = request.config_override(self.with_more_time(time));
            async move { request.send().await }
        };
        self.lean.persist(purpose, time, send).await?;
        Ok(())
    }

    pub(crate) fn with_more_time(&self, time: Duration) -> ConfigBuilder {
        let config = ConfigBuilder::default();
        if time < Duration::from_secs(1) {
            return config;
        }
        config.timeout_config(
            aws_config::timeout::TimeoutConfig::builder()
                .operation_attempt_timeout(self.lean.attempt + time)
                .operation_timeout(self.lean.operation + time)
                .build(),
        )
    }
}

/// The longest that a body of this length may take.
fn transfer_time(len: u64) -> Duration {
    Duration::from_secs(len / BYTES_PER_SECOND)
}

/// A time as the standard library has it; none of before 1970.
pub(crate) fn time(told: &DateTime) -> Option<SystemTime> {
    SystemTime::try_from(*told).ok()
}
