//! The session that a person means, and the list of all.
//!
//! A path may lead into a mount. Nothing in a mount is ever looked at: it is a job's input, and the process that
//! serves it may be stopped. The kernel's table of mounts says which session it is of.

use std::path::Path;

use attachfs_mount::{FuseMount, MountOf, Place};
use attachfs_session::{
    EndedSession, FailureClass, Named, Pruned, SessionEntry, SessionId, SessionList,
    SessionListError,
};

use crate::error::{Doing as _, Error};
use crate::places::Places;

/// All sessions, the newest first. One that cannot be read is given as its error: it is not to be forgotten.
pub fn sessions(places: &Places) -> Result<Vec<Result<SessionEntry, SessionListError>>, Error> {
    Ok(places.sessions().all()?)
}

/// The session that a person means: by its mount point or a path in the mount, by id, the beginning of an
/// id (four digits at least), or the session's own directory.
pub fn find(places: &Places, name: &Path) -> Result<SessionEntry, Error> {
    let text = name.display().to_string();
    // What leads nowhere as a path may still be an id.
    let (place, nowhere) = match Place::of(name) {
        Ok(place) => (Some(place), None),
        Err(error) => (None, Some(error)),
    };
    let mount = place.as_ref().and_then(|place| place.mount.as_ref());
    if let Some(mount) = mount
        && let Some(found) = of_mount(places, mount)?
    {
        return Ok(found);
    }
    let named = Named {
        text: &text,
        path: place.as_ref().map(|place| place.path.as_path()),
        in_mount: mount.is_some(),
    };
    match (places.sessions().find(&named), mount) {
        (Err(SessionListError::Unknown(_) | SessionListError::Ended { .. }), Some(mount)) => {
            Err(foreign(name, mount))
        }
        (Err(error @ SessionListError::Unknown(_)), None) => {
            let advice = what_is_there(places, &text, |_| true);
            let error = match nowhere {
                Some(nowhere) => Error::from(error).because(nowhere),
                None => error.into(),
            };
            Err(error.advise(advice))
        }
        (Err(SessionListError::Ambiguous { name, ids }), _) => {
            let advice = what_is_there(places, "", |id| ids.contains(id));
            Err(Error::from(SessionListError::Ambiguous { name, ids }).advise(advice))
        }
        (found, _) => Ok(found?),
    }
}

/// The sessions that a person may have meant, for who looked for `text`.
fn what_is_there(places: &Places, text: &str, is_meant: impl Fn(&SessionId) -> bool) -> String {
    const SHOWN: usize = 5;
    let sessions = places.sessions().all().unwrap_or_default();
    let meant = sessions
        .iter()
        .flatten()
        .filter(|found| is_meant(&found.meta.id));
    let meant: Vec<String> = meant
        .map(|found| {
            let id = found.meta.id.as_str();
            let at = found.meta.mount_point.display();
            format!("{} at {at}", id.get(..8).unwrap_or(id))
        })
        .collect();
    let is_short = !text.is_empty()
        && !SessionId::may_begin_with(text)
        && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let short = if is_short {
        "the beginning of an id has four digits at least; "
    } else {
        ""
    };
    if meant.is_empty() {
        return format!("{short}there are no sessions");
    }
    let more = match meant.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!(" and {more} more, which `attachfs list` shows"),
        _ => String::new(),
    };
    let shown = meant.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
    format!("{short}there are {shown}{more}")
}

/// A path in the mount of another program, or of another user.
fn foreign(path: &Path, mount: &FuseMount) -> Error {
    Error::usage(format!(
        "{} is in the mount {} of {}, which is not a mount of this user's sessions",
        path.display(),
        mount.mount_point.display(),
        mount.source
    ))
    .advise("name a session by its id")
}

/// The session that a mount of this user's says it is of. Any user may choose what the table of mounts calls a mount, but
/// not the user that it names.
pub(crate) fn own_session(mount: &FuseMount) -> Option<&SessionId> {
    match &mount.of {
        MountOf::Session(id) if mount.user == Some(attachfs_durable::user_numbers().0) => Some(id),
        _ => None,
    }
}

/// The session that a mount is of; `None` if it is no mount of this user's sessions.
fn of_mount(places: &Places, mount: &FuseMount) -> Result<Option<SessionEntry>, Error> {
    let Some(id) = own_session(mount) else {
        return Ok(None);
    };
    let list = places.sessions();
    match list.with_id(id)? {
        None => {
            let sentence = format!(
                "{} is the mount of session {id}, which is not among the sessions in {}",
                mount.mount_point.display(),
                list.dir().display()
            );
            Err(Error::new(FailureClass::Mount, sentence)
                .advise("`fusermount3 -u` removes the mount"))
        }
        found => Ok(found),
    }
}

/// The session in a directory, if there is one. Nothing in a mount of attachfs is ever looked at.
pub fn session_in(dir: &Path) -> Result<Option<SessionEntry>, Error> {
    let place = Place::of(dir).doing(|| format!("cannot find {}", dir.display()))?;
    if let Some(mount) = place.mount.filter(|mount| mount.of != MountOf::Other) {
        return Err(Error::usage(format!(
            "{} is in the mount {} of attachfs: a session cannot be there",
            dir.display(),
            mount.mount_point.display()
        )));
    }
    Ok(SessionList::in_dir(&place.path)?)
}

/// Forgets ended sessions, and entries of sessions in whose place there is another one. Deletes no
/// session, and forgets none that is only out of reach.
pub fn prune(places: &Places) -> Result<Pruned, Error> {
    Ok(places.sessions().prune()?)
}

/// Forgets a session that cannot be reached, or in whose place there is another one, by its id (four digits
/// of it will do) or directory. Nothing of it is deleted: its files stay on their disk.
pub fn forget(places: &Places, name: &Path) -> Result<SessionId, Error> {
    let error = match find(places, name) {
        Ok(found) => {
            let (id, dir) = (found.meta.id, found.dir);
            return Err(SessionListError::Reachable { id, dir }.into());
        }
        Err(error) => error,
    };
    match error.cause() {
        Some(
            SessionListError::Unreachable { id, .. }
            | SessionListError::Replaced { id: Some(id), .. },
        ) => {
            places.sessions().forget(id)?;
            Ok(id.clone())
        }
        _ => Err(error),
    }
}

/// The sessions that ended and had published something, the last one first.
pub fn ended_sessions(places: &Places) -> Result<Vec<EndedSession>, Error> {
    Ok(places.sessions().ended().all()?)
}

/// The session that ended and has this id, or the only one whose id begins so; four digits are needed.
pub fn find_ended(places: &Places, id: &str) -> Result<Option<EndedSession>, Error> {
    Ok(places.sessions().ended().find(id)?)
}
