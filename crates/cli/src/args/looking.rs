//! `ls`, `cat` and `inspect`, as typed.

use std::ffi::OsString;

use clap::Args;

use super::job_files::JobFileOptions;
use super::showing::Showing;

/// List the files of a manifest or of a job.
///
/// A job with several roots has a folder for each, named as `browse` names it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs ls scene.manifest textures
  attachfs ls -R deadline://farm-0…/queue-0…/job-0… --store s3://bucket/DeadlineCloud
  attachfs ls --queue-json queue.json --job job-0… film/frames")]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) named: Named,
    #[command(flatten)]
    pub(crate) shown: Showing,
    /// Sizes, times and hashes too.
    #[arg(short)]
    pub(crate) long: bool,
    /// Everything below.
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// The store of a job: a directory or s3://bucket/prefix. Default: that of the queue in --queue-json.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) of_job: JobFileOptions,
}

/// Print a file of a manifest or of a job.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    #[command(flatten)]
    pub(crate) named: Named,
    #[command(flatten)]
    pub(crate) shown: Showing,
    /// Where the objects are. Default: the store of an s3:// manifest, or of the queue in --queue-json, else your own store on this
    /// machine.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) of_job: JobFileOptions,
}

/// Describe a manifest or the files of a job.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A file, an s3:// address, `-`, or a job: deadline://FARM/QUEUE/JOB[/STEP[/TASK]]. Left out if options name a job.
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: Option<OsString>,
    /// The store of a job: a directory or s3://bucket/prefix. Default: that of the queue in --queue-json.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) of_job: JobFileOptions,
}

/// A manifest or a job, and a path in it. If options name a job, the first is left out.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// A file, an s3:// address, `-`, or a job: deadline://FARM/QUEUE/JOB[/STEP[/TASK]]. Left out if options name a job.
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: Option<OsString>,
    /// A path in it. `ls` lists the root without one.
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<OsString>,
}
