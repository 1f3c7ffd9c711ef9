//! The arguments of `download` for a job.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use super::jobs::JobOptions;
use super::placing::PlacingArgs;

/// What of a job is fetched, and where to.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Fetching {
    #[command(flatten)]
    pub(crate) job: JobOptions,
    #[command(flatten)]
    pub(crate) of_job: OfJob,
    #[command(flatten)]
    pub(crate) placing: PlacingArgs,
    /// Ask nothing: place files where the job has them, too.
    #[arg(short, long, help_heading = "Where files go")]
    pub(crate) yes: bool,
    /// Only say which files of the job would go where, and what is there.
    #[arg(short = 'n', long, help_heading = "Where files go")]
    pub(crate) dry_run: bool,
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
