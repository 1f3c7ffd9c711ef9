//! One holder at a time, across processes.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::At as _;
use crate::own::{Wanted, because, check};
use crate::{DurableError, platform};

/// An exclusive lock on a file, held until it is dropped or the process ends, however it ends.
///
/// The file stays when the lock is released: removing it would let two processes hold "the same"
/// lock on two files.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    file: File,
}

impl FileLock {
    /// Takes the lock on `path`, creating the file (0600) if need be. `None` if another process has it.
    /// The file is this user's alone, and no link: another user who could open it could keep the lock
    /// for ever.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, DurableError> {
        const DOING: &str = "open the lock";
        let file =
            platform::open_lock_file(path).map_err(|error| because(path, Wanted::File, error));
        Self::take(path, file.at(DOING, path)?)
    }

    /// Takes the lock on an open file, which `path` names.
    pub(crate) fn take(path: &Path, file: File) -> Result<Option<Self>, DurableError> {
        check(
            &platform::standing(&file).at("look at", path)?,
            Wanted::File,
        )
        .at("trust", path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self {
                path: path.to_owned(),
                file,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(DurableError::new("lock", path, source)),
        }
    }

    /// Whether a process has the lock on `path`; `false` if the file does not exist. Takes a shared
    /// lock for a moment, so a process that takes the lock at that moment should try twice.
    pub fn is_held(path: &Path) -> Result<bool, DurableError> {
        let file = match platform::open_to_read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            file => file
                .map_err(|error| because(path, Wanted::File, error))
                .at("open the lock", path)?,
        };
        Self::is_taken(path, &file)
    }

    /// Whether a process has the lock on an open file, which `path` names.
    pub(crate) fn is_taken(path: &Path, file: &File) -> Result<bool, DurableError> {
        check(&platform::standing(file).at("look at", path)?, Wanted::File).at("trust", path)?;
        match file.try_lock_shared() {
            Ok(()) => {
                release(file);
                Ok(false)
            }
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => {
                Err(DurableError::new("look at the lock", path, source))
            }
        }
    }

    /// The file that is locked.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        release(&self.file);
    }
}

/// To close the file would not do: a process that another thread is just starting has it open, too, and the lock with it.
fn release(file: &File) {
    // It fails if the system has taken the lock away, as one of a network may.
    let _ = file.unlock();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_holder_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::try_exclusive(&path).unwrap().unwrap();
        assert!(FileLock::try_exclusive(&path).unwrap().is_none());
        drop(held);
        assert!(path.exists());
        assert!(FileLock::try_exclusive(&path).unwrap().is_some());
    }

    /// A process that another thread is just starting has such a descriptor.
    #[test]
    fn a_lock_that_is_dropped_is_free_although_another_descriptor_of_its_file_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::try_exclusive(&path).unwrap().unwrap();
        let copy = held.file.try_clone().unwrap();
        drop(held);
        assert!(!FileLock::is_held(&path).unwrap());
        assert!(!FileLock::is_taken(&path, &copy).unwrap());
        assert!(FileLock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn looking_at_a_lock_neither_takes_nor_creates_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!FileLock::is_held(&path).unwrap());
        assert!(!path.exists());
        let held = FileLock::try_exclusive(&path).unwrap().unwrap();
        assert!(FileLock::is_held(&path).unwrap());
        drop(held);
        assert!(!FileLock::is_held(&path).unwrap());
        assert!(FileLock::try_exclusive(&path).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_is_not_taken_through_a_symbolic_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        let error = FileLock::try_exclusive(&path).unwrap_err();
        assert_eq!(error.path, path);
        assert!(!dir.path().join("elsewhere").exists());
    }
}
