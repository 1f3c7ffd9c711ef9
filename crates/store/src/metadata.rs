//! The metadata of a manifest: S3's user metadata, within bounds that every store can hold.
//!
//! Names are lower-case, because HTTP headers have no case; values are printable ASCII, because headers
//! carry nothing else unharmed. Other text has to be encoded by the caller.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Names and values together, in bytes: what S3 takes
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>).
const LARGEST: usize = 2048;

/// Names and values, in the order of names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, String>",
    into = "BTreeMap<String, String>"
)]
pub struct Metadata(BTreeMap<String, String>);

/// Why something cannot be metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// A text that cannot be a name.
    #[error("{0:?} cannot name metadata: lower-case letters, digits, '-', '_' and '.' can")]
    Name(String),
    /// A text that cannot be a value.
    #[error(
        "the metadata {name} cannot be {value:?}: it has to be printable ASCII without a space at an end"
    )]
    Value {
        /// Its name.
        name: String,
        /// The value.
        value: String,
    },
    /// Too many bytes in all.
    #[error("metadata may have {LARGEST} bytes in all, this is {0}")]
    TooLong(usize),
}

impl Metadata {
    /// No metadata.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a name, replacing an earlier one.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), MetadataError> {
        check(name, value)?;
        let replaced = self
            .0
            .get(name)
            .map_or(0, |replaced| name.len() + replaced.len());
        let len = self.len() - replaced + name.len() + value.len();
        if len > LARGEST {
            return Err(MetadataError::TooLong(len));
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Metadata that other programs wrote, as far as it fits these rules. The rest is left out and
    /// logged: a manifest stays readable whatever was written beside it.
    pub fn of_foreign<'a>(said: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut metadata = Self::new();
        for (name, value) in said {
            let name = name.to_ascii_lowercase();
            if let Err(error) = metadata.set(&name, value) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "metadata of a manifest is left out"
                );
            }
        }
        metadata
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this has everything that `asked` has. A store may add something of its own.
    pub fn includes(&self, asked: &Self) -> bool {
        asked
            .iter()
            .all(|(name, value)| self.get(name) == Some(value))
    }

    /// Names and values together, in bytes.
    fn len(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }
}

fn check(name: &str, value: &str) -> Result<(), MetadataError> {
    let named = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
    };
    if name.is_empty() || !name.bytes().all(named) {
        return Err(MetadataError::Name(name.to_owned()));
    }
    let printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !printable || value.trim() != value {
        return Err(MetadataError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }
    Ok(())
}

impl TryFrom<BTreeMap<String, String>> for Metadata {
    type Error = MetadataError;

    fn try_from(said: BTreeMap<String, String>) -> Result<Self, MetadataError> {
        let mut metadata = Self::new();
        for (name, value) in &said {
            metadata.set(name, value)?;
        }
        Ok(metadata)
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(metadata: Metadata) -> Self {
        metadata.0
    }
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, value)) in self.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{name}: {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_cannot_carry_is_refused() {
        let mut metadata = Metadata::new();
        for name in ["", "Asset-Root", "a b", "a:", "\u{e4}"] {
            metadata.set(name, "x").unwrap_err();
        }
        for value in ["\u{e4}", "a\nb", " a", "a ", "\u{7f}"] {
            metadata.set("name", value).unwrap_err();
        }
        assert!(metadata.is_empty());
        metadata.set("asset-root", "C:\\a b").unwrap();
        assert_eq!(metadata.get("asset-root"), Some("C:\\a b"));
    }

    #[test]
    fn metadata_has_2_kib_in_all_and_a_replaced_value_does_not_count() {
        let mut metadata = Metadata::new();
        metadata.set("a", &"x".repeat(2047)).unwrap();
        metadata.set("a", &"y".repeat(2047)).unwrap();
        assert_eq!(metadata.set("b", ""), Err(MetadataError::TooLong(2049)));
        assert_eq!(metadata.get("b"), None);
    }

    #[test]
    fn metadata_of_other_programs_is_kept_as_far_as_it_is_usable() {
        let said = [("Asset-Root", "/proj"), ("name", "\u{e4}")];
        let metadata = Metadata::of_foreign(said);
        assert_eq!(metadata.to_string(), "asset-root: /proj");
    }

    #[test]
    fn it_reads_as_it_is_written() {
        let mut metadata = Metadata::new();
        metadata.set("b", "2").unwrap();
        metadata.set("a", "1").unwrap();
        let text = serde_json::to_string(&metadata).unwrap();
        assert_eq!(text, r#"{"a":"1","b":"2"}"#);
        assert_eq!(serde_json::from_str::<Metadata>(&text).unwrap(), metadata);
        serde_json::from_str::<Metadata>(r#"{"A":"1"}"#).unwrap_err();
    }
}
