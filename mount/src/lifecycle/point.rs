//! The directory to mount on: what is there, and what is to be done about it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use attachfs_vfs::SessionId;

use super::error::MountError;
use super::mountinfo::{self, MountEntry};
use super::source::Source;

/// A directory that can be mounted on.
#[derive(Debug)]
pub(super) struct MountPoint {
    /// Absolute, without symbolic links, as the kernel's table of mounts will show it.
    pub(super) path: PathBuf,
    /// Permission bits and type, which the kernel wants to know.
    pub(super) mode: u32,
}

/// What to do about what is at a mount point.
#[derive(Debug)]
pub(super) enum Finding {
    /// It can be mounted on.
    Free(MountPoint),
    /// A dead mount that may be detached: ours.
    OwnDead(MountEntry),
}

/// Looks at a mount point on behalf of a session.
pub(super) fn look(given: &Path, session: Option<&SessionId>) -> Result<Finding, MountError> {
    let path = resolve(given)?;
    let failed = |doing, source| MountError::Io {
        doing,
        mount_point: path.clone(),
        source,
    };
    let there = mountinfo::at(&path).map_err(|error| failed("see what is mounted at", error))?;
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if is_dead(&error) => return dead(path, there, session),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(MountError::Missing(path));
        }
        Err(error) => return Err(failed("look at", error)),
    };
    if there.is_some() && is_dead_at(&path) {
        return dead(path, there, session);
    }
    if let Some(entry) = there.filter(MountEntry::is_fuse) {
        let source_name = Source::display(&entry.source);
        return Err(MountError::AlreadyMounted {
            mount_point: path,
            source_name,
        });
    }
    if !metadata.is_dir() {
        return Err(MountError::NotADirectory(path));
    }
    let mut entries = fs::read_dir(&path).map_err(|error| failed("read", error))?;
    if entries.next().is_some() {
        return Err(MountError::NotEmpty(path));
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&metadata);
    Ok(Finding::Free(MountPoint { path, mode }))
}

/// Whatever the kernel cannot answer by itself fails so when a mount's process has gone.
fn is_dead(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
}

/// Whether whoever served the mount at `path` is gone. The kernel remembers the attributes of a root, so
/// it is asked for the free space, which it never remembers.
pub(super) fn is_dead_at(path: &Path) -> bool {
    rustix::fs::statfs(path).is_err_and(|error| is_dead(&error.into()))
}

/// What a dead mount leaves behind can be removed without asking if it is ours for sure: nobody else
/// can have this session, and a mount without a session has nothing to lose.
fn dead(
    path: PathBuf,
    there: Option<MountEntry>,
    session: Option<&SessionId>,
) -> Result<Finding, MountError> {
    let Some(entry) = there else {
        let source = io::ErrorKind::NotConnected.into();
        return Err(MountError::Io {
            doing: "look at",
            mount_point: path,
            source,
        });
    };
    match Source::parse(&entry) {
        Some(Source::ReadOnly) => Ok(Finding::OwnDead(entry)),
        Some(Source::Session(id)) if Some(&id) == session => Ok(Finding::OwnDead(entry)),
        Some(Source::Session(id)) => Err(MountError::Dead {
            mount_point: path,
            source_name: Source::display(&entry.source),
            session: Some(id),
        }),
        None => Err(MountError::Dead {
            mount_point: path,
            source_name: Source::display(&entry.source),
            session: None,
        }),
    }
}

/// The path as the table of mounts has it. Not even a dead mount's own directory can be resolved,
/// the directory above it can.
pub(super) fn resolve(given: &Path) -> Result<PathBuf, MountError> {
    let error = match given.canonicalize() {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    if is_dead(&error) {
        let absolute = std::path::absolute(given);
        if let Ok(absolute) = &absolute
            && let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name())
            && let Ok(parent) = parent.canonicalize()
        {
            return Ok(parent.join(name));
        }
    }
    match error.kind() {
        io::ErrorKind::NotFound => Err(MountError::Missing(given.to_owned())),
        io::ErrorKind::NotADirectory => Err(MountError::NotADirectory(given.to_owned())),
        _ => {
            let mount_point = given.to_owned();
            Err(MountError::Io {
                doing: "find",
                mount_point,
                source: error,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_that_does_not_exist_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        match look(&missing, None) {
            Err(MountError::Missing(path)) => assert_eq!(path, missing),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_no_mount_point() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            look(file.path(), None),
            Err(MountError::NotADirectory(_))
        ));
    }

    #[test]
    fn a_directory_that_holds_something_is_not_hidden() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("precious"), b"").unwrap();
        assert!(matches!(
            look(dir.path(), None),
            Err(MountError::NotEmpty(_))
        ));
    }

    #[test]
    fn symbolic_links_on_the_way_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        match look(&dir.path().join("link"), None) {
            Ok(Finding::Free(point)) => assert_eq!(point.path, real.canonicalize().unwrap()),
            other => panic!("{other:?}"),
        }
    }
}
