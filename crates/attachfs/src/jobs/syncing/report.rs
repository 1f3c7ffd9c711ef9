//! What a run did. Fields that `deadline queue sync-output` reports have its names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use attachfs_jobs::JobId;
use attachfs_transfer::{Copied, Failed, Remark, Summary, TransferError};
use serde::Serialize;

use crate::download::as_text;
use crate::jobs::fetching::UnmappedRoot;

/// What a run did, or would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SyncReport {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The file that notes what was fetched.
    #[serde(serialize_with = "as_text")]
    pub checkpoint: PathBuf,
    /// Manifests in the store of what was asked for.
    pub listed_manifests: u64,
    /// Manifests that were read.
    pub read_manifests: u64,
    /// Session actions whose outputs are placed now and were not before.
    pub downloaded_session_actions: u64,
    /// Files that were fetched; in a dry run those that would be looked at.
    pub downloaded_files: u64,
    /// Their bytes.
    pub downloaded_bytes: u64,
    /// Files that were in place already.
    pub skipped_files: u64,
    /// Their bytes.
    pub skipped_bytes: u64,
    /// Jobs with files that have no place here.
    pub unmapped_paths: u64,
    /// Jobs that had something new.
    pub jobs_with_downloads: JobsWith,
    /// Jobs that had nothing.
    pub jobs_without_downloads: JobsWithout,
    /// Manifests that AWS's client had fetched, of the checkpoint that was read.
    pub imported_manifests: u64,
    /// Manifests that were written before the time from which on outputs are fetched.
    pub earlier_manifests: u64,
    /// Manifests that failed five times and are not tried any more.
    pub given_up_manifests: u64,
    /// Which these are, and why each failed at last.
    pub given_up: Vec<GivenUpManifest>,
    /// The option that tries them again, if there are any.
    pub retry_with: Option<&'static str>,
    /// Keys in the folders of jobs that are none of an output.
    pub foreign_keys: u64,
    /// The jobs with something new, unmapped or failed.
    pub jobs: BTreeMap<JobId, SyncedJob>,
    /// Files that were placed under another name, in whole paths.
    pub copied: Vec<Copied>,
    /// Files that were left since something else is in their place, in whole paths.
    pub left: Vec<Remark>,
}

/// A manifest that is not tried any more.
#[derive(Debug, Clone, Serialize)]
pub struct GivenUpManifest {
    /// Whose it is.
    pub job: JobId,
    /// What people call the job, if that is known.
    pub name: Option<String>,
    /// Its key.
    pub key: String,
    /// Why it failed at last.
    pub error: String,
}

/// Jobs that had something new.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct JobsWith {
    /// Jobs of which nothing was fetched before.
    pub added: u64,
    /// Jobs of which something was.
    pub updated: u64,
}

/// Jobs that had nothing new to be fetched.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct JobsWithout {
    /// Their documents have no storage profile, and only profiles say where files go.
    pub missing_storage_profile: u64,
    /// Everything was fetched before.
    pub unchanged: u64,
}

/// What became of a job.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SyncedJob {
    /// What people call it, if that is known.
    pub name: Option<String>,
    /// Its new files, without those that later outputs replace.
    pub total_files: u64,
    /// Their bytes.
    pub total_bytes: u64,
    /// Where they go, root by root.
    pub roots: Vec<SyncedRoot>,
    /// What has no place here, root by root.
    pub unmapped: Vec<UnmappedRoot>,
    /// Manifests and files that failed.
    pub errors: Vec<Failed>,
    /// How often the job has failed, this run with it; 0 if it did not.
    pub tries: u32,
    /// Whether something of it is given up from now on.
    pub given_up: bool,
}

/// Files below one root of a job.
#[derive(Debug, Clone, Serialize)]
pub struct SyncedRoot {
    /// As the job has it.
    pub root: String,
    /// Where it is here.
    #[serde(serialize_with = "as_text")]
    pub folder: PathBuf,
    /// How many files go there.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl SyncReport {
    pub(crate) fn give_up(&mut self, given_up: GivenUpManifest) {
        self.given_up_manifests += 1;
        self.given_up.push(given_up);
        self.retry_with = Some("--retry-failed");
    }

    /// Whether something failed, now or so often that it is given up.
    pub fn has_failed(&self) -> bool {
        !self.given_up.is_empty() || self.jobs.values().any(|job| !job.errors.is_empty())
    }

    /// Whether files have no place here.
    pub fn has_unmapped(&self) -> bool {
        self.unmapped_paths > 0
    }
}

impl SyncedJob {
    pub(crate) fn add_files(
        &mut self,
        root: &str,
        folder: &std::path::Path,
        files: u64,
        bytes: u64,
    ) {
        self.total_files += files;
        self.total_bytes += bytes;
        let same = |of: &&mut SyncedRoot| of.root == root && of.folder == folder;
        match self.roots.iter_mut().find(same) {
            Some(of) => {
                of.files += files;
                of.bytes += bytes;
            }
            None => self.roots.push(SyncedRoot {
                root: root.to_owned(),
                folder: folder.to_owned(),
                files,
                bytes,
            }),
        }
    }

    pub(crate) fn add_unmapped(&mut self, root: &str, files: u64, bytes: u64) {
        match self.unmapped.iter_mut().find(|of| of.root == root) {
            Some(of) => {
                of.files += files;
                of.bytes += bytes;
            }
            None => self.unmapped.push(UnmappedRoot {
                root: root.to_owned(),
                files,
                bytes,
            }),
        }
    }

    pub(crate) fn fail(&mut self, path: String, error: String) {
        self.errors.push(Failed { path, error });
    }
}

/// Counts what a download did.
pub(crate) fn count(report: &mut SyncReport, summary: &Summary) {
    report.downloaded_files += summary.processed.count;
    report.downloaded_bytes += summary.processed.bytes;
    report.skipped_files += summary.skipped.count;
    report.skipped_bytes += summary.skipped.bytes;
}

/// A run that stopped on its way: the cause of the [`Error`](crate::Error). What it had placed is noted, and the same call goes on.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
#[non_exhaustive]
pub struct StoppedSync {
    /// What was done until then.
    pub report: Box<SyncReport>,
    /// Why.
    pub source: TransferError,
}
