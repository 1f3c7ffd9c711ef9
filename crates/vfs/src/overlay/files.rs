//! The files that an overlay is opened from. Sessions, and the other files in their directories, are not
//! known here.

use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::{DurableError, FileLock, OwnDir};
use attachfs_tree::BaseTree;

use super::{BaseSource, LayerFiles, Scratch};

/// The files of an overlay.
#[derive(Debug)]
pub struct OverlayFiles {
    /// The journal.
    pub journal: PathBuf,
    /// The directory of scratch files.
    pub scratch: ScratchDir,
    /// Which start of the machine this is, where that is known.
    pub boot: Option<String>,
    /// How many bytes the scratch files may take on their disk. Without a bound, as many as it has.
    pub max_scratch: Option<u64>,
    /// The directory of the layers that are added while it is mounted. It may be missing.
    pub layers: PathBuf,
    /// The file that reserves room for a commit. It is on the disk that the commit writes to.
    pub reserve: PathBuf,
    /// The lock that keeps other processes from these files. The overlay keeps it as long as it exists, because
    /// a request of the kernel may keep the overlay alive after its owner has ended.
    pub lock: Arc<FileLock>,
}

impl OverlayFiles {
    /// The directory of scratch files, to write to; made if it is missing: its process may have died before it made it.
    pub(crate) fn scratch_to_write(&self) -> Result<Scratch, DurableError> {
        let scratch = self.scratch.make()?;
        let Some(limit) = self.max_scratch else {
            return Ok(scratch);
        };
        let path = scratch.dir().to_owned();
        scratch.bounded(limit).map_err(|source| DurableError {
            doing: "look at the files in",
            path,
            source,
        })
    }

    /// The base that the journal's records are about: what the mount began with, and the layers over it.
    pub(crate) fn over(&self, first: Arc<BaseTree>) -> BaseSource {
        BaseSource {
            first,
            layers: LayerFiles(self.layers.clone()),
        }
    }
}

/// A directory of scratch files, which may be missing.
#[derive(Debug)]
pub enum ScratchDir {
    /// It exists.
    Held(OwnDir),
    /// It is missing; this is its path.
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
    pub(crate) fn make(&self) -> Result<Scratch, DurableError> {
        Ok(Scratch::new(match self {
            Self::Held(dir) => dir.again()?,
            Self::Missing(path) => OwnDir::create(path)?,
        }))
    }
}
