//! Whether sessions are mounted, as the tables of mounts say: no process is asked, and no disk.

use attachfs_mount::{ActiveMount, active_mounts, active_mounts_of};
use attachfs_session::{SessionEntry, SessionState};

use crate::holder::holder;

/// Whether a session is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// A process serves it, and its mount has a name, here or where that process is.
    Mounted,
    /// A process has it, and it is mounted nowhere: it was detached, or is being committed or deleted.
    InUse,
    /// No process has it, and its dead mount is still there.
    Dead,
    /// No process has it, and it is not mounted.
    Left,
}

/// Whether each of these sessions is mounted.
pub fn presence_of(sessions: &[SessionEntry]) -> Vec<Presence> {
    let here = active_mounts().unwrap_or_else(|error| {
        // What is not found here is looked for where its process is.
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "cannot look for mounts"
        );
        Vec::new()
    });
    let presence = |found: &SessionEntry| {
        let is_it = |mount: &ActiveMount| mount.session.as_ref() == Some(&found.meta.id);
        let is_here = here.iter().any(is_it);
        match (found.state, is_here) {
            (SessionState::InUse, true) => Presence::Mounted,
            (SessionState::Left | SessionState::Ending, true) => Presence::Dead,
            (SessionState::Left | SessionState::Ending, false) => Presence::Left,
            (SessionState::InUse, false) => {
                let process = holder(&found.dir);
                let there = process.and_then(|process| active_mounts_of(&process).ok());
                if there.is_some_and(|mounts| mounts.iter().any(is_it)) {
                    Presence::Mounted
                } else {
                    Presence::InUse
                }
            }
        }
    };
    sessions.iter().map(presence).collect()
}
