//! Room on a file system.

use std::path::Path;

use crate::error::At as _;
use crate::{DurableError, platform};

/// How much a file system holds, in bytes and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All bytes.
    pub total: u64,
    /// Unused bytes.
    pub free: u64,
    /// Bytes that this user may still write.
    pub available: u64,
    /// Files (inodes) it can hold; 0 where there is no such limit.
    pub files_total: u64,
    /// Files it can hold beside those it has; 0 where there is no such limit.
    pub files_free: u64,
    /// The unit in which it allocates, in bytes.
    pub block_size: u64,
}

/// How many files this process may have open; `None` where nothing bounds them.
pub fn open_files_limit() -> Option<u64> {
    platform::open_files_limit()
}

/// The room on the file system that `path` (which must exist) is on.
pub fn space(path: &Path) -> Result<Space, DurableError> {
    platform::space(path).at("find the free space of", path)
}
