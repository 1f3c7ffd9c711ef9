//! `attachfs manifest upload` and `download`, as typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

/// Put a manifest into a store.
///
/// The store is asked first whether it has the manifest's objects. What has the key already stays. The key
/// is given, or made of the ids of a job's output.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("place").required(true).args(["key", "farm"])),
    after_help = "Examples:
  attachfs manifest upload out.manifest --store s3://bucket/DeadlineCloud --key mine/out.manifest
  attachfs manifest upload out.manifest --store s3://bucket/DeadlineCloud --asset-root /proj \\
      --farm farm-0… --queue queue-0… --job job-0… --step step-0… --task task-0…-0 \\
      --session-action sessionaction-0…-1 --time 2025-01-31T12:00:00.000000Z"
)]
pub(crate) struct Upload {
    /// The manifest: a file, an s3:// address, or `-`.
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: OsString,
    /// The store: a directory or s3://bucket/prefix.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: String,
    /// Its key below `Manifests/`.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<attachfs::ManifestKey>,
    #[command(flatten)]
    pub(crate) output: OutputOf,
    /// The root that the manifest's paths are below, as the job has it.
    #[arg(long, value_name = "PATH")]
    pub(crate) asset_root: Option<String>,
    /// The file-system location that the root is in.
    #[arg(long, value_name = "NAME", requires = "asset_root")]
    pub(crate) file_system_location: Option<String>,
    /// Do not ask the store for the manifest's objects.
    #[arg(long)]
    pub(crate) unchecked: bool,
}

/// Whose output a manifest is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output of a job")]
pub(crate) struct OutputOf {
    /// The farm. With the options below, the key is that of a job's output.
    #[arg(
        long,
        value_name = "ID",
        requires_all = ["queue", "job", "step", "session_action", "time", "asset_root"]
    )]
    pub(crate) farm: Option<attachfs::FarmId>,
    /// The queue.
    #[arg(long, value_name = "ID", requires = "farm")]
    pub(crate) queue: Option<attachfs::QueueId>,
    /// The job.
    #[arg(long, value_name = "ID", requires = "farm")]
    pub(crate) job: Option<attachfs::JobId>,
    /// The step.
    #[arg(long, value_name = "ID", requires = "farm")]
    pub(crate) step: Option<attachfs::StepId>,
    /// The task. None if the session action ran several tasks.
    #[arg(long, value_name = "ID", requires = "farm")]
    pub(crate) task: Option<attachfs::TaskId>,
    /// The session action.
    #[arg(long, value_name = "ID", requires = "farm")]
    pub(crate) session_action: Option<attachfs::SessionActionId>,
    /// When the session action began, as 2025-01-31T12:00:00.000000Z.
    #[arg(long, value_name = "TIME", requires = "farm")]
    pub(crate) time: Option<attachfs::ActionTime>,
}

/// Get a manifest out of a store, and show its metadata.
#[derive(Debug, Args)]
pub(crate) struct Download {
    /// The manifest: its key below `Manifests/`, or s3://bucket/prefix/Manifests/key.
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// The store: a directory or s3://bucket/prefix. Default: that of the address.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// Write the manifest here; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}
