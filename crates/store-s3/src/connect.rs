//! From options to a client of the SDK.

use std::future::Future;

use attachfs_store::StoreError;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::identity::IdentityCache;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::{
    ProvideRegion, RegionProviderChain, future::ProvideRegion as Found,
};
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, ResponseChecksumValidation, SharedHttpClient};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_types::service_config::ServiceConfigKey;

use crate::error::NoAnswer;
use crate::{Limits, S3Options, S3Store};

/// How long credentials may take. Some come from a program that asks a service and starts slowly.
const CREDENTIALS_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// For servers that have no regions, and for a bucket whose region nobody named.
const DEFAULT_REGION: &str = "us-east-1";

pub(crate) async fn connect(options: S3Options) -> Result<S3Store, StoreError> {
    check_endpoint(&options)?;
    let config = load(&options).await;
    let path_style = options
        .force_path_style
        .unwrap_or_else(|| has_endpoint(&config));
    let attempts = config
        .retry_config()
        .map_or(3, RetryConfig::max_attempts)
        .max(1);
    let config = aws_sdk_s3::config::Builder::from(&config)
        .force_path_style(path_style)
        .build();
    Ok(S3Store {
        client: Client::from_conf(config),
        bucket: options.bucket,
        prefix: options.prefix,
        limits: Limits {
            operation: options.operation_timeout,
            attempt: options.attempt_timeout,
            attempts,
        },
    })
}

/// The SDK would find out at the first request, and take it for a failed connection.
fn check_endpoint(options: &S3Options) -> Result<(), StoreError> {
    let Some(url) = &options.endpoint_url else {
        return Ok(());
    };
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    if host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace)) {
        return Ok(());
    }
    Err(StoreError::Other {
        what: format!("using the endpoint {url:?}"),
        source: Box::new(NoAnswer::new(
            "an endpoint is a URL that begins with https:// or http://",
        )),
    })
}

fn load(options: &S3Options) -> impl Future<Output = SdkConfig> + Send {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .operation_attempt_timeout(options.attempt_timeout)
        .operation_timeout(options.operation_timeout)
        .build();
    let stalls = StalledStreamProtectionConfig::enabled()
        .upload_enabled(true)
        .grace_period(options.stall_timeout)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .timeout_config(timeouts)
        .stalled_stream_protection(stalls)
        .identity_cache(
            IdentityCache::lazy()
                .load_timeout(CREDENTIALS_TIMEOUT)
                .build(),
        )
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .region(region(options, &http));
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &options.endpoint_url {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(attempts) = options.max_attempts {
        loader = loader.retry_config(RetryConfig::standard().with_max_attempts(attempts));
    }
    if let Some(keys) = &options.credentials {
        loader = loader.credentials_provider(Credentials::new(
            &keys.access_key_id,
            &keys.secret_access_key,
            keys.session_token.clone(),
            None,
            "options",
        ));
    }
    loader.load()
}

/// The region from the options, the environment or the profile. Only without an endpoint is the
/// machine asked: elsewhere than on AWS that takes seconds to fail.
fn region(options: &S3Options, http: &SharedHttpClient) -> RegionProviderChain {
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &options.profile {
        profile = profile.profile_name(name);
    }
    let named = RegionProviderChain::first_try(options.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build());
    if options.endpoint_url.is_some() {
        named.or_else(Region::from_static(DEFAULT_REGION))
    } else {
        named
            .or_else(MachineRegion(http.clone()))
            .or_else(LastResort)
    }
}

/// The region of the machine, if it is one of AWS's. Asked only if no other place names one.
#[derive(Debug)]
struct MachineRegion(SharedHttpClient);

impl ProvideRegion for MachineRegion {
    fn region(&self) -> Found<'_> {
        Found::new(async {
            let how = ProviderConfig::without_region().with_http_client(self.0.clone());
            let machine = ImdsRegionProvider::builder().configure(&how).build();
            machine.region().await
        })
    }
}

/// [`DEFAULT_REGION`], with a word about it.
#[derive(Debug)]
struct LastResort;

impl ProvideRegion for LastResort {
    fn region(&self) -> Found<'_> {
        tracing::debug!("no region is configured, {DEFAULT_REGION} is assumed");
        Found::ready(Some(Region::from_static(DEFAULT_REGION)))
    }
}

/// Whether requests go to a server of someone's choice, by the options, the environment
/// (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3`) or the profile.
fn has_endpoint(config: &SdkConfig) -> bool {
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build();
    let for_s3 = match (key, config.service_config()) {
        (Ok(key), Some(services)) => services.load_config(key).is_some(),
        _ => false,
    };
    for_s3 || config.endpoint_url().is_some()
}
