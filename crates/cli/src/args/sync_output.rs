//! `attachfs sync-output`, as typed.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;

use super::download::OnConflict;
use super::jobs::JobOptions;
use super::manifest::Hashing;
use super::placing::PlacingArgs;
use super::since::parse_since;

/// Place the outputs of a queue or a job that are new since the last run.
///
/// The outputs of all session actions count; where several have a file, the one that was written last does. What was fetched is noted, so
/// the next run reads only what is new, and a run that was killed is gone on with. What fails is tried again by the next runs, five
/// times. Deadline Cloud is not asked: the keys in the store tell which outputs there are.
#[derive(Debug, Args)]
#[command(
    visible_alias = "queue-sync-output",
    after_help = "Examples:
  attachfs sync-output --queue-json queue.json --path-mapping-rules rules.json
  attachfs sync-output deadline://farm-0…/queue-0…/job-0… --store s3://bucket/DeadlineCloud --map-root 'Z:\\\\show=/mnt/show'
  attachfs sync-output --queue-json queue.json --jobs-json jobs.json --storage-profile-json windows.json \\
      --local-storage-profile-json here.json --conflict-resolution overwrite
  attachfs sync-output --queue-json queue.json --ignore-storage-profiles --since 2d --dry-run

The first run fetches everything unless --since says otherwise (`deadline queue sync-output` begins with what comes later). Files whose
root has no place here are listed and counted, and not placed: the program then exits with 16, or with 13 if something failed too.
What failed five times is passed over and named, with 13, until --retry-failed.
With --json one document, in which `downloaded_files`, `downloaded_bytes`, `downloaded_session_actions` and `unmapped_paths` (jobs with
such paths) are those of the deadline client. `jobs_with_downloads` and `jobs_without_downloads` have its names, but no `completed`,
`inactive` and `not_using_job_attachments`: keys in the store do not say that."
)]
pub(crate) struct SyncOutput {
    /// deadline://FARM/QUEUE[/JOB[/STEP[/TASK]]].
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    #[command(flatten)]
    pub(crate) which: JobOptions,
    /// What `aws deadline search-jobs`, `list-jobs` or `get-job` prints, `-` for standard input: names of jobs, and which storage
    /// profile each has. It is remembered. Without it all jobs are taken for those of the only --storage-profile-json.
    #[arg(long, value_name = "FILE", help_heading = "Which job")]
    pub(crate) jobs_json: Vec<PathBuf>,
    /// The store: a directory or s3://bucket/prefix. Default: that of the queue in --queue-json.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) placing: PlacingArgs,
    /// What to do with a file where something else is in its place; what an earlier run placed is something else, too. For renders that are to take the place of
    /// earlier ones it is `overwrite`.
    #[arg(
        long,
        value_enum,
        default_value = "create-copy",
        visible_alias = "conflict",
        help_heading = "Where files go"
    )]
    pub(crate) conflict_resolution: OnConflict,
    /// Note here what was fetched. Default: $XDG_STATE_HOME/attachfs/sync-output. A queue has a file for each storage profile of this
    /// machine, one for runs with --ignore-storage-profiles, and one for those with rules alone.
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint_dir: Option<PathBuf>,
    /// Leave what was written earlier, by the store's clock, but for the 120 s before: a date or time (2025-01-31,
    /// 2025-01-31T12:00:00Z), or an age (2d, 12h). It counts for the run that begins a checkpoint, and stays.
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub(crate) since: Option<SystemTime>,
    /// The same in minutes, as `deadline queue sync-output` has it.
    #[arg(long, value_name = "MINUTES", conflicts_with = "since")]
    pub(crate) bootstrap_lookback_minutes: Option<u32>,
    /// Forget what earlier runs noted. What is in place already is compared, and not fetched again.
    #[arg(long)]
    pub(crate) force_bootstrap: bool,
    /// Begin where `deadline queue sync-output` stopped: its checkpoint. What it fetched is left.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "bootstrap_lookback_minutes"])]
    pub(crate) import_checkpoint: Option<PathBuf>,
    /// Try again what failed five times.
    #[arg(long)]
    pub(crate) retry_failed: bool,
    /// Say what would be placed where, job by job, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) hashing: Hashing,
}
