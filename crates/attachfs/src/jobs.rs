//! Jobs of a farm, by their ids: which are meant, in which store, and where their roots are here.

mod naming;
mod placing;
mod syncing;

pub use naming::{JobDocuments, JobNames, NamedJobs};
pub use placing::{Placed, PlacedPart, PlacedParts, Placing, PlacingOptions};
pub use syncing::{
    Beginning, JobsWith, JobsWithout, StoppedSync, SyncReport, SyncRequest, SyncedJob, SyncedRoot,
    UnmappedRoot, sync_outputs,
};
