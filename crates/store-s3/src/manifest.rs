//! Manifests: few, small, and written only under a key that is free. The SDK makes these requests.

use std::time::Duration;

use attachfs_store::{PutOutcome, StoreError};
use aws_sdk_s3::config::Builder as ConfigBuilder;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use crate::S3Store;
use crate::error::{Failure, NoAnswer, failure, unreachable};

/// The slowest transfer that is waited for, in bytes a second: a manifest adds its length divided by
/// this to its request's time.
const BYTES_PER_SECOND: u64 = 10_000;

/// How often an answer whose body broke is asked for in all. The SDK's own attempts end where a
/// body begins.
const BODIES: u32 = 3;

impl S3Store {
    pub(crate) async fn get_whole(&self, key: &str) -> Result<Bytes, StoreError> {
        let mut tries = 1;
        loop {
            let answer = self
                .client
                .get_object()
                .bucket(self.bucket.as_str())
                .key(key)
                .send()
                .await
                .map_err(|error| failure("reading", &self.url(key), error).error)?;
            let len = answer
                .content_length()
                .and_then(|len| u64::try_from(len).ok());
            let time = self.lean.operation + transfer_time(len.unwrap_or_default());
            let broken = match tokio::time::timeout(time, answer.body.collect()).await {
                Ok(Ok(body)) => {
                    let bytes = body.into_bytes();
                    if len.is_none_or(|len| len == bytes.len() as u64) {
                        return Ok(bytes);
                    }
                    NoAnswer::new("the body is shorter than its length")
                }
                Ok(Err(error)) => NoAnswer::because("the body broke off", &error),
                Err(late) => NoAnswer::because("the body took too long", &late),
            };
            if tries == BODIES {
                return Err(unreachable(format!("reading {}", self.url(key)), broken));
            }
            tries += 1;
        }
    }

    pub(crate) async fn put_if_absent(
        &self,
        key: &str,
        bytes: Bytes,
    ) -> Result<PutOutcome, StoreError> {
        if self.is_taken(key).await? {
            return Ok(PutOutcome::Exists);
        }
        match self.put_free(key, bytes).await {
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

    async fn put_free(&self, key: &str, bytes: Bytes) -> Result<(), Failure> {
        let time = transfer_time(bytes.len() as u64);
        self.client
            .put_object()
            .bucket(self.bucket.as_str())
            .key(key)
            .if_none_match("*")
            .body(ByteStream::from(bytes))
            .customize()
            .disable_payload_signing()
            .config_override(self.with_more_time(time))
            .send()
            .await
            .map_err(|error| failure("storing", &self.url(key), error))?;
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
