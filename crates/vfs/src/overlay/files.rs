//! What an overlay is opened from. Whose files these are, and what else lies beside them, is not known here.

use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::{DurableError, FileLock, OwnDir};

use super::Scratch;

/// The files of an overlay.
#[derive(Debug)]
pub struct OverlayFiles {
    /// The journal.
    pub journal: PathBuf,
    /// The directory of scratch files.
    pub scratch: ScratchDir,
    /// The directory of what is laid over the base while it is mounted. It may be missing.
    pub layers: PathBuf,
    /// The file that holds room on the disk for a commit. It is on the disk that the commit writes to.
    pub reserve: PathBuf,
    /// The lock that keeps other processes from these files. The overlay holds it as long as it lives: a request
    /// of the kernel may keep it alive after whoever opened it has gone.
    pub lock: Arc<FileLock>,
}

/// A directory of scratch files, which may be missing.
#[derive(Debug)]
pub enum ScratchDir {
    /// It is there.
    Held(OwnDir),
    /// It should be here.
    Missing(PathBuf),
}

impl ScratchDir {
    /// The directory as it is. Nothing changes on disk.
    pub(crate) fn as_it_is(&self) -> Result<Scratch, DurableError> {
        Ok(match self {
            Self::Held(dir) => Scratch::new(dir.again()?),
            Self::Missing(path) => Scratch::missing(path.clone()),
        })
    }

    /// The directory, which is made if it is missing: its process may have died before it made it.
    pub(crate) fn make(self) -> Result<Scratch, DurableError> {
        Ok(Scratch::new(match self {
            Self::Held(dir) => dir,
            Self::Missing(path) => OwnDir::create(&path)?,
        }))
    }
}
