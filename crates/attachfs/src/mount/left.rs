//! Sessions that earlier mounts left at a mount point.

use std::path::Path;

use attachfs_session::{SessionEntry, SessionState};

use crate::places::Places;

/// Logs the sessions that earlier mounts left at this mount point. Once this mount has ended, the mount point names one of
/// them again.
pub(super) fn log_left_sessions(places: &Places, mount_point: &Path) {
    let sessions = match places.sessions().all() {
        Ok(sessions) => sessions,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            return tracing::debug!(error, "cannot look for sessions left at the mount point");
        }
    };
    // `list` tells of those that cannot be read.
    let sessions = sessions.into_iter().flatten();
    let is_left_here = |entry: &SessionEntry| {
        entry.state == SessionState::Left
            && entry.meta.mount_point == mount_point
            && !entry.meta.read_only
    };
    for left in sessions.filter(is_left_here) {
        tracing::warn!(session = %left.meta.id, mount_point = %mount_point.display(),
            "an earlier mount left a session at this mount point; it stays as it is: `attachfs status` with its id shows what is in it");
    }
}
