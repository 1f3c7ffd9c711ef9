//! Passthrough: the kernel reads a local file in the place of an open one, and the daemon hears of no read.
//!
//! ```text
//!     INIT      asked for, if the mount is to use it; the kernel may have it or not
//!     open      the file system offers a local file (Backing): the kernel is given its descriptor, and names it by a number
//!     OPEN      answered with the number: the same for all opens of the node, until it is closed
//! ```
//!
//! The kernel takes a descriptor from a process with CAP_SYS_ADMIN in the first user namespace only, and none of a file that
//! is on a stacked file system itself, as in a container. Then the daemon answers the reads: nobody notices but by the time
//! that they take. What is read so goes on to be read when the daemon has died.
//!
//! Passthrough excludes the write-back cache, which is not asked for here.

use std::fs::File;
use std::io;

use attachfs_vfs::{Backing, HandleId, Passthrough};
use fuser::{BackingId, FopenFlags, InitFlags, KernelConfig, ReplyOpen};
use rustix::io::Errno;

/// The local file may lie on a plain file system only, and an overlay file system may lie over the mount.
const STACK_DEPTH: u32 = 1;

/// An opened file that the kernel reads by itself.
#[derive(Debug)]
pub(super) struct PassedThrough<'a> {
    pub(super) handle: HandleId,
    pub(super) flags: FopenFlags,
    pub(super) id: &'a BackingId,
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
    reply: &ReplyOpen,
    passthrough: &Passthrough,
) -> Option<&'a BackingId> {
    backing.taken_by(|file: &File| {
        if !passthrough.is_usable() {
            return None;
        }
        match reply.open_backing(file) {
            Ok(id) => Some(id),
            Err(error) => {
                if is_for_good(&error) {
                    passthrough.give_up();
                    tracing::debug!(%error, "the kernel takes no local files from this process; it answers all reads itself");
                } else {
                    tracing::debug!(%error, "the kernel did not take a local file; its reads are answered as others");
                }
                None
            }
        }
    })
}

/// Whether the kernel will take no other file either: this process may not give it any, the kernel cannot, or the disk cache
/// lies on a stacked file system.
fn is_for_good(error: &io::Error) -> bool {
    let for_good = [
        Errno::PERM,
        Errno::LOOP,
        Errno::NOSYS,
        Errno::NOTTY,
        Errno::OPNOTSUPP,
    ];
    Errno::from_io_error(error).is_some_and(|errno| for_good.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_may_not_is_not_asked_again_and_one_without_room_is() {
        let is_for_good = |errno: Errno| is_for_good(&errno.into());
        assert!(is_for_good(Errno::PERM) && is_for_good(Errno::LOOP));
        assert!(!is_for_good(Errno::MFILE) && !is_for_good(Errno::NOMEM));
    }
}
