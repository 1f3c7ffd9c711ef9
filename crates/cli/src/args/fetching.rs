//! The arguments of `download` for a job.

use clap::Args as ClapArgs;

use super::job_files::OfJob;
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
