//! Which job is meant: options of all verbs that take one.

use std::path::PathBuf;

use attachfs::{FarmId, JobId, QueueId, SessionActionId, StepId, TaskId};
use clap::Args as ClapArgs;

/// Ids of a job, and documents that have them.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Which job")]
pub(crate) struct JobOptions {
    /// The farm. An address has the same ids: deadline://FARM/QUEUE/JOB[/STEP[/TASK]].
    #[arg(long, value_name = "ID", visible_alias = "farm-id")]
    pub(crate) farm: Option<FarmId>,
    /// The queue.
    #[arg(long, value_name = "ID", visible_alias = "queue-id")]
    pub(crate) queue: Option<QueueId>,
    /// The job.
    #[arg(long, value_name = "ID", visible_alias = "job-id")]
    pub(crate) job: Option<JobId>,
    /// Only this step of the job.
    #[arg(long, value_name = "ID", visible_alias = "step-id")]
    pub(crate) step: Option<StepId>,
    /// Only this task of the step.
    #[arg(long, value_name = "ID", visible_alias = "task-id")]
    pub(crate) task: Option<TaskId>,
    /// Only what this session action wrote. Default: the latest of each task.
    #[arg(long, value_name = "ID", visible_alias = "session-action-id")]
    pub(crate) session_action: Option<SessionActionId>,
    /// What `aws deadline get-queue` prints, `-` for standard input: names the farm, the queue and its store.
    #[arg(long, value_name = "FILE")]
    pub(crate) queue_json: Option<PathBuf>,
    /// What `aws deadline get-job` prints, `-` for standard input: names the job and its inputs.
    #[arg(long, value_name = "FILE")]
    pub(crate) job_json: Option<PathBuf>,
    /// What `aws deadline get-task` prints, `-` for standard input: names the task and its latest session action.
    #[arg(long, value_name = "FILE")]
    pub(crate) task_json: Option<PathBuf>,
}

impl JobOptions {
    /// Whether any of them was given.
    pub(crate) fn is_given(&self) -> bool {
        let Self {
            farm,
            queue,
            job,
            step,
            task,
            session_action,
            queue_json,
            job_json,
            task_json,
        } = self;
        farm.is_some()
            || queue.is_some()
            || job.is_some()
            || step.is_some()
            || task.is_some()
            || session_action.is_some()
            || [queue_json, job_json, task_json]
                .into_iter()
                .any(Option::is_some)
    }
}
