//! The directory to mount on: what is there, and what is to be done about it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use attachfs_session::SessionId;

use super::error::MountError;
use super::kernel::is_own;
use super::mountinfo::{self, MountEntry};
use super::source::MountSource;
use super::walk::Walked;

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

/// Looks at a mount point on behalf of a session, whose lock this process has.
pub(super) fn look(given: &Path, session: Option<&SessionId>) -> Result<Finding, MountError> {
    let cannot = |doing, path: &Path| {
        let mount_point = path.to_owned();
        move |source| MountError::Io {
            doing,
            mount_point,
            source,
        }
    };
    let table = mountinfo::read().map_err(cannot("see what is mounted at", given))?;
    let walked = Walked::along(given, &table).map_err(cannot("find", given))?;
    if let Some(entry) = walked.mounted_here() {
        return occupied(entry, session);
    }
    // In a mount that a process serves: the kernel asks that process too when it mounts.
    let path = if walked.fuse.is_some() {
        given.canonicalize()
    } else {
        Ok(walked.path)
    };
    let path = path.map_err(|error| refused(error, given))?;
    let metadata = fs::metadata(&path).map_err(|error| refused(error, &path))?;
    if !metadata.is_dir() {
        return Err(MountError::NotADirectory(path));
    }
    let mut entries = fs::read_dir(&path).map_err(cannot("read", &path))?;
    if entries.next().is_some() {
        return Err(MountError::NotEmpty(path));
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&metadata);
    Ok(Finding::Free(MountPoint { path, mode }))
}

/// What a session's earlier process left behind can be removed without asking: nobody else can have
/// this session now. Anything else may be alive, and asking it might take for ever.
fn occupied(entry: &MountEntry, session: Option<&SessionId>) -> Result<Finding, MountError> {
    match MountSource::parse(entry) {
        Some(MountSource::Session(id)) if Some(&id) == session && is_own(entry) => {
            Ok(Finding::OwnDead(entry.clone()))
        }
        source => Err(MountError::AlreadyMounted {
            mount_point: entry.mount_point.clone(),
            source_name: MountSource::display(&entry.source),
            session: match source {
                Some(MountSource::Session(id)) => Some(id),
                Some(MountSource::ReadOnly(_)) | None => None,
            },
        }),
    }
}

fn refused(error: io::Error, path: &Path) -> MountError {
    match error.kind() {
        io::ErrorKind::NotFound => MountError::Missing(path.to_owned()),
        io::ErrorKind::NotADirectory => MountError::NotADirectory(path.to_owned()),
        _ => MountError::Io {
            doing: "find",
            mount_point: path.to_owned(),
            source: error,
        },
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
    fn a_mount_of_the_session_is_removed_only_if_this_user_made_it() {
        let id = "00112233445566778899aabbccddeeff";
        let me = rustix::process::getuid().as_raw();
        let found = |user: u32| {
            let line =
                format!("2 1 0:40 / /m rw - fuse.attachfs attachfs:{id} rw,user_id={user}\n");
            let session: SessionId = id.parse().unwrap();
            occupied(&mountinfo::parse(line.as_bytes())[0], Some(&session))
        };
        assert!(matches!(found(me), Ok(Finding::OwnDead(_))));
        assert!(matches!(
            found(me + 1),
            Err(MountError::AlreadyMounted { .. })
        ));
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
