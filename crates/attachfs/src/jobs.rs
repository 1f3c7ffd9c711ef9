//! Jobs of a farm, by their ids: which are meant, in which store, what that store knows of them.

mod listing;
mod naming;

pub use listing::{
    JobRun, JobsListing, JobsRequest, ListedJobs, PassedKey, QueueInputs, StepOutputs, StoredJob,
    StoredOutputs, list_jobs,
};
pub use naming::{JobDocuments, JobNames, NamedJobs};
