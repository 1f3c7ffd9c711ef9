//! The numbers of a commit, for people and programs.

use attachfs_manifest::{ManifestPath, Node};
use serde::{Deserialize, Serialize};

/// Counts of a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Paths that were not there before.
    pub added: u64,
    /// Paths whose entry changed.
    pub changed: u64,
    /// Paths that are gone.
    pub deleted: u64,
    /// Bytes of files that were added or changed.
    pub bytes: u64,
    /// Objects sent to the store.
    pub uploaded_objects: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Objects that the store had already.
    pub present_objects: u64,
    /// Their bytes.
    pub present_bytes: u64,
    /// Changed paths outside of the output directories; they stay in the session.
    pub left_out: Vec<String>,
    /// Files left out because they were open for writing; they stay in the session.
    pub open: Vec<String>,
    /// Files that were published although they were open for writing when an earlier process of the
    /// session ended.
    #[serde(default)]
    pub accepted: Vec<String>,
    /// Links left out because they lead out of the mount.
    pub links: Vec<String>,
    /// FIFOs and sockets, which no manifest can hold. They are left out, and nothing is lost with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub special: Vec<String>,
    /// Paths that no manifest can hold, because they are too long: of each directory the first. A commit stops because of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub too_long: Vec<String>,
}

impl Account {
    /// Whether a change is missing in the manifest.
    pub fn is_partial(&self) -> bool {
        !(self.left_out.is_empty() && self.open.is_empty() && self.too_long.is_empty())
    }

    pub(crate) fn count(&mut self, before: Option<&Node>, after: Option<&Node>) {
        match (before, after) {
            (_, None) => self.deleted += 1,
            (None, Some(_)) => self.added += 1,
            (Some(_), Some(_)) => self.changed += 1,
        }
        if let Some(Node::File(file)) = after {
            self.bytes += file.size;
        }
    }

    pub(crate) fn name(path: &ManifestPath) -> String {
        path.to_string()
    }
}
