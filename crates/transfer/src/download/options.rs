//! What a download is asked for, beside the manifest.

use std::fmt::Debug;
use std::fs::File;
use std::sync::Arc;

use attachfs_manifest::ContentHash;
use attachfs_scan::cache::HashCaches;
use attachfs_store::ChunkStore;

use super::conflict::Conflict;

/// Objects that are files on this machine.
pub trait Nearby: Send + Sync + Debug {
    /// A file that holds this object, as far as names and lengths say, and where in it the object begins. Whoever takes
    /// bytes of it hashes them. Blocks.
    fn find(&self, object: ContentHash, len: u64) -> Option<(File, u64)>;
}

/// Where bytes come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The store.
    pub store: Arc<dyn ChunkStore>,
    /// Asked first.
    pub nearby: Option<Arc<dyn Nearby>>,
}

/// What the files and directories that are made are given beside what the umask leaves them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Their group.
    pub group: Option<u32>,
    /// Permission bits that files get in addition.
    pub add_file_mode: u32,
    /// Permission bits that directories get in addition.
    pub add_dir_mode: u32,
}

/// How to download.
#[derive(Debug, Clone)]
pub struct DownloadOptions {
    /// What becomes of a file whose place is taken by something else.
    pub conflict: Conflict,
    /// Whether a diff deletes.
    pub deletes: bool,
    /// Of what is made.
    pub permissions: Permissions,
    /// Hashes of what is there, from an earlier time.
    pub caches: Option<Arc<HashCaches>>,
    /// Read what is there, whatever the caches say.
    pub force_rehash: bool,
    /// Have everything on the disk before it returns.
    pub sync: bool,
    /// Requests for small files at once.
    pub max_in_flight: usize,
    /// Files longer than a block at once: few, so that an interrupted download leaves whole files.
    pub max_large_in_flight: usize,
    /// Longer files are fetched in ranges of this many bytes.
    pub block_bytes: u64,
    /// Bytes that are fetched and not yet written, at most.
    pub memory_bytes: u64,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            conflict: Conflict::default(),
            deletes: true,
            permissions: Permissions::default(),
            caches: None,
            force_rehash: false,
            sync: false,
            max_in_flight: 32,
            max_large_in_flight: 4,
            block_bytes: 8 << 20,
            memory_bytes: 48 << 20,
        }
    }
}
