//! The file system as its callers see it, against a local disk, and across the death of its process.

mod compacting;
// Holds files open that are replaced, which Wine does not do.
#[cfg(unix)]
mod crashing;
mod ending;
// Mounts a small file system to fill.
#[cfg(unix)]
mod full;
mod groups;
mod layering;
mod left_open;
// Does the same in a directory of Linux.
#[cfg(unix)]
mod oracle;
mod ordering;
mod racing;
mod recovering;
mod serving;
// Permission bits, owners and links.
#[cfg(unix)]
mod sessions;
mod writing;
