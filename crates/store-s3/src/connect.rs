//! From options to a store: configuration is loaded once, and the SDK and the lean way share it.

use std::sync::Arc;

use attachfs_store::{Addressing, StoreError};
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
use aws_types::service_config::ServiceConfigKey;
use tokio::sync::OnceCell;

use crate::bandwidth::Bandwidth;
use crate::buffers::Buffers;
use crate::connections::Connections;
use crate::credentials::KeyRing;
use crate::endpoint::{BucketUrl, Place};
use crate::error::NoAnswer;
use crate::flights::{Flights, Memory};
use crate::lean::Lean;
use crate::pace::{Slowest, USUAL_RATE};
use crate::retry::Retries;
use crate::sign::{Clock, ServerTime};
use crate::terms::Terms;
use crate::{S3Options, S3Store, profile};

/// For servers that have no regions, and for a bucket whose region nobody named.
const DEFAULT_REGION: &str = "us-east-1";

/// Requests at a time: enough for small objects over a long way, and what a process may open.
const MAX_CONNECTIONS: usize = 128;

pub(crate) async fn connect(options: S3Options) -> Result<S3Store, StoreError> {
    check_endpoint(&options)?;
    let access = &options.access;
    let connections = Connections::new(access.ca_bundle.as_deref()).await?;
    if let Some(name) = &access.profile {
        profile::check(name).await?;
    }
    let config = load(&options, connections.client()).await;
    let endpoint_url = endpoint_of(&config);
    let place = Place {
        region: config
            .region()
            .map_or(DEFAULT_REGION, Region::as_ref)
            .to_owned(),
        path_style: match access.addressing {
            Addressing::Auto => endpoint_url.is_some(),
            Addressing::Path => true,
            Addressing::Virtual => false,
        },
        endpoint_url,
        dual_stack: config.use_dual_stack().unwrap_or(false),
        fips: config.use_fips().unwrap_or(false),
    };
    let bucket = BucketUrl::resolve(&options.bucket, &place).await;
    let bucket = bucket.map_err(|source| StoreError::Other {
        what: format!("finding the bucket {}", options.bucket),
        source: Box::new(source),
    })?;
    let clock = Arc::new(Clock::default());
    let keys = KeyRing::new(config.credentials_provider(), Arc::clone(&clock));
    let terms = Terms::new(access);
    let retry = config.retry_config().cloned();
    let retry = retry.unwrap_or_else(RetryConfig::standard);
    let most = access.max_connections.map_or(MAX_CONNECTIONS, |most| {
        usize::try_from(most.get()).unwrap_or(usize::MAX)
    });
    let client = aws_sdk_s3::config::Builder::from(&config)
        .force_path_style(place.path_style)
        .disable_s3_express_session_auth(true)
        .credentials_provider(keys.clone())
        // The key ring is the cache.
        .identity_cache(IdentityCache::no_cache())
        .interceptor(terms.clone())
        // What is tried again is decided in one place (retry.rs).
        .retry_config(RetryConfig::disabled())
        .time_source(ServerTime(Arc::clone(&clock)))
        .build();
    let lean = Lean {
        connector: connections.within(options.connect_timeout),
        bucket,
        keys,
        clock,
        terms,
        retries: Retries::new(&retry.with_initial_backoff(options.first_wait), most),
        flights: Flights::new(most),
        memory: Memory::new(),
        buffers: Buffers::default(),
        bandwidth: Arc::new(Bandwidth::new(access.max_bandwidth)),
        slowest: Slowest {
            stall: options.stall_timeout,
            rate: access.min_rate.unwrap_or(USUAL_RATE),
            window: options.min_rate_window,
        },
        answered: OnceCell::new(),
        attempt: options.attempt_timeout,
        operation: options.operation_timeout,
    };
    Ok(S3Store {
        client: Client::from_conf(client),
        bucket: options.bucket,
        prefix: options.prefix,
        lean: Arc::new(lean),
    })
}

/// The SDK would find out at the first request, and take it for a failed connection.
fn check_endpoint(options: &S3Options) -> Result<(), StoreError> {
    let Some(url) = &options.access.endpoint_url else {
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

async fn load(options: &S3Options, http: SharedHttpClient) -> SdkConfig {
    let access = &options.access;
    let region = region(options, &http).region().await;
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
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .region(region.clone());
    if let Some(profile) = &access.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &access.endpoint_url {
        loader = loader.endpoint_url(endpoint);
    }
    // What is not asked for here may still be in the configuration.
    if access.dual_stack {
        loader = loader.use_dual_stack(true);
    }
    if access.fips {
        loader = loader.use_fips(true);
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
    } else if let Some(name) = &access.profile {
        loader = loader.credentials_provider(profile::keys(name, region, http).await);
    }
    loader.load().await
}

/// The region from the options, the environment or the profile. Only without an endpoint is the
/// machine asked: elsewhere than on AWS that takes seconds to fail.
fn region(options: &S3Options, http: &SharedHttpClient) -> RegionProviderChain {
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &options.access.profile {
        profile = profile.profile_name(name);
    }
    let named = RegionProviderChain::first_try(options.access.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build());
    if options.access.endpoint_url.is_some() {
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

/// The server of someone's choice that requests go to, by the options, the environment
/// (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`) or the profile, in the order of the SDK.
fn endpoint_of(config: &SdkConfig) -> Option<String> {
    let of_all = config.endpoint_url().map(str::to_owned);
    if config.get_origin("endpoint_url").is_client_config() {
        return of_all;
    }
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build();
    let of_s3 = match (key, config.service_config()) {
        (Ok(key), Some(services)) => services.load_config(key),
        _ => None,
    };
    of_s3.or(of_all)
}
