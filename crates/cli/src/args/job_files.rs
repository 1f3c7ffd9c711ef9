//! Which files of a job are meant: options of verbs that take a job, or a manifest or a job.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use super::jobs::JobOptions;

/// Options of a job in the place of a manifest.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Which job")]
pub(crate) struct JobFileOptions {
    #[command(flatten)]
    pub(crate) job: JobOptions,
    #[command(flatten)]
    pub(crate) of_job: OfJob,
    /// Only this root of the job: as the job has it, or the name of its folder.
    #[arg(long, value_name = "ROOT")]
    pub(crate) asset_root: Option<String>,
}

/// Which files.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Which files of the job")]
pub(crate) struct OfJob {
    /// What the job was given, which --job-json names. Default: what its tasks wrote.
    #[arg(long)]
    pub(crate) inputs: bool,
    /// What `aws deadline list-step-dependencies` prints, `-` for standard input: the outputs of these steps are inputs of
    /// the step, too.
    #[arg(long, value_name = "FILE", requires = "inputs")]
    pub(crate) step_dependencies_json: Option<PathBuf>,
    /// Which run of a task is its latest.
    #[arg(long, value_enum, default_value = "modified")]
    pub(crate) latest_by: LatestRun,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LatestRun {
    /// The one that was written last, by the store's clock.
    Modified,
    /// The last by the worker's clock, which is in its name: as Deadline Cloud's client has it.
    Name,
}

impl From<LatestRun> for attachfs::LatestBy {
    fn from(latest: LatestRun) -> Self {
        match latest {
            LatestRun::Modified => Self::Modified,
            LatestRun::Name => Self::Name,
        }
    }
}
