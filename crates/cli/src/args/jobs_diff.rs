//! `attachfs jobs diff`, as typed.

use std::path::PathBuf;

use attachfs::JobAddress;
use clap::Args;

use super::job_files::LatestRun;

/// Compare the outputs of two jobs, or of parts of them: files that differ, and frames that are missing.
///
/// Files of roots with the same name are compared by size and hash; times do not count. Of numbered sequences
/// (beauty.1001.exr, f_0001.png) every frame is told that is missing between the first and the last, and in B every one
/// that A has. A sequence has at least two frames. The exit code is 0 also if there are differences.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs jobs diff deadline://farm-0…/queue-0…/job-0… deadline://farm-0…/queue-0…/job-1… --queue-json queue.json
  attachfs jobs diff deadline://…/job-0…/step-0… deadline://…/job-0…/step-0… --store s3://bucket/DeadlineCloud
                                                     (one step with itself: only frames that are missing)

A line begins with + if only B has the file, - if only A has it, ~ if it differs. Without -v there are 20 of a kind at most.

With --json one document: `a` and `b` (the addresses) and `roots`, each with `root` (as the jobs have it), `in` (`a`, `b` or `both`:
which of them have it), the paths `added` (only B has them), `changed` and `missing` (only A has them), how many files are the
`same`, and `sequences`: of each from which frames are missing its path as `sequence` (a `#` for each digit), its `padding`
in digits, and for `a` and `b` how many `frames` there are, their `span` (`first` and `last`, or null), how many are missing
(`missing_frames`), and which (`missing`: ranges with `first` and `last`).")]
pub(crate) struct JobsDiff {
    /// The first job: deadline://FARM/QUEUE/JOB[/STEP[/TASK]].
    #[arg(value_name = "A")]
    pub(crate) a: JobAddress,
    /// The second job, in the same store.
    #[arg(value_name = "B")]
    pub(crate) b: JobAddress,
    /// The store: a directory or s3://bucket/prefix. Default: that of the queue in --queue-json.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// What `aws deadline get-queue` prints of the queue of both jobs, `-` for standard input: names the store.
    #[arg(long, value_name = "FILE")]
    pub(crate) queue_json: Option<PathBuf>,
    /// Which run of a task is its latest.
    #[arg(long, value_enum, default_value = "modified")]
    pub(crate) latest_by: LatestRun,
}
