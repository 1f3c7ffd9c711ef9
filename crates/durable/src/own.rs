//! Files and directories that nobody but this user could have written.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;

use crate::copy::read_range;
use crate::error::At as _;
use crate::{DurableError, platform};

/// A regular file that belongs to this process's user and that no other user may write to, open for
/// reading at any place. It may still be cut off or removed while it is open.
#[derive(Debug)]
pub struct OwnFile(File);

impl OwnFile {
    /// Opens a file. Never through a symbolic link at its name, and never waiting for the other end of
    /// a pipe. Fails with [`io::ErrorKind::PermissionDenied`] for a file that is not this user's alone.
    pub fn open(path: &Path) -> Result<Self, DurableError> {
        let file = platform::open_to_read(path).at("open", path)?;
        if !platform::is_own(&file.metadata().at("look at", path)?, false) {
            return Err(DurableError::new("trust", path, not_own()));
        }
        Ok(Self(file))
    }

    /// Its length in bytes.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// Exactly `len` bytes from `offset` on; [`io::ErrorKind::UnexpectedEof`] if there are fewer. The
    /// caller bounds the length: this much memory is taken.
    pub fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let end = offset.checked_add(len as u64);
        let bytes = read_range(&self.0, offset..end.ok_or(io::ErrorKind::UnexpectedEof)?)?;
        if bytes.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    }

    /// Gives it the present time as the time of its last change, so that it counts as used.
    pub fn touch(&self) -> io::Result<()> {
        self.0.set_modified(SystemTime::now())
    }
}

/// Fails unless `path` is a directory, not a link to one, that belongs to this process's user and that
/// no other user may write to: with [`io::ErrorKind::PermissionDenied`] if it is something else.
pub fn check_own_dir(path: &Path) -> Result<(), DurableError> {
    if platform::is_own(&path.symlink_metadata().at("look at", path)?, true) {
        return Ok(());
    }
    Err(DurableError::new("trust", path, not_own()))
}

fn not_own() -> io::Error {
    let text = "it is not this user's alone, or not what it should be";
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, DurableError>) -> io::ErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn an_own_file_is_read_at_any_place_but_not_past_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        crate::publish(&path, |file| io::Write::write_all(file, b"0123456789")).unwrap();
        let file = OwnFile::open(&path).unwrap();
        assert_eq!(file.size().unwrap(), 10);
        assert_eq!(file.read_at(3, 4).unwrap(), "3456");
        for (offset, len) in [(3, 8), (10, 1), (u64::MAX, 1)] {
            let error = file.read_at(offset, len).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(file.read_at(0, 1).unwrap(), "0");
    }

    #[test]
    fn a_touched_file_was_changed_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        crate::publish(&path, |_| Ok(())).unwrap();
        File::open(&path)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        OwnFile::open(&path).unwrap().touch().unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        assert_ne!(modified, SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn what_others_could_have_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        OwnFile::open(&link).unwrap_err();
        assert_eq!(
            refused(OwnFile::open(dir.path())),
            io::ErrorKind::PermissionDenied
        );
        fs::set_permissions(&path, Permissions::from_mode(0o620)).unwrap();
        assert_eq!(
            refused(OwnFile::open(&path)),
            io::ErrorKind::PermissionDenied
        );
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(12345), None).is_ok() {
            assert_eq!(
                refused(OwnFile::open(&path)),
                io::ErrorKind::PermissionDenied
            );
        }
    }

    #[test]
    fn a_directory_that_others_can_change_is_not_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d");
        crate::create_private_dir(&path).unwrap();
        check_own_dir(&path).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(
            refused(check_own_dir(&link)),
            io::ErrorKind::PermissionDenied
        );
        fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
        assert_eq!(
            refused(check_own_dir(&path)),
            io::ErrorKind::PermissionDenied
        );
    }
}
