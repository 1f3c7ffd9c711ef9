//! The file system as its callers see it, against a local disk, and across the death of its process.

mod compacting;
mod crashing;
mod ending;
mod full;
mod groups;
mod left_open;
mod oracle;
mod ordering;
mod racing;
mod recovering;
mod serving;
mod sessions;
mod writing;
