//! `attachfs jobs`, as typed.

use std::time::SystemTime;

use attachfs::JobsAddress;
use clap::{Args, Subcommand};

use super::jobs::JobOptions;
use super::jobs_diff::JobsDiff;
use super::since::parse_since;

/// List the jobs that have outputs in a store: farms, queues, jobs, steps, tasks, runs and times.
///
/// It is what the keys of the manifests say; nothing else is asked. A job that has written nothing is not known, and keys of inputs
/// name no job: what was submitted is counted for its queue. Of a step or a task every run is listed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs jobs --store s3://bucket/DeadlineCloud                          (everything that the store knows)
  attachfs jobs --queue-json queue.json --since 2d                         (what the queue wrote in the last two days)
  attachfs jobs deadline://farm-0…/queue-0… --store s3://bucket/DeadlineCloud --limit 20
  attachfs jobs deadline://farm-0…/queue-0…/job-0… --queue-json queue.json --long    (files and bytes too)
  attachfs jobs deadline://farm-0…/queue-0…/job-0…/step-0… --queue-json queue.json   (each run of each task)

With --json one document: `store`, `address`, `entries`, and then `keys` (looked at), `next` (what to give to --after if
--limit left something out, else null), `foreign` and `first_foreign` (keys of something else), `unread` and `first_unread`
(manifests that --long cannot use). An entry has a `kind`: `inputs` of a queue, `job` with its `steps`, or `run` with its
`session_action`; an `address`; `tasks`, `runs`, `manifests`, `manifest_bytes`; when session actions began by the clocks of
workers (`first_began`, `last_began`) and when manifests were written by the store's clock (`first_written`, `last_written`),
in microseconds since 1970; with --long `files` and `bytes`, of what the latest run of each task wrote.")]
pub(crate) struct Jobs {
    #[command(subcommand)]
    pub(crate) verb: Option<JobsVerb>,
    /// deadline://[FARM[/QUEUE[/JOB[/STEP[/TASK]]]]]. Default: all.
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
    #[command(flatten)]
    pub(crate) which: JobOptions,
    /// The store: a directory or s3://bucket/prefix. Default: that of the queue in --queue-json.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// Only what was written since: a date or time (2025-01-31, 2025-01-31T12:00, 2025-01-31T12:00:00Z; local time if no zone
    /// is given), or an age (2d, 12h, 1h30m). By the store's clock, if it tells, else by the clocks of workers.
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub(crate) since: Option<SystemTime>,
    /// So many jobs at most; how to go on is said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Only what comes behind this job, queue or farm: a listing is taken up where --limit has cut it.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) after: Option<JobsAddress>,
    /// Read manifests, and count the files and bytes that the latest run of each task wrote.
    #[arg(short, long)]
    pub(crate) long: bool,
}

impl Jobs {
    /// Whether anything was typed that is for the listing only.
    pub(crate) fn is_for_listing(&self) -> bool {
        let Self {
            verb: _,
            address,
            which,
            store,
            since,
            limit,
            after,
            long,
        } = self;
        let texts = [address, store].into_iter().any(Option::is_some);
        let bounds = since.is_some() || limit.is_some() || after.is_some();
        texts || which.is_given() || bounds || *long
    }
}

/// What else there is to do with the jobs of a store.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsVerb {
    Diff(JobsDiff),
}
