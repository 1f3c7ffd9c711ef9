//! Settings as they are written, and checks of their values.
//!
//! Empty is unset, everywhere. A malformed value is an error that names the place and the value, so that a
//! mistake is never silently replaced by a default. Values that may be secret are not shown.

use std::io;
use std::path::PathBuf;

/// Why a setting cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// A malformed value.
    #[error("{place} is {value:?}, which cannot be used: {wants}")]
    Malformed {
        /// The variable, the option, or the file, profile and key.
        place: String,
        /// The value as it is written.
        value: String,
        /// What it has to be.
        wants: &'static str,
    },
    /// A malformed value that may be secret.
    #[error("{place} cannot be used: {wants}")]
    Secret {
        /// The variable.
        place: String,
        /// What it has to be.
        wants: &'static str,
    },
    /// One of two that go together.
    #[error("{there} is set and {missing} is not: set both or none")]
    Half {
        /// What is set.
        there: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// An empty variable that the AWS SDK takes for a value.
    #[error("{0} is set to nothing, which the AWS SDK takes for an address: unset it")]
    Empty(&'static str),
    /// A configuration file that cannot be read.
    #[error("the AWS configuration file {} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A malformed configuration file.
    #[error("the AWS configuration file {} cannot be understood: {why}", path.display())]
    NotAConfiguration {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        why: String,
    },
    /// A profile that no file has.
    #[error(
        "there is no profile {name:?}, which {place} names: check --profile and AWS_PROFILE, and the names in \
         {files}"
    )]
    NoProfile {
        /// The name.
        name: String,
        /// Where it comes from.
        place: String,
        /// Where it should be.
        files: String,
    },
}

/// A value and the place that it was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) place: String,
    pub(crate) text: String,
}

impl Value {
    pub(crate) fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            text: text.into(),
        }
    }

    /// The error for a malformed value. A URL with a password in it is not shown.
    pub(crate) fn malformed(&self, wants: &'static str) -> SettingError {
        if self.text.contains('@') {
            return self.secret(wants);
        }
        SettingError::Malformed {
            place: self.place.clone(),
            value: self.text.clone(),
            wants,
        }
    }

    /// The error for a malformed value that is not shown.
    pub(crate) fn secret(&self, wants: &'static str) -> SettingError {
        SettingError::Secret {
            place: self.place.clone(),
            wants,
        }
    }

    /// `true` or `false`, in any case. The AWS tools take everything else for false, also `1` and `yes`.
    pub(crate) fn boolean(&self) -> Result<bool, SettingError> {
        match self.text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.malformed("it has to be true or false")),
        }
    }

    /// How often a request is made in all.
    pub(crate) fn attempts(&self) -> Result<u32, SettingError> {
        let number = self.text.parse().ok().filter(|&number: &u32| number > 0);
        number.ok_or_else(|| self.malformed("it has to be a number from 1 on"))
    }

    /// Whether a name is one of those that are known; gives its place among them.
    pub(crate) fn one_of(
        &self,
        names: &[&str],
        wants: &'static str,
    ) -> Result<usize, SettingError> {
        let is_it = |name: &&str| name.eq_ignore_ascii_case(&self.text);
        let place = names.iter().position(is_it);
        place.ok_or_else(|| self.malformed(wants))
    }

    /// A region, as AWS's clients take them.
    pub(crate) fn region(&self) -> Result<String, SettingError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if self.text.is_empty()
            || self.text.len() > 63
            || !self.text.bytes().all(fits)
            || self.text.starts_with('-')
        {
            return Err(self.malformed("a region has up to 63 letters, digits, '-' and '_'"));
        }
        Ok(self.text.clone())
    }

    /// The URL of a server.
    pub(crate) fn url(&self) -> Result<String, SettingError> {
        check_url(&self.text).map_err(|wants| self.malformed(wants))?;
        Ok(self.text.clone())
    }

    /// Text that can stand in a header and in a log.
    pub(crate) fn printable(&self) -> Result<(), SettingError> {
        if self.text.chars().any(char::is_control) {
            return Err(self.malformed("it has characters that cannot be printed"));
        }
        Ok(())
    }
}

/// Whether a text is the URL of a server, with or without a path.
fn check_url(text: &str) -> Result<(), &'static str> {
    const SCHEME: &str = "an endpoint is a URL that begins with https:// or http://";
    const NOT_ONE: &str = "it is not the URL of a server";
    let (scheme, rest) = text.split_once("://").ok_or(SCHEME)?;
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err(SCHEME);
    }
    if rest.contains(['?', '#']) {
        return Err("the URL of an endpoint has no query and no fragment");
    }
    let visible = |byte: u8| byte.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&byte);
    let authority = rest.split('/').next().unwrap_or_default();
    if !rest.bytes().all(visible) || authority.is_empty() {
        return Err(NOT_ONE);
    }
    if authority.contains('@') {
        return Err("the URL of an endpoint has no user and no password");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port =
        |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
    if port.is_some_and(|port| !is_port(port)) {
        return Err("its port is not a number up to 65535");
    }
    let is_host = match host.strip_prefix('[') {
        Some(inside) => inside
            .strip_suffix(']')
            .is_some_and(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !host.is_empty() && host.bytes().all(fits)
        }
    };
    if is_host { Ok(()) } else { Err(NOT_ONE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_a_server_has_a_scheme_and_a_host() {
        for good in [
            "http://localhost:9000",
            "https://s3.example.com",
            "http://h/storage/v1/s3",
            "HTTP://10.0.0.1/",
            "http://[::1]:9000/a%20b",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "abc",
            "localhost:9000",
            "http://",
            "http:///a",
            "ftp://h",
            "http://h:99999",
            "http://h:",
            "http://h:+1",
            "http://a b",
            "http://u:p@h",
            "http://h?x",
            "http://h\n",
            "http://[::1",
            "http://[]",
            "http://h/\u{e9}",
            "http://-1:-1",
        ] {
            check_url(bad).unwrap_err();
        }
    }

    #[test]
    fn numbers_booleans_and_regions_are_what_they_have_to_be() {
        let value = |text: &str| Value::new("AWS_X", text);
        assert_eq!(value("5").attempts().unwrap(), 5);
        assert!(value("TRUE").boolean().unwrap());
        assert_eq!(value("us-west-2").region().unwrap(), "us-west-2");
        for bad in ["0", "-1", "abc", "1.5", "99999999999", " 3"] {
            let said = value(bad).attempts().unwrap_err().to_string();
            assert!(
                said.contains("AWS_X") && said.contains(&format!("{bad:?}")),
                "{said}"
            );
        }
        for bad in ["1", "yes", "abc", "true\n"] {
            value(bad).boolean().unwrap_err();
        }
        for bad in ["", "a b", "-x", "us/west", "ü", &"x".repeat(64)] {
            value(bad).region().unwrap_err();
        }
    }
}
