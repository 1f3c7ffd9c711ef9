//! The environment variables of a process and the AWS configuration files.
//!
//! Both are read here and nowhere else, at one moment. The SDK gets the text of the files from here, so that it
//! and this program never see two versions of one file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;
use std::{fmt, io};

use aws_config::profile::{ProfileSet, load};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_runtime::env_config::property::PropertiesKey;
use aws_types::os_shim_internal::{Env, Fs};

use super::value::{SettingError, Value};

/// The variables of a process.
#[derive(Clone, Default)]
pub(crate) struct Variables(HashMap<OsString, OsString>);

/// Some of them are secrets.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").finish_non_exhaustive()
    }
}

impl Variables {
    /// The variables of this process.
    pub(crate) fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    #[cfg(test)]
    pub(crate) fn of(given: &[(&str, &str)]) -> Self {
        let given = given.iter();
        Self(
            given
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    #[cfg(test)]
    pub(crate) fn set(&mut self, name: &str, value: &OsStr) {
        self.0.insert(name.into(), value.into());
    }

    /// Whether there is a variable of this name, empty or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(OsStr::new(name))
    }

    /// Whether there is a variable of this name that is empty.
    pub(crate) fn is_empty(&self, name: &str) -> bool {
        self.0
            .get(OsStr::new(name))
            .is_some_and(|value| value.is_empty())
    }

    /// A value that need not be text: a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.0.get(OsStr::new(name))?;
        (!value.is_empty()).then(|| value.into())
    }

    /// A value, if it is not empty.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Value>, SettingError> {
        let value = self.0.get(OsStr::new(name));
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let text = value.to_str().ok_or_else(|| SettingError::Malformed {
            place: name.to_owned(),
            value: value.to_string_lossy().into_owned(),
            wants: "it is not UTF-8 text",
        })?;
        Ok(Some(Value::new(name, text)))
    }

    /// The first of several variables that has a value.
    pub(crate) fn first(&self, names: &[&str]) -> Result<Option<Value>, SettingError> {
        for name in names {
            if let Some(value) = self.get(name)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

/// The two configuration files, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    config: File,
    credentials: File,
}

#[derive(Clone, PartialEq, Eq)]
struct File {
    path: PathBuf,
    text: String,
}

/// The text has secrets in it.
impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File")
            .field(&self.path)
            .finish_non_exhaustive()
    }
}

