//! What to scan, and what becomes of links.

use attachfs_manifest::{PathFilter, SymlinkPolicy};

use crate::CrossMounts;

/// How to scan.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// What becomes of symbolic links.
    pub symlinks: SymlinkPolicy,
    /// Which paths of the manifest are chosen; all by default. A directory is an entry if it is
    /// chosen itself or holds something that is. A link that is replaced by a directory is matched
    /// like that directory, so a walk follows it as Python's `glob` does.
    pub filter: PathFilter,
    /// Whether a file or directory that cannot be read, vanished or was replaced meanwhile is listed in
    /// [`Scan::skipped`](crate::Scan::skipped) in place of failing the scan. A root that cannot be read
    /// is an error all the same, and so is a lack of memory or file descriptors.
    pub skip_unreadable: bool,
    /// Which mounts a walk goes into. Single files that are listed are taken wherever they are.
    pub cross_mounts: CrossMounts,
}
