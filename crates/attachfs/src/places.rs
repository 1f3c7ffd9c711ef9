//! Where things are kept on this machine. The caller decides; nothing here looks at the environment.

use std::path::PathBuf;

use attachfs_durable::CacheDir;
use attachfs_session::SessionList;

/// The directories of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Sessions, until they are committed or discarded.
    pub state: PathBuf,
    /// Chunks that were fetched, and trees of manifests; may be deleted at any time.
    pub cache: CacheDir,
    /// The embedded store, where no other is named.
    pub data: PathBuf,
}

impl Places {
    /// The list of sessions, and of those that have ended.
    pub fn sessions(&self) -> SessionList {
        SessionList::in_state(&self.state)
    }

    /// The embedded store.
    pub fn embedded_store(&self) -> PathBuf {
        self.data.join("store")
    }
}
