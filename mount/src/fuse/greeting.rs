//! What is agreed on with the kernel before the first request.

use attachfs_vfs::FileSystem;
use fuser::{InitFlags, KernelConfig};

use super::{Adapter, passthrough};

/// Requests that the kernel may have under way in the background (read-ahead, for one). Its default
/// of 12 is too few for a store that takes tens of milliseconds.
const MAX_BACKGROUND: u16 = 64;

/// The capabilities to ask for; each is used if the kernel has it. No write-back cache: it would
/// prevent passthrough of reads and writes to local files.
const CAPABILITIES: [InitFlags; 7] = [
    // O_TRUNC comes with the open, so that truncating an input fetches none of it.
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    // File handles (open_by_handle_at, NFS) also lead to what the kernel has forgotten: it looks the number up as ".".
    InitFlags::FUSE_EXPORT_SUPPORT,
    // The text of a link never changes under its inode number.
    InitFlags::FUSE_CACHE_SYMLINKS,
    // No file is ever set-user-id or has capabilities, so a write has none to take away. Without this the kernel asks for
    // the attribute "security.capability" before each write, with it once for each file that is written.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

impl<F: FileSystem> Adapter<F> {
    /// Agrees on what the kernel and this adapter can do.
    pub(super) fn negotiate(&self, config: &mut KernelConfig) {
        // fuser already asks for the longest writes and the most read-ahead that the kernel offers.
        for capability in CAPABILITIES {
            if let Err(missing) = config.add_capabilities(capability) {
                tracing::debug!(?missing, "this kernel lacks a capability");
            }
        }
        if self.wants_passthrough {
            passthrough::negotiate(config, &self.passthrough);
        }
        if let Some(unopened) = &self.unopened {
            unopened.negotiate(config);
        }
        if let Err(nearest) = config.set_max_background(MAX_BACKGROUND) {
            tracing::debug!(nearest, "the number of background requests stays as it is");
        }
    }
}