impl File {
    /// A missing file counts as empty, as for the AWS tools.
    fn read(path: PathBuf) -> Result<Self, SettingError> {
        let bytes = match read_some(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(SettingError::NotAConfiguration {
                    path,
                    why: error.to_string(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Vec::new(),
            Err(source) => return Err(SettingError::File { path, source }),
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) => Err(SettingError::NotAConfiguration {
                path,
                why: error.to_string(),
            }),
        }
    }
}

/// The longest file that is read, because a device that is named by mistake has no end.
const LONGEST: u64 = 4 << 20;

/// How long reading a file may take. A pipe without a writer or a disk that hangs would take for
/// ever.
const WITHIN: Duration = Duration::from_secs(10);

/// Reads a file that is part of a configuration. Fails if it is longer than one may be, or does not come in time.
pub(crate) fn read_some(path: &Path) -> io::Result<Vec<u8>> {
    let (tell, told) = channel();
    let path = path.to_owned();
    let thread = std::thread::Builder::new().name("configuration".to_owned());
    thread.spawn(move || {
        let read = std::fs::File::open(path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(LONGEST + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        // The caller may have stopped waiting.
        let _ = tell.send(read);
    })?;
    let bytes = told.recv_timeout(WITHIN).unwrap_or_else(|_late| {
        let text = format!("it could not be read within {} s", WITHIN.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })?;
    if bytes.len() as u64 > LONGEST {
        let text = format!("it is longer than {} MiB", LONGEST >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

impl Files {
    /// Reads the files that the variables name, or those below the home directory.
    pub(crate) fn read(variables: &Variables) -> Result<Self, SettingError> {
        let read = |variable: &str, usual: &str| {
            let path = variables
                .path(variable)
                .unwrap_or_else(|| Path::new("~/.aws").join(usual));
            File::read(in_home(path, variables))
        };
        Ok(Self {
            config: read("AWS_CONFIG_FILE", "config")?,
            credentials: read("AWS_SHARED_CREDENTIALS_FILE", "credentials")?,
        })
    }

    /// Both for the SDK.
    pub(crate) fn for_sdk(&self) -> EnvConfigFiles {
        contents(&self.config.text, &self.credentials.text)
    }

    /// Their names, for messages.
    pub(crate) fn names(&self) -> String {
        format!(
            "{} and {}",
            self.config.path.display(),
            self.credentials.path.display()
        )
    }
}

fn in_home(path: PathBuf, variables: &Variables) -> PathBuf {
    match (path.strip_prefix("~"), variables.path("HOME")) {
        (Ok(below), Some(home)) => home.join(below),
        _ => path,
    }
}

fn contents(config: &str, credentials: &str) -> EnvConfigFiles {
    EnvConfigFiles::builder()
        .with_contents(EnvConfigFileKind::Config, config)
        .with_contents(EnvConfigFileKind::Credentials, credentials)
        .build()
}

/// A profile: what the two files say under its name.
#[derive(Clone)]
pub(crate) struct Profile {
    pub(crate) name: String,
    config: (PathBuf, ProfileSet),
    credentials: (PathBuf, ProfileSet),
}

/// Profiles have secrets in them.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Profile")
            .field(&self.name)
            .finish_non_exhaustive()
    }
}

impl Profile {
    /// The profile of this name, which need not be there.
    pub(crate) async fn select(name: String, files: &Files) -> Result<Self, SettingError> {
        Ok(Self {
            config: (
                files.config.path.clone(),
                parse(&files.config, &name, |text| contents(text, "")).await?,
            ),
            credentials: (
                files.credentials.path.clone(),
                parse(&files.credentials, &name, |text| contents("", text)).await?,
            ),
            name,
        })
    }

    fn files(&self) -> [&(PathBuf, ProfileSet); 2] {
        // The credentials file counts where both files have a key.
        [&self.credentials, &self.config]
    }

    pub(crate) fn exists(&self) -> bool {
        self.files()
            .iter()
            .any(|(_, set)| set.get_profile(&self.name).is_some())
    }

    /// The value of a key, if it is not empty.
    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        self.files().iter().find_map(|(path, set)| {
            let text = set.get(key)?;
            (!text.is_empty()).then(|| Value::new(self.place(path, key), text))
        })
    }

    /// Whether the profile itself has keys, or says where they come from.
    pub(crate) fn has_keys(&self) -> bool {
        const KEYS: [&str; 6] = [
            "aws_access_key_id",
            "role_arn",
            "credential_process",
            "sso_session",
            "sso_start_url",
            "web_identity_token_file",
        ];
        KEYS.iter().any(|key| self.get(key).is_some())
    }

    /// A key of a group, such as `addressing_style` below `s3 =`.
    pub(crate) fn get_in(&self, group: &str, key: &str) -> Option<Value> {
        let lines = self.get(group)?;
        lines.text.lines().find_map(|line| {
            let (name, text) = line.split_once('=')?;
            let text = text.trim();
            (name.trim().eq_ignore_ascii_case(key) && !text.is_empty())
                .then(|| Value::new(format!("{key} below {}", lines.place), text))
        })
    }

    /// A key of a service in the section `services` that the profile names.
    pub(crate) fn get_of_service(&self, service: &str, key: &str) -> Option<Value> {
        let section = self.get("services")?;
        let (path, set) = &self.config;
        let wanted = PropertiesKey::builder()
            .section_key("services")
            .section_name(section.text.clone())
            .property_name(service.to_owned())
            .sub_property_name(key.to_owned())
            .build()
            .ok()?;
        let text = set.other_sections().get(&wanted)?;
        let place = format!(
            "{key} of {service} in the section \"services {}\" of {}",
            section.text,
            path.display()
        );
        (!text.is_empty()).then(|| Value::new(place, text))
    }

    fn place(&self, path: &Path, key: &str) -> String {
        format!("{key} in the profile {:?} of {}", self.name, path.display())
    }
}

async fn parse(
    file: &File,
    profile: &str,
    contents: impl Fn(&str) -> EnvConfigFiles,
) -> Result<ProfileSet, SettingError> {
    let selected = Some(Cow::Owned(profile.to_owned()));
    // Everything is given, so that it looks up nothing in the environment.
    let env = Env::from_slice(&[]);
    let set = load(&Fs::real(), &env, &contents(&file.text), selected).await;
    set.map_err(|error| SettingError::NotAConfiguration {
        path: file.path.clone(),
        why: why(&error),
    })
}

/// The messages of an error and its causes, without the file position, which means nothing for a
/// text in memory.
fn why(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    let text = texts.last().map(String::as_str).unwrap_or_default();
    let text = text
        .trim_start_matches("error parsing ")
        .trim_start_matches("on ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
