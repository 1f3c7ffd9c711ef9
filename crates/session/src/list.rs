//! The list of a user's sessions, and of those that have ended.
//!
//! ```text
//!     <state>/sessions/           this user's alone
//!         <session id>/           a session's directory,
//!         <session id> -> ...     or a symbolic link to one that was put elsewhere
//!     <state>/sessions-ended/     see `ended`
//! ```
//!
//! An entry goes only when its session is discarded, or when a person says so: a session whose disk is not mounted
//! at the moment is not gone. A disk that does not answer costs five seconds, however many sessions are on it.
//!
//! This module does not know which mount a path leads into: the caller who asks for a session by a path says so ([`Named`]).

mod dir;
mod ended;
mod error;
mod look;
#[cfg(test)]
mod ordering;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::time::Instant;

use attachfs_durable::steps::{Step, perform};
use attachfs_durable::{Kind, OwnDir, create_link};
use serde::Serialize;

use self::dir::{link_at, open};
pub use self::ended::{EndedCommit, EndedSession, EndedSessions};
pub use self::error::SessionListError;
use self::look::{ANSWERS_WITHIN, Look, look_in_time};
pub use self::look::{SessionEntry, SessionState};
use crate::session::{Session, SessionError, SessionId, remove_unfinished};

/// The sessions of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionList {
    dir: PathBuf,
    ended: EndedSessions,
}

/// A session as a person names it: by its id, the beginning of one (four digits at least), its own directory, the
/// place where it is or was mounted, or a path in its mount.
#[derive(Debug, Clone, Default)]
pub struct Named<'a> {
    /// The text as the user typed it.
    pub text: &'a str,
    /// The file that the text leads to as a path, if it leads to one.
    pub path: Option<&'a Path>,
    /// Whether `path` is in a mount. Then nothing there is looked at: it is an input of a job, and the process that
    /// serves it may be stopped.
    pub in_mount: bool,
}

/// The entries that [`SessionList::prune`] took from the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Sessions in whose place there is another one.
    pub replaced: Vec<SessionId>,
    /// How many ended sessions were forgotten, with the addresses of what they published.
    pub ended: usize,
    /// How many directories were removed in which a process was killed before it had made a session.
    pub unfinished: usize,
    /// Sessions that cannot be reached now. They are not forgotten: changes that were not committed
    /// may be in them.
    pub unreachable: Vec<SessionId>,
}

/// The session that an entry of the list stands for, with the entry's path.
type Listed = (PathBuf, Result<SessionEntry, SessionListError>);

impl SessionList {
    /// The lists in a user's state directory. They are made when the first session is.
    pub fn in_state(state: &Path) -> Self {
        Self {
            dir: state.join("sessions"),
            ended: EndedSessions::in_state(state),
        }
    }

    /// The directory of the list.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The sessions that have ended.
    pub fn ended(&self) -> &EndedSessions {
        &self.ended
    }

    /// The entry of a session: its directory, or a link to that.
    pub fn entry_of(&self, id: &SessionId) -> PathBuf {
        self.dir.join(id.as_str())
    }

    /// All sessions, the newest first. One that cannot be read is given as its error: it is not to be
    /// forgotten. That is [`SessionListError::Unreachable`] for one whose directory is not there now, and
    /// [`SessionListError::Replaced`] for one in whose place there is another.
    pub fn all(&self) -> Result<Vec<Result<SessionEntry, SessionListError>>, SessionListError> {
        let entries = self.entries()?.into_iter();
        Ok(entries.map(|(_, session)| session).collect())
    }

