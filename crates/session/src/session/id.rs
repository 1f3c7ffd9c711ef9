//! The id of a session.

use std::fmt;
use std::str::FromStr;

use attachfs_manifest::{ContentHash, ParseHashError};
use serde::{Deserialize, Serialize};

/// A session's name: 32 hexadecimal digits, random.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// The text is no session id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a session id has 32 hexadecimal digits")]
pub struct ParseSessionIdError(#[source] ParseHashError);

/// The fewest first digits that may stand for an id.
const LEAST_DIGITS: usize = 4;

impl SessionId {
    /// The id made of these random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(ContentHash::from_bytes(bytes).to_string())
    }

    /// Whether a text is enough of an id to name a session: at least four of its digits.
    pub fn may_begin_with(text: &str) -> bool {
        text.len() >= LEAST_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = ParseSessionIdError;

    fn from_str(text: &str) -> Result<Self, ParseSessionIdError> {
        text.parse::<ContentHash>()
            .map(|_| Self(text.to_owned()))
            .map_err(ParseSessionIdError)
    }
}

impl TryFrom<String> for SessionId {
    type Error = ParseSessionIdError;

    fn try_from(text: String) -> Result<Self, ParseSessionIdError> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
