//! What browses whose processes were killed left behind.

use std::path::Path;

use attachfs_session::{SessionEntry, SessionState};

use crate::error::Error;
use crate::holder::take_to_discard;
use crate::places::Places;

/// Takes the dead mounts away that killed processes left at a mount point, with their sessions, and says whether there were any. Nothing was
/// ever written to them.
pub(super) fn take_left(places: &Places, mount_point: &Path) -> Result<bool, Error> {
    // `list` tells of those that cannot be read.
    let sessions = places.sessions().all()?.into_iter().flatten();
    let is_left_here = |entry: &SessionEntry| {
        entry.meta.browses.is_some()
            && entry.state != SessionState::InUse
            && entry.meta.mount_point == mount_point
    };
    let mut had_died = false;
    for left in sessions.filter(is_left_here) {
        let session = take_to_discard(&left.dir)?;
        attachfs_mount::detach_dead(&session)?;
        session.discard()?;
        places.sessions().remove(&left.meta.id);
        had_died = true;
    }
    Ok(had_died)
}