    /// As [`all`](Self::all), each with the path of its entry.
    fn entries(&self) -> Result<Vec<Listed>, SessionListError> {
        let Some(dir) = open(&self.dir)? else {
            return Ok(Vec::new());
        };
        let mut begun = Vec::new();
        for name in dir.names()? {
            let path = dir.path().join(&name);
            let id = name.to_str().and_then(|name| name.parse().ok());
            let link = link_at(&path);
            let look = match &link {
                // All at once, so that many disks that do not answer cost no more time than one.
                Ok(Some(_)) => Look::on_a_thread(&path),
                Ok(None) | Err(_) => Look::now(&path),
            };
            begun.push((path, id, link, look));
        }
        let deadline = Instant::now() + ANSWERS_WITHIN;
        let mut all = Vec::new();
        for (path, id, link, look) in begun {
            let looked = look.by(deadline, &path);
            let session = link.map_or_else(
                |error| Some(Err(error)),
                |link| entry(path.clone(), id, link, looked),
            );
            all.extend(session.map(|session| (path, session)));
        }
        all.sort_by_key(|(_, session)| {
            Reverse(session.as_ref().ok().map(|entry| entry.meta.created))
        });
        Ok(all)
    }

    /// The session with this id; `None` if the list has none.
    pub fn with_id(&self, id: &SessionId) -> Result<Option<SessionEntry>, SessionListError> {
        there(look_in_time(&self.entry_of(id)))
    }

    /// The session in a directory, if there is one.
    pub fn in_dir(dir: &Path) -> Result<Option<SessionEntry>, SessionListError> {
        there(look_in_time(dir))
    }

    /// The session that a person means.
    pub fn find(&self, named: &Named<'_>) -> Result<SessionEntry, SessionListError> {
        if let Some(path) = named.path
            && !named.in_mount
            && Session::is_described_in(path)
        {
            return look_in_time(path);
        }
        let (mut all, mut unreadable) = (Vec::new(), Vec::new());
        for (at, session) in self.entries()? {
            match session {
                Ok(entry) => all.push(entry),
                Err(error) => unreadable.push((at, error)),
            }
        }
        let is_at = |entry: &&SessionEntry| named.path == Some(entry.meta.mount_point.as_path());
        let mut meant: Vec<&SessionEntry> = all.iter().filter(is_at).collect();
        let is_mounted = |entry: &&&SessionEntry| entry.state == SessionState::InUse;
        if let Some(mounted) = meant.iter().find(is_mounted) {
            return Ok((*mounted).clone());
        }
        if meant.is_empty() && SessionId::may_begin_with(named.text) {
            let begins = |entry: &&SessionEntry| entry.meta.id.as_str().starts_with(named.text);
            meant = all.iter().filter(begins).collect();
        }
        match meant[..] {
            [] => {
                // It may be one of the sessions that cannot be read: then the reason is the better answer.
                let entry = self.dir.join(named.text);
                let is_it =
                    |(at, error): &(PathBuf, SessionListError)| *at == entry || error.is_of(&entry);
                if let Some((_, error)) = unreadable.into_iter().find(is_it) {
                    return Err(error);
                }
                Err(match self.ended_as(named)? {
                    Some(id) => SessionListError::Ended { id },
                    None => SessionListError::Unknown(named.text.to_owned()),
                })
            }
            [found] => Ok(found.clone()),
            ref several => Err(SessionListError::Ambiguous {
                name: named.text.to_owned(),
                ids: several.iter().map(|entry| entry.meta.id.clone()).collect(),
            }),
        }
    }

    /// The ended session that a person means: by its id, or as the last one that was mounted at the path.
    fn ended_as(&self, named: &Named<'_>) -> Result<Option<SessionId>, SessionListError> {
        if let Some(ended) = self.ended.find(named.text)? {
            return Ok(Some(ended.session));
        }
        let mut all = self.ended.all()?.into_iter();
        let last = all.find(|ended| named.path == Some(ended.mount_point.as_path()));
        Ok(last.map(|ended| ended.session))
    }

    /// Makes a session that lies elsewhere findable, durably.
    pub fn add(&self, id: &SessionId, dir: &Path) -> Result<(), SessionListError> {
        let sessions = OwnDir::create(&self.dir)?;
        let link = sessions.path().join(id.as_str());
        let failed = |source| SessionListError::Io {
            doing: "link to the session from",
            path: link.clone(),
            source,
        };
        let dir = dir.canonicalize().map_err(failed)?;
        match link_at(&link)? {
            Some(target) if target == dir => return Ok(()),
            // The session was moved.
            Some(_) => sessions.remove_file(id.as_str())?,
            None if link.exists() => return Ok(()),
            None => {}
        }
        let made = perform(
            Step::RegistryLink,
            || link.clone(),
            || create_link(&link, &dir),
        );
        made.map_err(failed)?;
        Ok(sessions.sync(Step::RegistryName)?)
    }

