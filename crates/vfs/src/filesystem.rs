//! The file system as kernel adapters use it, in terms of no platform.
//!
//! ```text
//!     FUSE adapter, WinFsp adapter
//!        |  one method an operation; the answer goes to a completion object (`reply`)
//!     FileSystem <-- Vfs, ReadOnlyFileSystem <-- a lazily listed tree, ...
//!        |  Invalidation: what the adapter's cache has to forget
//!        v
//!     Attachment
//! ```
//!
//! **Answers.** A method gives its answer to the [`Reply`] that the adapter passes in, before it returns or later, on any
//! thread. An answer from memory is given at once and costs no allocation; what has to wait for a store or a
//! network is moved to a task ([`Attachment::runtime`]), so that it never keeps the adapter's thread.
//!
//! **Nodes.** A file is known to the adapter by its [`NodeId`]. Each [`Entry`] that is given out counts as one
//! reference to its node; until [`forget`](FileSystem::forget) has given back as many, the node answers, whether or
//! not it still has a name. The number that `stat` shows ([`FileAttr::ino`]) is independent of it: a file may get a
//! new node and keep its number.
//!
//! **Caches.** The adapter may cache pages without limit, names and attributes for as long as
//! [`keeps_for`](FileSystem::keeps_for) says. Changes that do not come from a request of this adapter are announced with an
//! [`Invalidation`] where that is without limit.
//!
//! **Moved files.** A file system that cannot let a node be written answers [`Moved`](crate::FsErrorKind::Moved) after it gave the
//! file's names to another node: the adapter looks the name up again and repeats the request there.

mod backing;
mod counted;
mod invalidation;
mod operations;
mod protected;
mod read_only;
mod reply;
mod types;
mod vfs;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use attachfs_tree::Special;

pub(crate) use self::backing::BackingTally;
pub use self::backing::{Backing, Passthrough};
pub use self::counted::Counted;
pub use self::invalidation::{Acknowledgement, Invalidation};
pub use self::operations::{Operation, OperationCounts, Operations};
pub use self::protected::Protected;
pub use self::read_only::ReadOnlyFileSystem;
pub use self::reply::{DataReply, ListReply, ListedReply, NameReply, Reply};
pub use self::types::{
    Asker, Attachment, Created, Entry, Found, Listed, ListedName, NewNode, NodeId, OpenedDir,
    OpenedFile, Released, Usage,
};
use crate::{Access, Allocation, FileAttr, FsError, HandleId, SeekTo, SetAttr, SetXattr};

