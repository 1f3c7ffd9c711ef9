//! The rare requests, made by the SDK: once each time, and again by the same rules as the lean ones.
//!
//! The SDK's own retries are switched off. It would try three times within seconds, know nothing of the pace that
//! the server has asked of this store, and sign with its own clock.

use std::future::Future;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;

use crate::error::{Failure, failure, is_final, no_credentials};
use crate::lean::Lean;
use crate::retry::Again;
use crate::tries::{Tries, Trouble};

/// What a request is for, in messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose<'a> {
    /// `reading`
    pub(crate) doing: &'static str,
    /// `s3://bucket/key`
    pub(crate) url: &'a str,
}

impl Lean {
    /// Makes a request of the SDK's as often as it may help. `extra` is how much longer than others it
    /// may take; the SDK has to be told the same of each attempt.
    pub(crate) async fn persist<T, E, F>(
        &self,
        purpose: Purpose<'_>,
        extra: Duration,
        request: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let mut tries = Tries::new(&self.retries, self.operation + extra);
        loop {
            let flight = self.flights.take().await;
            let keys = self.keys.get().await.map_err(|error| Failure {
                status: None,
                error: no_credentials(format!("{} {}", purpose.doing, purpose.url), &error),
            })?;
            let begun = Instant::now();
            let sent = request().await;
            tries.left = tries.left.saturating_sub(begun.elapsed());
            let error = match sent {
                Ok(answer) => {
                    tries.succeeded(&flight);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let again = self.after(&error);
            if again == Again::NewKeys {
                self.keys.refuse(&keys);
            }
            let failure = failure(purpose.doing, purpose.url, error);
            tries.failed(flight, Trouble { again, failure }).await?;
        }
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
