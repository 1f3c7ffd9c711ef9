//! Jobs of a farm, by their ids: which are meant, in which store; where their files go here; and submitting the files of new ones.

mod comparing;
mod fetching;
mod listing;
mod looking;
mod naming;
mod placing;
mod submitting;
mod syncing;

pub use comparing::{
    FrameRange, JobsDiff, RootDiff, SequenceDiff, SequenceFrames, Side, compare_jobs,
};
pub use fetching::{
    ChosenBy, FetchPlan, FetchTo, FoundFiles, JobFiles, PlannedPlace, RootManifest, UnmappedPath,
    UnmappedRoot, fetch_planned, find_job_files, find_root_manifests, plan_fetch,
};
pub use listing::{
    JobRun, JobsListing, JobsRequest, ListedJobs, PassedKey, QueueInputs, StepOutputs, StoredJob,
    StoredOutputs, list_jobs,
};
pub use looking::{JobInspection, JobRoot};
pub use naming::{JobDocuments, JobNames, NamedJobs};
pub use placing::{Placed, PlacedPart, PlacedParts, Placing, PlacingOptions};
pub use submitting::{
    AssetRequest, BackgroundSubmission, CheckFinding, Finding, Findings, GatheredAssets,
    GatheredRoot, InputFault, LeftOut, PathIsRequired, PreflightRequest, Submission,
    SubmissionLock, SubmissionState, SubmissionStatus, SubmitOptions, SubmitPlace, SubmittedRoot,
    check_place_of_attachments, check_submission, create_job_call, gather_assets,
    save_debug_snapshot, submit_assets, write_attachments,
};
pub use syncing::{
    Beginning, GivenUpManifest, JobsWith, JobsWithout, StoppedSync, SyncReport, SyncRequest,
    SyncedJob, SyncedRoot, sync_outputs,
};
