//! Signatures (Signature Version 4), over everything but the body's bytes.
//!
//! Bodies are covered by a CRC32 in a header that is signed (`UNSIGNED-PAYLOAD`).

use std::time::SystemTime;

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SessionTokenMode, SignableBody, SignableRequest,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;

use crate::credentials::Keys;
use crate::endpoint::BucketUrl;
use crate::error::NoAnswer;

/// Headers and their values.
pub(crate) type Headers = Vec<(&'static str, String)>;

/// Adds the headers of a signature to those of a request.
pub(crate) fn add_signature(
    headers: &mut Headers,
    method: &str,
    url: &str,
    bucket: &BucketUrl,
    keys: &Keys,
    now: SystemTime,
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
    let request = SignableRequest::new(method, url, signed, SignableBody::UnsignedPayload);
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

/// As S3 wants it: paths as they are on the wire, and what is said of the body in a header.
fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.session_token_mode = SessionTokenMode::Include;
    settings
}
