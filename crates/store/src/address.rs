//! What a person calls a store, or a manifest in one: a directory, or `s3://bucket/prefix`.
//!
//! An address in S3 is exact: everything after `bucket/` is the root prefix, slashes included, and the keys are
//! `<prefix>/Data/…` and `<prefix>/Manifests/…`, as AWS's clients join them. So `s3://bucket/q/` is the store
//! of a queue whose root prefix is `q/`, with keys `q//Data/…`. It is not the store `s3://bucket/q`.

mod meant;

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::key::{BucketName, ManifestKey, ParseKeyError, RootPrefix};

const S3_SCHEME: &str = "s3://";

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreAddress {
    /// A directory on this machine.
    Directory(PathBuf),
    /// Part of a bucket. The endpoint is not part of the address.
    S3 {
        /// The bucket.
        bucket: BucketName,
        /// What every key in it begins with.
        prefix: RootPrefix,
    },
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// An empty text.
    #[error("the address of a store may not be empty")]
    Empty,
    /// A scheme that is not `s3`.
    #[error("{0:?} is neither a directory nor an s3:// address")]
    Scheme(String),
    /// A text that is almost an address in S3.
    #[error(
        "{given:?} is not the address of a store in S3: did you mean {meant:?}? A directory of that name is \
         {:?}",
        format!("./{given}")
    )]
    Nearly {
        /// The whole text.
        given: String,
        /// The address that was probably meant.
        meant: String,
    },
    /// A bucket name or prefix that is not valid.
    #[error("{address:?} is not an address in S3")]
    S3 {
        /// The whole text.
        address: String,
        /// What is wrong with it.
        #[source]
        source: ParseKeyError,
    },
    /// The key has no folder `Manifests/`.
    #[error("{0:?} is not the address of a manifest: its key has no 'Manifests/'")]
    NotManifest(String),
}

impl StoreAddress {
    /// Parses an argument of a command line, which need not be UTF-8 if it is a directory.
    pub fn from_os(text: &OsStr) -> Result<Self, ParseAddressError> {
        text.to_str()
            .map_or_else(|| Ok(Self::Directory(PathBuf::from(text))), str::parse)
    }
}

impl FromStr for StoreAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        if text.is_empty() {
            return Err(ParseAddressError::Empty);
        }
        if let Some(rest) = text.strip_prefix(S3_SCHEME) {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            let wrong = |source| ParseAddressError::S3 {
                address: text.to_owned(),
                source,
            };
            return Ok(Self::S3 {
                bucket: bucket.parse().map_err(wrong)?,
                prefix: key.parse().map_err(wrong)?,
            });
        }
        refuse_nearly(text)?;
        if has_scheme(text) {
            return Err(ParseAddressError::Scheme(text.to_owned()));
        }
        Ok(Self::Directory(PathBuf::from(text)))
    }
}

/// Refuses a text that is almost an address in S3.
fn refuse_nearly(text: &str) -> Result<(), ParseAddressError> {
    match meant::meant(text) {
        None => Ok(()),
        Some(meant) => Err(ParseAddressError::Nearly {
            given: text.to_owned(),
            meant,
        }),
    }
}

/// Whether the text begins as `https://` does.
fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix } if prefix.as_str().is_empty() => {
                write!(f, "{S3_SCHEME}{bucket}")
            }
            Self::S3 { bucket, prefix } => write!(f, "{S3_SCHEME}{bucket}/{prefix}"),
        }
    }
}

/// As text. Fails for a directory whose name is not UTF-8.
impl Serialize for StoreAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Directory(path) => path.serialize(serializer),
            Self::S3 { .. } => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for StoreAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A manifest in a store in S3: `s3://bucket/prefix/Manifests/key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ManifestAddress {
    /// The store.
    pub store: StoreAddress,
    /// The manifest's key in it.
    pub key: ManifestKey,
}

impl ManifestAddress {
    /// Whether a text means a manifest in S3 and not a file. Fails if it is almost an address in S3: the
    /// name of such a file needs `./` before it.
    pub fn is_s3(text: &str) -> Result<bool, ParseAddressError> {
        refuse_nearly(text)?;
        Ok(text.starts_with(S3_SCHEME))
    }
}

impl FromStr for ManifestAddress {
    type Err = ParseAddressError;

    /// Takes `s3://` addresses. Of several folders `Manifests` the last one is the store's: people
    /// may choose a prefix with such a folder in it, but programs make the keys of manifests, and
    /// never put one into them.
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        const FOLDER: &str = "/Manifests/";
        if !Self::is_s3(text)? {
            return Err(ParseAddressError::Scheme(text.to_owned()));
        }
        let (store, key) = text
            .rsplit_once(FOLDER)
            .ok_or_else(|| ParseAddressError::NotManifest(text.to_owned()))?;
        let wrong = |source| ParseAddressError::S3 {
            address: text.to_owned(),
            source,
        };
        let address = Self {
            store: store.parse()?,
            key: key.parse().map_err(wrong)?,
        };
        // A store at the top of a bucket has no slash before its folders: no store has such a key.
        if address.to_string() != text {
            return Err(wrong(ParseKeyError::EmptyComponent(text.to_owned())));
        }
        Ok(address)
    }
}

