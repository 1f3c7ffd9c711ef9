//! Jobs of a farm, by their ids: which are meant, and in which store.

mod naming;

pub use naming::{JobDocuments, JobNames, NamedJobs};
