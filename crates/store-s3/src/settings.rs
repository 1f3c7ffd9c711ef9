//! How to reach S3, from options, environment variables and configuration files. All of them are read here
//! and nowhere else.
//!
//! The SDK reads its environment itself, in many places, and panics at what it does not understand or goes on
//! without it. So everything is read and checked here first, and the SDK is given values. What the SDK still
//! looks up by itself (places of keys, of services that give keys) was checked before it does.
//!
//! ```text
//!     option  >  variable of S3  >  variable  >  services section  >  profile  >  as usual
//! ```
//!
//! The order is that of boto3, and so is the meaning, except where the documentation says so
//! (`docs/s3-settings.md`). Empty is unset, malformed is an error.

mod keys;
mod proxies;
mod surroundings;
mod value;

use std::path::PathBuf;

use attachfs_store::{Addressing, StoreError};

pub(crate) use keys::KeyPlaces;
pub(crate) use proxies::{Proxies, Way};
pub(crate) use surroundings::{Files, Profile, Variables, read_some};
pub use value::SettingError;
use value::Value;

use crate::S3Options;

/// How S3 is to be reached.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `None` if no place names one.
    pub(crate) region: Option<String>,
    /// A configured server. Its path ends with a slash, if it has one.
    pub(crate) endpoint: Option<String>,
    pub(crate) path_style: bool,
    pub(crate) dual_stack: bool,
    pub(crate) fips: bool,
    pub(crate) ca_bundle: Option<PathBuf>,
    pub(crate) attempts: Option<u32>,
    /// Whether bodies go with a checksum. Some servers refuse the headers.
    pub(crate) checksums: bool,
    /// Whether manifests are requested with their checksum.
    pub(crate) checked_answers: bool,
    /// Whether bodies are signed although they have a checksum.
    pub(crate) signed_bodies: bool,
    pub(crate) proxies: Proxies,
    pub(crate) profile: Profile,
    pub(crate) keys: KeyPlaces,
}

impl From<SettingError> for StoreError {
    fn from(error: SettingError) -> Self {
        Self::Setting {
            source: Box::new(error),
        }
    }
}

/// Variables that only the SDK reads: text without control characters.
const PLAIN: [&str; 9] = [
    "AWS_EXECUTION_ENV",
    "AWS_SDK_UA_APP_ID",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_LOGIN_CACHE_DIRECTORY",
    "_X_AMZN_TRACE_ID",
];

/// Variables that name the servers of other AWS services: those that give keys, and some that are
/// not used.
const ENDPOINTS: [&str; 4] = [
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_SSO",
    "AWS_ENDPOINT_URL_SSO_OIDC",
    "AWS_ENDPOINT_URL_SIGNIN",
];

/// Switches that have no effect here, but are checked so that a malformed value is reported.
const SWITCHES: [&str; 4] = [
    "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH",
    "AWS_S3_USE_ARN_REGION",
    "AWS_EC2_METADATA_V1_DISABLED",
    "AWS_DISABLE_REQUEST_COMPRESSION",
];

impl Settings {
    /// Reads everything as it is now.
    pub(crate) async fn read(
        options: &S3Options,
        variables: Variables,
    ) -> Result<Self, SettingError> {
        let access = &options.access;
        let files = Files::read(&variables)?;
        let profile = selected(access.profile.as_deref(), &variables, &files).await?;
        let said = Said {
            variables: &variables,
            profile: &profile,
        };
        said.check_the_rest()?;
        let option = |name: &str, text: &Option<String>| {
            text.clone()
                .map(|text| Value::new(format!("--{name}"), text))
        };
        let region = match option("region", &access.region) {
            None => said.any(&["AWS_REGION", "AWS_DEFAULT_REGION"], "region")?,
            option => option,
        };
        let endpoint = match option("endpoint-url", &access.endpoint_url) {
            None => said.endpoint()?,
            option => option,
        };
        let endpoint = endpoint.map(|value| value.url()).transpose()?;
        let dual_stack = said.any(&["AWS_USE_DUALSTACK_ENDPOINT"], "use_dualstack_endpoint")?;
        let dual_stack = dual_stack.or_else(|| profile.get_in("s3", "use_dualstack_endpoint"));
        let fips = said.any(&["AWS_USE_FIPS_ENDPOINT"], "use_fips_endpoint")?;
        let is_on = |value: Option<Value>| value.map(|value| value.boolean()).transpose();
        let when = |value: Option<Value>| {
            let value = value.map(|value| {
                value.one_of(
                    &["when_supported", "when_required"],
                    "it has to be when_supported or when_required",
                )
            });
            value.transpose().map(|place| place != Some(1))
        };
        Ok(Self {
            region: region.map(|value| value.region()).transpose()?,
            path_style: path_style(access.addressing, &profile, endpoint.is_some())?,
            endpoint: endpoint.map(|url| with_slash(&url)),
            dual_stack: access.dual_stack || is_on(dual_stack)?.unwrap_or(false),
            fips: access.fips || is_on(fips)?.unwrap_or(false),
            ca_bundle: match &access.ca_bundle {
                Some(path) => Some(path.clone()),
                None => variables
                    .path("AWS_CA_BUNDLE")
                    .or_else(|| profile.get("ca_bundle").map(|value| value.text.into())),
            },
            attempts: match (options.max_attempts, said.retry()?) {
                (None, said) => said,
                (given, _) => given,
            },
            checksums: when(said.any(
                &["AWS_REQUEST_CHECKSUM_CALCULATION"],
                "request_checksum_calculation",
            )?)?,
            checked_answers: when(said.any(
                &["AWS_RESPONSE_CHECKSUM_VALIDATION"],
                "response_checksum_validation",
            )?)?,
            signed_bodies: is_on(profile.get_in("s3", "payload_signing_enabled"))?.unwrap_or(false),
            proxies: Proxies::read(&variables)?,
            keys: said.key_places(access.profile.is_some())?,
            profile,
        })
    }
}

