//! The less frequent requests, made by the SDK: once each time, and again by the same rules as the direct ones.
//!
//! The SDK's own retries are switched off. It would try three times within seconds, know nothing of the pace that
//! the server has asked of this store, and sign with its own clock.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;

use crate::attempts::{Attempts, Trouble};
use crate::direct::Direct;
use crate::error::{
    Failure, NOT_IN_TIME, NoAnswer, failure, is_final, no_credentials, unreachable,
};
use crate::retry::Again;

/// What a request is for, in messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose<'a> {
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
    /// Makes a request of the SDK's as often as it may help. `extra` is how much longer than others it
    /// may take; the SDK has to be told the same of each attempt.
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

    /// The same for what is more than a request. An attempt is told how much time is left, and says how
    /// much it took, bodies left out.
    pub(crate) async fn persist<T, F>(
        &self,
        purpose: Purpose<'_>,
        extra: Duration,
        attempt: impl Fn(Duration) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = (Duration, Result<T, Trouble>)>,
    {
        let mut attempts = Attempts::new(&self.retries, self.operation + extra);
        loop {
            let slot = self.concurrency.take().await;
            let keys = self.keys.get().await.map_err(|error| Failure {
                status: None,
                error: no_credentials(purpose.what(), &error),
            })?;
            // The SDK's futures take tens of kilobytes, which every caller would have to carry.
            let (took, done) = Box::pin(attempt(attempts.left)).await;
            attempts.left = attempts.left.saturating_sub(took);
            let mut trouble = match done {
                Ok(answer) => {
                    keys.work();
                    attempts.succeeded(&slot);
                    return Ok(answer);
                }
                Err(trouble) => trouble,
            };
            trouble.again = attempts
                .with_other_keys(trouble.again, &self.keys, &keys)
                .await;
            attempts.failed(slot, trouble).await?;
        }
    }

    /// The answer to a request of the SDK's that is made once.
    pub(crate) async fn answer_of<T, E>(
        &self,
        purpose: Purpose<'_>,
        time: Duration,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Trouble>
    where
        E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let Ok(answer) = tokio::time::timeout(time, request).await else {
            let error = unreachable(purpose.what(), NoAnswer::new(NOT_IN_TIME));
            return Err(Trouble::without_answer(Again::Later, error));
        };
        answer.map_err(|error| Trouble {
            again: self.after(&error),
            failure: failure(purpose.doing, purpose.url, error),
        })
    }

    /// What can be done about an error of the SDK's.
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
