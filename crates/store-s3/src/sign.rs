//! Signatures (Signature Version 4), over everything but the body's bytes.
//!
//! Bodies are covered by a CRC32 in a header that is signed (`UNSIGNED-PAYLOAD`). Where a server does not
//! support such a header, or the configuration asks for it, the signature covers their SHA-256.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SessionTokenMode, SignableBody, SignableRequest,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_async::time::TimeSource;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;

use crate::credentials::Keys;
use crate::endpoint::BucketUrl;
use crate::error::NoAnswer;

/// Signatures are not refused for clocks that differ by less than this.
const FAR: Duration = Duration::from_mins(5);

/// A larger difference is taken for a malformed date. It also keeps calculations in range.
const FARTHEST: u64 = 50 * 365 * 24 * 3600;

/// The server's time. A server refuses signatures that are 15 minutes off.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Seconds that the server is ahead of this machine.
    ahead: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> SystemTime {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let seconds = Duration::from_secs(ahead.unsigned_abs());
        let now = SystemTime::now();
        if ahead < 0 {
            now.checked_sub(seconds).unwrap_or(now)
        } else {
            now + seconds
        }
    }

    /// Whether the server's time (of a `Date` header) differs so much from that of a signature that the
    /// signature may have been refused for it.
    pub(crate) fn is_far(signed: SystemTime, date: Option<&str>) -> bool {
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        match (date, signed.duration_since(UNIX_EPOCH)) {
            (Some(date), Ok(signed)) => {
                date.secs().abs_diff(signed.as_secs() as i64) > FAR.as_secs()
            }
            _ => false,
        }
    }

    /// Uses the server's time (of a `Date` header) from now on. Returns whether it could be read.
    pub(crate) fn set(&self, date: Option<&str>) -> bool {
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let here = SystemTime::now().duration_since(UNIX_EPOCH);
        let (Some(date), Ok(here)) = (date, here) else {
            return false;
        };
        let ahead = date.secs().saturating_sub_unsigned(here.as_secs());
        if ahead.unsigned_abs() > FARTHEST {
            return false;
        }
        let before = self.ahead.swap(ahead, Ordering::Relaxed);
        // Other requests may have corrected the clock already.
        if before.abs_diff(ahead) > FAR.as_secs() {
            tracing::warn!(
                seconds = ahead,
                "the server's clock is ahead of this machine's by so much"
            );
        }
        true
    }
}

/// The same time for the SDK's requests.
#[derive(Debug)]
pub(crate) struct ServerTime(pub(crate) Arc<Clock>);

impl TimeSource for ServerTime {
    fn now(&self) -> SystemTime {
        self.0.now()
    }
}

/// Headers and their values.
pub(crate) type Headers = Vec<(&'static str, String)>;

/// Adds the headers of a signature to those of a request. The body is marked as unsigned unless it is given.
pub(crate) fn add_signature(
    headers: &mut Headers,
    method: &str,
    url: &str,
    bucket: &BucketUrl,
    keys: &Keys,
    now: SystemTime,
    body: Option<&Bytes>,
) -> Result<(), NoAnswer> {
    let params = v4::SigningParams::builder()
        .identity(&keys.identity)
        .region(&bucket.region)
        .name(&bucket.service)
        .time(now)
        .settings(settings())
        .build();
    let params = params
        .map_err(|error| NoAnswer::because(CANNOT, &error))?
        .into();
    let signed = headers.iter().map(|(name, value)| (*name, value.as_str()));
    let body = body.map_or(SignableBody::UnsignedPayload, |body| {
        SignableBody::Bytes(body)
    });
    let request = SignableRequest::new(method, url, signed, body);
    let request = request.map_err(|error| NoAnswer::because(CANNOT, &error))?;
    let signature = sign(request, &params).map_err(|error| NoAnswer::because(CANNOT, &error))?;
    let (added, _) = signature.into_parts().0.into_parts();
    headers.extend(
        added
            .into_iter()
            .map(|header| (header.name(), header.value().to_owned())),
    );
    Ok(())
}

const CANNOT: &str = "the request cannot be signed";

/// The settings for S3: paths as they are on the wire, and the hash of the body in a header.
fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.session_token_mode = SessionTokenMode::Include;
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_time_is_used_after_its_first_refusal() {
        let clock = Clock::default();
        assert!(!clock.set(None));
        assert!(!clock.set(Some("yesterday")));
        assert!(!clock.set(Some("Fri, 31 Dec 9999 23:59:59 GMT")));
        assert!(clock.set(Some("Wed, 21 Oct 2015 07:28:00 GMT")));
        let now = clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((1_445_412_480..1_445_412_540).contains(&now), "{now}");
    }
}
