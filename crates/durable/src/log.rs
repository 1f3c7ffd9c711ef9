//! Files that lines are appended to.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::{Facts, platform};

/// Creates a file to append to, for its owner only (0600). Fails with [`io::ErrorKind::AlreadyExists`] if
/// anything has the name, a symbolic link included. Not made durable.
pub fn create_log(path: &Path) -> io::Result<File> {
    platform::create_to_append(path)
}

/// Whether a name is that of an open file. Links are not followed. [`io::ErrorKind::NotFound`] if nothing
/// has the name.
pub fn is_file_at(file: &File, path: &Path) -> io::Result<bool> {
    let (open, named) = (Facts::of(file)?.stamp, Facts::at(path)?.stamp);
    Ok(open.is_same_file(&named))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_is_made_where_nothing_is_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = create_log(&path).unwrap();
        log.write_all(b"a line\n").unwrap();
        #[cfg(unix)]
        assert_eq!(Facts::of(&log).unwrap().mode, 0o600);
        crate::check_own_file(&path).unwrap();
        let again = create_log(&path).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[cfg(unix)]
    #[test]
    fn a_log_is_not_made_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        create_log(&link).unwrap_err();
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    #[cfg_attr(
        windows,
        ignore = "Wine forgets the volume of an open file that is renamed"
    )]
    fn a_file_is_known_by_itself_and_not_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = create_log(&path).unwrap();
        assert!(is_file_at(&log, &path).unwrap());
        let moved = dir.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        assert!(is_file_at(&log, &moved).unwrap());
        let gone = is_file_at(&log, &path).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, "another").unwrap();
        assert!(!is_file_at(&log, &path).unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_file_is_not_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("log"), dir.path().join("link"));
        let log = create_log(&path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(!is_file_at(&log, &link).unwrap());
    }
}
