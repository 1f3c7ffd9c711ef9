//! What a download did, and what became of each file.

use attachfs_manifest::{EscapedBytes, ManifestPath};

use super::failure::FileError;
use crate::error::TransferError;
use crate::summary::{Failed, Summary, error_chain};

/// Something that was left as it is, which is no failure.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Remark {
    /// Where, as text for people and JSON.
    pub path: String,
    /// Why.
    pub why: String,
}

impl Remark {
    fn new(path: &ManifestPath, why: &str) -> Self {
        Self {
            path: path.to_string(),
            why: why.to_owned(),
        }
    }
}

/// A file or link that was placed under another name, since something else has its own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    /// Where it should be, as text for people and JSON.
    pub path: String,
    /// Its name in the same directory.
    #[serde(rename = "as")]
    pub name: String,
}

impl Copied {
    pub(super) fn new(path: &ManifestPath, name: &[u8]) -> Self {
        Self {
            path: path.to_string(),
            name: EscapedBytes(name).to_string(),
        }
    }
}

/// Why a download stopped, and how far it came.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct DownloadStopped {
    /// What was done until then.
    pub report: Box<DownloadReport>,
    /// Why.
    #[source]
    pub source: TransferError,
}

/// What a download did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DownloadReport {
    /// Files, and links as files without bytes.
    pub summary: Summary,
    /// How many files, links and directories a diff deleted.
    pub deleted: u64,
    /// What a diff means to delete and is still there, and what was not placed since something else is in
    /// its place and [`Conflict::Skip`](crate::Conflict::Skip) leaves it there. In the order of paths.
    pub left: Vec<Remark>,
    /// What was placed under another name, in the order of paths.
    pub copied: Vec<Copied>,
}

/// What became of a file.
#[derive(Debug)]
pub(super) enum Outcome {
    Fetched,
    /// Fetched, under another name.
    Copied(Copied),
    /// Fetched, and it gets its name when something else is deleted.
    Waits,
    Skipped,
    /// Not fetched, since something else is in its place, or not all of it could be set.
    Left(Remark),
    Failed(Failed),
}

impl Outcome {
    pub(super) fn left(path: &ManifestPath, why: &str) -> Self {
        Self::Left(Remark::new(path, why))
    }

    pub(super) fn failed(path: &ManifestPath, error: &FileError) -> Self {
        Self::Failed(Failed {
            path: path.to_string(),
            error: error_chain(error),
        })
    }
}

impl DownloadReport {
    pub(super) fn fail(&mut self, path: &ManifestPath, error: String) {
        self.summary.errors.push(Failed {
            path: path.to_string(),
            error,
        });
    }

    pub(super) fn leave(&mut self, path: &ManifestPath, why: &str) {
        self.left.push(Remark::new(path, why));
    }

    /// Counts what became of a file of `size` bytes, of which an earlier run had fetched `resumed`.
    pub(super) fn add(&mut self, size: u64, resumed: u64, outcome: Outcome) {
        let summary = &mut self.summary;
        let mut is_placed = true;
        match outcome {
            Outcome::Fetched => {}
            Outcome::Copied(copy) => self.copied.push(copy),
            Outcome::Skipped => is_placed = false,
            Outcome::Left(remark) => {
                self.left.push(remark);
                is_placed = false;
            }
            Outcome::Failed(failed) => return summary.errors.push(failed),
            Outcome::Waits => return,
        }
        if is_placed {
            summary.processed.add(size - resumed);
            summary.skipped.bytes += resumed;
        } else {
            summary.skipped.add(size);
        }
    }

    /// Whether nothing failed until now.
    pub(super) fn is_whole(&self) -> bool {
        self.summary.errors.is_empty()
    }

    /// Puts every list in the order of paths.
    pub(super) fn sort(&mut self) {
        self.summary.errors.sort_by(|a, b| a.path.cmp(&b.path));
        self.left.sort_by(|a, b| a.path.cmp(&b.path));
        self.copied.sort_by(|a, b| a.path.cmp(&b.path));
    }
}
