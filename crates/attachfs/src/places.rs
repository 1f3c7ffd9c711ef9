//! Where things are kept on this machine. The caller decides; nothing here looks at the environment.

use std::path::PathBuf;

use attachfs_durable::CacheDir;

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
    /// The sessions: a directory each, or a symbolic link to one.
    pub fn sessions(&self) -> PathBuf {
        self.state.join("sessions")
    }

    /// What sessions published that are gone: a file each.
    pub fn ended_sessions(&self) -> PathBuf {
        self.state.join("sessions-ended")
    }

    /// The embedded store.
    pub fn embedded_store(&self) -> PathBuf {
        self.data.join("store")
    }
}