/// A tree of files that an adapter can serve. All methods may be called from any thread.
///
/// A request that fails answers an [`FsError`]; a failure of a disk or a store carries its cause, and the path if
/// there is one ([`FsError::at`]). A reply that is dropped answers an I/O error.
pub trait FileSystem: fmt::Debug + Send + Sync + 'static {
    /// Whether it is read-only. This does not change.
    fn is_read_only(&self) -> bool;

    /// How long an adapter may keep an answer that lasts: names, that there is nothing at a name, and attributes. `None` for
    /// without limit, where every change is announced. This does not change.
    fn keeps_for(&self) -> Option<Duration>;

    /// An adapter begins to serve it. One adapter at a time.
    fn attach(&self, adapter: Attachment);

    /// The adapter has ended, and with it everything that was open and every reference to a node.
    fn detach(&self) -> Result<(), FsError>;

    /// What is at a name. That there is nothing may be cached too. `asker` tells which process asks, until this returns: it may
    /// be called once, and costs more than the look-up.
    ///
    /// The name "." asks for the node itself and ".." for the directory it is in, by a number that the adapter may have no
    /// reference to any more. [`NotFound`](crate::FsErrorKind::NotFound) says that no path leads to this number now.
    fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
        asker: impl FnOnce() -> Option<Asker>,
        reply: impl Reply<Found>,
    );

    /// Gives back references to a node: one for each entry that was given out.
    fn forget(&self, node: NodeId, references: u64);

    /// The attributes of a node.
    fn getattr(&self, node: NodeId, reply: impl Reply<FileAttr>);

    /// Changes attributes, and answers with those after the change.
    fn setattr(&self, node: NodeId, set: SetAttr, reply: impl Reply<FileAttr>);

    /// The value of an extended attribute; [`NoAttribute`](crate::FsErrorKind::NoAttribute) if the file has no attribute of this name,
    /// [`NotSupported`](crate::FsErrorKind::NotSupported) if no file of this file system has one of such a name. The kernel asks for
    /// some of its own accord, so that has to be told at once.
    fn getxattr(&self, node: NodeId, name: &[u8], reply: impl DataReply);

    /// Gives an extended attribute a value. [`NotSupported`](crate::FsErrorKind::NotSupported) as for `getxattr`,
    /// [`NoSpace`](crate::FsErrorKind::NoSpace) if the node would have too much.
    fn setxattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        how: SetXattr,
        reply: impl Reply<()>,
    );

    /// The names of the extended attributes of a node, each with a NUL behind it; those that only root may see if `all`.
    fn listxattr(&self, node: NodeId, all: bool, reply: impl DataReply);

    /// Removes an extended attribute.
    fn removexattr(&self, node: NodeId, name: &[u8], reply: impl Reply<()>);

    /// The text of a symbolic link.
    fn readlink(&self, node: NodeId, reply: impl DataReply);

    /// Makes an empty file.
    fn make_file(&self, parent: NodeId, name: &[u8], new: NewNode, reply: impl Reply<Entry>);

    /// Makes a file and opens it.
    fn create(
        &self,
        parent: NodeId,
        name: &[u8],
        new: NewNode,
        access: Access,
        reply: impl Reply<Created>,
    );

    /// Makes a directory.
    fn mkdir(&self, parent: NodeId, name: &[u8], new: NewNode, reply: impl Reply<Entry>);

    /// Makes a FIFO or a socket. What goes through it never comes here: the adapter's system moves it.
    fn make_special(
        &self,
        parent: NodeId,
        name: &[u8],
        special: Special,
        new: NewNode,
        reply: impl Reply<Entry>,
    );

    /// Makes a symbolic link. It has no mode of its own: only the owner of `new` counts.
    fn symlink(
        &self,
        parent: NodeId,
        name: &[u8],
        text: &[u8],
        new: NewNode,
        reply: impl Reply<Entry>,
    );

    /// Gives a file one more name.
    fn link(&self, node: NodeId, parent: NodeId, name: &[u8], reply: impl Reply<Entry>);

    /// Removes a name of a file or symbolic link.
    fn unlink(&self, parent: NodeId, name: &[u8], reply: impl Reply<()>);

    /// Removes an empty directory.
    fn rmdir(&self, parent: NodeId, name: &[u8], reply: impl Reply<()>);

    /// Renames an entry, replacing one that has the new name unless `no_replace`.
    fn rename(
        &self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        no_replace: bool,
        reply: impl Reply<()>,
    );

    /// Has what is at one name and what is at another one change places, at once.
    fn exchange(&self, from: (NodeId, &[u8]), to: (NodeId, &[u8]), reply: impl Reply<()>);

    /// Opens a file, after cutting it to length 0 if `truncate`.
    fn open(&self, node: NodeId, access: Access, truncate: bool, reply: impl Reply<OpenedFile>);

    /// Reads from an open file. Fewer bytes than asked for only at the end of the file.
    fn read(&self, handle: HandleId, offset: u64, len: u32, reply: impl DataReply);

    /// Writes to an open file, and answers how many bytes. `is_late`: the program that stored them was told of success before, so
    /// if they cannot be written it does not hear of it, and the file counts as possibly incomplete.
    fn write(
        &self,
        handle: HandleId,
        offset: u64,
        data: &[u8],
        is_late: bool,
        reply: impl Reply<usize>,
    );

    /// Reserves room for a range of an open file, or makes it zero.
    fn allocate(&self, handle: HandleId, how: Allocation, range: Range<u64>, reply: impl Reply<()>);

    /// The first place from an offset on where an open file has data, or a hole.
    /// [`BeyondEnd`](crate::FsErrorKind::BeyondEnd) if there is none.
    fn seek(&self, handle: HandleId, offset: u64, to: SeekTo, reply: impl Reply<u64>);

    /// Makes an open file durable; with `data_only`, attributes only as far as its bytes need them.
    fn fsync(&self, handle: HandleId, data_only: bool, reply: impl Reply<()>);

    /// Closes a file.
    fn release(&self, handle: HandleId, reply: impl Reply<Released>);

    /// Opens a directory.
    fn opendir(&self, node: NodeId, reply: impl Reply<OpenedDir>);

    /// Fills a buffer with the names in an open directory, from an offset on. Offset 0 is the beginning, others are
    /// those that came with an entry. An entry that exists from the first call to the last is returned exactly once;
    /// reading from the beginning again shows the current content.
    fn readdir(&self, handle: HandleId, offset: u64, reply: impl NameReply);

    /// As [`readdir`](Self::readdir), with node and attributes. Each entry but `.` and `..` counts as a
    /// reference to its node.
    fn readdirplus(&self, handle: HandleId, offset: u64, reply: impl ListedReply);

    /// Closes a directory.
    fn releasedir(&self, handle: HandleId, reply: impl Reply<()>);

    /// Makes the names in an open directory durable.
    fn fsyncdir(&self, handle: HandleId, reply: impl Reply<()>);

    /// The room for writing, and what is in use.
    fn statfs(&self, reply: impl Reply<Usage>);
}
