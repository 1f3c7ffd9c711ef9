//! The conventions of AWS Deadline Cloud's job attachments: where manifests are, and what is said of them.
//!
//! ```text
//!     Manifests/<farm>/<queue>/Inputs/<id of the submission>/<hash of the root>_input        InputKey
//!     Manifests/<farm>/<queue>/<job>/<step>[/<task>]/<time>_<session action>/<hash>_output   OutputKey
//!         asset-root, file-system-location-name                                              OutputMetadata
//! ```
//!
//! Ids are types ([`FarmId`] and its like), so no text from outside becomes part of a key unchecked. Nothing here
//! talks to a service or a store. Source: `deadline-job-attachments` 0.1.5 (`models.py`, `_utils.py`,
//! `upload.py`, `download.py`).

mod address;
mod ids;
mod keys;
mod listing;
mod metadata;

pub use address::{JobAddress, JobPart, ParseJobAddressError};
pub use ids::{
    FarmId, JobId, ParseIdError, QueueId, SessionActionId, StepId, StorageProfileId, SubmissionId,
    TaskId,
};
pub use keys::{ActionTime, InputKey, OutputKey, OutputPlace, ParseJobKeyError, ParseTimeError};
pub use listing::{
    Chosen, Folders, ForeignKeys, FoundOutputs, Known, KnownInputs, KnownJob, KnownJobs,
    KnownScope, KnownStep, LatestBy, LatestDiffers, ListedOutput, Outputs, Span, Which, choose,
};
pub use metadata::{OutputMetadata, OutputMetadataError};
