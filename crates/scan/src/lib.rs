//! Walks a folder and says what a manifest can hold of it.
//!
//! [`scan`] reads names and metadata only. It yields directories, regular files and symbolic links
//! in the order of the formats; what a manifest cannot hold (FIFOs, sockets, devices, links that lead
//! nowhere) is listed with its reason in [`Scan::skipped`], never dropped silently. Links are not
//! followed, except where the [`SymlinkPolicy`] replaces one by what it points to.
//!
//! Reading the bytes is left to `transfer`, which opens each file through [`ScannedFile::open`]: that
//! refuses a file that was swapped for a link since, and tells what the file is at that moment. What an
//! earlier reading found is kept in [`cache`].

pub mod cache;
mod entry;
mod error;
mod links;
mod os;
mod progress;
mod walk;

pub use entry::{EntryKind, Scan, ScannedEntry, ScannedFile, SkipReason, Skipped};
pub use error::ScanError;
pub use progress::{
    Cancelled, EVERY, EVERY_ITEMS, Phase, Progress, ProgressEvent, Reporter, Silent,
};
pub use walk::{ScanOptions, SymlinkPolicy, scan};
