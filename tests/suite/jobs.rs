//! Jobs by their ids, as an artist finds them: `attachfs jobs`, and the verbs that take the address of a job.

mod comparing;
mod files;
mod listing;
