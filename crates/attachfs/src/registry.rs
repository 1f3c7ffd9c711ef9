//! The sessions of a user: what was mounted, and what was written and not yet committed.
//!
//! Each is a directory below [`Places::sessions`], called as its id, or a symbolic link of that name to one
//! that was put elsewhere. An entry goes only when its session is discarded, or when a person says so: a
//! session whose disk is not mounted at the moment is not gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use attachfs_durable::steps::{Step, perform};
use attachfs_durable::{DurableError, OwnDir, create_link};
use attachfs_mount::{FuseMount, MountOf, Place};
use attachfs_session::{Session, SessionError, SessionId, SessionMeta};
use serde::Serialize;

use crate::ended::{ended_sessions, find_ended, forget_ended};
use crate::{Error, Places};

/// How long a disk may take to say what is on it.
const DISK_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

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
pub struct SessionEntry {
    /// Its directory.
    pub dir: PathBuf,
    /// What it is.
    pub meta: SessionMeta,
    /// Whether a process has it.
    pub state: SessionState,
}

/// All sessions, the newest first. One that cannot be read is given as its error: it is not to be
/// forgotten. That is [`Error::Unreachable`] for one whose directory is not there now, and
/// [`Error::Replaced`] for one in whose place there is another.
pub fn sessions(places: &Places) -> Result<Vec<Result<SessionEntry, Error>>, Error> {
    let Some(dir) = open(places)? else {
        return Ok(Vec::new());
    };
    let mut looking = Vec::new();
    for name in dir.names()? {
        let path = dir.path().join(&name);
        let id = name
            .to_str()
            .and_then(|name| name.parse::<SessionId>().ok());
        let link = path.read_link().ok();
        // All at once, so that one disk that does not answer costs as much time as many.
        let look = match &link {
            Some(_) => Look::Asked(ask(&path)),
            None => Look::Done(Box::new(look(&path))),
        };
        looking.push((path, id, link, look));
    }
    let deadline = Instant::now() + DISK_ANSWERS_WITHIN;
    let mut found = Vec::new();
    for (path, id, link, look) in looking {
        let look = look.by(deadline, &path);
        found.extend(entry(path, id, link, look));
    }
    found.sort_by_key(|session| match session {
        Ok(found) => std::cmp::Reverse(Some(found.meta.created)),
        Err(_) => std::cmp::Reverse(None),
    });
    Ok(found)
}

fn open(places: &Places) -> Result<Option<OwnDir>, Error> {
    match OwnDir::open(&places.sessions()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        dir => Ok(Some(dir?)),
    }
}

/// What an entry stands for; nothing if no session was ever whole there: one is being made, or was half
/// deleted.
fn entry(
    path: PathBuf,
    id: Option<SessionId>,
    link: Option<PathBuf>,
    found: Result<SessionEntry, Error>,
) -> Option<Result<SessionEntry, Error>> {
    match (found, id, link) {
        (Ok(found), Some(id), _) if found.meta.id == id => Some(Ok(found)),
        (Ok(found), id, _) => Some(Err(Error::Replaced {
            entry: path,
            id,
            dir: found.dir,
            found: found.meta.id,
        })),
        (Err(error), Some(id), Some(dir)) if is_absence(&error) => Some(Err(Error::Unreachable {
            id,
            dir,
            source: Box::new(error),
        })),
        (Err(Error::Session(SessionError::Missing(_))), _, _) => None,
        (Err(error), _, _) => Some(Err(error)),
    }
}

/// Whether a session is not there, or what it is on does not answer.
fn is_absence(error: &Error) -> bool {
    let source = match error {
        Error::Session(SessionError::Missing(_)) => return true,
        Error::Session(SessionError::Durable(DurableError { source, .. }))
        | Error::Io { source, .. } => source,
        _ => return false,
    };
    // An error of the disk, of the network, or of a mount whose process is gone or stopped.
    !matches!(
        source.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData
    )
}

/// A look at a session.
enum Look {
    Done(Box<Result<SessionEntry, Error>>),
    /// On a thread of its own.
    Asked(io::Result<Receiver<Result<SessionEntry, Error>>>),
}

