//! Listing what a store holds: in pages, in the order of keys, from any key on.
//!
//! A page is what one request gives, so the store chooses its length. Keys are in the order of their bytes, as
//! in S3. Names that this program would not give are listed as [`ListedName::Foreign`]: searches for garbage
//! or damage need to know of them.

use std::time::SystemTime;

use attachfs_manifest::ContentHash;

use crate::key::{DATA_FOLDER, MANIFESTS_FOLDER, OBJECT_EXTENSION};
use crate::{KeyPrefix, ManifestKey};

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Folder {
    /// All objects.
    Data,
    /// The manifests below this folder of `Manifests/`; all of them below the empty one.
    Manifests(KeyPrefix),
}

impl Folder {
    /// The prefix of all keys in the folder, below the store's prefix.
    pub fn key_start(&self) -> String {
        match self {
            Self::Data => DATA_FOLDER.to_owned(),
            Self::Manifests(below) if below.as_str().is_empty() => MANIFESTS_FOLDER.to_owned(),
            Self::Manifests(below) => format!("{MANIFESTS_FOLDER}{below}/"),
        }
    }
}

/// One thing in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its full key, below the store's prefix.
    pub key: String,
    /// What the key says it is.
    pub name: ListedName,
    /// Its length in bytes.
    pub len: u64,
    /// When it was last written, by the store's clock, if the store tells.
    pub modified: Option<SystemTime>,
}

impl Listed {
    /// An entry whose name is read from its key.
    pub fn new(key: String, len: u64, modified: Option<SystemTime>) -> Self {
        Self {
            name: ListedName::of(&key),
            key,
            len,
            modified,
        }
    }
}

/// What a key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedName {
    /// An object.
    Object {
        /// The hash that is its name.
        hash: ContentHash,
        /// Whether it has the name that old clients gave, without the extension.
        old: bool,
    },
    /// A manifest.
    Manifest(ManifestKey),
    /// Something that this program did not name.
    Foreign,
}

impl ListedName {
    fn of(key: &str) -> Self {
        if let Some(name) = key.strip_prefix(DATA_FOLDER) {
            let plain = name.strip_suffix(OBJECT_EXTENSION);
            return match plain.unwrap_or(name).parse() {
                Ok(hash) => Self::Object {
                    hash,
                    old: plain.is_none(),
                },
                Err(_) => Self::Foreign,
            };
        }
        let manifest = key.strip_prefix(MANIFESTS_FOLDER);
        let manifest = manifest.and_then(|key| key.parse().ok());
        manifest.map_or(Self::Foreign, Self::Manifest)
    }
}

/// A part of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of keys. May be empty although there is more.
    pub entries: Vec<Listed>,
    /// What to ask for next: the keys after this one. `None` at the end.
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_is() {
        let hash = ContentHash::of(b"");
        let object = |old| ListedName::Object { hash, old };
        for (key, name) in [
            (format!("Data/{hash}.xxh128"), object(false)),
            (format!("Data/{hash}"), object(true)),
            (format!("Data/{hash}.md5"), ListedName::Foreign),
            (format!("Data/a/{hash}"), ListedName::Foreign),
            ("Data/".to_owned(), ListedName::Foreign),
            (
                "Manifests/a/b".to_owned(),
                ListedName::Manifest("a/b".parse().unwrap()),
            ),
            ("Manifests/a/".to_owned(), ListedName::Foreign),
            (format!("{hash}"), ListedName::Foreign),
        ] {
            assert_eq!(ListedName::of(&key), name, "{key}");
        }
    }
}
