//! Where keys come from: variables, the configuration files, programs and services, in the order of the AWS tools.
//!
//! Each time keys are asked for, the files are read anew and a new chain is made. A chain of the SDK reads the
//! files once, and would never see keys that were changed in them.

use std::fmt::Debug;

use async_trait::async_trait;
use aws_config::Region;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_credential_types::Credentials;
use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::SharedHttpClient;
use parking_lot::Mutex;

use crate::error::is_of_the_way;
use crate::settings::{Files, KeyPlaces, Profile, Settings};

/// Something that gives keys.
#[async_trait]
pub(crate) trait KeySource: Debug + Send + Sync {
    /// Asks for keys, anew each time.
    async fn ask(&self) -> Result<Credentials, CredentialsError>;

    /// Whether the files of the source have changed since keys were last asked for.
    fn has_changed(&self) -> bool;

    /// Whether asking again after this error may help.
    fn may_pass(&self, error: &CredentialsError) -> bool;
}

/// Keys that the caller gave.
#[derive(Debug)]
pub(crate) struct Given(pub(crate) Credentials);

#[async_trait]
impl KeySource for Given {
    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        Ok(self.0.clone())
    }

    fn has_changed(&self) -> bool {
        false
    }

    fn may_pass(&self, _: &CredentialsError) -> bool {
        false
    }
}

/// The standard places.
#[derive(Debug)]
pub(crate) struct Places {
    beside: KeyPlaces,
    profile: String,
    how: ProviderConfig,
    /// The text of the files when keys were last asked for. Locked for a few instructions.
    seen: Mutex<Option<Files>>,
    /// Whether a program or a service of this machine gives the keys.
    is_served: bool,
}

impl Places {
    pub(crate) fn new(settings: &Settings, region: Region, http: SharedHttpClient) -> Self {
        let places = settings.keys.clone();
        let attempts = settings.attempts;
        let retry = RetryConfig::standard();
        let retry = match attempts {
            Some(attempts) => retry.with_max_attempts(attempts),
            None => retry,
        };
        let of_machine = ["credential_process", "credential_source"]
            .iter()
            .any(|key| settings.profile.get(key).is_some());
        Self {
            is_served: of_machine || places.container || places.metadata_was_named,
            profile: settings.profile.name.clone(),
            how: ProviderConfig::without_region()
                .with_region(Some(region))
                .with_http_client(http)
                .with_use_dual_stack(Some(settings.dual_stack))
                .with_use_fips(Some(settings.fips))
                .with_retry_config(retry),
            beside: places,
            seen: Mutex::default(),
        }
    }

    /// The configured sources, in their order.
    async fn chain(&self, files: &Files) -> Result<CredentialsProviderChain, CredentialsError> {
        let places = &self.beside;
        let selected = Profile::select(self.profile.clone(), files).await;
        let selected = selected.map_err(CredentialsError::invalid_configuration)?;
        let of_variables = {
            let given = places.given.clone();
            move || {
                let given = given.clone();
                provide_credentials_fn(move || {
                    let given = given.clone();
                    async move {
                        given.ok_or_else(|| CredentialsError::not_loaded("there are no variables"))
                    }
                })
            }
        };
        let metadata = || self.metadata();
        let container = || {
            EcsCredentialsProvider::builder()
                .configure(&self.how)
                .build()
        };
        let profile = ProfileFileCredentialsProvider::builder()
            .configure(&self.how)
            .profile_name(&self.profile)
            .profile_files(files.for_sdk())
            .with_custom_provider("Environment", of_variables())
            .with_custom_provider("EcsContainer", container())
            .with_custom_provider("Ec2InstanceMetadata", metadata()?)
            .build();
        // If an option chose a profile, its keys count first.
        let profile_first = places.profile_was_chosen && selected.has_keys();
        let mut chain = if profile_first {
            CredentialsProviderChain::first_try("Profile", profile)
        } else {
            CredentialsProviderChain::first_try("Environment", of_variables())
                .or_else("Profile", profile)
        };
        if profile_first {
            chain = chain.or_else("Environment", of_variables());
        }
        if let Some(identity) = &places.web_identity {
            let session = identity.session.clone();
            let provider = WebIdentityTokenCredentialsProvider::builder()
                .configure(&self.how)
                .static_configuration(StaticConfiguration {
                    web_identity_token_file: identity.token_file.clone(),
                    role_arn: identity.role.clone(),
                    session_name: session.unwrap_or_else(|| "attachfs".to_owned()),
                })
                .build();
            chain = chain.or_else("WebIdentityToken", provider);
        }
        if places.container {
            chain = chain.or_else("EcsContainer", container());
        }
        if !places.metadata_is_off {
            chain = chain.or_else("Ec2InstanceMetadata", metadata()?);
        }
        Ok(chain)
    }

    fn metadata(&self) -> Result<ImdsCredentialsProvider, CredentialsError> {
        let client = imds::Client::builder()
            .configure(&self.how)
            .endpoint(&self.beside.metadata)
            .map_err(CredentialsError::invalid_configuration)?
            .build();
        Ok(ImdsCredentialsProvider::builder()
            .configure(&self.how)
            .imds_client(client)
            .build())
    }

    fn files(&self) -> Result<Files, CredentialsError> {
        Files::read(&self.beside.variables).map_err(CredentialsError::invalid_configuration)
    }
}

#[async_trait]
impl KeySource for Places {
    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        let files = self.files()?;
        *self.seen.lock() = Some(files.clone());
        self.chain(&files).await?.provide_credentials().await
    }

    fn has_changed(&self) -> bool {
        // A file that cannot be read now gives no keys either.
        let now = self.files().ok();
        now.is_some() && now != *self.seen.lock()
    }

    fn may_pass(&self, error: &CredentialsError) -> bool {
        if is_of_the_way(error) {
            return true;
        }
        match error {
            CredentialsError::ProviderTimedOut(_)
            | CredentialsError::ProviderError(_)
            | CredentialsError::Unhandled(_) => self.is_served,
            // A configured service also fails with this error while it is down.
            CredentialsError::CredentialsNotLoaded(_) => {
                self.beside.metadata_was_named && !self.beside.metadata_is_off
            }
            // Other errors do not pass by themselves.
            _ => false,
        }
    }
}
