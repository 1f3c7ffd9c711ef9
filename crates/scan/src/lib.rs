//! Walks a folder and lists what a manifest can hold of it.
//!
//! [`scan`] reads names and metadata only. It yields directories, regular files and symbolic links
//! in the order of the formats; what a manifest cannot hold (FIFOs, sockets, devices, links that lead
//! nowhere) is listed with its reason in [`Scan::skipped`], never dropped silently. Links are not
//! followed, except where the [`SymlinkPolicy`] replaces one by what it points to. Only what the
//! [`ScanOptions::filter`] chooses is looked at. [`scan_listed`] takes a list of files in place of a
//! walk, [`scan_absolute`] collects folders and files from anywhere into paths below `/`, and [`Below`]
//! finds single files that a manifest names.
//!
//! ```text
//! scan --------.                          .--> thread: open, list, stat --.
//! scan_listed --+--> directories to read --+--> thread: open, list, stat --+--> sort --> Scan
//! scan_absolute '          ^               '--> ...        |
//!                          '----- directories found -------'
//! ```
//!
//! Reading the bytes is left to `transfer`, which opens each file through [`ScannedFile::open`]: that
//! refuses a file that was replaced by a link since the scan, and returns the file's current state.
//! Hashes from earlier runs are in [`cache`].

mod absolute;
mod anchor;
mod below;
pub mod cache;
mod entry;
mod error;
mod finish;
mod ground;
mod links;
mod listed;
mod mounts;
mod options;
mod os;
mod place;
mod progress;
mod queue;
mod transitive;
mod walk;

#[cfg(test)]
mod tests;

pub use absolute::{Collection, scan_absolute};
pub use attachfs_manifest::SymlinkPolicy;
pub use below::Below;
pub use entry::{EntryKind, Scan, ScannedEntry, ScannedFile, SkipReason, Skipped};
pub use error::ScanError;
pub use ground::{Ground, mtime_of};
pub use listed::{FileList, scan_listed};
pub use mounts::CrossMounts;
pub use options::ScanOptions;
pub use progress::{
    Cancelled, EVERY, EVERY_ITEMS, Phase, Progress, ProgressEvent, Reporter, Silent,
};
pub use walk::scan;
