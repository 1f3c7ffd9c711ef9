//! Failures of S3 and of the network, sorted by what the caller can do about them.
//!
//! The SDK's own errors carry whole answers. They are not passed on, because a server's text may
//! repeat what was signed. Kept are S3's name for the error, its message, the status and the id
//! under which AWS's support finds the request.

use std::error::Error as StdError;

use attachfs_store::{Reach, StoreError};
use aws_config::meta::ProviderChainError;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use rustls::AlertDescription;

use crate::refusal::Refusal;

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

/// The messages of an error and its causes, without the data that they carry.
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

/// The failure of a request.
#[derive(Debug)]
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
            let refusal = Refusal {
                status: raw.status().as_u16(),
                code: answered.err().code().map(str::to_owned),
                message: answered.err().message().map(str::to_owned),
                request_id: raw.request_id().map(str::to_owned),
                region: raw.headers().get("x-amz-bucket-region").map(str::to_owned),
            };
            Failure {
                status: Some(refusal.status),
                error: refusal.explain(what, url),
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
    if let Some(error) = cause_of::<CredentialsError>(error) {
        return no_credentials(what, error);
    }
    let (why, source) = match error {
        SdkError::DispatchFailure(failure) => {
            return match failure.as_connector_error() {
                Some(error) => no_connection(what, error),
                None => unreachable(what, NoAnswer::new(NOT_SENT)),
            };
        }
        SdkError::ConstructionFailure(_) => ("the request could not be made", error.source()),
        SdkError::TimeoutError(_) => (NOT_IN_TIME, error.source()),
        _ => ("the answer cannot be understood", error.source()),
    };
    let source = match source {
        Some(source) => NoAnswer::because(why, source),
        None => NoAnswer::new(why),
    };
    if matches!(error, SdkError::ConstructionFailure(_)) {
        return StoreError::Other {
            what,
            source: Box::new(source),
        };
    }
    // A timeout, a broken connection, or an answer that is not S3's.
    unreachable(what, source)
}

pub(crate) const NOT_IN_TIME: &str = "there was no answer in time";

const NOT_SENT: &str = "the request could not be sent";

pub(crate) fn unreachable(what: String, source: NoAnswer) -> StoreError {
    StoreError::Unreachable {
        what,
        source: Box::new(source),
    }
}

/// There are no keys to sign `what` with.
pub(crate) fn no_credentials(what: String, error: &CredentialsError) -> StoreError {
    let source = Box::new(NoAnswer::because("there are no credentials", error));
    // The service that gives them out may work again soon.
    if is_of_the_way(error) {
        return StoreError::Unreachable { what, source };
    }
    StoreError::Denied {
        what,
        advice: "no usable AWS credentials were found; check --profile, AWS_PROFILE or the \
                 AWS_ACCESS_KEY_ID variables, and log in again if they come from single sign-on"
            .to_owned(),
        reach: Reach::Everything,
        source,
    }
}

/// Whether keys are missing because of the network or a server error, and not because a source answered that
/// it has none. A service that does not exist is no such failure: machines outside of AWS have no metadata
/// service.
pub(crate) fn is_of_the_way(error: &CredentialsError) -> bool {
    match error {
        CredentialsError::ProviderTimedOut(_) => true,
        CredentialsError::CredentialsNotLoaded(_) => {
            // A chain that found nothing keeps the errors of all its sources.
            match cause_of::<ProviderChainError<CredentialsError>>(error) {
                Some(chain) => chain.attempts().iter().any(|of| is_of_the_way(of.error())),
                None => cause_of::<ConnectorError>(error).is_some_and(|error| {
                    !error.is_timeout() && !is_final(error) && has_broken(error)
                }),
            }
        }
        CredentialsError::InvalidConfiguration(_) => false,
        _ => cause_of::<ConnectorError>(error).is_some_and(|error| !is_final(error)),
    }
}

/// Whether there was a connection.
fn has_broken(error: &ConnectorError) -> bool {
    use std::io::ErrorKind;
    const NONE: [ErrorKind; 5] = [
        ErrorKind::ConnectionRefused,
        ErrorKind::HostUnreachable,
        ErrorKind::NetworkUnreachable,
        ErrorKind::AddrNotAvailable,
        ErrorKind::TimedOut,
    ];
    !cause_of::<std::io::Error>(error).is_some_and(|error| NONE.contains(&error.kind()))
}

/// There was no connection for `what`, or it broke before there was an answer.
pub(crate) fn no_connection(what: String, error: &ConnectorError) -> StoreError {
    if is_distrust(error) {
        return StoreError::Denied {
            what,
            advice: "no trusted TLS connection can be made; check --endpoint-url, and --ca-bundle \
                     or AWS_CA_BUNDLE if the server's or a proxy's certificate is signed by an \
                     authority of your own"
                .to_owned(),
            reach: Reach::Everything,
            source: Box::new(NoAnswer::because(NOT_SENT, error)),
        };
    }
    let why = if error.is_timeout() {
        "no connection was made in time; check the endpoint, the region, the network and proxies"
    } else if error.is_user() {
        NOT_SENT
    } else {
        "no connection was made, or it broke; check the endpoint, the region, the network and \
         proxies"
    };
    unreachable(what, NoAnswer::because(why, error))
}

/// Whether another attempt cannot help: the server answers, but is not the right one.
pub(crate) fn is_final(error: &ConnectorError) -> bool {
    error.is_user() || is_distrust(error)
}

/// Whether the two sides cannot agree on TLS. All other TLS errors count as broken connections.
fn is_distrust(error: &(dyn StdError + 'static)) -> bool {
    match cause_of::<rustls::Error>(error) {
        Some(
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::PeerIncompatible(_),
        ) => true,
        Some(rustls::Error::AlertReceived(alert)) => matches!(
            alert,
            AlertDescription::HandshakeFailure
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::ProtocolVersion
                | AlertDescription::InsufficientSecurity
                | AlertDescription::UnrecognisedName
        ),
        _ => false,
    }
}

/// The first error of this type among an error and its causes. An I/O error that only wraps another
/// one does not count it among its causes.
fn cause_of<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<std::io::Error>();
        next = match wrapped.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
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
    fn credentials_that_came_too_late_are_asked_for_again() {
        let late = CredentialsError::provider_timed_out(std::time::Duration::from_secs(1));
        assert!(of_credentials(late).is_transient());
    }

    #[test]
    fn a_broken_tls_connection_is_not_a_refused_certificate() {
        for (error, distrust) in [
            (rustls::Error::DecryptError, false),
            (alert(AlertDescription::InternalError), false),
            (alert(AlertDescription::UnknownCA), true),
            (
                rustls::Error::InvalidCertificate(rustls::CertificateError::Expired),
                true,
            ),
        ] {
            let error = ConnectorError::io(std::io::Error::other(error).into());
            assert_eq!(is_final(&error), distrust, "{error:?}");
        }
    }

    fn alert(description: AlertDescription) -> rustls::Error {
        rustls::Error::AlertReceived(description)
    }
}
