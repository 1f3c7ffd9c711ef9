//! Where a bucket is, and the URLs of what is in it.
//!
//! The SDK's own rules are asked once for each store: they know virtual hosts and paths, dual stack
//! and FIPS, aliases of access points, directory buckets, and configured endpoints. Their answer (a
//! URL, and the region and service to sign for) is the same for every key.

use attachfs_store::BucketName;
use aws_sdk_s3::config::endpoint::{DefaultResolver, Endpoint, Params, ResolveEndpoint as _};
use aws_smithy_types::Document;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use crate::error::NoAnswer;

/// What the rules need to know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) region: String,
    pub(crate) endpoint_url: Option<String>,
    pub(crate) path_style: bool,
    pub(crate) dual_stack: bool,
    pub(crate) fips: bool,
}

/// Where a bucket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketUrl {
    /// Without a slash at the end.
    url: String,
    /// What requests are signed for.
    pub(crate) region: String,
    /// What requests are signed for: `s3`, or `s3express` for directory buckets.
    pub(crate) service: String,
}

impl BucketUrl {
    /// The beginning of the URLs of objects.
    pub(crate) fn as_str(&self) -> &str {
        &self.url
    }

    /// Asks the SDK's rules. Their errors name options that exclude each other, such as FIPS and a
    /// configured endpoint.
    pub(crate) async fn resolve(bucket: &BucketName, place: &Place) -> Result<Self, NoAnswer> {
        let params = Params::builder()
            .bucket(bucket.as_str())
            .region(&place.region)
            .set_endpoint(place.endpoint_url.clone())
            .force_path_style(place.path_style)
            .use_dual_stack(place.dual_stack)
            .use_fips(place.fips)
            .disable_s3_express_session_auth(true)
            .build()
            .map_err(|error| NoAnswer::because(CANNOT, &error))?;
        let endpoint = DefaultResolver::new().resolve_endpoint(&params).await;
        let endpoint = endpoint.map_err(|error| NoAnswer::because(CANNOT, &*error))?;
        let (region, service) = scope(&endpoint);
        Ok(Self {
            url: endpoint.url().trim_end_matches('/').to_owned(),
            region: region.unwrap_or_else(|| place.region.clone()),
            service: service.unwrap_or_else(|| "s3".to_owned()),
        })
    }

    /// The URL of a key. The query is as it goes on the wire, without a question mark.
    pub(crate) fn of(&self, key: &str, query: &str) -> String {
        let mut url = String::with_capacity(self.url.len() + key.len() + query.len() + 16);
        url.push_str(&self.url);
        url.push('/');
        url.extend(utf8_percent_encode(key, IN_KEYS));
        if !query.is_empty() {
            url.push('?');
            url.push_str(query);
        }
        url
    }
}

const CANNOT: &str = "these settings do not name an endpoint; check --endpoint-url, --region, \
                      --addressing-style, --dual-stack and --fips";

/// Region and service that a request to the endpoint is signed for, if the rules say so.
fn scope(endpoint: &Endpoint) -> (Option<String>, Option<String>) {
    let text = |value: Option<&Document>| Some(value?.as_string()?.to_owned());
    if let Some(scheme) = endpoint.auth_schemes().first() {
        return (
            text(scheme.get("signingRegion")),
            text(scheme.get("signingName")),
        );
    }
    let schemes = endpoint.properties().get("authSchemes");
    let first = schemes.and_then(|schemes| schemes.as_array()?.first()?.as_object());
    let of = |name| text(first.and_then(|scheme| scheme.get(name)));
    (of("signingRegion"), of("signingName"))
}

/// The characters that S3 signs unescaped in a value of a query. All others are escaped as bytes in
/// hexadecimal.
const IN_VALUES: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The same of a key, whose slashes are separators.
const IN_KEYS: &AsciiSet = &IN_VALUES.remove(b'/');

/// A value of a query as it goes on the wire.
pub(crate) fn query_value(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, IN_VALUES)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::Client;
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_s3::presigning::PresigningConfig;

    use super::*;

    const KEY: &str = "a prefix/with+plus=and:colon/ünï/Data/0123.xxh128";

    /// The URL and scope that the SDK itself would use.
    async fn of_the_sdk(bucket: &str, place: &Place) -> Option<(String, String)> {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(place.region.clone()))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .force_path_style(place.path_style)
            .use_dual_stack(place.dual_stack)
            .use_fips(place.fips)
            .disable_s3_express_session_auth(true);
        let config = match &place.endpoint_url {
            Some(url) => config.endpoint_url(url),
            None => config,
        };
        let hour = PresigningConfig::expires_in(std::time::Duration::from_hours(1)).unwrap();
        let get = Client::from_conf(config.build()).get_object();
        let request = get.bucket(bucket).key(KEY).presigned(hour).await.ok()?;
        let (url, query) = request.uri().split_once('?').unwrap();
        let scope = query
            .split('&')
            .find(|p| p.starts_with("X-Amz-Credential="));
        let scope = scope.unwrap().split("%2F").skip(2).collect::<Vec<_>>();
        Some((url.to_owned(), scope.join("/")))
    }

    #[tokio::test]
    async fn urls_and_scopes_are_those_of_the_sdk() {
        let endpoints = [
            None,
            Some("http://127.0.0.1:9000"),
            Some("https://s3.example.com/base/path"),
            Some("https://s3.example.com/"),
            Some("https://s3.example.com/base/path/"),
        ];
        let buckets = [
            "bucket",
            "buck.et",
            "jobs-abcdefabcdefabcdefabcdefabcdefaa-s3alias",
            "zonal--usw2-az1--x-s3",
            "Old_Bucket",
        ];
        let mut compared = 0;
        for region in ["us-west-2", "us-east-1", "cn-north-1", "us-gov-west-1"] {
            for (endpoint, bucket) in endpoints.iter().flat_map(|e| buckets.map(|b| (e, b))) {
                for bits in 0..8 {
                    let place = Place {
                        region: region.to_owned(),
                        endpoint_url: endpoint.map(str::to_owned),
                        path_style: bits & 1 != 0,
                        dual_stack: bits & 2 != 0,
                        fips: bits & 4 != 0,
                    };
                    let ours = BucketUrl::resolve(&bucket.parse().unwrap(), &place).await;
                    let ours = ours.ok().map(|url| {
                        let scope = format!("{}/{}/aws4_request", url.region, url.service);
                        (url.of(KEY, ""), scope)
                    });
                    let theirs = of_the_sdk(bucket, &place).await;
                    assert_eq!(ours, theirs, "{bucket} {place:?}");
                    compared += usize::from(ours.is_some());
                }
            }
        }
        assert!(compared > 200, "{compared}");
    }

    #[tokio::test]
    async fn options_that_exclude_each_other_are_an_error() {
        let place = Place {
            region: "us-west-2".to_owned(),
            endpoint_url: Some("http://127.0.0.1:9000".to_owned()),
            fips: true,
            ..Place::default()
        };
        let bucket = "bucket".parse().unwrap();
        let error = BucketUrl::resolve(&bucket, &place).await.unwrap_err();
        assert!(error.to_string().contains("--fips"), "{error}");
    }

    #[test]
    fn a_query_is_encoded_whole() {
        assert_eq!(
            query_value("a/b+c=d é").to_string(),
            "a%2Fb%2Bc%3Dd%20%C3%A9"
        );
    }
}
