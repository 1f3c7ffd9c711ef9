//! The names of things in a store: the only code that builds keys.
//!
//! ```text
//!     <prefix>/Data/<32 hex digits>.xxh128       data_key
//!     <prefix>/Manifests/<manifest key>          ManifestKey::object_key
//!     `------' RootPrefix, may be empty
//! ```

use std::fmt;
use std::str::FromStr;

use attachfs_manifest::ContentHash;
use serde::{Deserialize, Serialize};

/// The longest key S3 takes is 1024 bytes; this leaves room for prefix, folder and hash.
const LONGEST_PART: usize = 480;

/// The longest file name of the common file systems, for the directory store.
const LONGEST_COMPONENT: usize = 255;

/// What AWS's clients accept; S3 once allowed names of this length in one region.
const LONGEST_BUCKET: usize = 255;

/// Where objects are, below the store's prefix.
pub(crate) const DATA_FOLDER: &str = "Data/";

/// Where manifests are, below the store's prefix.
pub(crate) const MANIFESTS_FOLDER: &str = "Manifests/";

/// How an object's name ends.
pub(crate) const OBJECT_EXTENSION: &str = ".xxh128";

/// The key of an object, below the store's prefix.
pub fn data_key(hash: ContentHash) -> String {
    format!("{DATA_FOLDER}{hash}{OBJECT_EXTENSION}")
}

/// The key under which old clients stored an object. Readers try it after [`data_key`].
pub fn old_data_key(hash: ContentHash) -> String {
    format!("{DATA_FOLDER}{hash}")
}

/// Why a text is not a key, a prefix or a bucket name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// Nothing at all.
    #[error("a key may not be empty")]
    Empty,
    /// `//`, or a slash at an end.
    #[error("{0:?} has an empty part between two slashes or at an end")]
    EmptyComponent(String),
    /// `.` or `..` as a component.
    #[error("{0:?} has a part that is '.' or '..'")]
    Dots(String),
    /// A control character.
    #[error("{0:?} has a character that cannot be printed")]
    Unprintable(String),
    /// Longer than S3 or a file system takes.
    #[error("{0:?} is too long ({LONGEST_PART} bytes in all, {LONGEST_COMPONENT} between slashes)")]
    TooLong(String),
    /// Not a name that S3 gives to buckets.
    #[error("{0:?} cannot be a bucket: {1}")]
    Bucket(String, &'static str),
}

