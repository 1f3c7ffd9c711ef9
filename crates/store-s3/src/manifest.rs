//! Manifests: read whole with their metadata, and written only under free keys.
//!
//! Their metadata is S3's user metadata (`x-amz-meta-*`). These requests are rare, so they go through
//! the SDK.

use std::error::Error as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use attachfs_store::{
    LARGEST_MANIFEST, Metadata, PutOutcome, RequestKind, StoreError, StoredManifest,
};
use aws_sdk_s3::config::Builder as ConfigBuilder;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;
use tokio::time::Instant;

use crate::S3Store;
use crate::attempts::FailedAttempt;
use crate::error::{Failure, NoAnswer, unreachable};
use crate::refusal::Refusal;
use crate::retry::Again;
use crate::via_sdk::Purpose;

/// The slowest transfer that is waited for, in bytes a second: a manifest adds its length divided by
/// this to its request's time.
const BYTES_PER_SECOND: u64 = 10_000;

impl S3Store {
    /// With its body: one that breaks off is asked for again.
    pub(crate) async fn read_manifest(&self, key: &str) -> Result<StoredManifest, StoreError> {
        let request = self.client.get_object().bucket(self.bucket.as_str());
        // The reader does not know the hash of a manifest, so its bytes are compared with the
        // server's checksum.
        let checked = self.direct.checked_answers;
        let request = request
            .key(key)
            .set_checksum_mode(checked.then_some(ChecksumMode::Enabled));
        let purpose = Purpose {
            kind: RequestKind::Get,
            doing: "reading",
            url: &self.url(key),
        };
        let attempt = |left| {
            let sent = request.clone().send();
            async move {
                let begun = Instant::now();
                let answer = self.direct.answer_of(purpose, left, sent).await;
                let took = begun.elapsed();
                match answer {
                    Ok(answer) => (took, self.receive_manifest(purpose, answer).await),
                    Err(failed) => (took, Err(failed)),
                }
            }
        };
        let read = self.direct.persist(purpose, Duration::ZERO, attempt).await;
        read.map_err(|failure| failure.error)
    }

    async fn receive_manifest(
        &self,
        purpose: Purpose<'_>,
        answer: GetObjectOutput,
    ) -> Result<StoredManifest, FailedAttempt> {
        let len = answer.content_length().and_then(|len| len.try_into().ok());
        let Some(len) = len.filter(|&len: &u64| len <= LARGEST_MANIFEST) else {
            let error = StoreError::Other {
                what: purpose.what(),
                source: Box::new(NoAnswer::new("the answer is longer than a manifest may be")),
            };
            return Err(FailedAttempt::without_answer(Again::Never, error));
        };
        let said = answer.metadata().into_iter().flatten();
        let metadata =
            Metadata::of_foreign(said.map(|(name, value)| (name.as_str(), value.as_str())));
        let modified = answer.last_modified().and_then(time);
        let time = self.direct.operation + transfer_time(len);
        let broke = |source| {
            let error = unreachable(purpose.what(), source);
            FailedAttempt::without_answer(Again::Later, error)
        };
        let bytes = match tokio::time::timeout(time, answer.body.collect()).await {
            Ok(Ok(body)) => body.into_bytes(),
            Ok(Err(error)) => return Err(broke(NoAnswer::because("the body broke off", &error))),
            Err(late) => return Err(broke(NoAnswer::because("the body took too long", &late))),
        };
        if len != bytes.len() as u64 {
            return Err(broke(NoAnswer::new("the body is shorter than its length")));
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
        let is_conditional = !self.direct.unconditional.load(Ordering::Relaxed);
        let mut written = self
            .write_manifest(key, bytes.clone(), metadata, is_conditional)
            .await;
        if let Err(failure) = &written
            && is_conditional
            && knows_no_conditions(failure)
        {
            // The check before the write has to be enough, as with servers that ignore the
            // condition.
            written = self.write_manifest(key, bytes, metadata, false).await;
            if written.is_ok() {
                tracing::debug!("the server does not know conditional writes");
                self.direct.unconditional.store(true, Ordering::Relaxed);
            }
        }
        match written {
            Ok(()) => Ok(PutOutcome::Created),
            Err(Failure {
                status: Some(412), ..
            }) => Ok(PutOutcome::Exists),
            // Another writer wrote at the same time; the answer does not say which one won.
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

    /// Whether a key is taken. Without the permission to ask, the write itself tells.
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
        is_conditional: bool,
    ) -> Result<(), Failure> {
        let time = transfer_time(bytes.len() as u64);
        let purpose = Purpose {
            kind: RequestKind::Put,
            doing: "storing",
            url: &self.url(key),
        };
        let send = || {
            let mut request = self
                .client
                .put_object()
                .bucket(self.bucket.as_str())
                .key(key)
                .set_if_none_match(is_conditional.then(|| "*".to_owned()))
                .body(ByteStream::from(bytes.clone()));
            for (name, value) in metadata.iter() {
                request = request.metadata(name, value);
            }
            let mut request = request.customize();
            if !self.direct.signed_bodies {
                request = request.disable_payload_signing();
            }
            let request = request.config_override(self.with_more_time(time));
            async move { request.send().await }
        };
        self.direct.call(purpose, time, send).await?;
        Ok(())
    }

    pub(crate) fn with_more_time(&self, time: Duration) -> ConfigBuilder {
        let config = ConfigBuilder::default();
        if time < Duration::from_secs(1) {
            return config;
        }
        config.timeout_config(
            aws_config::timeout::TimeoutConfig::builder()
                .operation_attempt_timeout(self.direct.attempt + time)
                .operation_timeout(self.direct.operation + time)
                .build(),
        )
    }
}

/// Whether a server refused a write because it does not support conditions: S3 answers 501, others reject the
/// header.
fn knows_no_conditions(failure: &Failure) -> bool {
    let Some(refusal) = failure
        .error
        .source()
        .and_then(|of| of.downcast_ref::<Refusal>())
    else {
        return false;
    };
    let code = refusal.code.as_deref().unwrap_or_default();
    let message = refusal
        .message
        .as_deref()
        .unwrap_or_default()
        .to_lowercase();
    match refusal.status {
        501 => true,
        400 | 405 => {
            code == "NotImplemented"
                || message.contains("if-none-match")
                || message.contains("conditional")
        }
        _ => false,
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
