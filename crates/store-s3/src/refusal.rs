//! A server's answer that is an error, and what to check.

use std::error::Error as StdError;
use std::fmt;

use attachfs_manifest::EscapedBytes;
use attachfs_store::{Reach, StoreError};

/// More of an answer's text is never read: an error of S3's has a few hundred bytes.
pub(crate) const LONGEST: usize = 64 << 10;

/// A server's answer that is an error.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// S3's name of the error.
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) request_id: Option<String>,
    /// Where the bucket is, if the server says so.
    pub(crate) region: Option<String>,
}

/// The server's text may be anything, so it is escaped.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {}", EscapedBytes(code.as_bytes()))?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {}", EscapedBytes(message.as_bytes()))?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request {})", EscapedBytes(id.as_bytes()))?;
        }
        Ok(())
    }
}

impl StdError for Refusal {}

impl Refusal {
    /// Reads S3's text as far as possible: a proxy in front of S3 may answer in HTML, or without a
    /// body.
    pub(crate) fn read(status: u16, text: &[u8]) -> Self {
        let text = &text[..text.len().min(LONGEST)];
        let Body {
            code,
            message,
            request_id,
            region,
        } = match quick_xml::de::from_reader(text) {
            Ok(Answer::Error(body)) => body,
            Err(_) => Body::default(),
        };
        Self {
            status,
            code,
            message,
            request_id,
            region,
        }
    }

    fn elsewhere(&self) -> String {
        match &self.region {
            Some(region) => format!("the bucket is in the region {region}; use --region {region}"),
            None => "the bucket is in another region; check --region".to_owned(),
        }
    }

    fn is_about_kms(&self) -> bool {
        self.message
            .as_ref()
            .is_some_and(|text| text.contains("kms:"))
    }

    /// The store's error for the failure of `what`, which was about `url`, sorted by what can be
    /// done about it.
    pub(crate) fn explain(self, what: String, url: &str) -> StoreError {
        let code = self.code.as_deref().unwrap_or_default();
        let mut reach = Reach::Everything;
        // Objects may have different encryption keys and permissions.
        let mut of_object = |advice: &str| {
            reach = Reach::Unknown;
            advice.to_owned()
        };
        let advice = match (self.status, code) {
            (_, "NoSuchBucket") => {
                "there is no such bucket; check its name, the region and the endpoint".to_owned()
            }
            // The answer to HEAD has no name of the error, but the region.
            (400, "") if self.region.is_some() => self.elsewhere(),
            (400, "") => {
                "the server does not say why; if the credentials have expired, log in again"
                    .to_owned()
            }
            (301 | 307, _)
            | (400, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                self.elsewhere()
            }
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AuthFailure" | "NotSignedUp") => {
                "the server does not accept these credentials; check the profile or the keys"
                    .to_owned()
            }
            (
                _,
                "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "ExpiredTokenException",
            ) => "the credentials have expired; log in again".to_owned(),
            (_, "RequestTimeTooSkewed" | "RequestExpired") => {
                "this machine's clock and the server's differ; set the clock".to_owned()
            }
            (_, code) if code.starts_with("KMS.") => of_object(KMS),
            // The name of the error does not tell that the KMS key is not permitted.
            (403, "AccessDenied") if self.is_about_kms() => of_object(KMS),
            (403, "InvalidObjectState") => of_object(
                "the object was archived; restore it, and check the bucket's lifecycle rules",
            ),
            (401 | 403, _) => of_object(DENIED),
            // Any HTTP server answers 404; only S3 names what is missing.
            (404, "NoSuchKey" | "NotFound") => {
                return StoreError::NotFound {
                    what: url.to_owned(),
                };
            }
            (404, "NoSuchUpload") => of_object(
                "the upload in parts is no longer known; check whether the bucket's rules or \
                 somebody abort unfinished uploads",
            ),
            (404, _) => "this is not the answer of an S3 server; check the endpoint".to_owned(),
            (507, _)
            | (_, "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded") => {
                return StoreError::Full {
                    what,
                    source: Box::new(self),
                };
            }
            (408 | 429 | 500 | 502..=504, _)
            | (_, "SlowDown" | "RequestTimeout" | "InternalError") => {
                return StoreError::Unreachable {
                    what,
                    source: Box::new(self),
                };
            }
            _ => {
                return StoreError::Other {
                    what,
                    source: Box::new(self),
                };
            }
        };
        StoreError::Denied {
            what,
            advice,
            reach,
            source: Box::new(self),
        }
    }
}