fn check_path(text: &str) -> Result<(), ParseKeyError> {
    if text.len() > LONGEST_PART {
        return Err(ParseKeyError::TooLong(text.to_owned()));
    }
    if text.chars().any(char::is_control) {
        return Err(ParseKeyError::Unprintable(text.to_owned()));
    }
    for component in text.split('/') {
        match component {
            "" => return Err(ParseKeyError::EmptyComponent(text.to_owned())),
            "." | ".." => return Err(ParseKeyError::Dots(text.to_owned())),
            _ if component.len() > LONGEST_COMPONENT => {
                return Err(ParseKeyError::TooLong(text.to_owned()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The usual traits of a checked text; deserializing checks it again.
macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(checked: $name) -> Self {
                checked.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseKeyError;

            fn try_from(text: String) -> Result<Self, ParseKeyError> {
                text.parse()
            }
        }
    };
}

/// The place of a manifest below `Manifests/`: `/`-separated, no empty part, no `.` or `..`,
/// printable, short enough for S3 and for file systems.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ManifestKey(String);

text_type!(ManifestKey);

impl ManifestKey {
    /// The key of the object, below the store's prefix.
    pub fn object_key(&self) -> String {
        format!("{MANIFESTS_FOLDER}{}", self.0)
    }
}

impl FromStr for ManifestKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if text.is_empty() {
            return Err(ParseKeyError::Empty);
        }
        check_path(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// A folder of manifests: like a [`ManifestKey`], or empty for all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPrefix(String);

text_type!(KeyPrefix);

impl FromStr for KeyPrefix {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if !text.is_empty() {
            check_path(text)?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where in a bucket a store begins: a queue's root prefix, exactly. Every slash counts, since S3 knows no
/// folders: `q/` has the keys `q//Data/…`. Empty for the top of the bucket.
///
/// The service allows letters, digits, `-`, `_` and `/`; other servers more. Only `.` and `..` between slashes
/// are refused: HTTP clients remove them from URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RootPrefix(String);

text_type!(RootPrefix);

impl RootPrefix {
    /// The full key of what has `key` below this prefix.
    pub fn join(&self, key: &str) -> String {
        if self.0.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.0)
        }
    }

    /// The prefix without doubled slashes and slashes at its ends, which is another prefix, but often the
    /// one that was meant. `None` if there are no such slashes.
    pub fn without_odd_slashes(&self) -> Option<Self> {
        let parts = self.0.split('/').filter(|part| !part.is_empty());
        let plain = parts.collect::<Vec<_>>().join("/");
        (plain != self.0).then_some(Self(plain))
    }
}

impl FromStr for RootPrefix {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        if text.len() > LONGEST_PART {
            return Err(ParseKeyError::TooLong(text.to_owned()));
        }
        if text.chars().any(char::is_control) {
            return Err(ParseKeyError::Unprintable(text.to_owned()));
        }
        if text.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(ParseKeyError::Dots(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a bucket, by the rules that AWS's clients go by: letters, digits, `.`, `-` and `_`. That is more
/// than S3 gives to new buckets, but old ones and other servers have such names. One that cannot be part of a
/// host name stands in the path of URLs. Aliases of access points and directory buckets have such names too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName(String);

text_type!(BucketName);

impl FromStr for BucketName {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let refuse = |why| Err(ParseKeyError::Bucket(text.to_owned(), why));
        if !(1..=LONGEST_BUCKET).contains(&text.len()) {
            return refuse("a bucket name has 1 to 255 characters");
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if !text.bytes().all(fits) {
            return refuse("a bucket name has letters, digits, '.', '-' and '_' only");
        }
        if text.bytes().all(|byte| byte == b'.') {
            return refuse("a bucket name is more than dots");
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_by_its_hash() {
        let hash = ContentHash::of(b"");
        assert_eq!(
            data_key(hash),
            "Data/99aa06d3014798d86001c324468d497f.xxh128"
        );
        let prefix: RootPrefix = "DeadlineCloud".parse().unwrap();
        assert_eq!(
            prefix.join(&data_key(hash)),
            format!("DeadlineCloud/Data/{hash}.xxh128")
        );
        assert_eq!(RootPrefix::default().join("Data/x"), "Data/x");
    }

    #[test]
    fn a_manifest_key_stays_below_its_folder() {
        for good in [
            "a",
            "farm-1/queue-2/Inputs/0/x_input",
            "2024-01-01T00:00:00.0Z_s/ä b",
        ] {
            assert_eq!(good.parse::<ManifestKey>().unwrap().as_str(), good);
        }
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "a/../b", "..", "./a", "a\0", "a\nb",
        ] {
            bad.parse::<ManifestKey>().unwrap_err();
        }
        "x".repeat(256).parse::<ManifestKey>().unwrap_err();
        "x/".repeat(300).parse::<ManifestKey>().unwrap_err();
    }

    #[test]
    fn slashes_in_a_prefix_count_as_they_stand() {
        for (prefix, key, plain) in [
            ("q", "q/Data/x", None),
            ("q/", "q//Data/x", Some("q")),
            ("/q", "/q/Data/x", Some("q")),
            ("a//b", "a//b/Data/x", Some("a/b")),
            ("/", "//Data/x", Some("")),
        ] {
            let prefix: RootPrefix = prefix.parse().unwrap();
            assert_eq!(prefix.join("Data/x"), key);
            let found = prefix.without_odd_slashes();
            assert_eq!(found.as_ref().map(RootPrefix::as_str), plain, "{prefix}");
        }
        for bad in ["a/../b", ".", "a/.", "a\nb", &"x".repeat(481)] {
            bad.parse::<RootPrefix>().unwrap_err();
        }
    }

    #[test]
    fn bucket_names_are_those_that_servers_have() {
        for good in [
            "abc",
            "my-bucket.with.dots",
            "0123",
            "Old_Bucket",
            "a",
            "a..b",
            &"a".repeat(255),
        ] {
            good.parse::<BucketName>().unwrap();
        }
        for bad in [
            "",
            "a b",
            "a/b",
            "a:b",
            "ä11",
            "..",
            ".",
            "a%2F",
            &"a".repeat(256),
        ] {
            bad.parse::<BucketName>().unwrap_err();
        }
    }
}
