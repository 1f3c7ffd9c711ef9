//! Tests of the file system: as its callers see it, compared with a local disk, and across the death
//! of its process.

// Compares with files of Linux.
#[cfg(unix)]
mod allocating;
mod backed;
mod case;
// Both replace files that are open, which Wine does not do.
#[cfg(unix)]
mod compacting;
mod counting;
#[cfg(unix)]
mod crashing;
mod ending;
// Mounts a small file system to fill.
#[cfg(unix)]
mod full;
mod groups;
mod layering;
mod left_open;
mod listing;
// Compares with a directory on Linux.
#[cfg(unix)]
mod oracle;
mod ordering;
// Leases.
#[cfg(unix)]
mod passed;
mod racing;
mod recovering;
mod serving;
// Permission bits, owners and links.
#[cfg(unix)]
mod sessions;
mod siblings;
mod special;
mod using;
mod watching;
mod world;
mod writing;
mod xattrs;
