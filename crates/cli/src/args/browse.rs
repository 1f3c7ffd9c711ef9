//! `browse`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::cache::CacheBounds;
use super::job_files::LatestRun;
use super::jobs::JobOptions;
use super::reading::ReadBounds;

/// Mount the outputs of a job, or of all jobs of a queue, as folders.
///
/// `latest/` has what the latest run of each task made, `by-step/STEP/TASK/` the same task by task, `by-time/` each run by itself, and
/// `inputs/` what the job was given (with --job-json); below each of them is a folder for each root. Of several jobs each has a folder
/// with its id. Read-only; a folder is listed when somebody looks into it, and new outputs appear by themselves. Only what is read
/// is fetched. Returns when the mount answers; a process stays in the background until `attachfs umount`. `list` and `status` show it.
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "attachfs browse [OPTIONS] [deadline://FARM/QUEUE[/JOB[/STEP[/TASK]]]] <MOUNTPOINT>",
    after_help = "Examples:
  attachfs browse --store s3://bucket/DeadlineCloud deadline://farm-…/queue-…/job-… /mnt/job
  attachfs browse --queue-json queue.json --job-json job.json /mnt/job
  attachfs browse --queue-json queue.json /mnt/queue    (a folder for each job)"
)]
pub(crate) struct Browse {
    /// An address, if the job or queue is not named by options, and the mount point last.
    #[arg(required = true, num_args = 1..=2, value_name = "ADDRESS MOUNTPOINT")]
    pub(crate) paths: Vec<OsString>,
    #[command(flatten)]
    pub(crate) jobs: JobOptions,
    /// The store of the queue: a directory or s3://bucket/prefix. Default: what --queue-json says.
    #[arg(long, value_name = "STORE", help_heading = "Which job")]
    pub(crate) store: Option<String>,
    /// Show the jobs of a list, `-` for standard input: addresses, one a line, or a JSON list of addresses or of objects that
    /// have an `address`.
    #[arg(long, value_name = "FILE", help_heading = "Which job", conflicts_with_all = ["job", "step", "task", "job_json", "task_json"])]
    pub(crate) jobs_from: Option<PathBuf>,
    /// How many seconds new outputs may stay unseen, beside the time that a listing takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=3600), help_heading = "What is shown")]
    pub(crate) refresh: u64,
    /// Which run of a task is the latest: the one that was written last, or the one with the last name, as AWS's client has it.
    #[arg(
        long,
        value_enum,
        value_name = "RULE",
        default_value = "modified",
        help_heading = "What is shown"
    )]
    pub(crate) latest_by: LatestRun,
    /// The storage profile of the machine that submitted, as `aws deadline get-storage-profile` prints it. With
    /// --local-storage-profile-json a root has the name of its place here.
    #[arg(
        long,
        value_name = "FILE",
        requires = "local_storage_profile_json",
        help_heading = "What is shown"
    )]
    pub(crate) storage_profile_json: Option<PathBuf>,
    /// The storage profile of this machine.
    #[arg(
        long,
        value_name = "FILE",
        requires = "storage_profile_json",
        help_heading = "What is shown"
    )]
    pub(crate) local_storage_profile_json: Option<PathBuf>,
    /// Path mapping rules (a pathmapping-1.0 document or a bare list) that say where roots are on this machine.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "storage_profile_json",
        help_heading = "What is shown"
    )]
    pub(crate) path_mapping_rules: Option<PathBuf>,
    /// Let other users use the mount.
    #[arg(long, help_heading = "What is shown")]
    pub(crate) allow_other: bool,
    /// Keep fetched objects here. Default: $XDG_CACHE_HOME/attachfs.
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cache_bounds: CacheBounds,
    #[command(flatten)]
    pub(crate) reading: ReadBounds,
    /// Stay in the foreground; Ctrl-C unmounts.
    #[arg(short, long)]
    pub(crate) foreground: bool,
    /// Where the log goes: a file, `journald`, or by default the session's own `log`. In the foreground by default to
    /// standard error.
    #[arg(long, value_name = "FILE|journald")]
    pub(crate) log: Option<PathBuf>,
    /// How the background process is started. Not for people.
    #[arg(long, hide = true)]
    pub(crate) daemon: bool,
}
