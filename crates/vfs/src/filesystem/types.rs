//! The types of requests and answers.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use attachfs_tree::{Ino, Kind};
use tokio::runtime::Handle;

use super::{Backing, Invalidation, Passthrough};
use crate::{FileAttr, HandleId};

/// The number by which an adapter and a file system know a node. Never 0; the root's is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root directory.
    pub const ROOT: Self = Self(1);
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a file system gets from the adapter that serves it.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Where to send invalidations.
    pub invalidations: Sender<Invalidation>,
    /// The runtime for answers that have to wait; with time enabled.
    pub runtime: Handle,
    /// Whether it has a use for [`Backing`] files.
    pub backing: Passthrough,
    /// Whether it tells of each open and close. Otherwise it opens what is read, and what it has open says nothing of who uses it.
    pub tells_opens: bool,
    /// Whether it may keep what is written for a while, until the file is synced or closed at the latest. Until it has closed a file it
    /// may write to it and set its times, also where the program that wrote is long done.
    pub writes_late: bool,
}

/// A process that asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Its number.
    pub pid: u32,
    /// Its name, as the system keeps it.
    pub name: String,
}

/// An entry of a directory: one reference to a node, and its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The node.
    pub node: NodeId,
    /// Its attributes.
    pub attr: FileAttr,
}

/// In a [`Vfs`](crate::Vfs) the node has the number that is shown.
impl From<FileAttr> for Entry {
    fn from(attr: FileAttr) -> Self {
        Self {
            node: attr.ino.into(),
            attr,
        }
    }
}

/// The answer to a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What is at the name.
    pub entry: Option<Entry>,
    /// Whether the adapter may cache the answer. Otherwise the next look-up of the name has to ask again: it may be another one
    /// after a change of a name that differs in case.
    pub lasting: bool,
}

/// Mode and owner of a new node.
#[derive(Debug, Clone, Copy)]
pub struct NewNode {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// An opened file.
#[derive(Debug, Clone)]
pub struct OpenedFile {
    /// To be given to `read`, `write`, `fsync` and `release`.
    pub handle: HandleId,
    /// A local file with exactly the bytes of this one, which an adapter may let the kernel read by itself: for all open
    /// handles of the node, or for none. One of the disk cache is offered for reading only; while the adapter has taken it, the node
    /// cannot be opened for writing, or cut ([`Moved`](crate::FsErrorKind::Moved)). The scratch file of a node is offered for writing,
    /// too: the adapter keeps attributes as long as [`FileAttr::lasting`] says, and no bytes of before.
    pub backing: Option<Arc<Backing>>,
}

/// An opened directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedDir {
    /// To be given to `readdir`, `readdirplus`, `fsyncdir` and `releasedir`.
    pub handle: HandleId,
    /// Whether an adapter may let the kernel keep what this handle lists: the directory changes only by what the kernel asks
    /// for, or is told by [`Invalidation::Listing`](crate::Invalidation::Listing); and as soon as it has changed, by one handle at a time.
    pub may_be_kept: bool,
}

/// A file that was made and opened.
#[derive(Debug, Clone)]
pub struct Created {
    /// The file.
    pub entry: Entry,
    /// Its first handle.
    pub opened: OpenedFile,
}

/// A file that was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// It was the last handle of its node: the adapter can drop everything that it keeps for an
    /// open node.
    pub last: bool,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedName<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode number that is shown.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
}

/// A name in a directory, with node and attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Node and attributes.
    pub entry: Entry,
}

/// The size of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The size of its disk.
    pub total: u64,
    /// Not in use.
    pub free: u64,
    /// The part of `free` that any user may use.
    pub available: u64,
    /// Files that exist and that can be made.
    pub files_total: u64,
    /// Files that can be made.
    pub files_free: u64,
    /// The unit of allocation. Not 0.
    pub block_size: u32,
}
