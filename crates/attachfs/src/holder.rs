//! The process that has a session.

use std::path::Path;

use attachfs_mount::Process;
use attachfs_session::{Session, SessionError};

use crate::Error;
use crate::registry::SessionEntry;

/// Says which process has a session and does not answer; `listening` is the one that has its socket.
pub(crate) fn no_answer(found: &SessionEntry, listening: Option<u32>) -> Error {
    let id = Some(&found.meta.id);
    // What cannot be found out is missing in the message only.
    let mounts = attachfs_mount::active_mounts().unwrap_or_default();
    Error::NoAnswer {
        dir: found.dir.clone(),
        process: listening.map(Process::of).or_else(|| holder(&found.dir)),
        mounted: mounts.iter().any(|mount| mount.session.as_ref() == id),
    }
}

/// The process that has the session in a directory.
pub(crate) fn holder(dir: &Path) -> Option<Process> {
    Process::that_locks(&dir.join("lock"))
}

/// Takes over a session that no process has. If one has it, that is named.
pub(crate) fn take(dir: &Path) -> Result<Session, Error> {
    Session::open(dir).map_err(|error| match error {
        SessionError::InUse(dir) => {
            let process = holder(&dir);
            Error::InUse { dir, process }
        }
        error => error.into(),
    })
}
