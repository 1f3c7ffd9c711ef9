//! Unmounting: umount2(2), or fusermount3 for users who may not.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use attachfs_session::{Session, SessionId};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::device::HELPER;
use super::error::UnmountError;
use super::mountinfo::{self, MountEntry};
use super::source::Source;

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
    NoHelper(io::Error),
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

/// Unmounts what is uppermost at `path`, whatever it is: the caller has looked.
pub(super) fn unmount(path: &Path, how: Unmount) -> Result<(), Refusal> {
    let flags = match how {
        Unmount::IfUnused => UnmountFlags::NOFOLLOW,
        Unmount::Detach => UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
    };
    match rustix::mount::unmount(path, flags) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => unmount_by_helper(path, how),
        Err(Errno::BUSY) => Err(Refusal::Busy),
        Err(error) => Err(Refusal::Io(error.into())),
    }
}

/// Ends the connection behind what is uppermost at `path`, and takes its name away. For root only.
pub(super) fn abort(path: &Path) -> rustix::io::Result<()> {
    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::FORCE | UnmountFlags::DETACH;
    rustix::mount::unmount(path, flags)
}

pub(super) fn unmount_by_helper(path: &Path, how: Unmount) -> Result<(), Refusal> {
    let mut command = Command::new(HELPER);
    command.arg("-u");
    if how == Unmount::Detach {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(path)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refusal::NoHelper(error),
            _ => Refusal::Io(error),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Device or resource busy") {
        return Err(Refusal::Busy);
    }
    Err(Refusal::Helper(said.trim().escape_debug().to_string()))
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
        let mut aborted = abort_connection(entry);
        match abort(&entry.mount_point) {
            Ok(()) => aborted = true,
            Err(Errno::PERM) => unmount_by_helper(&entry.mount_point, Unmount::Detach)
                .map_err(|refusal| refusal.at(&entry.mount_point))?,
            Err(error) => return Err(Refusal::Io(error.into()).at(&entry.mount_point)),
        }
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
    let source = Source::Session(session.clone());
    table.retain(|entry| Source::parse(entry).as_ref() == Some(&source) && is_own(entry));
    Ok(table)
}

/// Whether this user mounted it: anyone can call a mount of theirs by the id of a session.
pub(super) fn is_own(entry: &MountEntry) -> bool {
    entry.user() == Some(rustix::process::getuid().as_raw())
}

/// Ends the connection of a mount that is still there, so that whoever waits for an answer gets an error. The kernel
/// lets root do that, and who mounted it. Whether it was done.
pub(super) fn abort_connection(entry: &MountEntry) -> bool {
    // While this is open, the number of the device is of this mount and cannot become another's.
    let kept = match kept(entry) {
        Ok(Some(kept)) => kept,
        Ok(None) => return false,
        Err(error) => {
            tracing::debug!(%error, mount_point = %entry.mount_point.display(), "the connection was not aborted");
            return false;
        }
    };
    let Some((_, minor)) = entry.device.split_once(':') else {
        return false;
    };
    let abort = Path::new("/sys/fs/fuse/connections")
        .join(minor)
        .join("abort");
    if let Err(error) = std::fs::write(&abort, "1") {
        // It has ended by itself, or this user may not: closing the device ends it as well.
        tracing::debug!(%error, path = %abort.display(), "the connection was not aborted");
        return false;
    }
    drop(kept);
    true
}

/// A descriptor that keeps a mount from going; `None` if it has gone, or something else is at its place. The file
/// system is not asked.
pub(super) fn kept(entry: &MountEntry) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let kept = match rustix::fs::open(&entry.mount_point, flags, Mode::empty()) {
        Ok(kept) => kept,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", kept.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let id = id.and_then(|id| id.trim().parse().ok());
    // The table is read after the mount was opened: what it says of this number is of what is open.
    let is_it = mountinfo::read()?
        .iter()
        .any(|now| Some(now.id) == id && now.is(entry));
    Ok(is_it.then_some(kept))
}

/// Takes a mount's name away.
pub(super) fn detach(entry: &MountEntry) -> Result<(), UnmountError> {
    unmount(&entry.mount_point, Unmount::Detach)
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
    let ours = |entry: MountEntry| {
        let session = match Source::parse(&entry)? {
            Source::Session(id) => Some(id),
            Source::ReadOnly(_) => None,
        };
        Some(ActiveMount {
            mount_point: entry.mount_point,
            session,
        })
    };
    Ok(mountinfo::read()?.into_iter().filter_map(ours).collect())
}