/// The environment variables and the profile.
struct Said<'a> {
    variables: &'a Variables,
    profile: &'a Profile,
}

impl Said<'_> {
    /// The first of the variables that has a value, else the profile's.
    fn any(&self, names: &[&str], key: &str) -> Result<Option<Value>, SettingError> {
        let found = self.variables.first(names)?;
        Ok(found.or_else(|| self.profile.get(key)))
    }

    /// The configured server for S3.
    fn endpoint(&self) -> Result<Option<Value>, SettingError> {
        let ignored = self.any(
            &["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"],
            "ignore_configured_endpoint_urls",
        )?;
        if ignored.map(|value| value.boolean()).transpose()? == Some(true) {
            return Ok(None);
        }
        let variable = self
            .variables
            .first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])?;
        Ok(variable
            .or_else(|| self.profile.get_of_service("s3", "endpoint_url"))
            .or_else(|| self.profile.get("endpoint_url")))
    }

    /// How often requests are made. All modes are one here: that of the SDK's `standard`.
    fn retry(&self) -> Result<Option<u32>, SettingError> {
        if let Some(mode) = self.any(&["AWS_RETRY_MODE"], "retry_mode")? {
            mode.one_of(
                &["standard", "adaptive", "legacy"],
                "it has to be standard, adaptive or legacy",
            )?;
        }
        let attempts = self.any(&["AWS_MAX_ATTEMPTS"], "max_attempts")?;
        attempts.map(|value| value.attempts()).transpose()
    }

    /// Checks the settings that only the SDK reads, while it makes requests.
    fn check_the_rest(&self) -> Result<(), SettingError> {
        let variables = self.variables;
        for name in PLAIN {
            variables
                .get(name)?
                .map_or(Ok(()), |value| value.printable())?;
        }
        for name in ENDPOINTS {
            variables
                .get(name)?
                .map_or(Ok(()), |value| value.url().map(drop))?;
        }
        for name in SWITCHES {
            variables
                .get(name)?
                .map_or(Ok(()), |value| value.boolean().map(drop))?;
        }
        self.check_empty()
    }
}

/// The profile that an option or a variable names. A profile that no file has is an error, since other keys
/// would be used instead.
async fn selected(
    option: Option<&str>,
    variables: &Variables,
    files: &Files,
) -> Result<Profile, SettingError> {
    const USUAL: &str = "default";
    let named = match option {
        Some(name) => Some(Value::new("--profile", name)),
        None => variables.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])?,
    };
    let name = named.as_ref().map_or(USUAL, |value| &value.text);
    let profile = Profile::select(name.to_owned(), files).await?;
    match named {
        Some(named) if !profile.exists() && (named.text != USUAL || option.is_some()) => {
            Err(SettingError::NoProfile {
                name: named.text,
                place: named.place,
                files: files.names(),
            })
        }
        _ => Ok(profile),
    }
}

/// Whether the bucket stands in the path of URLs.
fn path_style(
    option: Addressing,
    profile: &Profile,
    has_endpoint: bool,
) -> Result<bool, SettingError> {
    let said = match option {
        Addressing::Path => Some(1),
        Addressing::Virtual => Some(2),
        Addressing::Auto => {
            let said = profile.get_in("s3", "addressing_style");
            let said = said.map(|value| {
                value.one_of(
                    &["auto", "path", "virtual"],
                    "it has to be auto, path or virtual",
                )
            });
            said.transpose()?
        }
    };
    Ok(match said {
        Some(1) => true,
        Some(2) => false,
        _ => has_endpoint,
    })
}

/// A path of an endpoint is a folder: without a slash the SDK's rules would put the bucket's name right behind it.
fn with_slash(url: &str) -> String {
    let has_path = url
        .split_once("://")
        .is_some_and(|(_, rest)| rest.trim_end_matches('/').contains('/'));
    let plain = url.trim_end_matches('/');
    if has_path {
        format!("{plain}/")
    } else {
        plain.to_owned()
    }
}

#[cfg(test)]
mod tests;
