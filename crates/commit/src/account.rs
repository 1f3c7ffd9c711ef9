//! The numbers of a commit, for people and programs.

use std::collections::HashSet;

use attachfs_manifest::{ManifestPath, Node};
use serde::{Deserialize, Serialize};

use crate::generations::NodeChange;

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
    /// Changed paths that the patterns do not choose; they stay in the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_chosen: Vec<String>,
    /// Output directories that do not exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_dirs: Vec<String>,
    /// Deleted paths and empty directories that the format of what is handed over cannot say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
    /// Files without bytes among those that were added or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<String>,
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
    /// Links that lead out of the mount and were replaced by what they show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collapsed: Vec<String>,
    /// Paths that no manifest can hold, because they are too long: of each directory the first. A commit stops because of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub too_long: Vec<String>,
}

impl Account {
    /// Whether a change is missing in the manifest.
    pub fn is_partial(&self) -> bool {
        self.left() > 0
    }

    /// How many changes are missing in the manifest.
    pub fn left(&self) -> usize {
        let Self {
            left_out,
            not_chosen,
            open,
            links,
            too_long,
            ..
        } = self;
        let lists = [left_out, not_chosen, open, links, too_long];
        lists.map(Vec::len).iter().sum()
    }

    pub(crate) fn count(&mut self, change: &NodeChange) {
        match (&change.before, &change.after) {
            (_, None) => self.deleted += 1,
            (None, Some(_)) => self.added += 1,
            (Some(_), Some(_)) => self.changed += 1,
        }
        if let Some(Node::File(file)) = &change.after {
            self.bytes = self.bytes.saturating_add(file.size);
            if file.size == 0 {
                self.empty.push(Self::name(&change.path));
            }
        }
    }

    /// Notes what 2023-03-03 has no place for: deletions, and directories in which nothing is put.
    pub(crate) fn name_dropped(&mut self, changes: &[NodeChange]) {
        let put = changes.iter().filter(|change| change.after.is_some());
        let used: HashSet<ManifestPath> = put.flat_map(|change| change.path.ancestors()).collect();
        let is_dropped = |change: &&NodeChange| match &change.after {
            None => true,
            Some(Node::Dir) => !used.contains(&change.path),
            Some(Node::File(_) | Node::Symlink(_)) => false,
        };
        let dropped = changes.iter().filter(is_dropped);
        self.dropped = dropped.map(|change| Self::name(&change.path)).collect();
    }

    /// Notes that a change is not taken: because the patterns do not choose it, or because it is no output.
    pub(crate) fn leave_out(&mut self, name: String, is_output: bool) {
        if is_output {
            self.not_chosen.push(name);
        } else {
            self.left_out.push(name);
        }
    }

    pub(crate) fn name(path: &ManifestPath) -> String {
        path.to_string()
    }
}
