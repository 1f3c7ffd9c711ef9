//! The files of a new job, into the store of its queue.
//!
//! ```text
//!     bundle, files, directories --gather_assets--> roots, faults, unknown places     only looks
//!     roots --submit_assets--> for each root: hash, send what the store lacks
//!                              for each root: Manifests/<farm>/<queue>/Inputs/<id>/<hash>_input
//!                              the attachments document
//! ```
//!
//! All data first, the manifests after it, the document last: who has the document has a job that can run. A submission that was
//! broken off has published nothing or manifests that no document names; the same call goes on, and what was hashed and
//! sent is known from the caches and the store. As `S3AssetManager` of AWS's library and `deadline bundle submit` do it.

mod background;
mod bundle;
mod checking;
mod creating;
mod gathering;
mod report;
mod request;
mod saving;
mod sending;
mod walking;

pub use background::{BackgroundSubmission, SubmissionLock, SubmissionState, SubmissionStatus};
pub use checking::{CheckFinding, Finding, Findings, PreflightRequest, check_submission};
pub use creating::create_job_call;
pub use gathering::{GatheredAssets, GatheredRoot, gather_assets};
pub use report::{InputFault, LeftOut, Submission, SubmittedRoot};
pub use request::{AssetRequest, PathIsRequired};
pub use saving::{check_place_of_attachments, save_debug_snapshot, write_attachments};
pub use sending::{SubmitOptions, SubmitPlace, submit_assets};
