//! Passthrough: the kernel reads a local file in the place of an open one, or writes to it, and the daemon hears of none of that.
//!
//! ```text
//!     INIT            asked for, if the mount is to use it; the kernel may have it or not
//!     open, create    the file system offers a local file (Backing): the kernel is given its descriptor, and names it by a number
//!     OPEN, CREATE    answered with the number: the same for all opens of the node, until it is closed
//! ```
//!
//! The kernel takes a descriptor from a process with CAP_SYS_ADMIN in the first user namespace only, and none of a file that
//! is on a stacked file system itself, as in a container. Then the daemon answers the requests: nobody notices but by the time
//! that they take. What is open so goes on to be read and written when the daemon has died.
//!
//! The kernel opens the local file anew for each handle, with the flags of that handle: so a descriptor for reading is enough for one
//! that writes, and a mapping is one of the local file, which outlives the handle.
//!
//! Passthrough excludes the write-back cache ([`FastPath`](crate::FastPath)).

use std::fs::File;
use std::io;

use attachfs_vfs::{Backing, Passthrough};
use fuser::{BackingId, FopenFlags, InitFlags, KernelConfig, ReplyCreate, ReplyOpen};
use rustix::io::Errno;

/// The local file may lie on a plain file system only, and an overlay file system may lie over the mount.
const STACK_DEPTH: u32 = 1;

/// An opened file that the kernel reads and writes by itself.
#[derive(Debug)]
pub(super) struct PassedThrough<'a, T> {
    pub(super) opened: T,
    pub(super) flags: FopenFlags,
    pub(super) id: &'a BackingId,
}

/// A reply with which a local file can be given to the kernel.
pub(super) trait GivesFiles {
    fn give(&self, file: &File) -> io::Result<BackingId>;
}

impl GivesFiles for ReplyOpen {
    fn give(&self, file: &File) -> io::Result<BackingId> {
        self.open_backing(file)
    }
}

impl GivesFiles for ReplyCreate {
    fn give(&self, file: &File) -> io::Result<BackingId> {
        self.open_backing(file)
    }
}

/// Asks the kernel for passthrough.
pub(super) fn negotiate(config: &mut KernelConfig, passthrough: &Passthrough) {
    if let Err(missing) = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH) {
        tracing::debug!(?missing, "this kernel has no passthrough");
        return;
    }
    match config.set_max_stack_depth(STACK_DEPTH) {
        Ok(_) => passthrough.begin(),
        Err(most) => tracing::debug!(most, "the kernel lets no file system lie over this one"),
    }
}

/// What the kernel calls a file that is offered, if it takes it.
pub(super) fn take<'a>(
    backing: &'a Backing,
    reply: &impl GivesFiles,
    passthrough: &Passthrough,
) -> Option<&'a BackingId> {
    backing.taken_by(|file: &File| {
        if !passthrough.can_use(backing) {
            return None;
        }
        match reply.give(file) {
            Ok(id) => Some(id),
            Err(error) => {
                match lasting(&error) {
                    Some(Lasting::Everywhere) => {
                        passthrough.give_up();
                        tracing::debug!(%error, "the kernel takes no local files from this process; it answers all requests itself");
                    }
                    Some(Lasting::Here) => {
                        passthrough.give_up_place_of(backing);
                        tracing::debug!(%error, is_scratch = backing.is_scratch(), "the kernel takes no files of this file system");
                    }
                    None => tracing::debug!(%error, "the kernel did not take a local file; its requests are answered as others"),
                }
                None
            }
        }
    })
}

/// Which other files the kernel will not take either.
#[derive(Debug, PartialEq, Eq)]
enum Lasting {
    /// All: this process may not give it any, or the kernel cannot.
    Everywhere,
    /// Those that lie on the same file system, which is a stacked one.
    Here,
}

fn lasting(error: &io::Error) -> Option<Lasting> {
    match Errno::from_io_error(error)? {
        Errno::PERM | Errno::NOSYS | Errno::NOTTY | Errno::OPNOTSUPP => Some(Lasting::Everywhere),
        Errno::LOOP => Some(Lasting::Here),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_may_not_is_not_asked_again_and_one_without_room_is() {
        let lasting = |errno: Errno| lasting(&errno.into());
        assert_eq!(lasting(Errno::PERM), Some(Lasting::Everywhere));
        assert_eq!(lasting(Errno::LOOP), Some(Lasting::Here));
        assert_eq!(lasting(Errno::MFILE), None);
        assert_eq!(lasting(Errno::NOMEM), None);
    }
}
