//! Mounts: the FUSE adapter over any [`FileSystem`](attachfs_vfs::FileSystem), and the mount's life.
//!
//! ```text
//!     lifecycle   mount points, mounting, unmounting, the end
//!     fuse        the kernel's requests as operations; the only code that knows fuser and errno
//!     background  a mount in the background: processes that start themselves again
//! ```
//!
//! Windows has no adapter yet: there is neither `fuse` nor a mount, every attempt to make one says so
//! ([`MountError::NotHere`]), and none is found.
//!
//! What a mount is *for*, when to commit and what to report, is its user's: this crate knows no
//! manifests and no stores.

mod background;
mod chain;
#[cfg(unix)]
mod fuse;
mod lifecycle;
#[cfg(test)]
mod testing;

pub use background::{StandardStream, StarterLink, leave_terminal, redirect, start_linked};
pub use lifecycle::{
    ActiveMount, Copies, Elsewhere, End, FastPath, FuseMount, Holder, MountError, MountOf,
    MountOptions, Mounted, OpenBy, Place, Process, TakenAway, Unmount, UnmountError, Use,
    active_mounts, active_mounts_of, detach_dead, mount, open_by, supported, take_away,
};
