//! Takes a mount away from the kernel, also if programs or other mount namespaces still use it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_mount::{Holder, Unmount, UnmountError};

use super::{LAST_CALL, PATIENCE, ServedMount};
use crate::error::Error;

/// How long it may take if nothing is open.
const LINGER: Duration = Duration::from_secs(3);

impl ServedMount {
    /// Unmounts, and says where else the mount still is: in other mount namespaces, where this process cannot end
    /// it from here. Where nothing of it is open, it is cut off there.
    pub(super) async fn let_go(self: &Arc<Self>, detach: bool) -> Result<Vec<String>, Error> {
        let (how, first) = if detach {
            (Unmount::Detach, LAST_CALL)
        } else {
            (Unmount::IfUnused, LINGER)
        };
        let since = Instant::now();
        let mut patience = first;
        let had_name = self.mounted.has_name()?;
        loop {
            let copies = match self.try_unmount(how, patience).await {
                Ok(()) => return Ok(Vec::new()),
                Err(UnmountError::StillUsed {
                    mount_point,
                    holders,
                    copies,
                    ..
                }) if !had_name && !detach && copies.found.is_empty() => {
                    return Err(self.detached_before(mount_point, holders));
                }
                Err(UnmountError::StillUsed { copies, .. })
                    if detach || !self.session.vfs().is_open() =>
                {
                    copies
                }
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
            let vfs = self.session.vfs().clone();
            // Waits for the changes that are under way.
            let ended = tokio::task::spawn_blocking(move || vfs.end_writing()).await;
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic.into_panic());
            }
            self.cut_off.send_replace(true);
            let unknown = copies.found.is_empty() && !detach;
            let held: Vec<String> = if unknown {
                vec![copies.to_string()]
            } else {
                copies.found.iter().map(ToString::to_string).collect()
            };
            for held in &held {
                tracing::warn!("the mount was also {held}, where it does not answer any more");
            }
            return Ok(held);
        }
    }

    pub(super) async fn try_unmount(
        self: &Arc<Self>,
        how: Unmount,
        patience: Duration,
    ) -> Result<(), UnmountError> {
        let mount = self.clone();
        let unmounted =
            tokio::task::spawn_blocking(move || mount.mounted.unmount(how, patience)).await;
        match unmounted {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Why a mount is not ended that somebody detached before: with what becomes of what was written.
    fn detached_before(&self, mount_point: PathBuf, holders: Vec<Holder>) -> Error {
        let id = self.session.meta.id.as_str();
        let id = id.get(..8).unwrap_or(id);
        let at_end = self.at_end.borrow().clone();
        let is_committed = self.session.meta.commit_on_unmount && at_end.is_some()
            || at_end.is_some_and(|arguments| arguments.commit.is_some());
        let advice = if self.session.meta.read_only {
            format!(
                "it ends when nobody uses it any more, and `attachfs umount --force {id}` cuts off who does"
            )
        } else if is_committed {
            format!(
                "session {id} has what is written, and is committed when nobody uses the mount any more; `attachfs umount --force {id}` cuts off who does"
            )
        } else {
            format!(
                "session {id} has what is written; `attachfs commit {id}` publishes it, `attachfs umount --force {id}` cuts off who uses the mount"
            )
        };
        let detached = UnmountError::Detached {
            mount_point,
            holders,
        };
        Error::from(detached).advise(advice)
    }
}
