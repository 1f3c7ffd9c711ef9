//! The file system, in terms of no platform.
//!
//! ```text
//!     adapter (FUSE, WinFsp)
//!        |  FileSystem: one method an operation, the answer to a completion object
//!     Vfs ---- Namespace        what is at each name             (attachfs-tree)
//!        |---- handles          open files and directories
//!        |---- references       what the adapter knows, named or not
//!        |---- nodes            files that the adapter knows by another node than before
//!        |---- overlay          scratch files, journal, recovery
//!        |---- quiescent        whether somebody still writes to a scratch file
//!        `---- Fetcher          bytes of the base                 (attachfs-fetch)
//! ```
//!
//! Every operation answers on the thread that asked, from memory and local files; only a read whose
//! bytes are not here yet gives a future instead. No lock that such an operation takes is held while a store is asked:
//! `docs/architecture.md` lists all locks in their order.

mod accessed;
mod account;
mod attr;
mod case_index;
mod change;
mod changed_files;
mod doubted;
mod error;
mod failed;
mod filesystem;
mod freeze;
mod handles;
mod inputs;
mod layers;
mod missing;
mod nodes;
mod open_files;
mod open_inode;
mod ops;
pub mod overlay;
mod quiescent;
mod references;
mod serving;
mod siblings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod vfs;

pub use attachfs_durable::Allocation;

pub use account::{FileTotal, InputAccount, MissingAccount, MissingName, ReadInput, UnreadInput};
pub use attr::{FileAttr, Settings};
pub use error::{Blame, FsError, FsErrorKind};
pub use failed::FailedRead;
pub use filesystem::{
    Acknowledgement, Asker, Attachment, Backing, Counted, Created, DataReply, Entry, FileSystem,
    Found, Invalidation, ListReply, Listed, ListedName, ListedReply, NameReply, NewNode, NodeId,
    OpenedDir, OpenedFile, Operation, OperationCounts, Operations, Passthrough, Protected,
    ReadOnlyFileSystem, Released, Reply, Usage,
};
pub use freeze::{Frozen, OpenWriters};
pub use handles::{Access, HandleId};
pub use open_files::OpenNode;
pub use ops::attributes::{SetAttr, SetTime};
pub use ops::directory::DirView;
pub use ops::open::Opened;
pub use ops::origin::{Origin, Presence, SourceOf, Whereabouts, Written};
pub use ops::read::{ReadOutcome, read_content};
pub use ops::seek::SeekTo;
pub use ops::walk::{Removed, Walk};
pub use ops::xattrs::SetXattr;
pub use quiescent::{NotQuiescent, Quiescent};
pub use vfs::{Counters, OpenError, Vfs, now};
