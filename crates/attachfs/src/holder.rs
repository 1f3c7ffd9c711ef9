//! The process that has a session.

use std::path::{Path, PathBuf};

use attachfs_mount::Process;
use attachfs_session::{FailureClass, Session, SessionEntry, SessionError};

use crate::error::{Error, classified};

/// The process that has a session does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the session {} is in use by {}, which does not answer", dir.display(), named(process.as_ref()))]
pub(crate) struct NoAnswer {
    /// The session's directory.
    pub(crate) dir: PathBuf,
    /// The process, if it can be told.
    pub(crate) process: Option<Process>,
}

classified! {
    NoAnswer => |_| FailureClass::Busy;
}

fn named(process: Option<&Process>) -> String {
    process.map_or_else(|| "another process".to_owned(), Process::to_string)
}

impl NoAnswer {
    /// With what to do, which depends on whether the session is mounted.
    pub(crate) fn of_mount(self, is_mounted: bool) -> Error {
        Error::from(self).advise(if is_mounted {
            "`attachfs umount --force` takes its mount away and keeps the session"
        } else {
            "it may be committing it"
        })
    }
}

/// Says which process has a session and does not answer; `listening` is the one that has its socket.
pub(crate) fn no_answer(entry: &SessionEntry, listening: Option<u32>) -> Error {
    let id = Some(&entry.meta.id);
    let mounts = attachfs_mount::active_mounts().unwrap_or_else(|error| {
        // Only the advice depends on it.
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "cannot look for mounts"
        );
        Vec::new()
    });
    let no_answer = NoAnswer {
        dir: entry.dir.clone(),
        process: listening.map(Process::of).or_else(|| holder(&entry.dir)),
    };
    no_answer.of_mount(mounts.iter().any(|mount| mount.session.as_ref() == id))
}

/// The process that has the session in a directory.
pub(crate) fn holder(dir: &Path) -> Option<Process> {
    Process::that_locks(&dir.join("lock"))
}

/// Takes over a session that no process has. If one has it, that is named.
pub(crate) fn take(dir: &Path) -> Result<Session, Error> {
    or_busy(Session::open(dir))
}

/// As [`take`], to delete it: a deletion that was interrupted is finished.
pub(crate) fn take_to_discard(dir: &Path) -> Result<Session, Error> {
    or_busy(Session::open_to_discard(dir))
}

fn or_busy(opened: Result<Session, SessionError>) -> Result<Session, Error> {
    opened.map_err(|error| match error {
        SessionError::InUse(dir) => {
            let process = holder(&dir);
            let sentence = format!(
                "the session {} is in use by {}",
                dir.display(),
                named(process.as_ref())
            );
            Error::new(FailureClass::Busy, sentence)
        }
        error => error.into(),
    })
}
