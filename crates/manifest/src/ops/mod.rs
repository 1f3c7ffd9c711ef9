//! Operations on manifests, one a file: pure functions from snapshots and diffs to new ones.
//!
//! Each says the law that it obeys, and the tests hold it against trees of every shape. Semantics
//! follow the references (`deadline-job-attachments` 0.1.5, `openjd-snapshots` 0.3.2); where the types
//! of this crate are stricter, the operation says so.
//!
//! An operation gives a snapshot a [`parent`](crate::Snapshot::parent) only where it says so: what
//! was cut, moved or merged did not come from the manifest that the original came from.

mod case;
mod changes;
mod compose;
mod diff;
mod downgrade;
mod filter;
mod hashes;
mod join;
mod links;
mod losses;
mod merge;
mod partition;
mod subtree;

pub use case::{BadName, CaseOptions, NameProblem, case_report};
pub use changes::Changes;
pub use diff::{By, DiffOptions};
pub use downgrade::DowngradeError;
pub use join::JoinError;
pub use losses::{Losses, Lost, what_is_lost};
pub use merge::{MergeError, merge};
pub use partition::{PartitionError, PartitionOptions};
pub use subtree::SubtreeError;
