//! `attachfs manifest upload` and `download`, as typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use super::job_files::LatestRun;
use super::jobs::JobOptions;

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

/// Get a manifest out of a store, and show its metadata; or those of a job, put together root by root.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs manifest download mine/out.manifest --store s3://bucket/DeadlineCloud -o out.manifest
  attachfs manifest download deadline://FARM/QUEUE/JOB --store s3://bucket/DeadlineCloud --output-dir . --asset-type output
  attachfs manifest download --queue-json queue.json --job-json job.json --output-dir .     (inputs, and outputs over them)")]
pub(crate) struct Download {
    /// The manifest: its key below `Manifests/`, or s3://bucket/prefix/Manifests/key. Or the address of a job,
    /// deadline://FARM/QUEUE/JOB[/STEP[/TASK]].
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// The store: a directory or s3://bucket/prefix. Default: that of the address.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// Write the manifest here; `-` is standard output.
    #[arg(
        short,
        long,
        value_name = "FILE",
        required_unless_present = "output_dir",
        conflicts_with = "output_dir"
    )]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) job: JobOptions,
    #[command(flatten)]
    pub(crate) of_job: OfJobManifests,
}

/// Which manifests of a job, and where they go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of a job")]
pub(crate) struct OfJobManifests {
    /// Write a manifest for each root of the job into this directory, under the names that `deadline manifest download` gives
    /// them, in the format 2023-03-03.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    /// Inputs need --job-json. With `all`, outputs lie over them.
    #[arg(long, value_enum, default_value = "all", requires = "output_dir")]
    pub(crate) asset_type: AssetType,
    /// What `aws deadline list-step-dependencies` prints: the outputs of these steps are inputs of the step, too.
    #[arg(long, value_name = "FILE", requires = "output_dir")]
    pub(crate) step_dependencies_json: Option<PathBuf>,
    /// Which run of a task is its latest.
    #[arg(long, value_enum, default_value = "modified", requires = "output_dir")]
    pub(crate) latest_by: LatestRun,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AssetType {
    /// What the job was given.
    Input,
    /// What its tasks wrote.
    Output,
    /// Both.
    All,
}