impl fmt::Display for ManifestAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.store {
            StoreAddress::Directory(path) => path.join(self.key.object_key()).display().fmt(f),
            store @ StoreAddress::S3 { .. } => write!(f, "{store}/{}", self.key.object_key()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for text in [
            "s3://bucket",
            "s3://bucket/a",
            "s3://bucket/a/b c",
            "s3://bucket/a/",
            "s3://bucket//a//b///",
            "s3://bucket//",
            "/dir",
            "dir/s3",
        ] {
            assert_eq!(text.parse::<StoreAddress>().unwrap().to_string(), text);
        }
        // A slash with nothing after it is no prefix.
        assert_eq!(
            "s3://bucket/".parse::<StoreAddress>().unwrap().to_string(),
            "s3://bucket"
        );
    }

    #[test]
    fn what_is_neither_a_directory_nor_a_bucket_is_refused() {
        for text in [
            "",
            "s3://",
            "s3:///a",
            "s3://buck et",
            "s3://bucket/../a",
            "s3://bucket/a/./b",
            "s3:/bucket/a",
            "S3://bucket",
        ] {
            text.parse::<StoreAddress>().unwrap_err();
        }
        assert_eq!(
            "https://bucket/a".parse::<StoreAddress>(),
            Err(ParseAddressError::Scheme("https://bucket/a".to_owned()))
        );
    }

    #[test]
    fn a_directory_need_not_be_text() {
        use std::os::unix::ffi::OsStrExt as _;
        let name = OsStr::from_bytes(b"/a/\xff");
        assert_eq!(
            StoreAddress::from_os(name),
            Ok(StoreAddress::Directory(PathBuf::from(name)))
        );
    }

    #[test]
    fn every_prefix_that_a_service_allows_comes_back_as_it_was() {
        let mut random = fastrand::Rng::with_seed(24);
        let alphabet: Vec<char> = "ab/-_0Z//".chars().collect();
        for _ in 0..5000 {
            let len = random.usize(1..12);
            let prefix: String = (0..len)
                .map(|_| alphabet[random.usize(0..alphabet.len())])
                .collect();
            let text = format!("s3://bucket/{prefix}");
            let store: StoreAddress = text.parse().unwrap();
            assert_eq!(store.to_string(), text);
            let StoreAddress::S3 { prefix: parsed, .. } = &store else {
                panic!("{text}");
            };
            // As AWS's clients join them.
            assert_eq!(parsed.join("Data/x"), [&prefix, "Data", "x"].join("/"));
            let manifest = format!("{text}/Manifests/farm/x");
            let address: ManifestAddress = manifest.parse().unwrap();
            assert_eq!(address.store, store, "{manifest}");
            assert_eq!(address.to_string(), manifest);
        }
    }

    #[test]
    fn a_manifest_where_no_store_has_one_is_refused() {
        "s3://bucket//Manifests/x"
            .parse::<ManifestAddress>()
            .unwrap_err();
        "s3:/bucket/Manifests/x"
            .parse::<ManifestAddress>()
            .unwrap_err();
    }

    #[test]
    fn a_manifests_address_names_the_store_and_the_key() {
        let text = "s3://bucket/a/b/Manifests/farm/x_input";
        let address: ManifestAddress = text.parse().unwrap();
        assert_eq!(address.store.to_string(), "s3://bucket/a/b");
        assert_eq!(address.key.as_str(), "farm/x_input");
        assert_eq!(address.to_string(), text);
        let at_the_top: ManifestAddress = "s3://bucket/Manifests/x".parse().unwrap();
        assert_eq!(at_the_top.to_string(), "s3://bucket/Manifests/x");
        assert_eq!(
            "s3://bucket/a/x".parse::<ManifestAddress>(),
            Err(ParseAddressError::NotManifest("s3://bucket/a/x".to_owned()))
        );
    }
}
