//! Files and directories that only this user could have written.
//!
//! One rule for everything that a privileged process opens by name: it is a directory or a regular
//! file, not a link to one; it belongs to this process's user; no other user may write to it. Anything
//! else is refused with [`io::ErrorKind::PermissionDenied`] and the reason.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;

use crate::copy::read_range;
use crate::error::At as _;
use crate::{DurableError, Facts, Kind, platform};

/// What an entry should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Dir,
    File,
}

/// Why another user may have put an entry there or changed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    /// A link leads where its maker wants.
    #[error("it is a symbolic link")]
    Link,
    /// A FIFO, a socket, a device, a directory in place of a file.
    #[error("it is no {}", match .0 { Wanted::Dir => "directory", Wanted::File => "regular file" })]
    Kind(Wanted),
    /// Its owner may change it at any time.
    #[error("it belongs to user {0}, not to user {1} who runs this program")]
    Owner(String, String),
    /// Other users may change it.
    #[error("other users may write to it {0}")]
    Writers(String),
    /// It may have another name, in a place of another user.
    #[error("it has {0} names, and should have one")]
    Names(u64),
}

impl From<Distrust> for io::Error {
    fn from(distrust: Distrust) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, distrust)
    }
}

/// The owner of a file or directory, and who else may change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub(crate) kind: Kind,
    /// A character device, which keeps no bytes (`/dev/null`).
    pub(crate) is_device: bool,
    pub(crate) owner: platform::Owner,
    pub(crate) me: platform::Owner,
    /// Who else may write to it, and what could be done about it, in brackets.
    pub(crate) writers: Option<String>,
    pub(crate) keeps_names: bool,
    pub(crate) names: u64,
}

