//! Where a mount goes, and why it could not.

use std::path::{Path, PathBuf};

use attachfs_mount::{MountError, Place};
use attachfs_session::{FailureClass, Session};

use super::request::MountPoint;
use crate::error::{Doing as _, Error};
use crate::places::Places;
use crate::reachable::require_answer;

/// Where to mount: absolute, and without symbolic links as far as no mount has to be asked for them.
pub(crate) fn place(
    mount_point: &MountPoint,
    session: &Path,
    places: &Places,
) -> Result<PathBuf, Error> {
    let path = match mount_point {
        MountPoint::At(path) => path,
        MountPoint::InSession => return Ok(session.join("mnt")),
    };
    let place = Place::of(path).doing(|| format!("cannot find {}", path.display()))?;
    match place.mount {
        Some(mount) if mount.mount_point != place.path => {
            // The kernel will ask the process that serves that mount, whatever program that is.
            require_answer(path, &mount, places)?;
            // If it cannot be found, mounting fails of the same and says so.
            path.canonicalize().or(Ok(place.path))
        }
        Some(_) => Ok(place.path),
        None => match place.path.symlink_metadata() {
            // Before a session is made for it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(MountError::Missing(path.clone()).into())
            }
            _ => Ok(place.path),
        },
    }
}

/// Whether there is a session in a directory, and no process has it.
fn is_left(dir: &Path) -> bool {
    Session::read_meta(dir).is_ok() && matches!(Session::is_in_use(dir), Ok(false))
}

/// Why a session was not mounted. A mount of a session that no process has is dead.
pub(crate) fn not_mounted(error: MountError, places: &Places) -> Error {
    match error {
        MountError::AlreadyMounted {
            mount_point,
            session: Some(id),
            ..
        } if is_left(&places.sessions().entry_of(&id)) => {
            let sentence = format!("the process that served {} is gone", mount_point.display());
            Error::new(FailureClass::Mount, sentence).advise(format!(
                "`attachfs umount {id}` removes its mount, the session is kept"
            ))
        }
        error => error.into(),
    }
}

pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).doing(|| format!("cannot find {}", path.display()))
}
