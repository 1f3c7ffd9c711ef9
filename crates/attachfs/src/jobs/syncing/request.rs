//! What is to be fetched, and how.

use std::path::PathBuf;
use std::time::SystemTime;

use attachfs_jobs::{ClientCheckpoint, FarmId, Job, JobsAddress, QueueId};
use attachfs_transfer::{Conflict, Permissions};

use crate::error::Error;
use crate::jobs::naming::NamedJobs;
use crate::jobs::placing::Placing;
use crate::manifest::Hashing;

/// The queue that is meant, or that of the job.
pub(crate) fn queue_of(address: &JobsAddress) -> Result<(FarmId, QueueId), Error> {
    match address {
        JobsAddress::Queue(farm, queue) => Ok((*farm, *queue)),
        JobsAddress::Job(job) => Ok((job.farm, job.queue)),
        JobsAddress::All | JobsAddress::Farm(_) => {
            Err(Error::usage(format!("{address} names no queue"))
                .advise("say which with --farm and --queue"))
        }
    }
}

/// A run that places what is new.
#[derive(Debug)]
pub struct SyncRequest {
    /// A queue, or a job or a part of one.
    pub named: NamedJobs,
    /// Where roots are here.
    pub placing: Placing,
    /// What the service says of jobs: their names and storage profiles.
    pub jobs: Vec<Job>,
    /// What becomes of a file whose place is taken by something else.
    pub conflict: Conflict,
    /// Of what is made.
    pub permissions: Permissions,
    /// Where the hashes of files that are there are remembered.
    pub hashing: Hashing,
    /// Where it is noted what was fetched; `None` for a directory of the user's state.
    pub checkpoint_dir: Option<PathBuf>,
    /// How the first run begins.
    pub beginning: Beginning,
    /// Try again what was given up.
    pub retry_failed: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// How the first run begins.
#[derive(Debug, Default)]
pub struct Beginning {
    /// Forget what earlier runs noted.
    pub anew: bool,
    /// Leave what was written earlier, by the store's clock, but for the 120 s before.
    pub since: Option<SystemTime>,
    /// Leave what AWS's client has fetched.
    pub import: Option<ClientCheckpoint>,
}