impl Look {
    /// What was found by the deadline.
    fn by(self, deadline: Instant, path: &Path) -> Result<SessionEntry, Error> {
        let failed = |source: io::Error| Error::Io {
            doing: "look at",
            path: path.to_owned(),
            source,
        };
        match self {
            Self::Done(found) => *found,
            Self::Asked(asked) => {
                let patience = deadline.saturating_duration_since(Instant::now());
                match asked.map_err(failed)?.recv_timeout(patience) {
                    Ok(found) => found,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        Err(failed(io::ErrorKind::TimedOut.into()))
                    }
                }
            }
        }
    }
}

/// Looks at one session, whose disk may not answer.
fn look_in_time(path: &Path) -> Result<SessionEntry, Error> {
    Look::Asked(ask(path)).by(Instant::now() + DISK_ANSWERS_WITHIN, path)
}

/// Looks at a session on a disk that may not answer.
fn ask(path: &Path) -> io::Result<Receiver<Result<SessionEntry, Error>>> {
    let (answer, asked) = channel();
    let path = path.to_owned();
    let thread = std::thread::Builder::new().name("attachfs-look".to_owned());
    // A thread that is never answered ends with the process.
    thread.spawn(move || {
        // Nobody waits any more if it took too long.
        let _ = answer.send(look(&path));
    })?;
    Ok(asked)
}

/// The session in a directory, or where a link leads.
fn look(path: &Path) -> Result<SessionEntry, Error> {
    let dir = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let missing = path.read_link().unwrap_or_else(|_| path.to_owned());
            return Err(SessionError::Missing(missing).into());
        }
        dir => dir.map_err(|source| Error::Io {
            doing: "find",
            path: path.to_owned(),
            source,
        })?,
    };
    let meta = Session::read_meta(&dir)?;
    let state = if Session::is_in_use(&dir)? {
        SessionState::InUse
    } else {
        SessionState::Left
    };
    Ok(SessionEntry { dir, meta, state })
}

/// The session that a person means: by its mount point or a path in the mount, by id, the beginning of an
/// id (four digits at least), or the session's own directory.
///
/// What is in a mount is never looked at: it is somebody's input, and whoever serves it may be stopped. The
/// kernel's table of mounts says which session it is of.
pub fn find(places: &Places, name: &Path) -> Result<SessionEntry, Error> {
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
            return look_in_time(&place.path);
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
    let is_there = |found: &&SessionEntry| {
        let at = place.as_ref().map(|place| &place.path);
        at.is_some_and(|path| found.meta.mount_point == *path)
    };
    let mut by_place: Vec<&SessionEntry> = all.iter().filter(is_there).collect();
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
            if let Some(error) = meant.or(foreign) {
                return Err(error);
            }
            let at = place.as_ref().map(|place| place.path.as_path());
            Err(match ended(places, &shown, at)? {
                Some(id) => Error::Ended { id },
                None => Error::NoSession(shown),
            })
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

/// The session that ended and is meant: by its id, or as the last one that was mounted at `at`.
fn ended(places: &Places, name: &str, at: Option<&Path>) -> Result<Option<SessionId>, Error> {
    let ended = match find_ended(places, name)? {
        None => {
            let mut all = ended_sessions(places)?.into_iter();
            all.find(|ended| at == Some(ended.mount_point.as_path()))
        }
        by_id => by_id,
    };
    Ok(ended.map(|ended| ended.session))
}

/// The session in a directory, if there is one. What is in a mount of attachfs is never looked at.
pub fn session_in(dir: &Path) -> Result<Option<SessionEntry>, Error> {
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
    match look_in_time(&place.path) {
        Err(Error::Session(SessionError::Missing(_))) => Ok(None),
        found => found.map(Some),
    }
}

/// The session that a mount is of; `None` if it is no mount of this user's sessions. Whoever mounts
/// chooses what the table of mounts calls the mount, but not the user that it names.
fn of_mount(places: &Places, mount: &FuseMount) -> Result<Option<SessionEntry>, Error> {
    let MountOf::Session(id) = &mount.of else {
        return Ok(None);
    };
    if mount.user != Some(attachfs_durable::user_numbers().0) {
        return Ok(None);
    }
    match look_in_time(&places.sessions().join(id.as_str())) {
        Err(Error::Session(SessionError::Missing(_))) => Err(Error::UnknownMount {
            mount_point: mount.mount_point.clone(),
            id: id.clone(),
            sessions: places.sessions(),
        }),
        found => found.map(Some),
    }
}

/// Whether an error is about the session in a directory, or about the one that an entry of this name, or
/// of a name that begins so, stands for.
fn is_of(error: &Error, dir: &Path) -> bool {
    let is_meant = |id: &SessionId| {
        let name = dir.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.len() >= 4 && id.as_str().starts_with(name))
    };
    match error {
        Error::Unreachable { id, dir: of, .. } => of == dir || is_meant(id),
        Error::Replaced { id, .. } => id.as_ref().is_some_and(is_meant),
        Error::Session(SessionError::Format { path, .. }) => path == dir,
        Error::Session(SessionError::Description { path, .. }) => path.parent() == Some(dir),
        _ => false,
    }
}

