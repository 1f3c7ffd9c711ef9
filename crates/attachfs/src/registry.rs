//! The sessions of a user: what was mounted, and what was written and not yet committed.
//!
//! Each is a directory below [`Places::sessions`], or a symbolic link to one that was put elsewhere.

use std::path::{Path, PathBuf};

use attachfs_mount::{FuseMount, MountOf, Place};
use attachfs_vfs::{Session, SessionError, SessionId, SessionMeta};
use serde::Serialize;

use crate::{Error, Places};

/// Whether a session has a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// A process has it: it is mounted, or being committed.
    InUse,
    /// No process has it. What was written is there.
    Left,
}

/// A session that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its directory.
    pub dir: PathBuf,
    /// What it is.
    pub meta: SessionMeta,
    /// Whether a process has it.
    pub state: SessionState,
}

/// All sessions, the newest first. One that cannot be read is given as its error: it is not to be
/// forgotten.
pub fn sessions(places: &Places) -> Result<Vec<Result<Found, Error>>, Error> {
    let dir = places.sessions();
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|source| Error::Io {
            doing: "read",
            path: dir.clone(),
            source,
        })?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|source| Error::Io {
                doing: "read",
                path: dir.clone(),
                source,
            })?
            .path();
        match look(&path) {
            Ok(session) => found.push(Ok(session)),
            Err(Error::Session(SessionError::Missing(_))) => forget_link(&path),
            Err(error) => found.push(Err(error)),
        }
    }
    found.sort_by_key(|session| match session {
        Ok(found) => std::cmp::Reverse(Some(found.meta.created)),
        Err(_) => std::cmp::Reverse(None),
    });
    Ok(found)
}

/// A link whose session was discarded is of no use any more. A directory that holds none is a
/// session being made, or what is left of one.
fn forget_link(path: &Path) {
    if path.is_symlink()
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove the link to a session that is gone");
    }
}

fn look(path: &Path) -> Result<Found, Error> {
    let meta = Session::read_meta(path)?;
    let state = if Session::is_in_use(path)? {
        SessionState::InUse
    } else {
        SessionState::Left
    };
    let dir = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Ok(Found { dir, meta, state })
}

/// The session that a person means: by its mount point or a path in the mount, by id, the beginning of an
/// id (four digits at least), or the session's own directory.
///
/// What is in a mount is never looked at: it is somebody's input, and whoever serves it may be stopped. The
/// kernel's table of mounts says which session it is of.
pub fn find(places: &Places, name: &Path) -> Result<Found, Error> {
    let shown = name.display().to_string();
    // A path that leads nowhere may still be an id.
    let place = Place::of(name).ok();
    let mut foreign = None;
    match place.as_ref().map(|place| (place, &place.mount)) {
        Some((_, Some(mount))) => match of_mount(places, mount)? {
            Some(found) => return Ok(found),
            None => foreign = Some(mount),
        },
        Some((place, None)) if place.path.join("session.json").is_file() => {
            return look(&place.path);
        }
        _ => {}
    }
    let mut all = Vec::new();
    let mut unreadable = Vec::new();
    for session in sessions(places)? {
        match session {
            Ok(found) => all.push(found),
            Err(error) => unreadable.push(error),
        }
    }
    let is_there = |found: &&Found| {
        let at = place.as_ref().map(|place| &place.path);
        at.is_some_and(|path| found.meta.mount_point == *path)
    };
    let mut by_place: Vec<&Found> = all.iter().filter(is_there).collect();
    if let Some(mounted) = by_place
        .iter()
        .find(|found| found.state == SessionState::InUse)
    {
        return Ok((*mounted).clone());
    }
    if by_place.is_empty() && shown.len() >= 4 && shown.bytes().all(|b| b.is_ascii_hexdigit()) {
        by_place = all
            .iter()
            .filter(|found| found.meta.id.as_str().starts_with(&shown))
            .collect();
    }
    match by_place[..] {
        // It may be one of those that cannot be read: then this is the better answer.
        [] => {
            let is_id = |error: &Error| is_of(error, &places.sessions().join(&shown));
            let meant = unreadable.into_iter().find(is_id);
            let foreign = foreign.map(|mount| Error::ForeignMount {
                path: name.to_owned(),
                mount_point: mount.mount_point.clone(),
                source_name: mount.source.clone(),
            });
            Err(meant.or(foreign).unwrap_or(Error::NoSession(shown)))
        }
        [found] => Ok(found.clone()),
        _ => {
            let ids: Vec<&str> = by_place
                .iter()
                .map(|found| found.meta.id.as_str())
                .collect();
            Err(Error::Ambiguous {
                name: shown,
                ids: ids.join(", "),
            })
        }
    }
}

