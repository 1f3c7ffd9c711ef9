//! From options to a store: settings are read once, and the SDK and the direct way share what they say.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use attachfs_store::StoreError;
use aws_config::identity::IdentityCache;
use aws_config::imds;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Credentials, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use tokio::sync::OnceCell;

use crate::bandwidth::Bandwidth;
use crate::buffers::Buffers;
use crate::common_headers::CommonHeaders;
use crate::concurrency::{Concurrency, Memory};
use crate::connections::Connections;
use crate::credentials::KeyRing;
use crate::direct::Direct;
use crate::endpoint::{BucketUrl, Place};
use crate::pace::{Slowest, USUAL_RATE};
use crate::retry::Retries;
use crate::settings::{Settings, Variables};
use crate::sign::{Clock, ServerTime};
use crate::sources::{Given, KeySource, Places};
use crate::{S3Options, S3Store};

/// For servers that have no regions, and for a bucket whose region is not configured.
const DEFAULT_REGION: &str = "us-east-1";

/// The most requests at a time: enough for small objects at a large distance, and few enough for a
/// process's limit of open files.
const MAX_CONNECTIONS: usize = 128;

pub(crate) async fn connect(options: S3Options) -> Result<S3Store, StoreError> {
    let access = &options.access;
    let settings = Settings::read(&options, Variables::of_process()).await?;
    let connections =
        Connections::new(settings.ca_bundle.as_deref(), settings.proxies.clone()).await?;
    let region = region(&settings, connections.client()).await;
    let place = Place {
        region: region.to_string(),
        path_style: settings.path_style,
        endpoint_url: settings.endpoint.clone(),
        dual_stack: settings.dual_stack,
        fips: settings.fips,
    };
    let bucket = BucketUrl::resolve(&options.bucket, &place).await;
    let bucket = bucket.map_err(|source| StoreError::Setting {
        source: Box::new(source),
    })?;
    let clock = Arc::new(Clock::default());
    let keys = KeyRing::new(
        key_source(&options, &settings, region.clone(), connections.client()),
        Arc::clone(&clock),
    );
    let common_headers = CommonHeaders::new(access);
    let most = access.max_connections.map_or(MAX_CONNECTIONS, |most| {
        usize::try_from(most.get()).unwrap_or(usize::MAX)
    });
    let retry = RetryConfig::standard();
    let retry = match settings.attempts {
        Some(attempts) => retry.with_max_attempts(attempts),
        None => retry,
    };
    // Where a checksum may not be sent, the signature says what the bytes are.
    let signed_bodies = settings.signed_bodies || !settings.checksums;
    let client = sdk(&options, &settings)
        .region(region)
        .http_client(connections.client())
        .credentials_provider(keys.clone())
        .interceptor(common_headers.clone())
        .time_source(ServerTime(Arc::clone(&clock)))
        .build();
    let bandwidth = Arc::new(Bandwidth::new(access.max_bandwidth));
    let direct = Direct {
        connector: connections.within(options.connect_timeout),
        bucket,
        keys,
        clock,
        common_headers,
        retries: Retries::new(&retry.with_initial_backoff(options.first_wait), most),
        concurrency: Concurrency::new(most),
        memory: Memory::new(),
        buffers: Buffers::default(),
        bandwidth: Arc::clone(&bandwidth),
        slowest: Slowest {
            stall: options.stall_timeout,
            rate: access.min_rate.unwrap_or(USUAL_RATE),
            window: options.min_rate_window,
        },
        checksums: settings.checksums,
        signed_bodies,
        checked_answers: settings.checked_answers,
        unconditional: AtomicBool::new(false),
        answered: OnceCell::new(),
        attempt: options.attempt_timeout,
        operation: options.operation_timeout,
    };
    Ok(S3Store {
        client: Client::from_conf(client),
        bucket: options.bucket,
        prefix: options.prefix,
        direct: Arc::new(direct),
        putting: bandwidth,
    })
}

/// The SDK's configuration for S3. All of it is set, so that the SDK looks up nothing by itself.
fn sdk(options: &S3Options, settings: &Settings) -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(options.connect_timeout)
        .operation_attempt_timeout(options.attempt_timeout)
        .operation_timeout(options.operation_timeout)
        .build();
    let stalls = StalledStreamProtectionConfig::enabled()
        .upload_enabled(true)
        .grace_period(options.stall_timeout)
        .build();
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .stalled_stream_protection(stalls)
        .request_checksum_calculation(if settings.checksums {
            RequestChecksumCalculation::WhenSupported
        } else {
            RequestChecksumCalculation::WhenRequired
        })
        // Requests that need a checksum ask for it themselves.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(settings.path_style)
        .use_dual_stack(settings.dual_stack)
        .use_fips(settings.fips)
        .disable_s3_express_session_auth(true)
        // The key ring is the cache.
        .identity_cache(IdentityCache::no_cache())
        // `retry.rs` alone decides what is tried again.
        .retry_config(RetryConfig::disabled());
    config.set_endpoint_url(settings.endpoint.clone());
    config
}

/// Where keys come from.
fn key_source(
    options: &S3Options,
    settings: &Settings,
    region: Region,
    http: SharedHttpClient,
) -> Arc<dyn KeySource> {
    match &options.credentials {
        None => Arc::new(Places::new(settings, region, http)),
        Some(keys) => Arc::new(Given(Credentials::new(
            &keys.access_key_id,
            &keys.secret_access_key,
            keys.session_token.clone(),
            None,
            "options",
        ))),
    }
}

/// The configured region. The machine's metadata service is asked only without an endpoint: outside of AWS
/// the question takes seconds to fail.
async fn region(settings: &Settings, http: SharedHttpClient) -> Region {
    if let Some(region) = &settings.region {
        return Region::new(region.clone());
    }
    if settings.endpoint.is_none()
        && !settings.keys.metadata_is_off
        && let Some(region) = machine_region(settings, http).await
    {
        return region;
    }
    tracing::debug!("no region is configured, {DEFAULT_REGION} is assumed");
    Region::from_static(DEFAULT_REGION)
}

/// The region of the machine, if it is one of AWS's.
async fn machine_region(settings: &Settings, http: SharedHttpClient) -> Option<Region> {
    let how = ProviderConfig::without_region().with_http_client(http);
    // The address was checked.
    let client = imds::Client::builder()
        .configure(&how)
        .endpoint(&settings.keys.metadata)
        .ok()?
        .build();
    let machine = ImdsRegionProvider::builder()
        .configure(&how)
        .imds_client(client)
        .build();
    machine.region().await
}
