//! Mounts: the FUSE adapter over any [`FileSystem`](attachfs_vfs::FileSystem), and the mount's life.
//!
//! ```text
//!     lifecycle   mount points, mounting, unmounting, the end
//!     fuse        the kernel's requests as operations; the only code that knows fuser and errno
//!     inherit     what a program that is started gets of the files that are open here
//! ```
//!
//! What a mount is *for*, when to commit and what to report, is its user's: this crate knows no
//! manifests and no stores.

mod fuse;
mod inherit;
mod lifecycle;
#[cfg(test)]
mod testing;

pub use inherit::pass_on_standard_files_only;
pub use lifecycle::{
    ActiveMount, Copies, Elsewhere, End, FuseMount, Holder, MountError, MountOf, MountOptions,
    Mounted, Place, Process, TakenAway, Unmount, UnmountError, Use, active_mounts, detach_dead,
    mount, take_away,
};
