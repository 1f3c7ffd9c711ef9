//! Opening files that another user may have put there, and making own ones private.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::{Facts, Kind, Refusal, platform};

/// Opens the regular file at a path for reading. Never through a link there, and never waiting for the other end of a
/// pipe: anything but a regular file is refused.
pub fn open_file(path: &Path) -> io::Result<File> {
    let file = platform::open_to_read(path)?;
    match Facts::of(&file)?.kind {
        Kind::File => Ok(file),
        Kind::Link => Err(Refusal::Link.into()),
        Kind::Dir => Err(io::ErrorKind::IsADirectory.into()),
        Kind::Other => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        )),
    }
}

/// Makes a file private to its owner (0600): for files that a library has created.
pub fn make_private(path: &Path) -> io::Result<()> {
    platform::set_mode_at(path, 0o600)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_regular_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        open_file(&path).unwrap();
        let error = open_file(dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = open_file(&dir.path().join("none")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_not_opened_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let error = open_file(&link).unwrap_err();
        assert_eq!(Refusal::of(&error), Some(Refusal::Link));
    }

    #[test]
    fn a_file_made_private_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        make_private(&path).unwrap();
        crate::check_own_file(&path).unwrap();
    }
}
