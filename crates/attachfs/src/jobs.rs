//! Jobs of a farm, by their ids: which are meant, and in which store; and submitting the files of new ones.

mod naming;
mod submitting;

pub use naming::{JobDocuments, JobNames, NamedJobs};
pub use submitting::{
    AssetRequest, BackgroundSubmission, CheckFinding, Finding, Findings, GatheredAssets,
    GatheredRoot, InputFault, LeftOut, PathIsRequired, PreflightRequest, Submission,
    SubmissionLock, SubmissionState, SubmissionStatus, SubmitOptions, SubmitPlace, SubmittedRoot,
    check_place_of_attachments, check_submission, create_job_call, gather_assets,
    save_debug_snapshot, submit_assets, write_attachments,
};
