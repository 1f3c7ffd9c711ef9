//! Where keys may come from, beside the profile: variables, and services that variables name.

use std::path::PathBuf;

use aws_credential_types::Credentials;

use super::surroundings::Variables;
use super::value::{SettingError, Value};
use super::{ENDPOINTS, Said};

/// Where keys may come from.
#[derive(Debug, Clone)]
pub(crate) struct KeyPlaces {
    pub(crate) variables: Variables,
    /// The keys in the environment variables.
    pub(crate) given: Option<Credentials>,
    /// Whether an option named the profile: then its keys go before those of the variables.
    pub(crate) profile_was_chosen: bool,
    pub(crate) metadata_is_off: bool,
    /// The metadata service of the machine.
    pub(crate) metadata: String,
    /// Whether its address is configured.
    pub(crate) metadata_was_named: bool,
    pub(crate) container: bool,
    pub(crate) web_identity: Option<WebIdentity>,
}

/// A role that is assumed with a token from a file.
#[derive(Debug, Clone)]
pub(crate) struct WebIdentity {
    pub(crate) token_file: PathBuf,
    pub(crate) role: String,
    pub(crate) session: Option<String>,
}

/// The default addresses of the metadata service.
const METADATA_V4: &str = "http://169.254.169.254";
const METADATA_V6: &str = "http://[fd00:ec2::254]";

impl Said<'_> {
    /// Reads where keys may come from, without the profile's own keys.
    pub(super) fn key_places(&self, profile_was_chosen: bool) -> Result<KeyPlaces, SettingError> {
        let variables = self.variables;
        let id = variables.get("AWS_ACCESS_KEY_ID")?;
        let secret = variables.get("AWS_SECRET_ACCESS_KEY")?;
        let token = variables.first(&["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"])?;
        for key in [&id, &secret, &token].into_iter().flatten() {
            if !key.text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(key.secret("keys are printable characters without blanks"));
            }
        }
        let given = match (id, secret) {
            (Some(id), Some(secret)) => {
                let token = token.map(|token| token.text);
                let keys = Credentials::new(id.text, secret.text, token, None, "environment");
                Some(keys)
            }
            (Some(_), None) => return Err(half("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
            (None, Some(_)) => return Err(half("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")),
            (None, None) => None,
        };
        let off = variables.get("AWS_EC2_METADATA_DISABLED")?;
        let named = self.any(
            &["AWS_EC2_METADATA_SERVICE_ENDPOINT"],
            "ec2_metadata_service_endpoint",
        )?;
        let mode = self.any(
            &["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"],
            "ec2_metadata_service_endpoint_mode",
        )?;
        let mode = mode.map(|mode| mode.one_of(&["ipv4", "ipv6"], "it has to be IPv4 or IPv6"));
        let usual = match mode.transpose()? {
            Some(1) => METADATA_V6,
            _ => METADATA_V4,
        };
        let relative = variables.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")?;
        if let Some(relative) = &relative
            && !(relative.text.starts_with('/')
                && relative.text.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(relative.malformed("it has to be a path that begins with a slash"));
        }
        if let Some(token) = variables.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")?
            && !token
                .text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' ')
        {
            return Err(token.secret("it is not the value of a header"));
        }
        let full = variables.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")?;
        full.as_ref().map(full_url).transpose()?;
        let text = |name| Ok::<_, SettingError>(variables.get(name)?.map(|value| value.text));
        Ok(KeyPlaces {
            variables: variables.clone(),
            given,
            profile_was_chosen,
            metadata_is_off: off.map(|value| value.boolean()).transpose()? == Some(true),
            metadata_was_named: named.is_some(),
            metadata: match named {
                Some(value) => value.url()?,
                None => usual.to_owned(),
            },
            container: relative.is_some() || full.is_some(),
            web_identity: match (text("AWS_WEB_IDENTITY_TOKEN_FILE")?, text("AWS_ROLE_ARN")?) {
                (Some(token_file), Some(role)) => Some(WebIdentity {
                    token_file: token_file.into(),
                    role,
                    session: text("AWS_ROLE_SESSION_NAME")?,
                }),
                _ => None,
            },
        })
    }

    /// Refuses empty variables that the SDK takes for addresses.
    pub(super) fn check_empty(&self) -> Result<(), SettingError> {
        let variables = self.variables;
        let has = |name| Ok::<_, SettingError>(variables.get(name)?.is_some());
        if has("AWS_CONTAINER_CREDENTIALS_FULL_URI")? {
            for name in [
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            ] {
                if variables.is_empty(name) {
                    return Err(SettingError::Empty(name));
                }
            }
        }
        let asks_services = ["role_arn", "sso_session", "sso_start_url"]
            .iter()
            .any(|key| self.profile.get(key).is_some())
            || has("AWS_WEB_IDENTITY_TOKEN_FILE")?;
        if asks_services {
            for name in ["AWS_ENDPOINT_URL"].into_iter().chain(ENDPOINTS) {
                if variables.is_empty(name) {
                    return Err(SettingError::Empty(name));
                }
            }
        }
        Ok(())
    }
}

fn half(there: &'static str, missing: &'static str) -> SettingError {
    SettingError::Half { there, missing }
}

/// The URL that keys of a container come from, which may have a query.
fn full_url(value: &Value) -> Result<(), SettingError> {
    let (server, query) = value.text.split_once('?').unwrap_or((&value.text, ""));
    let server = Value::new(value.place.clone(), server);
    server.url()?;
    if query.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(value.malformed("it is not a URL"))
    }
}