/// The session in a directory, if there is one. What is in a mount of attachfs is never looked at.
pub fn session_in(dir: &Path) -> Result<Option<Found>, Error> {
    let place = Place::of(dir).map_err(|source| Error::Io {
        doing: "find",
        path: dir.to_owned(),
        source,
    })?;
    if let Some(mount) = place.mount.filter(|mount| mount.of != MountOf::Other) {
        return Err(Error::Usage(format!(
            "{} is in the mount {} of attachfs: a session cannot be there",
            dir.display(),
            mount.mount_point.display()
        )));
    }
    match look(&place.path) {
        Err(Error::Session(SessionError::Missing(_))) => Ok(None),
        found => found.map(Some),
    }
}

/// The session that a mount is of; `None` if it is no mount of this user's sessions. Whoever mounts
/// chooses what the table of mounts calls the mount, but not the user that it names.
fn of_mount(places: &Places, mount: &FuseMount) -> Result<Option<Found>, Error> {
    let MountOf::Session(id) = &mount.of else {
        return Ok(None);
    };
    if mount.user != Some(rustix::process::getuid().as_raw()) {
        return Ok(None);
    }
    match look(&places.sessions().join(id.as_str())) {
        Err(Error::Session(SessionError::Missing(_))) => Err(Error::UnknownMount {
            mount_point: mount.mount_point.clone(),
            id: id.clone(),
            sessions: places.sessions(),
        }),
        found => found.map(Some),
    }
}

/// Whether an error is about the session in a directory.
fn is_of(error: &Error, dir: &Path) -> bool {
    match error {
        Error::Session(SessionError::Format { path, .. }) => path == dir,
        Error::Session(SessionError::Description { path, .. }) => path.parent() == Some(dir),
        _ => false,
    }
}

/// Makes a session that lies elsewhere findable.
pub(crate) fn register(places: &Places, id: &SessionId, dir: &Path) -> Result<(), Error> {
    let sessions = places.sessions();
    attachfs_durable::create_private_dir(&sessions)?;
    let link = sessions.join(id.as_str());
    if link.exists() {
        return Ok(());
    }
    let failed = |source| Error::Io {
        doing: "link to the session from",
        path: link.clone(),
        source,
    };
    let dir = dir.canonicalize().map_err(failed)?;
    if link.is_symlink() {
        std::fs::remove_file(&link).map_err(failed)?;
    }
    std::os::unix::fs::symlink(dir, &link).map_err(failed)
}

/// Takes away what [`register`] made.
pub(crate) fn unregister(places: &Places, id: &SessionId) {
    let link = places.sessions().join(id.as_str());
    forget_link(&link);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_cannot_be_read_is_not_said_to_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            state: dir.path().join("state"),
            cache: dir.path().join("cache"),
            data: dir.path().join("data"),
        };
        let id = "0123456789abcdef0123456789abcdef";
        let session = places.sessions().join(id);
        std::fs::create_dir_all(&session).unwrap();
        std::fs::write(
            session.join("session.json"),
            r#"{"format":1,"program":"0.0.9"}"#,
        )
        .unwrap();
        for name in [Path::new(id), &session] {
            let error = find(&places, name).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("the attachfs 0.0.9 that made it"),
                "{error}"
            );
        }
        assert!(matches!(
            find(&places, Path::new("0123")),
            Err(Error::NoSession(_))
        ));
    }
}
