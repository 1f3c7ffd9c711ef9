//! Documents about jobs: as `aws deadline get-queue`, `get-job`, `get-step`, `get-task` and `list-step-dependencies` print them,
//! and the attachments of a job.
//!
//! Only the fields that job attachments need are read; all others may be missing, and unknown ones are ignored. A storage
//! profile is read by [`attachfs_paths::StorageProfile`]. Source: the service's model, and `models.py` and `_aws/deadline.py` of
//! AWS's library.

mod attachments;
mod checkpoint;
mod fields;
mod service;
mod syntax;
#[cfg(test)]
mod tests;

pub use attachments::{Attachments, FileSystemKind, JobRoots, RootAttachment, UnknownRoot};
pub use checkpoint::{ClientCheckpoint, ClientJob};
pub use fields::DocumentError;
pub(crate) use fields::Field;
pub use service::{AttachmentSettings, Job, Parameter, Queue, Step, Task, jobs, step_dependencies};
pub use syntax::Syntax;
pub(crate) use syntax::read as read_document;
