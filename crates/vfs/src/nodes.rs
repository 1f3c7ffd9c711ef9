//! Which node an inode is: a file that is to be written while the kernel reads a local file in its place gets another one.
//!
//! ```text
//!     open for reading    node N: the kernel reads the cached object by itself
//!     open for writing    node N: Moved. From now on the names lead to node N'
//!                         node N': copied up and written, as every other input
//!     the old reader      keeps N, its bytes and their length, until it closes
//! ```
//!
//! The kernel cannot read a local file and the daemon's bytes through one node at the same time. `stat` shows the same inode
//! number for both. A file gets another node once at most: of that one all reads come to the daemon.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use attachfs_tree::Ino;
use parking_lot::RwLock;

use crate::open_inode::OpenInode;
use crate::{Backing, FileAttr, FsError, FsErrorKind, Invalidation, NodeId, Vfs};

/// Marks the second node of an inode. No inode has such a number.
const SECOND: u64 = 1 << 63;

/// An answer with the old node that was on its way when the file got its new one reaches the kernel well within this time.
const ANSWER_ARRIVES: Duration = Duration::from_secs(1);

impl From<Ino> for NodeId {
    fn from(ino: Ino) -> Self {
        Self(ino.raw())
    }
}

impl From<NodeId> for Ino {
    fn from(node: NodeId) -> Self {
        Self::from_raw(node.0 & !SECOND)
    }
}

/// The node that an inode has after it got another one.
pub(crate) fn second(ino: Ino) -> NodeId {
    NodeId(ino.raw() | SECOND)
}

/// The files that got another node. Grows with the number of inputs that are written while somebody reads them.
#[derive(Debug, Default)]
pub(crate) struct MovedFiles {
    /// Whether there is one, so that nobody waits for the lock in a mount without them.
    any: AtomicBool,
    /// With their attributes before that. Held for single look-ups and insertions, with no other lock.
    files: RwLock<HashMap<Ino, FileAttr>>,
}

impl MovedFiles {
    fn has(&self, ino: Ino) -> bool {
        self.any.load(Ordering::Acquire) && self.files.read().contains_key(&ino)
    }

    /// The attributes of a file before it got another node.
    fn before(&self, ino: Ino) -> Option<FileAttr> {
        self.files.read().get(&ino).copied()
    }

    /// `false` if it has one already.
    fn insert(&self, ino: Ino, before: FileAttr) -> bool {
        let mut files = self.files.write();
        let is_new = !files.contains_key(&ino);
        files.entry(ino).or_insert(before);
        self.any.store(true, Ordering::Release);
        is_new
    }

    /// The adapter has ended, and knows no nodes any more.
    pub(crate) fn clear(&self) {
        self.files.write().clear();
        self.any.store(false, Ordering::Release);
    }
}

impl Vfs {
    /// The node that the names of an inode lead to.
    pub(crate) fn node_of(&self, ino: Ino) -> NodeId {
        if self.moved.has(ino) {
            second(ino)
        } else {
            ino.into()
        }
    }

    /// The nodes that the adapter may know an inode by.
    pub(crate) fn nodes_of(&self, ino: Ino) -> impl Iterator<Item = NodeId> {
        let second = self.moved.has(ino).then(|| second(ino));
        [ino.into()].into_iter().chain(second)
    }

    /// Whether the names of the node's inode lead to another node.
    pub(crate) fn is_left(&self, node: NodeId) -> bool {
        node == NodeId::from(Ino::from(node)) && self.moved.has(node.into())
    }

    /// Fails with [`Moved`](FsErrorKind::Moved) if the names of the node's inode lead to another node.
    pub(crate) fn refuse_left(&self, node: NodeId) -> Result<(), FsError> {
        if self.is_left(node) {
            return Err(FsErrorKind::Moved.into());
        }
        Ok(())
    }

    /// Before a file is written, or cut: if the kernel reads a file of the cache in its place, gives it another node and fails with
    /// [`Moved`](FsErrorKind::Moved). Otherwise the kernel will not begin to, as long as the file is open. `in_scratch`: all of its
    /// bytes will be in its scratch file, which the kernel may have.
    pub(crate) fn refuse_backed(&self, inode: &OpenInode, in_scratch: bool) -> Result<(), FsError> {
        let scratch = || in_scratch.then(|| Backing::of_scratch(Arc::clone(&self.tally.backing)));
        match inode.backing_or(scratch) {
            Some(backing) if !backing.is_scratch() && backing.is_taken() => {}
            Some(_) | None => return Ok(()),
        }
        let ino = inode.ino();
        let before = self.getattr(ino)?;
        if self.moved.insert(ino, before) {
            tracing::debug!(
                path = self.describe(ino),
                "a file that is read from the cache is to be written: it gets another node"
            );
            let names = self.namespace.read().names(ino);
            let forget = |after| {
                let names = names.iter().cloned();
                self.invalidate(names.map(|(parent, name)| Invalidation::Name {
                    parent: parent.into(),
                    name,
                    after,
                }));
            };
            forget(Duration::ZERO);
            forget(ANSWER_ARRIVES);
        }
        Err(FsErrorKind::Moved.into())
    }

    /// Attributes were set by a node. The adapter, which may keep those of each node for long, asks for them anew by the other
    /// node of the inode, if it has one.
    pub(crate) fn tell_other_nodes(&self, node: NodeId) {
        let nodes = self.nodes_of(node.into());
        let others = nodes.filter(|&other| other != node);
        self.invalidate(others.map(|node| Invalidation::Attributes { node }));
    }

    /// The attributes of a node. One that no name leads to any more has the length and the time that its readers found, as
    /// long as it is open.
    pub(crate) fn attr_of(&self, node: NodeId) -> Result<FileAttr, FsError> {
        let ino = node.into();
        if !self.is_left(node) {
            return self.getattr(ino);
        }
        if !self.handles.has_node(node) {
            return Err(FsErrorKind::Moved.into());
        }
        let attr = self.getattr(ino)?;
        Ok(match self.moved.before(ino) {
            Some(before) => FileAttr {
                size: before.size,
                blocks: before.blocks,
                mtime: before.mtime,
                ..attr
            },
            None => attr,
        })
    }
}
