//! The conventions of AWS Deadline Cloud's job attachments: where manifests are, and which metadata they have.
//!
//! ```text
//!     Manifests/<farm>/<queue>/Inputs/<id of the submission>/<hash of the root>_input        InputKey
//!     Manifests/<farm>/<queue>/<job>/<step>[/<task>]/<time>_<session action>/<hash>_output   OutputKey
//!         asset-root, file-system-location-name                                              OutputMetadata
//! ```
//!
//! | what | type |
//! |---|---|
//! | a job, step or task by name: `deadline://FARM/QUEUE/JOB[/STEP[/TASK]]` | [`JobAddress`] |
//! | which outputs it has, by listing keys | [`Outputs`] |
//! | which jobs a store knows; the folders in a folder | [`KnownJobs`], [`Folders`] |
//! | outputs and inputs read and put together root by root | [`OutputReader`], [`merge_outputs`], [`read_inputs`] |
//! | what `aws deadline` prints, and a job's attachments | [`Queue`], [`Job`], [`Step`], [`Task`], [`Attachments`] |
//! | the root of a key, without reading the manifest | [`JobRoots`] |
//! | job bundles | [`JobBundle`] |
//!
//! Ids are types ([`FarmId`] and its like), so no text from outside becomes part of a key unchecked. Nothing here talks to a
//! service, looks at a disk or makes a connection: stores and the bytes of documents are the caller's. Source:
//! `deadline-job-attachments` 0.1.5 (`models.py`, `_utils.py`, `upload.py`, `download.py`), `deadline` 0.60.10.

mod address;
mod bundle;
mod documents;
#[cfg(test)]
mod golden;
mod ids;
mod keys;
mod listing;
mod metadata;
mod python;
mod reading;

pub use address::{JobAddress, JobPart, JobsAddress, ParseJobAddressError};
pub use bundle::{
    BundleError, BundleFile, BundleFiles, BundleParameter, BundleReferences, BundleValue, DataFlow,
    GivenParameters, JobBundle, ObjectType,
};
pub use documents::{
    AttachmentSettings, Attachments, ClientCheckpoint, ClientJob, DocumentError, FileSystemKind,
    Job, JobRoots, Parameter, Queue, RootAttachment, Step, Syntax, Task, UnknownRoot, jobs,
    step_dependencies,
};
pub use ids::{
    FarmId, JobId, ParseIdError, QueueId, SessionActionId, SessionId, StepId, StorageProfileId,
    SubmissionId, TaskId,
};
pub use keys::{ActionTime, InputKey, OutputKey, OutputPlace, ParseJobKeyError, ParseTimeError};
pub use listing::{
    Chosen, Folders, ForeignKeys, FoundOutputs, Known, KnownInputs, KnownJob, KnownJobs,
    KnownScope, KnownStep, LatestBy, LatestDiffers, ListedOutput, Outputs, Span, Which, choose,
};
pub use metadata::{OutputMetadata, OutputMetadataError};
pub use reading::{
    MergedRoot, OutputManifest, OutputReader, ReadError, input_of, merge_outputs, one_of_each_root,
    read_inputs, read_outputs,
};
