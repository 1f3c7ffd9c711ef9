//! What is listed of jobs, as programs get it.

use std::time::SystemTime;

use attachfs_jobs::{JobsAddress, SessionActionId};
use serde::Serialize;

/// Which jobs are listed, and how.
#[derive(Debug, Clone)]
pub struct JobsRequest {
    /// Everything, a farm, a queue or a job: its jobs are listed. Of a step or a task the runs are.
    pub address: JobsAddress,
    /// Only what this session action of the job wrote; runs are listed.
    pub action: Option<SessionActionId>,
    /// Only what was written at this time or later, by the store's clock, if it tells; else by the clocks of workers.
    pub since: Option<SystemTime>,
    /// Only what comes behind this in the order of keys: a farm, a queue or a job of which a listing has told all.
    pub after: Option<JobsAddress>,
    /// So many jobs at most; all if `None`.
    pub limit: Option<u64>,
    /// Whether manifests are read, for numbers of files and bytes.
    pub long: bool,
}

/// Manifests of a job, a step or a run, by what their keys say. Times are in microseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoredOutputs {
    /// How many tasks have outputs; 0 where the tasks of a step run together.
    pub tasks: u64,
    /// How many session actions wrote outputs.
    pub runs: u64,
    /// How many manifests there are.
    pub manifests: u64,
    /// The bytes of the manifests themselves.
    pub manifest_bytes: u64,
    /// When the first session action began, by its worker's clock.
    pub first_began: Option<i64>,
    /// When the last session action began.
    pub last_began: Option<i64>,
    /// When the first manifest was written, by the store's clock, if it tells.
    pub first_written: Option<i64>,
    /// When the last manifest was written.
    pub last_written: Option<i64>,
    /// How many files the latest run of each task wrote, if manifests were read. A file that two tasks wrote counts twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The bytes of these files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What was submitted to a queue: the keys of inputs name no job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueInputs {
    /// `deadline://FARM/QUEUE`.
    pub address: String,
    /// How many manifests: one for each root of a job.
    pub manifests: u64,
    /// The bytes of the manifests themselves.
    pub manifest_bytes: u64,
    /// When the first was written, in microseconds since 1970, if the store tells.
    pub first_written: Option<i64>,
    /// When the last was written.
    pub last_written: Option<i64>,
}

/// A step with outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepOutputs {
    /// `deadline://FARM/QUEUE/JOB/STEP`.
    pub address: String,
    /// Its outputs.
    #[serde(flatten)]
    pub outputs: StoredOutputs,
}

/// A job with outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredJob {
    /// `deadline://FARM/QUEUE/JOB`.
    pub address: String,
    /// All of its outputs.
    #[serde(flatten)]
    pub outputs: StoredOutputs,
    /// Its steps with outputs, in the order of their ids. Files are counted for the whole job.
    pub steps: Vec<StepOutputs>,
}

/// What a session action wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobRun {
    /// The task that it ran, or the step where the tasks of a step run together.
    pub address: String,
    /// The session action.
    pub session_action: String,
    /// Its outputs.
    #[serde(flatten)]
    pub outputs: StoredOutputs,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ListedJobs {
    /// What was submitted to a queue. Comes before the jobs of the queue, and does not count for the limit.
    Inputs(QueueInputs),
    /// A job.
    Job(StoredJob),
    /// A run of a task, or of several tasks of a step.
    Run(JobRun),
}

/// A key that was passed over, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassedKey {
    /// The key, below the store's prefix.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

/// What a listing tells at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct JobsListing {
    /// How many keys were looked at.
    pub keys: u64,
    /// Where there is more: what to go on behind.
    pub next: Option<String>,
    /// How many keys are not those of a job's manifests.
    pub foreign: u64,
    /// The first of them in the order of keys.
    pub first_foreign: Vec<PassedKey>,
    /// How many manifests were to be read and could not be used: what is in them is not counted.
    pub unread: u64,
    /// Some of them.
    pub first_unread: Vec<PassedKey>,
}
