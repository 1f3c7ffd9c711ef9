//! Manifests: read whole with what is said of them, and written where nothing is.
//!
//! What is said travels as user metadata (`x-amz-meta-*`). These are few requests among many, so they go
//! through the SDK.

use std::time::{Duration, SystemTime};

use attachfs_store::{Metadata, PutOutcome, StoreError, StoredManifest};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::Bytes;

use crate::S3Store;
use crate::error::{Failure, NoAnswer, failure};
use crate::read::transfer_time;

/// The wait before a body that broke is asked for again, doubled each time: what the SDK waits on
/// average before its own second attempt.
const FIRST_WAIT: Duration = Duration::from_millis(500);

impl S3Store {
    pub(crate) async fn read_manifest(&self, key: &str) -> Result<StoredManifest, StoreError> {
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let answer = self.request_manifest(key).await?;
            match self.receive_manifest(key, answer).await {
                // The SDK's own attempts end where a body begins.
                Err(error) if error.is_transient() && attempt < self.limits.attempts => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        attempt,
                        "the body of a manifest broke, it is asked for again"
                    );
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn request_manifest(&self, key: &str) -> Result<GetObjectOutput, StoreError> {
        let request = self.client.get_object().bucket(self.bucket.as_str());
        let sent = request.key(key).send().await;
        sent.map_err(|error| failure("reading", &self.url(key), error).error)
    }

    async fn receive_manifest(
        &self,
        key: &str,
        answer: GetObjectOutput,
    ) -> Result<StoredManifest, StoreError> {
        let broken = |source| StoreError::Unreachable {
            what: format!("reading {}", self.url(key)),
            source: Box::new(source),
        };
        let len = answer.content_length().and_then(|len| len.try_into().ok());
        let said = answer.metadata().into_iter().flatten();
        let metadata =
            Metadata::of_foreign(said.map(|(name, value)| (name.as_str(), value.as_str())));
        let modified = answer.last_modified().and_then(time);
        let time = self.limits.operation_for(len.unwrap_or_default());
        let bytes = match tokio::time::timeout(time, answer.body.collect()).await {
            Ok(Ok(body)) => body.into_bytes(),
            Ok(Err(error)) => {
                return Err(broken(NoAnswer::because("the body broke off", &error)));
            }
            Err(late) => return Err(broken(NoAnswer::because("the body took too long", &late))),
        };
        if len.is_some_and(|len| len != bytes.len() as u64) {
            return Err(broken(NoAnswer::new("the body is shorter than its length")));
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
        let mut request = self
            .client
            .put_object()
            .bucket(self.bucket.as_str())
            .key(key)
            .if_none_match("*")
            .body(ByteStream::from(bytes));
        for (name, value) in metadata.iter() {
            request = request.metadata(name, value);
        }
        request
            .customize()
            .disable_payload_signing()
            .config_override(self.with_more_time(time))
            .send()
            .await
            .map_err(|error| failure("storing", &self.url(key), error))?;
        Ok(())
    }
}

/// A time as the standard library has it; none of before 1970.
pub(crate) fn time(told: &DateTime) -> Option<SystemTime> {
    SystemTime::try_from(*told).ok()
}
