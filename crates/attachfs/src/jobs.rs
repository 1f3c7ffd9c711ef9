//! Jobs of a farm, by their ids: which are meant, in which store, and where their roots are here.

mod fetching;
mod naming;
mod placing;

pub use fetching::{
    ChosenBy, FetchPlan, FetchTo, FoundFiles, JobFiles, PlannedPlace, UnmappedPath, UnmappedRoot,
    fetch_planned, find_job_files, plan_fetch,
};
pub use naming::{JobDocuments, JobNames, NamedJobs};
pub use placing::{Placed, PlacedPart, PlacedParts, Placing, PlacingOptions};
