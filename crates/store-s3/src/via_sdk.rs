//! The less frequent requests, which the SDK makes: one attempt at a time, repeated by the same rules as direct
//! requests.
//!
//! The SDK's own retries are switched off: it would try three times within seconds, ignore the pace that the
//! server has asked for, and sign with its own clock.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use attachfs_store::RequestKind;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;

use crate::attempts::{Attempts, FailedAttempt};
use crate::direct::Direct;
use crate::error::{
    Failure, NOT_IN_TIME, NoAnswer, failure, is_final, no_credentials, unreachable,
};
use crate::retry::Again;

/// What a request is for, in messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose<'a> {
    pub(crate) kind: RequestKind,
    /// `reading`
    pub(crate) doing: &'static str,
    /// `s3://bucket/key`
    pub(crate) url: &'a str,
}

impl Purpose<'_> {
    pub(crate) fn what(&self) -> String {
        format!("{} {}", self.doing, self.url)
    }
}

impl Direct {
    /// Makes a request of the SDK, and again as long as that may help. `extra` is how much longer it
    /// may take than others; the SDK's own timeout for the attempt has to allow for it too.
    pub(crate) async fn call<T, E, F>(
        &self,
        purpose: Purpose<'_>,
        extra: Duration,
        request: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let attempt = |left| {
            let request = request();
            async move {
                let begun = Instant::now();
                let answer = self.answer_of(purpose, left, request).await;
                (begun.elapsed(), answer)
            }
        };
        self.persist(purpose, extra, attempt).await
    }

    /// The same for an operation that is more than one request. An attempt gets the time that is left,
    /// and returns how much it used without its bodies.
    pub(crate) async fn persist<T, F>(
        &self,
        purpose: Purpose<'_>,
        extra: Duration,
        attempt: impl Fn(Duration) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = (Duration, Result<T, FailedAttempt>)>,
    {
        let mut attempts = Attempts::new(&self.retries, self.operation + extra);
        loop {
            let slot = self.concurrency.take().await;
            let keys = self.keys.get().await.map_err(|error| Failure {
                status: None,
                error: no_credentials(purpose.what(), &error),
            })?;
            // The SDK's futures take tens of kilobytes, so they are boxed.
            let (took, done) = Box::pin(attempt(attempts.left)).await;
            attempts.left = attempts.left.saturating_sub(took);
            let mut failed = match done {
                Ok(answer) => {
                    keys.work();
                    attempts.succeeded(&slot);
                    return Ok(answer);
                }
                Err(failed) => failed,
            };
            failed.again = attempts
                .with_other_keys(failed.again, &self.keys, &keys)
                .await;
            attempts.failed(slot, failed).await?;
        }
    }

    /// The answer to a request of the SDK's that is made once.
    pub(crate) async fn answer_of<T, E>(
        &self,
        purpose: Purpose<'_>,
        time: Duration,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, FailedAttempt>
    where
        E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        self.retries.requests.note(purpose.kind);
        let Ok(answer) = tokio::time::timeout(time, request).await else {
            let error = unreachable(purpose.what(), NoAnswer::new(NOT_IN_TIME));
            return Err(FailedAttempt::without_answer(Again::Later, error));
        };
        answer.map_err(|error| FailedAttempt {
            again: self.after(&error),
            failure: failure(purpose.doing, purpose.url, error),
        })
    }

    /// What can be done about an error of the SDK.
    fn after<E: ProvideErrorMetadata>(&self, error: &SdkError<E, HttpResponse>) -> Again {
        match error {
            SdkError::ServiceError(answered) => {
                let raw = answered.raw();
                let code = answered.err().code().unwrap_or_default();
                match Again::after(raw.status().as_u16(), code) {
                    Again::OtherTime if !self.clock.set(raw.headers().get("date")) => Again::Never,
                    again => again,
                }
            }
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) if !is_final(error) => Again::Connected,
                _ => Again::Never,
            },
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) => Again::Later,
            _ => Again::Never,
        }
    }
}
