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

/// From here on this thread, and each that it starts, may do with files what a user may, and no more: the kernel asks for that user's id and for the groups
/// that the system's user database has. `None` is a user who owns nothing and is in no group. There is no way back: it is for a thread that ends. False if
/// this process may not act as another user; then this thread has the rights that it had, or fewer. May wait for the user database.
pub fn act_as(user: Option<u32>) -> io::Result<bool> {
    platform::act_as(user)
}

/// Whether everybody may read what a path leads to, by the permission bits of the file and of each directory above it. Where one of them has an
/// access list, the answer is "no". The stamp is of what was looked at.
pub fn may_all_read(path: &Path) -> io::Result<(FileStamp, bool)> {
    let path = path.canonicalize()?;
    let stamp = FileStamp::at(&path)?;
    let mut may = true;
    for step in path.ancestors() {
        let is_whole = step == path;
        may &= platform::permits_all(step, is_whole)?;
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
    fn whether_everybody_may_read_a_file_is_told_by_its_bits_and_those_above_it() {
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
        for (above_bits, dir_bits, file_bits, may) in [
            (0o755, 0o755, 0o644, true),
            (0o755, 0o711, 0o444, true),
            (0o755, 0o755, 0o640, false),
            // The group may not.
            (0o755, 0o755, 0o604, false),
            (0o755, 0o701, 0o644, false),
            (0o755, 0o750, 0o644, false),
            (0o700, 0o755, 0o644, false),
        ] {
            set(above.path(), 0o755);
            set(&dir, 0o755);
            set(&file, file_bits);
            set(&dir, dir_bits);
            set(above.path(), above_bits);
            let bits = format!("{above_bits:o} {dir_bits:o} {file_bits:o}");
            assert_eq!(may_all_read(&link).unwrap().1, may, "{bits}");
        }
        set(above.path(), 0o755);
        set(&dir, 0o755);
        let stamp = may_all_read(&link).unwrap().0;
        assert_eq!(stamp, FileStamp::at(&file).unwrap());
    }

    /// An access list as the kernel stores it: the owner and everybody else may read, and the user `denied` nothing.
    #[cfg(target_os = "linux")]
    fn deny(path: &Path, denied: u32) {
        let mut list = 2_u32.to_le_bytes().to_vec();
        let no_id = u32::MAX;
        for (tag, rights, id) in [
            (0x01_u16, 6_u16, no_id),
            (0x02, 0, denied),
            (0x04, 4, no_id),
            (0x10, 4, no_id),
            (0x20, 4, no_id),
        ] {
            list.extend(tag.to_le_bytes());
            list.extend(rights.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, "system.posix_acl_access", &list, flags).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_with_an_access_list_is_not_for_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        deny(&path, 4242);
        assert!(!may_all_read(&path).unwrap().1);
    }

    /// What is read by a thread that acts as a user. `None` if this process may not.
    #[cfg(target_os = "linux")]
    fn read_as(user: Option<u32>, path: &Path) -> Option<io::Result<Vec<u8>>> {
        let path = path.to_owned();
        let read = move || act_as(user).unwrap().then(|| fs::read(path));
        std::thread::spawn(read).join().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_that_acts_as_a_user_reads_what_the_kernel_lets_that_user_read() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "bytes").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let Some(read) = read_as(Some(4242), &file) else {
            // Only root can.
            return;
        };
        assert_eq!(read.unwrap(), b"bytes");
        // A process of another user than root may have capabilities, too.
        let status = read_as(Some(4242), Path::new("/proc/thread-self/status"));
        let status = String::from_utf8(status.unwrap().unwrap()).unwrap();
        for kind in ["CapPrm", "CapEff"] {
            let none = format!("{kind}:\t{:016x}\n", 0);
            assert!(status.contains(&none), "{status}");
        }
        assert_eq!(read_as(None, &file).unwrap().unwrap(), b"bytes");
        deny(&file, 4242);
        read_as(Some(4242), &file).unwrap().unwrap_err();
        assert_eq!(read_as(Some(4243), &file).unwrap().unwrap(), b"bytes");

        // In the system's user database `nobody` is in the group of this number.
        for (mode, may) in [(0o640, true), (0o604, false)] {
            let path = dir.path().join(format!("{mode:o}"));
            fs::write(&path, "bytes").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            chown(&path, Some(0), Some(65534)).unwrap();
            let read = read_as(Some(65534), &path).unwrap();
            assert_eq!(read.is_ok(), may, "{mode:o}");
        }

        let private = dir.path().join("private");
        fs::write(&private, "mine").unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&private, Some(4242), Some(4242)).unwrap();
        assert_eq!(read_as(Some(4242), &private).unwrap().unwrap(), b"mine");
        read_as(Some(4243), &private).unwrap().unwrap_err();
        read_as(None, &private).unwrap().unwrap_err();
        // This thread and the next ones have their rights still.
        assert_eq!(fs::read(&private).unwrap(), b"mine");
        std::thread::spawn(move || fs::read(&private).unwrap());
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
