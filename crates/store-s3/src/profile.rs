//! The profile that was asked for by name.
//!
//! Who names a profile wants its keys: they go before those of the environment, as with the AWS
//! tools, and a name that no file has is an error. The SDK's own chain would take the next best
//! keys that it finds. A profile without keys of its own leaves them to that chain.

use std::borrow::Cow;

use attachfs_store::StoreError;
use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::meta::credentials::CredentialsProviderChain;

use aws_config::profile::{ProfileFileCredentialsProvider, load};
use aws_config::provider_config::ProviderConfig;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_s3::config::SharedHttpClient;
use aws_types::os_shim_internal::{Env, Fs};

use crate::error::NoAnswer;

/// Makes sure that there is a profile of this name in the AWS configuration files.
pub(crate) async fn check(name: &str) -> Result<(), StoreError> {
    let other = |source| StoreError::Other {
        what: format!("using the profile {name:?}"),
        source: Box::new(source),
    };
    let files = EnvConfigFiles::default();
    let selected = Some(Cow::Owned(name.to_owned()));
    let profiles = load(&Fs::real(), &Env::real(), &files, selected).await;
    let profiles = profiles.map_err(|error| {
        let unreadable = "the AWS configuration files cannot be read; check ~/.aws/config and \
                          ~/.aws/credentials";
        other(NoAnswer::because(unreadable, &error))
    })?;
    if profiles.get_profile(name).is_some() {
        return Ok(());
    }
    let missing = "there is no such profile; check --profile, and the names in ~/.aws/config and \
                   ~/.aws/credentials";
    Err(other(NoAnswer::new(missing)))
}

/// The keys of a profile.
pub(crate) async fn keys(
    name: &str,
    region: Option<Region>,
    http: SharedHttpClient,
) -> CredentialsProviderChain {
    let how = ProviderConfig::without_region()
        .with_region(region.clone())
        .with_http_client(http);
    let profile = ProfileFileCredentialsProvider::builder()
        .configure(&how)
        .profile_name(name);
    let others = DefaultCredentialsChain::builder()
        .configure(how)
        .region(region)
        .profile_name(name);
    CredentialsProviderChain::first_try("Profile", profile.build())
        .or_else("Default", others.build().await)
}
