//! Headers that go with every request: the expected owner of the bucket, who pays, how S3 is to
//! encrypt.
//!
//! Headers are decided in one place for the requests that are made here and those that the SDK
//! makes: there they are added before the SDK signs.

use attachfs_store::{AccountId, Encryption, KmsKey, S3Access};
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// The values of the headers that go with every request.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommonHeaders {
    owner: Option<AccountId>,
    requester_pays: bool,
    encryption: Option<Encryption>,
}

impl CommonHeaders {
    pub(crate) fn new(access: &S3Access) -> Self {
        Self {
            owner: access.expected_bucket_owner,
            requester_pays: access.requester_pays,
            encryption: access.encryption.clone(),
        }
    }

    /// The headers of a request.
    pub(crate) fn headers<'a>(
        &'a self,
        method: &str,
        query: &str,
    ) -> impl Iterator<Item = (&'static str, &'a str)> + use<'a> {
        let owner = self.owner.as_ref().map(AccountId::as_str);
        let payer = self.requester_pays.then_some("requester");
        let encryption = self.encryption.as_ref().filter(|_| begins(method, query));
        let (algorithm, key) = match encryption {
            None => (None, None),
            Some(Encryption::Aes256) => (Some("AES256"), None),
            Some(Encryption::Kms { key }) => (Some("aws:kms"), key.as_ref().map(KmsKey::as_str)),
        };
        [
            ("x-amz-expected-bucket-owner", owner),
            ("x-amz-request-payer", payer),
            ("x-amz-server-side-encryption", algorithm),
            ("x-amz-server-side-encryption-aws-kms-key-id", key),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// Whether a request makes an object, or begins an upload that will be one.
fn begins(method: &str, query: &str) -> bool {
    let has = |name: &str| {
        let mut parts = query.split('&');
        parts.any(|part| part.split('=').next() == Some(name))
    };
    match method {
        "PUT" => !has("uploadId"),
        "POST" => has("uploads"),
        _ => false,
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for CommonHeaders {
    fn name(&self) -> &'static str {
        "CommonHeaders"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let query = request.uri().split_once('?').map_or("", |(_, query)| query);
        let headers: Vec<_> = self.headers(request.method(), query).collect();
        for (name, value) in headers {
            request.headers_mut().try_insert(name, value.to_owned())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(access: &S3Access, method: &str, query: &str) -> Vec<String> {
        let common_headers = CommonHeaders::new(access);
        let headers = common_headers.headers(method, query);
        headers
            .map(|(name, value)| format!("{name}: {value}"))
            .collect()
    }

    #[test]
    fn no_header_is_added_unasked() {
        assert!(said(&S3Access::default(), "PUT", "").is_empty());
    }

    #[test]
    fn owner_and_payer_go_with_every_request() {
        let access = S3Access {
            expected_bucket_owner: Some("111122223333".parse().unwrap()),
            requester_pays: true,
            ..S3Access::default()
        };
        for (method, query) in [
            ("GET", ""),
            ("POST", "uploadId=1"),
            ("DELETE", "uploadId=1"),
        ] {
            let expected = [
                "x-amz-expected-bucket-owner: 111122223333",
                "x-amz-request-payer: requester",
            ];
            assert_eq!(said(&access, method, query), expected);
        }
    }

    #[test]
    fn encryption_goes_with_requests_that_create_an_object() {
        let access = S3Access {
            encryption: Some(Encryption::Kms {
                key: Some("alias/k".parse().unwrap()),
            }),
            ..S3Access::default()
        };
        for (method, query, headers) in [
            ("PUT", "", 2),
            ("PUT", "x-id=PutObject", 2),
            ("POST", "uploads", 2),
            ("POST", "uploads=", 2),
            ("PUT", "partNumber=1&uploadId=u", 0),
            ("POST", "uploadId=u", 0),
            ("GET", "", 0),
        ] {
            assert_eq!(
                said(&access, method, query).len(),
                headers,
                "{method} {query}"
            );
        }
    }
}
