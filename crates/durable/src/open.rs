//! Opening files that another user may have put there, and making own ones private.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::{Facts, FileStamp, Kind, Refusal, platform};

/// Opens the regular file at a path for reading. Never through a link there, and never waiting for the other end of a
/// pipe: anything but a regular file is refused.
pub fn open_file(path: &Path) -> io::Result<File> {
    let file = platform::open_to_read(path)?;
    match Facts::of(&file)?.kind {
        Kind::File => Ok(file),
        Kind::Link => Err(Refusal::Link.into()),
        Kind::Dir => Err(io::ErrorKind::IsADirectory.into()),
        Kind::Other => Err(not_regular()),
    }
}

/// Opens the regular file that a path leads to, through links too, for reading. Never waits for the other end of a pipe: anything but a
/// regular file is refused.
pub fn open_file_through_links(path: &Path) -> io::Result<File> {
    let file = platform::open_to_read_through_links(path)?;
    match Facts::of(&file)?.kind {
        Kind::File => Ok(file),
        _ => Err(not_regular()),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

/// Whether a user may read what a path leads to, by the permission bits of the file and of each directory above it. Groups and access lists
/// are not asked, so the answer is "no" for some who may. `None` is a user who owns nothing. The stamp is of what was looked at.
pub fn may_read(path: &Path, user: Option<u32>) -> io::Result<(FileStamp, bool)> {
    let path = path.canonicalize()?;
    let stamp = FileStamp::at(&path)?;
    let mut may = true;
    for step in path.ancestors() {
        let is_whole = step == path;
        may &= platform::permits(step, user, is_whole)?;
    }
    Ok((stamp, may))
}

/// Makes a file private to its owner (0600): for files that a library has created.
pub fn make_private(path: &Path) -> io::Result<()> {
    platform::set_mode_at(path, 0o600)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn who_may_read_a_file_is_told_by_its_bits_and_those_above_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let above = tempfile::tempdir().unwrap();
        let dir = above.path().join("dir");
        fs::create_dir(&dir).unwrap();
        let (file, link) = (dir.join("file"), above.path().join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let (me, other) = (crate::user_numbers().0, crate::user_numbers().0 + 1);
        let may = |user| may_read(&link, user).unwrap().1;
        for (above_bits, dir_bits, file_bits, i_may, another_may) in [
            (0o755, 0o755, 0o644, true, true),
            (0o755, 0o755, 0o640, true, false),
            (0o755, 0o711, 0o604, true, true),
            (0o755, 0o750, 0o604, true, false),
            (0o700, 0o755, 0o644, true, false),
            (0o755, 0o655, 0o644, false, true),
            (0o755, 0o755, 0o044, false, true),
        ] {
            set(above.path(), 0o755);
            set(&dir, 0o755);
            set(&file, file_bits);
            set(&dir, dir_bits);
            set(above.path(), above_bits);
            let bits = format!("{above_bits:o} {dir_bits:o} {file_bits:o}");
            assert_eq!(may(Some(other)), another_may, "{bits}");
            assert_eq!(may(None), another_may, "{bits}");
            assert_eq!(may(Some(me)), i_may, "{bits}");
        }
        let stamp = may_read(&link, None).unwrap().0;
        assert_eq!(stamp, FileStamp::at(&file).unwrap());
    }

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
