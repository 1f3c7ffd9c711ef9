//! Files on their way into a partition: without a name of their own until they are written.
//!
//! As [`Staged`](crate::Staged), but reached from a directory that is held open: nothing that takes its place
//! leads elsewhere.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::objects::check_is;
use crate::error::At as _;
use crate::own::Wanted;
use crate::staged::PREFIX;
use crate::steps::Step;
use crate::{DurableError, OwnDir, is_staged_name, platform, random_name};

/// The directory's name in a partition.
pub(super) const NAME: &str = "incoming";

/// The directory of files that are being written.
#[derive(Debug)]
pub(super) struct Incoming(Arc<OwnDir>);

impl Incoming {
    /// Opens that of a partition, and removes what writers left there that have ended.
    pub(super) fn open(partition: &OwnDir) -> Result<Self, DurableError> {
        let dir = partition.dir(NAME)?;
        match sweep(&dir) {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "removed unfinished files from the disk cache"),
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "cannot remove unfinished files from the disk cache"
            ),
        }
        Ok(Self(Arc::new(dir)))
    }

    /// An empty file (0600), open for reading and writing.
    pub(super) fn stage(&self) -> Result<StagedIn, DurableError> {
        loop {
            let random = random_name().at("name a file in", self.0.path())?;
            let name = format!("{PREFIX}{random}");
            let file = self.0.create_file(&name)?;
            let staged = StagedIn {
                path: self.0.path().join(&name),
                dir: Arc::clone(&self.0),
                name: Some(name),
                file,
            };
            // A file system without locks has no sweeping either, so failing to lock is no harm.
            let locked = staged.file.try_lock();
            let swept = matches!(locked, Err(TryLockError::WouldBlock))
                || platform::is_unlinked(&staged.file).at("look at", &staged.path)?;
            if !swept {
                return Ok(staged);
            }
        }
    }
}

fn sweep(dir: &OwnDir) -> Result<usize, DurableError> {
    let mut removed = 0;
    for name in dir.names()? {
        let Some(name) = name.to_str().filter(|name| is_staged_name(name)) else {
            continue;
        };
        // What cannot be opened was placed or removed since, or nobody made it here.
        let Ok(file) = dir.open_file(name) else {
            continue;
        };
        if file.try_lock().is_ok() {
            dir.remove_file(name)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// A file that is being filled. Removed when dropped.
#[derive(Debug)]
pub(super) struct StagedIn {
    dir: Arc<OwnDir>,
    name: Option<String>,
    path: PathBuf,
    file: File,
}

impl StagedIn {
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Its present name, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it a name in a directory, replacing the file that had it, and nothing else: atomically and not durably.
    pub(super) fn place(mut self, to: &OwnDir, new: &str) -> Result<(), DurableError> {
        check_is(to, new, Wanted::File)?;
        if let Some(name) = &self.name {
            self.dir.rename_into(name, to, new, Step::StagedRename)?;
        }
        self.name = None;
        // The lock only says that it is still being filled.
        let _ = self.file.unlock();
        Ok(())
    }
}

impl Drop for StagedIn {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What stays is swept by whoever writes next.
            let _ = self.dir.remove_file(name);
        }
    }
}