const KMS: &str = "the encryption key cannot be used; check --sse-kms-key-id or the bucket's default \
                   key, that it is enabled, and that the credentials may kms:Decrypt and \
                   kms:GenerateDataKey with it";

const DENIED: &str = "check that the credentials may s3:GetObject, s3:PutObject and s3:ListBucket here \
                      (without s3:ListBucket an object that is not there is answered so too), the \
                      account given by --expected-bucket-owner, and whether the bucket wants \
                      --request-payer";

/// The body of an error. The root element tells that it is S3's.
#[derive(Debug, serde::Deserialize)]
enum Answer {
    Error(Body),
}

/// What S3 says of an error:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#RESTErrorResponses>.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Body {
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    region: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIED: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code>\
        <Message>a &amp;lt; b &lt;c&gt;</Message><RequestId>R1</RequestId><HostId>h</HostId></Error>";

    #[test]
    fn an_error_of_s3_is_read() {
        let refusal = Refusal::read(403, DENIED);
        assert_eq!(
            refusal.to_string(),
            "the server answered 403 AccessDenied: a &lt; b <c> (request R1)"
        );
    }

    #[test]
    fn an_answer_that_is_not_from_s3_has_only_a_status() {
        for text in [
            &b""[..],
            b"<html><Code>x</Code></html>",
            b"<Error><Code>",
            b"<Error><Code><b>x</b></Code></Error>",
            b"<Error></Code><Code></Error>",
            &[0xff; 10],
        ] {
            let text = Refusal::read(500, text).to_string();
            assert_eq!(text, "the server answered 500");
        }
    }

    #[test]
    fn what_a_server_says_cannot_drive_a_terminal() {
        let mut refusal = Refusal::read(403, DENIED);
        refusal.message = Some("\u{1b}[2J\u{202e}".to_owned());
        let text = refusal.to_string();
        assert!(text.contains("\\u{1b}[2J\\u{202e}"), "{text}");
    }

    #[test]
    fn the_beginning_of_a_long_text_is_enough() {
        let mut long = DENIED.to_vec();
        long.resize(10 * LONGEST, b' ');
        assert_eq!(
            Refusal::read(403, &long).code.as_deref(),
            Some("AccessDenied")
        );
    }

    #[test]
    fn a_refusal_by_kms_says_what_to_check() {
        let mut refusal = Refusal::read(400, b"");
        refusal.code = Some("KMS.DisabledException".to_owned());
        let error = refusal.explain("storing s3://b/k".to_owned(), "s3://b/k");
        assert!(error.to_string().contains("key"), "{error}");
        let reach = Reach::Unknown;
        assert!(matches!(error, StoreError::Denied { reach: found, .. } if found == reach));
    }

    #[test]
    fn a_bucket_that_is_not_there_refuses_everything_and_one_that_is_may_refuse_one_object() {
        for (status, code, expected) in [
            (404, "NoSuchBucket", Reach::Everything),
            (403, "InvalidAccessKeyId", Reach::Everything),
            (400, "", Reach::Everything),
            (403, "AccessDenied", Reach::Unknown),
            (403, "InvalidObjectState", Reach::Unknown),
            (404, "NoSuchUpload", Reach::Unknown),
        ] {
            let mut refusal = Refusal::read(status, b"");
            refusal.code = Some(code.to_owned()).filter(|code| !code.is_empty());
            let error = refusal.explain("reading s3://b/k".to_owned(), "s3://b/k");
            let is_right = matches!(error, StoreError::Denied { reach, .. } if reach == expected);
            assert!(is_right, "{code} {error:?}");
        }
    }

    #[test]
    fn a_bucket_elsewhere_is_named_where_only_the_header_tells() {
        for status in [400, 301] {
            let mut refusal = Refusal::read(status, b"");
            refusal.region = Some("eu-west-1".to_owned());
            let error = refusal.explain("looking for".to_owned(), "s3://b/k");
            assert!(error.to_string().contains("--region eu-west-1"), "{error}");
        }
    }

    #[test]
    fn a_bucket_elsewhere_is_named_with_its_region() {
        let text =
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        let error = Refusal::read(400, text).explain("reading".to_owned(), "s3://b/k");
        assert!(error.to_string().contains("--region eu-west-1"), "{error}");
    }
}
