//! A look at a session whose disk may not answer.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::dir::link_at;
use super::error::SessionListError;
use crate::session::{Session, SessionError, SessionMeta, journal_in, scratch_of};

/// How long a disk may take to answer.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Whether a session has a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// A process has it: it is mounted, or being committed.
    InUse,
    /// No process has it. Everything that was written is in its directory.
    Left,
    /// No process has it, and the last process was interrupted while it deleted the session. Nothing in the session is needed any more.
    Ending,
}

/// A session of the list.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionEntry {
    /// Its directory.
    pub dir: PathBuf,
    /// The session's description.
    pub meta: SessionMeta,
    /// Whether a process has the session.
    pub state: SessionState,
}

impl SessionEntry {
    /// Its journal.
    pub fn journal_path(&self) -> PathBuf {
        journal_in(&self.dir)
    }

    /// Where its scratch files are, or should be.
    pub fn scratch_path(&self) -> PathBuf {
        scratch_of(&self.dir, &self.meta)
    }
}

/// A look at a session that has begun on a thread of its own.
pub(super) enum Look {
    Done(Box<Result<SessionEntry, SessionListError>>),
    /// On a thread of its own, which may never come back.
    Begun(io::Result<Receiver<Result<SessionEntry, SessionListError>>>),
}

/// Looks at one session, for as long as a disk may take to answer.
pub(super) fn look_in_time(path: &Path) -> Result<SessionEntry, SessionListError> {
    Look::on_a_thread(path).by(Instant::now() + ANSWERS_WITHIN, path)
}

impl Look {
    /// Looks, and waits for it.
    pub(super) fn now(path: &Path) -> Self {
        Self::Done(Box::new(look(path)))
    }

    /// Looks, and waits for nothing.
    pub(super) fn on_a_thread(path: &Path) -> Self {
        let (answer, answers) = channel();
        let path = path.to_owned();
        let thread = std::thread::Builder::new().name("attachfs-look".to_owned());
        // If the disk never answers, the thread ends with the process.
        let begun = thread.spawn(move || {
            // The caller has given up waiting if the answer comes too late.
            let _ = answer.send(look(&path));
        });
        Self::Begun(begun.map(|_| answers))
    }

    /// The session as it was seen by the deadline.
    pub(super) fn by(
        self,
        deadline: Instant,
        path: &Path,
    ) -> Result<SessionEntry, SessionListError> {
        let failed = |source: io::Error| SessionListError::Io {
            doing: "look at",
            path: path.to_owned(),
            source,
        };
        match self {
            Self::Done(seen) => *seen,
            Self::Begun(begun) => {
                let patience = deadline.saturating_duration_since(Instant::now());
                match begun.map_err(failed)?.recv_timeout(patience) {
                    Ok(seen) => seen,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        Err(failed(io::ErrorKind::TimedOut.into()))
                    }
                }
            }
        }
    }
}

/// The session in a directory, or where a link leads.
fn look(path: &Path) -> Result<SessionEntry, SessionListError> {
    let failed = |source| SessionListError::Io {
        doing: "find",
        path: path.to_owned(),
        source,
    };
    let dir = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let missing = link_at(path)?.unwrap_or_else(|| path.to_owned());
            return Err(SessionError::Missing(missing).into());
        }
        dir => dir.map_err(failed)?,
    };
    let meta = Session::read_meta(&dir)?;
    let state = if Session::is_in_use(&dir)? {
        SessionState::InUse
    } else if Session::is_ending(&dir)? {
        SessionState::Ending
    } else {
        SessionState::Left
    };
    Ok(SessionEntry { dir, meta, state })
}