/// Makes a session that lies elsewhere findable, durably.
pub(crate) fn register(places: &Places, id: &SessionId, dir: &Path) -> Result<(), Error> {
    let sessions = OwnDir::create(&places.sessions())?;
    let link = sessions.path().join(id.as_str());
    let failed = |source| Error::Io {
        doing: "link to the session from",
        path: link.clone(),
        source,
    };
    let dir = dir.canonicalize().map_err(failed)?;
    match link.read_link() {
        Ok(target) if target == dir => return Ok(()),
        // The session was moved.
        Ok(_) => sessions.remove_file(id.as_str())?,
        Err(_) if link.exists() => return Ok(()),
        Err(_) => {}
    }
    let made = perform(
        Step::RegistryLink,
        || link.clone(),
        || create_link(&link, &dir),
    );
    made.map_err(failed)?;
    Ok(sessions.sync(Step::RegistryName)?)
}

/// Takes away what [`register`] made, when its session was discarded.
pub(crate) fn unregister(places: &Places, id: &SessionId) {
    if let Err(error) = forget_link(places, id) {
        tracing::warn!(%error, session = %id, "the link to a session that is gone stays behind");
    }
}

fn forget_link(places: &Places, id: &SessionId) -> Result<(), Error> {
    if let Some(sessions) = open(places)?
        && sessions.path().join(id.as_str()).is_symlink()
    {
        sessions.remove_file(id.as_str())?;
        sessions.sync(Step::RegistryGone)?;
    }
    Ok(())
}

/// What [`prune`] forgot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Sessions in whose place there is another one.
    pub replaced: Vec<SessionId>,
    /// How many ended sessions were forgotten, with the addresses of what they published.
    pub ended: usize,
    /// Sessions that cannot be reached now. They are not forgotten: what was written and not committed
    /// may be in them.
    pub unreachable: Vec<SessionId>,
}

/// Forgets ended sessions, and entries of sessions in whose place there is another one. Deletes no
/// session, and forgets none that is only out of reach.
pub fn prune(places: &Places) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    for session in sessions(places)? {
        match session {
            // A copy that somebody made of a session's directory is not ours to remove.
            Err(Error::Replaced {
                id: Some(id),
                entry,
                ..
            }) if entry.is_symlink() => {
                forget_link(places, &id)?;
                pruned.replaced.push(id);
            }
            Err(Error::Unreachable { id, .. }) => pruned.unreachable.push(id),
            _ => {}
        }
    }
    pruned.ended = forget_ended(places)?;
    Ok(pruned)
}

/// Forgets a session that cannot be reached, or in whose place there is another one, by its id (four digits
/// of it will do) or directory. Nothing of it is deleted: what is on its disk stays there.
pub fn forget(places: &Places, name: &Path) -> Result<SessionId, Error> {
    match find(places, name) {
        Err(Error::Unreachable { id, .. } | Error::Replaced { id: Some(id), .. }) => {
            forget_link(places, &id)?;
            Ok(id)
        }
        Err(error) => Err(error),
        Ok(found) => Err(Error::Usage(format!(
            "session {} is in {}: only one that cannot be reached is forgotten; discard it, or take it away \
             first",
            found.meta.id,
            found.dir.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_cannot_be_read_is_not_said_to_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            state: dir.path().join("state"),
            cache: attachfs_durable::CacheDir::new(dir.path().join("cache")),
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
