//! The file system, in terms of no platform.
//!
//! ```text
//!     adapter (FUSE, WinFsp)
//!        |  ops: one method an operation, plain arguments, FsError
//!     Vfs ---- Namespace        what is at each name             (attachfs-tree)
//!        |---- handles          open files and directories
//!        |---- overlay          scratch files, journal, recovery
//!        `---- Fetcher          bytes of the base                 (attachfs-fetch)
//! ```
//!
//! Every operation answers on the thread that asked, from memory and local files; only a read whose
//! bytes are not here yet gives a future instead. Locks, outer first: whether writing ended, the order of
//! what becomes durable, namespace, open files, journal. None is held while a store is asked.

mod attr;
mod error;
mod failed;
mod freeze;
mod handles;
mod ops;
pub mod overlay;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod vfs;

pub use attr::{FileAttr, Settings};
pub use error::{Blame, FsError, FsErrorKind};
pub use failed::FailedRead;
pub use freeze::{Frozen, OpenWriters};
pub use handles::{Access, HandleId};
pub use ops::attributes::{SetAttr, SetTime};
pub use ops::directory::DirView;
pub use ops::open::Opened;
pub use ops::read::{ReadOutcome, read_content};
pub use vfs::{Counters, Invalidation, OpenError, Vfs, now};
