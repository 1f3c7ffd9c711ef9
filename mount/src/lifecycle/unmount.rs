//! Unmounting, and finding what is mounted.

use std::io;
use std::path::{Path, PathBuf};

use attachfs_session::{Session, SessionId};

use super::error::UnmountError;
use super::kernel;
use super::mountinfo::{self, MountEntry};
use super::process::Process;
use super::source::MountSource;

/// How to unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Only if nobody uses it.
    IfUnused,
    /// Take its name away now; it ends when the last who uses it is done.
    Detach,
}

/// Why the system call or the helper did not.
#[derive(Debug)]
pub(super) enum Refusal {
    Busy,
    #[cfg_attr(not(unix), expect(dead_code, reason = "Linux has a helper"))]
    NoHelper(io::Error),
    #[cfg_attr(not(unix), expect(dead_code, reason = "Linux has a helper"))]
    Helper(String),
    Io(io::Error),
}

impl Refusal {
    /// Whether it may be otherwise in a moment: who is just ending still uses it, and a directory above
    /// was renamed after the table was read.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Busy => true,
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
            ),
            Self::NoHelper(_) | Self::Helper(_) => false,
        }
    }

    pub(super) fn at(self, mount_point: &Path) -> UnmountError {
        let mount_point = mount_point.to_owned();
        match self {
            Self::Busy => UnmountError::Busy {
                mount_point,
                holders: Vec::new(),
            },
            Self::NoHelper(error) => UnmountError::NoHelper(error),
            Self::Helper(message) => UnmountError::Helper {
                mount_point,
                message,
            },
            Self::Io(source) => UnmountError::Io {
                doing: "unmount",
                mount_point,
                source,
            },
        }
    }
}

/// Removes the mounts that a session's process left behind when it died, wherever they are, and says
/// whether there were any. Whoever has the session knows that no other process serves them.
pub fn detach_dead(session: &Session) -> Result<bool, UnmountError> {
    let left = of_session(&session.meta().id, session.dir())?;
    for entry in left.iter().rev() {
        detach(entry)?;
    }
    Ok(!left.is_empty())
}

/// A mount that was taken away from its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenAway {
    /// Where it was.
    pub mount_point: PathBuf,
    /// Whether what waited for an answer of the process got an error. Otherwise it waits until the
    /// process ends: users other than root need `/sys/fs/fuse/connections` for more.
    pub aborted: bool,
}

/// Takes a session's mounts away although its process may live. Nothing is asked of that process,
/// which keeps the session.
pub fn take_away(session: &SessionId) -> Result<Vec<TakenAway>, UnmountError> {
    let mut taken = Vec::new();
    for entry in of_session(session, Path::new("/"))?.iter().rev() {
        let aborted = kernel::cut_off(entry).map_err(|refusal| refusal.at(&entry.mount_point))?;
        taken.push(TakenAway {
            mount_point: entry.mount_point.clone(),
            aborted,
        });
    }
    Ok(taken)
}

/// The mounts of a session, those that lie on others last.
fn of_session(session: &SessionId, place: &Path) -> Result<Vec<MountEntry>, UnmountError> {
    let mut table = mountinfo::read().map_err(|source| UnmountError::Io {
        doing: "see the mounts of the session in",
        mount_point: place.to_owned(),
        source,
    })?;
    let source = MountSource::Session(session.clone());
    table.retain(|entry| {
        MountSource::parse(entry).as_ref() == Some(&source) && kernel::is_own(entry)
    });
    Ok(table)
}

/// Takes a mount's name away.
pub(super) fn detach(entry: &MountEntry) -> Result<(), UnmountError> {
    kernel::unmount(&entry.mount_point, Unmount::Detach)
        .map_err(|refusal| refusal.at(&entry.mount_point))?;
    tracing::info!(mount_point = %entry.mount_point.display(), "a dead mount was detached");
    Ok(())
}

/// A mount of this file system, alive or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveMount {
    /// Where it is.
    pub mount_point: PathBuf,
    /// Its session; `None` if nothing can be written.
    pub session: Option<SessionId>,
}

/// All mounts of this file system that this process can see. Asks none of them.
pub fn active_mounts() -> io::Result<Vec<ActiveMount>> {
    Ok(ours(mountinfo::read()?))
}

/// All mounts of this file system that another process can see, which may be in another mount namespace.
pub fn active_mounts_of(process: &Process) -> io::Result<Vec<ActiveMount>> {
    let table = Path::new("/proc").join(process.pid.to_string());
    let table = std::fs::read(table.join(mountinfo::NAME))?;
    Ok(ours(mountinfo::parse(&table)))
}

fn ours(table: Vec<MountEntry>) -> Vec<ActiveMount> {
    let ours = |entry: MountEntry| {
        let session = match MountSource::parse(&entry)? {
            MountSource::Session(id) => Some(id),
            MountSource::ReadOnly(_) => None,
        };
        Some(ActiveMount {
            mount_point: entry.mount_point,
            session,
        })
    };
    table.into_iter().filter_map(ours).collect()
}