impl Standing {
    /// That of the entry at a path. A link there is not followed.
    pub fn at(path: &Path) -> io::Result<Self> {
        platform::standing_at(path)
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it belongs to this process's user.
    pub fn is_mine(&self) -> bool {
        self.owner == self.me
    }

    /// Whether it belongs to the system: root; on Windows also the administrators.
    pub fn is_of_system(&self) -> bool {
        self.owner.is_system()
    }

    /// Its owner, for messages.
    pub fn owner(&self) -> String {
        self.owner.to_string()
    }

    /// How other users than its owner may write to it, for messages; `None` if they may not.
    pub fn writers(&self) -> Option<&str> {
        self.writers.as_deref()
    }

    /// Whether other users who may write to a directory can rename and remove only their own entries: the sticky
    /// bit; on Windows the rights in the access control list.
    pub fn keeps_names(&self) -> bool {
        self.keeps_names
    }
}

/// Fails unless the entry is this user's alone. It must not have been opened through a link.
pub(crate) fn check(standing: &Standing, wanted: Wanted) -> Result<(), Distrust> {
    let kind = match wanted {
        Wanted::Dir => Kind::Dir,
        Wanted::File => Kind::File,
    };
    if standing.kind == Kind::Link {
        Err(Distrust::Link)
    } else if standing.kind != kind {
        Err(Distrust::Kind(wanted))
    } else if !standing.is_mine() {
        Err(foreign(standing))
    } else if let Some(writers) = &standing.writers {
        Err(Distrust::Writers(writers.clone()))
    } else {
        Ok(())
    }
}

fn foreign(standing: &Standing) -> Distrust {
    Distrust::Owner(standing.owner.to_string(), standing.me.to_string())
}

/// A regular file that belongs to this process's user and that no other user may write to, open for
/// reading at any place. It may still be cut off or removed while it is open.
#[derive(Debug)]
pub struct OwnFile(File);

impl OwnFile {
    /// Opens a file. Never through a symbolic link at its name, and never waiting for the other end of
    /// a pipe. Fails with [`io::ErrorKind::PermissionDenied`] for a file that is not this user's alone.
    pub fn open(path: &Path) -> Result<Self, DurableError> {
        let file = platform::open_to_read(path).at("open", path)?;
        check(
            &platform::standing(&file).at("look at", path)?,
            Wanted::File,
        )
        .at("trust", path)?;
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
    check(&Standing::at(path).at("look at", path)?, Wanted::Dir).at("trust", path)
}

/// As [`check_own_dir`], for a regular file. A missing file is fine.
pub fn check_own_file(path: &Path) -> Result<(), DurableError> {
    match Standing::at(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        standing => check(&standing.at("look at", path)?, Wanted::File).at("trust", path),
    }
}

/// Opens a file that a person named, to append to it, and creates it (0600) if it is not there. Fails for
/// a symbolic link, for a file of another user and for one that has a second name: any user who may
/// create files in its directory could have prepared them. Others may be allowed to write to it. A
/// character device such as `/dev/null` is taken as it is. Never waits for the other end of a pipe.
pub fn open_to_append(path: &Path) -> Result<File, DurableError> {
    let file = platform::open_to_append(path).map_err(|error| because(path, Wanted::File, error));
    let file = file.at("open", path)?;
    let standing = platform::standing(&file).at("look at", path)?;
    if standing.is_device {
        return Ok(file);
    }
    let distrust = if standing.kind == Kind::Link {
        Distrust::Link
    } else if standing.kind != Kind::File {
        Distrust::Kind(Wanted::File)
    } else if !standing.is_mine() {
        foreign(&standing)
    } else if standing.names > 1 {
        Distrust::Names(standing.names)
    } else {
        return Ok(file);
    };
    Err(DurableError::new("write to", path, distrust))
}

/// Replaces the error of a failed opening by the reason, if it failed because of the entry's kind
/// or owner.
pub(crate) fn because(path: &Path, wanted: Wanted, error: io::Error) -> io::Error {
    let why = Facts::at(path)
        .ok()
        .and_then(|facts| why_not(facts.kind, wanted));
    why.map_or(error, io::Error::from)
}

/// Why something of this kind is not what was wanted.
pub(crate) fn why_not(kind: Kind, wanted: Wanted) -> Option<Distrust> {
    match (kind, wanted) {
        (Kind::Link, _) => Some(Distrust::Link),
        (Kind::Dir, Wanted::Dir) | (Kind::File, Wanted::File) => None,
        _ => Some(Distrust::Kind(wanted)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    #[cfg(unix)]
    use std::fs::Permissions;
    #[cfg(unix)]
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[cfg(unix)]
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

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_could_have_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "").unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        OwnFile::open(&link).unwrap_err();
        refused(check_own_file(&link));
        check_own_file(&dir.path().join("none")).unwrap();
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

    #[cfg(unix)]
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

    #[cfg(unix)]
    #[test]
    fn a_log_is_not_opened_through_a_file_that_another_user_prepared() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, log) = (dir.path().join("victim"), dir.path().join("log"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &log).unwrap();
        let error = open_to_append(&log).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.source.to_string(), "it is a symbolic link");
        fs::remove_file(&log).unwrap();
        fs::hard_link(&victim, &log).unwrap();
        assert_eq!(
            refused(open_to_append(&log)),
            io::ErrorKind::PermissionDenied
        );
        fs::remove_file(&log).unwrap();
        fs::create_dir(&log).unwrap();
        open_to_append(&log).unwrap_err();
        fs::remove_dir(&log).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &log,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        open_to_append(&log).unwrap_err();
        fs::remove_file(&log).unwrap();
        for text in ["one", "two"] {
            io::Write::write_all(&mut open_to_append(&log).unwrap(), text.as_bytes()).unwrap();
        }
        assert_eq!(fs::read(&log).unwrap(), b"onetwo");
        assert_eq!(
            fs::metadata(&log).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        open_to_append(Path::new("/dev/null")).unwrap();
    }

    #[test]
    fn what_is_appended_to_is_made_for_its_owner_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for text in ["one", "two"] {
            io::Write::write_all(&mut open_to_append(&log).unwrap(), text.as_bytes()).unwrap();
        }
        assert_eq!(fs::read(&log).unwrap(), b"onetwo");
        check_own_file(&log).unwrap();
        open_to_append(dir.path()).unwrap_err();
    }

    #[test]
    fn the_owner_of_a_file_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        crate::publish(&path, |_| Ok(())).unwrap();
        let standing = Standing::at(&path).unwrap();
        assert_eq!((standing.kind(), standing.writers()), (Kind::File, None));
        assert!(standing.is_mine() && crate::is_mine(&File::open(&path).unwrap()).unwrap());
        assert!(!standing.owner().is_empty());
    }
}
