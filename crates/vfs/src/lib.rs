//! The file system, in terms of no platform.
//!
//! ```text
//!     adapter (FUSE, WinFsp)
//!        |  FileSystem: one method an operation, the answer to a completion object
//!     Vfs ---- Namespace        what is at each name             (attachfs-tree)
//!        |---- handles          open files and directories
//!        |---- references       what the adapter knows, named or not
//!        |---- overlay          scratch files, journal, recovery
//!        `---- Fetcher          bytes of the base                 (attachfs-fetch)
//! ```
//!
//! Every operation answers on the thread that asked, from memory and local files; only a read whose
//! bytes are not here yet gives a future instead. None of the locks is held while a store is asked:
//!
//! ```text
//!     outer first       protects                                          held during I/O
//!     ended             whether writing has ended                         yes (reading)
//!     Disk::compacting  who compacts the journal                          yes
//!     Disk::turn        who syncs                                         yes
//!     Disk::order       what becomes durable together: a SyncHold         yes
//!                       (reading); that no bytes wait for their record
//!                       while a scratch file changes its length (writing)
//!     changing          that one mutation follows the other: a Turn       yes: the record's write
//!     OpenInode         whether the journal says that it is written to    yes: the record's write
//!     namespace         what is at each name                              no
//!     Handles           what is open                                      no
//!     References        what the adapter was given                        no
//!     journal's tail    where the next record goes                        yes
//! ```

mod attr;
mod change;
mod error;
mod failed;
mod filesystem;
mod freeze;
mod handles;
mod layers;
mod ops;
pub mod overlay;
mod references;
mod serving;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod vfs;

pub use attr::{FileAttr, Settings};
pub use error::{Blame, FsError, FsErrorKind};
pub use failed::FailedRead;
pub use filesystem::{
    Attachment, Created, DataReply, Entry, FileSystem, Invalidation, ListReply, Listed, ListedName,
    ListedReply, NameReply, NewNode, NodeId, OpenedFile, Released, Reply, Usage,
};
pub use freeze::{Frozen, OpenWriters};
pub use handles::{Access, HandleId};
pub use ops::attributes::{SetAttr, SetTime};
pub use ops::directory::DirView;
pub use ops::open::Opened;
pub use ops::read::{ReadOutcome, read_content};
pub use vfs::{Counters, OpenError, Vfs, now};
