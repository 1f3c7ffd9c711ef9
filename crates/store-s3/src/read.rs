//! GET and HEAD.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use attachfs_store::{ObjectPart, StoreError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};

use crate::error::{Failure, NoAnswer, failure};
use crate::{Limits, MIN_BYTES_PER_SECOND, S3Store};

/// The most that is set aside for a body before any of it has come.
const LARGEST_RESERVE: u64 = 64 << 20;

/// The wait before a body that broke is asked for again, doubled each time: what the SDK waits on
/// average before its own second attempt.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// What HEAD tells.
pub(crate) struct Head {
    pub(crate) len: u64,
    version: Option<Arc<str>>,
}

impl Limits {
    /// How long a request with a body of this length may take.
    pub(crate) fn operation_for(self, len: u64) -> Duration {
        self.operation + transfer_time(len)
    }
}

/// The longest that a body of this length may take.
pub(crate) fn transfer_time(len: u64) -> Duration {
    Duration::from_secs(len / MIN_BYTES_PER_SECOND)
}

impl S3Store {
    pub(crate) async fn head_object(&self, key: &str) -> Result<Head, StoreError> {
        let head = self
            .client
            .head_object()
            .bucket(self.bucket.as_str())
            .key(key)
            .send()
            .await
            .map_err(|error| failure("looking for", &self.url(key), error).error)?;
        let len = head.content_length().and_then(|len| len.try_into().ok());
        Ok(Head {
            len: len.ok_or_else(|| self.strange(key, "the answer has no length"))?,
            version: head.e_tag().map(Into::into),
        })
    }

    /// A range of an object that is under exactly this key.
    pub(crate) async fn get_part(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<ObjectPart, StoreError> {
        if range.is_empty() {
            return self.nothing_of(key).await;
        }
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let output = match self.request_part(key, &range).await {
                Ok(output) => output,
                // The range begins at the end or after it; an empty object has no other.
                Err(Failure {
                    status: Some(416), ..
                }) => return self.nothing_of(key).await,
                Err(failure) => return Err(failure.error),
            };
            match self.receive(key, &range, output).await {
                // The SDK's own attempts end where a body begins.
                Err(error) if error.is_transient() && attempt < self.limits.attempts => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        attempt,
                        "a body broke, it is asked for again"
                    );
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn nothing_of(&self, key: &str) -> Result<ObjectPart, StoreError> {
        let head = self.head_object(key).await?;
        Ok(ObjectPart {
            bytes: Bytes::new(),
            object_len: head.len,
            version: head.version,
        })
    }

    async fn request_part(
        &self,
        key: &str,
        range: &Range<u64>,
    ) -> Result<GetObjectOutput, Failure> {
        let first = range.start;
        let header = match range.end {
            u64::MAX => format!("bytes={first}-"),
            end => format!("bytes={first}-{}", end - 1),
        };
        self.client
            .get_object()
            .bucket(self.bucket.as_str())
            .key(key)
            .range(header)
            .send()
            .await
            .map_err(|error| failure("reading", &self.url(key), error))
    }

    /// Reads the body of an answer and holds it against what its headers say.
    async fn receive(
        &self,
        key: &str,
        range: &Range<u64>,
        output: GetObjectOutput,
    ) -> Result<ObjectPart, StoreError> {
        let len: u64 = output
            .content_length()
            .and_then(|len| len.try_into().ok())
            .ok_or_else(|| self.strange(key, "the answer has no length"))?;
        let (start, object_len) = match output.content_range() {
            Some(text) => content_range(text)
                .ok_or_else(|| self.strange(key, "the answer's Content-Range is none"))?,
            // A server that does not know ranges sends everything.
            None => (0, len),
        };
        let version = output.e_tag().map(Into::into);

        let time = self.limits.operation_for(len);
        let body = tokio::time::timeout(time, collect(output.body, len));
        let mut bytes = match body.await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(source)) => return Err(self.broken(key, source)),
            Err(late) => {
                let source = NoAnswer::because("the body took too long", &late);
                return Err(self.broken(key, source));
            }
        };
        if bytes.len() as u64 != len {
            return Err(self.broken(key, NoAnswer::new("the body is shorter than its length")));
        }
        let skip = range
            .start
            .checked_sub(start)
            .ok_or_else(|| self.strange(key, "the answer is another range"))?;
        bytes = bytes.split_off(skip.min(len) as usize);
        bytes.truncate(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        let wanted = range.end.min(object_len).saturating_sub(range.start);
        if bytes.len() as u64 != wanted {
            return Err(self.strange(key, "the answer is not all of the range"));
        }
        Ok(ObjectPart {
            bytes,
            object_len,
            version,
        })
    }

    fn broken(&self, key: &str, source: NoAnswer) -> StoreError {
        StoreError::Unreachable {
            what: format!("reading {}", self.url(key)),
            source: Box::new(source),
        }
    }

    /// An answer that S3 would not give.
    fn strange(&self, key: &str, what: &'static str) -> StoreError {
        StoreError::Other {
            what: format!("reading {}", self.url(key)),
            source: Box::new(NoAnswer::new(what)),
        }
    }
}

fn broke(source: impl std::error::Error + 'static) -> NoAnswer {
    NoAnswer::because("the body broke off", &source)
}

/// All of a body, without copying it if it comes in one piece.
async fn collect(mut body: ByteStream, len: u64) -> Result<Bytes, NoAnswer> {
    let Some(first) = body.try_next().await.map_err(broke)? else {
        return Ok(Bytes::new());
    };
    if first.len() as u64 == len {
        return Ok(first);
    }
    let mut bytes = BytesMut::with_capacity(len.min(LARGEST_RESERVE) as usize);
    bytes.extend_from_slice(&first);
    while let Some(next) = body.try_next().await.map_err(broke)? {
        bytes.extend_from_slice(&next);
    }
    Ok(bytes.freeze())
}

/// Start and total of `bytes 0-99/1000`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_tells_start_and_total() {
        assert_eq!(content_range("bytes 5-9/100"), Some((5, 100)));
        for bad in ["", "bytes */100", "bytes 5-9/*", "5-9/100", "bytes 5/100"] {
            assert_eq!(content_range(bad), None);
        }
    }
}
