//! Takes a mount away from the kernel, also if programs or other mount namespaces still use it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_mount::{Holder, Mounted, Unmount, UnmountError};
use tokio::sync::watch;

use crate::error::Error;

/// How long the kernel may take to let go.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long processes may go on using a detached mount before they are cut off.
const LAST_CALL: Duration = Duration::from_secs(1);
/// How long it may take if nothing is open.
const LINGER: Duration = Duration::from_secs(3);

/// A mount that this process serves, as far as its end goes.
pub(crate) trait Held: Send + Sync + 'static {
    /// The mount.
    fn mounted(&self) -> &Mounted;

    /// Set when the process is to end although someone still uses the mount.
    fn cut_off(&self) -> &watch::Sender<bool>;

    /// Whether a file or a directory is open, as far as the kernel has told.
    fn is_open(&self) -> bool;

    /// Refuses writes from here on, and waits for those that are under way.
    fn end_writing(&self);

    /// Why a mount is not ended that somebody detached before: with what becomes of it.
    fn detached_before(&self, mount_point: PathBuf, holders: Vec<Holder>) -> Error;
}

/// Unmounts, and says where else the mount still is: in other mount namespaces, where this process cannot end
/// it from here. Where nothing of it is open, it is cut off there.
pub(crate) async fn let_go(held: &Arc<impl Held>, detach: bool) -> Result<Vec<String>, Error> {
    let (how, first) = if detach {
        (Unmount::Detach, LAST_CALL)
    } else {
        (Unmount::IfUnused, LINGER)
    };
    let since = Instant::now();
    let mut patience = first;
    let had_name = held.mounted().has_name()?;
    loop {
        let copies = match try_unmount(held, how, patience).await {
            Ok(()) => return Ok(Vec::new()),
            Err(UnmountError::StillUsed {
                mount_point,
                holders,
                copies,
                ..
            }) if !had_name && !detach && copies.found.is_empty() => {
                return Err(held.detached_before(mount_point, holders));
            }
            Err(UnmountError::StillUsed { copies, .. }) if detach || !held.is_open() => copies,
            // The kernel may not have told yet that the last file was closed.
            Err(UnmountError::StillUsed { .. }) if since.elapsed() < LINGER => continue,
            Err(UnmountError::StillUsed { copies, .. })
                if copies.found.is_empty() && patience < PATIENCE =>
            {
                patience = PATIENCE;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        // Its users can write nothing from here on, and are cut off when this process ends; what
        // they wrote is in the session.
        let writing = Arc::clone(held);
        let ended = tokio::task::spawn_blocking(move || writing.end_writing()).await;
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic.into_panic());
        }
        held.cut_off().send_replace(true);
        let unknown = copies.found.is_empty() && !detach;
        let elsewhere: Vec<String> = if unknown {
            vec![copies.to_string()]
        } else {
            copies.found.iter().map(ToString::to_string).collect()
        };
        for place in &elsewhere {
            tracing::warn!("the mount was also {place}, where it does not answer any more");
        }
        return Ok(elsewhere);
    }
}

/// Takes the mount's name away although somebody uses it, and says who does; `None` if nobody uses it any more, and it has ended.
pub(crate) async fn detach(held: &Arc<impl Held>) -> Result<Option<Vec<Holder>>, UnmountError> {
    // Who uses it cannot be told any more once it has no name.
    let users = match try_unmount(held, Unmount::IfUnused, LAST_CALL).await {
        Err(UnmountError::Busy { holders, .. } | UnmountError::StillUsed { holders, .. }) => {
            holders
        }
        Ok(()) | Err(_) => Vec::new(),
    };
    match try_unmount(held, Unmount::Detach, LAST_CALL).await {
        Ok(()) => Ok(None),
        Err(UnmountError::StillUsed { .. }) => Ok(Some(users)),
        Err(error) => Err(error),
    }
}

async fn try_unmount(
    held: &Arc<impl Held>,
    how: Unmount,
    patience: Duration,
) -> Result<(), UnmountError> {
    let held = Arc::clone(held);
    let unmounted =
        tokio::task::spawn_blocking(move || held.mounted().unmount(how, patience)).await;
    match unmounted {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// What to do about a mount that somebody detached before, if nothing can be written to it.
pub(crate) fn ends_unused(id: &str) -> String {
    format!(
        "it ends when nobody uses it any more, and `attachfs umount --force {id}` cuts off who does"
    )
}
