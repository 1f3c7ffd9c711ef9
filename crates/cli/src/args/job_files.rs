//! Which files of a job are meant: options of verbs that take a manifest or a job.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::jobs::JobOptions;

/// Options of a job in the place of a manifest.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which job")]
pub(crate) struct JobFileOptions {
    #[command(flatten)]
    pub(crate) which: JobOptions,
    /// Only this root of the job: as the job has it, or the name of its folder.
    #[arg(long, value_name = "ROOT")]
    pub(crate) asset_root: Option<String>,
    /// What makes a run of a task the latest.
    #[arg(long, value_enum, default_value = "modified")]
    pub(crate) latest_by: Latest,
    /// The inputs of the job, which --job-json names, instead of its outputs.
    #[arg(long, requires = "job_json")]
    pub(crate) inputs: bool,
    /// What `aws deadline list-step-dependencies` prints: the outputs of these steps are inputs too.
    #[arg(long, value_name = "FILE", requires = "inputs")]
    pub(crate) step_dependencies_json: Option<PathBuf>,
}

/// What makes a run the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Latest {
    /// When its manifests were written, by the store's clock.
    Modified,
    /// The name of its folder, which has the worker's clock: as AWS's library.
    Name,
}
