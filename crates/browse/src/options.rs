//! What is browsed, and how.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use attachfs_fetch::{FetchOptions, Prefetch};
use attachfs_jobs::{FarmId, JobAddress, JobsAddress, LatestBy, QueueId};
use attachfs_paths::Mapping;
use attachfs_store::ManifestKey;
use attachfs_vfs::Settings;

/// Which jobs are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One job, or a part of it: its folders are at the top.
    Job(JobAddress),
    /// Several, each in a folder that has its id.
    Jobs(Vec<JobAddress>),
    /// All jobs of a queue that have outputs, each in a folder that has its id.
    Queue(FarmId, QueueId),
}

/// For people: the address of the job or the queue, or the first job and how many there are.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job) => job.fmt(f),
            Self::Queue(farm, queue) => JobsAddress::Queue(*farm, *queue).fmt(f),
            Self::Jobs(jobs) => match &jobs[..] {
                [] => f.write_str("no job"),
                [job] => job.fmt(f),
                [first, more @ ..] => write!(f, "{first} and {} more", more.len()),
            },
        }
    }
}

/// A manifest of a job's inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobInput {
    /// Its key.
    pub key: ManifestKey,
    /// The root that its paths are below, as the job has it.
    pub root: String,
    /// The file-system location of the root.
    pub location: Option<String>,
}

/// Settings of a [`Browse`](crate::Browse).
#[derive(Debug, Clone)]
pub struct BrowseOptions {
    /// Which jobs.
    pub scope: Scope,
    /// Which run of a task is the latest.
    pub latest_by: LatestBy,
    /// How long new outputs may stay unseen, beside the time that a listing takes.
    pub refresh: Duration,
    /// How long a request for keys or a manifest may take.
    pub deadline: Duration,
    /// So many bytes of listings, and as many of manifests and of trees each, are kept in memory.
    pub memory_bytes: u64,
    /// Where roots are on this machine: a root that is mapped has the name of its place here.
    pub mappings: Vec<Mapping>,
    /// What jobs were given; a job that is not here has no `inputs`.
    pub inputs: HashMap<JobAddress, Vec<JobInput>>,
    /// Owners and modes. Files that may be run have an execute bit for each read bit.
    pub settings: Settings,
}

impl BrowseOptions {
    /// How bytes are fetched for somebody who browses: what is read, and nothing ahead of it, since a file manager reads the beginning of
    /// each file. A program that reads on in a file is served by the kernel's own read-ahead.
    pub fn fetching(options: FetchOptions) -> FetchOptions {
        FetchOptions {
            prefetch: Prefetch::Off,
            ..options
        }
    }

    /// The defaults: what is new is seen within 30 s, a request may take 60 s, and files have the modes 0444 and 0555. `created`
    /// of the settings is the time of folders that have none of their own.
    pub fn new(scope: Scope, settings: Settings) -> Self {
        Self {
            scope,
            latest_by: LatestBy::default(),
            refresh: Duration::from_secs(30),
            deadline: Duration::from_mins(1),
            memory_bytes: 64 << 20,
            mappings: Vec::new(),
            inputs: HashMap::new(),
            settings: Settings {
                file_mode: 0o444,
                dir_mode: 0o555,
                ..settings
            },
        }
    }
}
