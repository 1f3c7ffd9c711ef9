//! Jobs of a farm, by their ids: which are meant, in which store, what that store knows of them.

mod files;
mod listing;
mod naming;

pub use files::{JobFiles, JobFilesOf, JobRoot, job_files};
pub use listing::{
    JobRun, JobsListing, JobsRequest, ListedJobs, PassedKey, QueueInputs, StepOutputs, StoredJob,
    StoredOutputs, list_jobs,
};
pub use naming::{JobDocuments, JobNames, NamedJobs};