    /// Takes away what [`add`](Self::add) made, when its session was discarded.
    pub fn remove(&self, id: &SessionId) {
        if let Err(error) = self.remove_link(id) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                session = %id,
                "the link to a session that is gone stays behind"
            );
        }
    }

    fn remove_link(&self, id: &SessionId) -> Result<(), SessionListError> {
        if let Some(sessions) = open(&self.dir)?
            && sessions.path().join(id.as_str()).is_symlink()
        {
            sessions.remove_file(id.as_str())?;
            sessions.sync(Step::RegistryGone)?;
        }
        Ok(())
    }

    /// Forgets ended sessions, and entries of sessions in whose place there is another one, and removes what was made of sessions that never
    /// came to be. Deletes no session, and forgets none that is only out of reach.
    pub fn prune(&self) -> Result<Pruned, SessionListError> {
        let mut pruned = Pruned::default();
        for session in self.all()? {
            match session {
                // A copy that somebody made of a session's directory is not ours to remove.
                Err(SessionListError::Replaced {
                    id: Some(id),
                    entry,
                    ..
                }) if entry.is_symlink() => {
                    self.remove_link(&id)?;
                    pruned.replaced.push(id);
                }
                Err(SessionListError::Unreachable { id, .. }) => pruned.unreachable.push(id),
                _ => {}
            }
        }
        pruned.unfinished = self.remove_unfinished()?;
        pruned.ended = self.ended.forget_all()?;
        Ok(pruned)
    }

    fn remove_unfinished(&self) -> Result<usize, SessionListError> {
        let Some(dir) = open(&self.dir)? else {
            return Ok(0);
        };
        let mut removed = 0;
        for name in dir.names()? {
            let is_id = name
                .to_str()
                .is_some_and(|name| name.parse::<SessionId>().is_ok());
            if is_id && dir.kind(&name)? == Some(Kind::Dir) {
                let place = dir.path().join(name);
                match remove_unfinished(&place) {
                    Ok(is_removed) => removed += usize::from(is_removed),
                    // One that is gone, or that others can change, does not keep the rest from being removed.
                    Err(error) => tracing::warn!(
                        place = %place.display(),
                        error = &error as &dyn std::error::Error,
                        "it is not known whether this is what was made of a session"
                    ),
                }
            }
        }
        Ok(removed)
    }

    /// Takes a session from the list that cannot be reached, or in whose place there is another one. Nothing of it
    /// is deleted: what is on its disk stays there.
    pub fn forget(&self, id: &SessionId) -> Result<(), SessionListError> {
        self.remove_link(id)
    }
}

/// The session, or `None` if the error means that no session was found.
fn there(
    looked: Result<SessionEntry, SessionListError>,
) -> Result<Option<SessionEntry>, SessionListError> {
    match looked {
        Err(SessionListError::Session(SessionError::Missing(_))) => Ok(None),
        looked => looked.map(Some),
    }
}

/// What an entry stands for; nothing if no session was ever whole there: one is being made, or was half
/// deleted.
fn entry(
    path: PathBuf,
    id: Option<SessionId>,
    link: Option<PathBuf>,
    looked: Result<SessionEntry, SessionListError>,
) -> Option<Result<SessionEntry, SessionListError>> {
    match (looked, id, link) {
        (Ok(entry), Some(id), _) if entry.meta.id == id => Some(Ok(entry)),
        (Ok(other), id, _) => Some(Err(SessionListError::Replaced {
            entry: path,
            id,
            dir: other.dir,
            found: other.meta.id,
        })),
        (Err(error), Some(id), Some(dir)) if error.is_absence() => {
            Some(Err(SessionListError::Unreachable {
                id,
                dir,
                source: Box::new(error),
            }))
        }
        (Err(SessionListError::Session(SessionError::Missing(_))), _, _) => None,
        (Err(error), _, _) => Some(Err(error)),
    }
}
