//! How a person asks for commits, previews and the end of a mount: what travels to the process of a mount, and what the same verbs take
//! without one.

use std::time::Duration;

use attachfs_commit::{CommitOptions, HandedFormat, Links, Patterns};
use attachfs_manifest::ParseHashError;
use attachfs_session::SessionMeta;
use attachfs_store::ManifestKey;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::manifests::parse_path;

/// How a person asks for a commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommitArguments {
    /// How long to wait for files that are open for writing, in milliseconds.
    pub wait_ms: u64,
    /// Leave out files that are open for writing.
    pub skip_open: bool,
    /// Publish files that were open for writing when an earlier process of the session died.
    pub accept_open: bool,
    /// Publish although programs read bytes of wrong objects.
    pub accept_tainted: bool,
    /// What becomes of symbolic links that lead out of the mount.
    pub links: OutgoingLinks,
    /// Commit changes outside of the session's output directories too.
    pub everything: bool,
    /// Commit only what these patterns choose.
    pub chosen: ChosenPaths,
    /// Put the manifest into the store under this key, too.
    pub publish: Option<ManifestKey>,
    /// What is put there, and handed over, is a manifest of 2023-03-03 with the new and changed files, instead of the session's diff.
    pub files_only: bool,
    /// Stop before anything is sent unless this is the hash of what the diff goes over.
    pub expect_parent: Option<String>,
    /// Only finish a commit that was interrupted.
    pub only_resume: bool,
}

/// What becomes of symbolic links that lead out of the mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutgoingLinks {
    /// They stop the commit, which lists them.
    #[default]
    Stop,
    /// They are left out.
    Skip,
    /// They are put as they are, if a manifest can hold that.
    Keep,
    /// What they show is put, as the user who commits sees it.
    Collapse,
}

/// Patterns that choose paths, in the language of `manifest filter`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChosenPaths {
    /// Of the paths to take. Everything if there are none, names with a dot at their beginning too.
    pub include: Vec<String>,
    /// Of the paths to take out of those.
    pub exclude: Vec<String>,
}

impl ChosenPaths {
    /// Fails if a pattern cannot be used.
    pub(crate) fn patterns(&self) -> Result<Patterns, Error> {
        Ok(Patterns::new(&self.include, &self.exclude)?)
    }
}

/// How a person asks what a commit would publish.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiffArguments {
    /// Read and hash the written files, so that those with the same bytes as before are left out.
    pub hash: bool,
    /// Only what these patterns choose.
    pub chosen: ChosenPaths,
}

/// What the process of a session is to show, without doing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Show {
    /// What this commit would do.
    Commit { as_commit: CommitArguments },
    /// The changes.
    Diff(DiffArguments),
}

impl Default for Show {
    fn default() -> Self {
        Self::Diff(DiffArguments::default())
    }
}

/// How a person asks for the end of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnmountArguments {
    /// Commit, also if it was not mounted so.
    pub commit: Option<CommitArguments>,
    /// Leave the session where it is, also if all of it is committed.
    pub keep: bool,
    /// Detach the mount although somebody uses it. It ends, and is committed, when the last who does is done.
    pub lazy: bool,
}

/// The kernel says that a file was closed a moment after close(2) returned: a commit right after that must not be told
/// that the file is open.
const GRACE: Duration = Duration::from_millis(500);

impl CommitArguments {
    pub(crate) fn options(&self, meta: &SessionMeta) -> Result<CommitOptions, Error> {
        let mut output_dirs = Vec::new();
        if !self.everything {
            for dir in &meta.output_dirs {
                output_dirs.extend(parse_path(dir)?);
            }
            if output_dirs.len() < meta.output_dirs.len() {
                // One of them is the root.
                output_dirs.clear();
            }
        }
        Ok(CommitOptions {
            wait: Duration::from_millis(self.wait_ms).max(GRACE),
            skip_open: self.skip_open,
            accept_open: self.accept_open,
            accept_tainted: self.accept_tainted,
            links: match self.links {
                OutgoingLinks::Stop => Links::Stop,
                OutgoingLinks::Skip => Links::Skip,
                OutgoingLinks::Keep => Links::Keep,
                OutgoingLinks::Collapse => Links::Collapse,
            },
            skip_long: false,
            output_dirs,
            patterns: self.chosen.patterns()?,
            mount_point: Some(meta.mount_point.clone()),
            publish_as: self.publish.clone(),
            format: self.format(),
            expect_parent: match &self.expect_parent {
                None => None,
                Some(text) => Some(text.parse().map_err(|error: ParseHashError| {
                    Error::usage(format!("\"{text}\" is no hash of a manifest")).because(error)
                })?),
            },
            only_resume: self.only_resume,
        })
    }

    /// The format of the manifest that is handed over.
    pub(crate) fn format(&self) -> HandedFormat {
        if self.files_only {
            HandedFormat::Files
        } else {
            HandedFormat::Diff
        }
    }

    /// Whether changes may be left that the account of a commit does not tell.
    pub(crate) fn may_leave_more(&self) -> bool {
        self.only_resume || self.expect_parent.is_some()
    }
}
