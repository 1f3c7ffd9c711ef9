//! The description of a session, written when it begins.

use std::path::PathBuf;

use attachfs_manifest::{ContentHash, ManifestPath};
use attachfs_store::S3Access;
use attachfs_tree::{LayerOptions, Timestamp};
use serde::{Deserialize, Serialize};

use super::id::SessionId;
use super::layout::FORMAT;

/// One of the manifests that are mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseManifest {
    /// Where it came from, for people.
    pub source: String,
    /// The hash of its bytes.
    #[serde(with = "hex")]
    pub hash: ContentHash,
    /// The directory it is placed in; the root if `None`.
    #[serde(default, with = "path_text")]
    pub at: Option<ManifestPath>,
}

/// How to reach the store. No credentials: the process that takes the session up has its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreSettings {
    /// A directory or `s3://bucket/prefix`.
    pub address: String,
    /// How to reach the store if it is in S3.
    #[serde(flatten)]
    pub s3: S3Access,
}

impl StoreSettings {
    /// These settings, where the given ones replace those that they name.
    #[must_use]
    pub fn with(&self, access: &S3Access) -> Self {
        Self {
            address: self.address.clone(),
            s3: access.over(&self.s3),
        }
    }
}

/// The description of a session, written when it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMeta {
    /// The version of the session's directory.
    pub format: u32,
    /// Its name.
    pub id: SessionId,
    /// The version of the program that made it.
    pub program: String,
    /// When it began; also the time of directories that nobody changed.
    pub created: Timestamp,
    /// Where it is mounted.
    #[serde(with = "crate::path_json")]
    pub mount_point: PathBuf,
    /// The uid of the user who mounted it.
    pub owner: u32,
    /// The manifests, the lowest first.
    pub manifests: Vec<BaseManifest>,
    /// The hash that the first diff names as its parent.
    #[serde(with = "hex")]
    pub parent: ContentHash,
    /// How the manifests are put together.
    pub layers: LayerOptions,
    /// Where chunks come from and go to.
    pub store: StoreSettings,
    /// Where scratch files are, if not in the session.
    #[serde(default, with = "crate::path_json::option")]
    pub scratch_dir: Option<PathBuf>,
    /// How many bytes scratch files may take on their disk, if that is bounded.
    #[serde(default)]
    pub max_scratch: Option<u64>,
    /// The directories whose changes are committed, relative to the root; all if empty.
    #[serde(default)]
    pub output_dirs: Vec<String>,
    /// Whether to commit when it is unmounted.
    #[serde(default)]
    pub commit_on_unmount: bool,
    /// Whether nobody can write to it. Then it has no journal, and goes with its mount.
    #[serde(default)]
    pub read_only: bool,
    /// Whether a name that is missing leads to one that differs only in case.
    #[serde(default)]
    pub case_insensitive: bool,
    /// Whether what the manifests have cannot be changed.
    #[serde(default)]
    pub protect_inputs: bool,
    /// The jobs whose outputs it shows, for people; `None` if it shows manifests. A session that shows jobs has no manifests, is read-only,
    /// and begins anew with each mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browses: Option<String>,
}

impl SessionMeta {
    /// The version to write in [`format`](Self::format).
    pub const FORMAT: u32 = FORMAT;
}

/// A hash as its digits.
pub(super) mod hex {
    use attachfs_manifest::ContentHash;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(in crate::session) fn serialize<S: Serializer>(
        hash: &ContentHash,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(hash)
    }

    pub(in crate::session) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<ContentHash, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Paths in JSON as lists of bytes would be unreadable, and as text would lose bytes: text where it
/// is UTF-8, which a directory that a person names always is.
mod path_text {
    use attachfs_manifest::ManifestPath;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _, ser};

    #[expect(clippy::ref_option, reason = "serde gives the field by reference")]
    pub(super) fn serialize<S: Serializer>(
        path: &Option<ManifestPath>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let text = path
            .as_ref()
            .map(|path| std::str::from_utf8(path.as_bytes()))
            .transpose();
        text.map_err(<S::Error as ser::Error>::custom)?
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<ManifestPath>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| ManifestPath::new(text.as_bytes()))
            .transpose()
            .map_err(D::Error::custom)
    }
}
