//! What S3 and the way to it answer, by what the caller can do about it.
//!
//! The SDK's own errors carry whole answers. They are not passed on: a server's text may repeat
//! what was signed. What is kept is S3's name for the error, its message, the status and the id
//! under which AWS's support finds the request.

use std::error::Error as StdError;
use std::fmt;

use attachfs_store::StoreError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;

/// A server's answer that is an error.
#[derive(Debug)]
struct Answer {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl StdError for Answer {}

/// A failure before there was an answer, or instead of one.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct NoAnswer {
    what: &'static str,
    #[source]
    source: Option<Told>,
}

impl NoAnswer {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, source: None }
    }

    pub(crate) fn because(what: &'static str, source: &(dyn StdError + 'static)) -> Self {
        Self {
            what,
            source: Some(Told::of(source)),
        }
    }
}

/// What an error and its causes say of themselves, without what else they carry.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Told {
    text: String,
    #[source]
    source: Option<Box<Told>>,
}

impl Told {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        Self {
            text: error.to_string(),
            source: error.source().map(|source| Box::new(Self::of(source))),
        }
    }
}

/// What a request failed with.
pub(crate) struct Failure {
    /// The HTTP status, if there was an answer.
    pub(crate) status: Option<u16>,
    /// The failure as the store's.
    pub(crate) error: StoreError,
}

/// The failure of a request for `url` that was to do `doing`.
pub(crate) fn failure<E>(doing: &str, url: &str, error: SdkError<E, HttpResponse>) -> Failure
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
{
    let what = format!("{doing} {url}");
    match &error {
        SdkError::ServiceError(answered) => {
            let raw = answered.raw();
            let answer = Answer {
                status: raw.status().as_u16(),
                code: answered.err().code().map(str::to_owned),
                message: answered.err().message().map(str::to_owned),
                request_id: raw.request_id().map(str::to_owned),
            };
            let region = raw.headers().get("x-amz-bucket-region").map(str::to_owned);
            Failure {
                status: Some(answer.status),
                error: of_answer(what, url, answer, region.as_deref()),
            }
        }
        _ => Failure {
            status: None,
            error: without_answer(what, &error),
        },
    }
}

fn without_answer<E>(what: String, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: StdError + Send + Sync + 'static,
{
    let why = match error {
        SdkError::ConstructionFailure(_) => "the request could not be made",
        SdkError::TimeoutError(_) => "there was no answer in time",
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            "no connection was made in time"
        }
        SdkError::DispatchFailure(_) => "the request could not be sent",
        _ => "the answer cannot be understood",
    };
    let source = match error.source() {
        Some(source) => NoAnswer::because(why, source),
        None => NoAnswer::new(why),
    };
    let source = Box::new(source);
    match cause_of::<CredentialsError>(error) {
        // The service that gives them out may be back soon.
        Some(CredentialsError::ProviderTimedOut(_)) => StoreError::Unreachable { what, source },
        Some(_) => StoreError::Denied {
            what,
            advice: "no usable AWS credentials were found; check --profile, AWS_PROFILE or the \
                     AWS_ACCESS_KEY_ID variables, and log in again if they come from single \
                     sign-on"
                .to_owned(),
            source,
        },
        None if matches!(error, SdkError::ConstructionFailure(_)) => {
            StoreError::Other { what, source }
        }
        // A timeout, a connection that failed or broke, an answer that is not S3's.
        None => StoreError::Unreachable { what, source },
    }
}

/// The first error of this type among an error and its causes.
fn cause_of<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn of_answer(what: String, url: &str, answer: Answer, region: Option<&str>) -> StoreError {
    let code = answer.code.as_deref().unwrap_or_default();
    let advice = match (answer.status, code) {
        (_, "NoSuchBucket") => {
            "there is no such bucket; check its name, the region and the endpoint".to_owned()
        }
        (301 | 307, _)
        | (400, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            match region {
                Some(region) => {
                    format!("the bucket is in the region {region}; use --region {region}")
                }
                None => "the bucket is in another region; check --region".to_owned(),
            }
        }
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AuthFailure" | "NotSignedUp") => {
            "the server does not accept these credentials; check the profile or the keys".to_owned()
        }
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "ExpiredTokenException") => {
            "the credentials have expired; log in again".to_owned()
        }
        (_, "RequestTimeTooSkewed" | "RequestExpired") => {
            "this machine's clock and the server's differ; set the clock".to_owned()
        }
        (_, code) if code.starts_with("KMS.") => {
            "the bucket's encryption key cannot be used; check the permissions on it and that it \
             is enabled"
                .to_owned()
        }
        (401 | 403, _) => "check that the credentials may s3:GetObject, s3:PutObject and \
                           s3:ListBucket here; without s3:ListBucket an object that is not there \
                           is answered so too"
            .to_owned(),
        // Anything that speaks HTTP says 404; only S3 says what it is that is not there.
        (404, "NoSuchKey" | "NotFound") => {
            return StoreError::NotFound {
                what: url.to_owned(),
            };
        }
        (404, _) => "this is not the answer of an S3 server; check the endpoint".to_owned(),
        (507, _)
        | (_, "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded") => {
            return StoreError::Full {
                what,
                source: Box::new(answer),
            };
        }
        (408 | 429 | 500 | 502..=504, _) | (_, "SlowDown" | "RequestTimeout" | "InternalError") => {
            return StoreError::Unreachable {
                what,
                source: Box::new(answer),
            };
        }
        _ => {
            return StoreError::Other {
                what,
                source: Box::new(answer),
            };
        }
    };
    StoreError::Denied {
        what,
        advice,
        source: Box::new(answer),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::error::ConnectorError;
    use aws_sdk_s3::operation::get_object::GetObjectError;

    use super::*;

    fn of_credentials(error: CredentialsError) -> StoreError {
        let error = ConnectorError::other(error.into(), None);
        let error = SdkError::<GetObjectError, _>::dispatch_failure(error);
        failure("reading", "s3://b/k", error).error
    }

    #[test]
    fn missing_credentials_are_a_refusal_that_says_where_they_come_from() {
        let error = of_credentials(CredentialsError::not_loaded("none in the environment"));
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(error.to_string().contains("AWS_PROFILE"), "{error}");
    }

    #[test]
    fn credentials_that_came_too_late_may_come_again() {
        let late = CredentialsError::provider_timed_out(std::time::Duration::from_secs(1));
        assert!(of_credentials(late).is_transient());
    }
}
