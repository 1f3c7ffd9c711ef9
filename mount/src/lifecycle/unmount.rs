//! Unmounting: umount2(2), or fusermount3 for users who may not.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use attachfs_vfs::SessionId;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::device::HELPER;
use super::error::UnmountError;
use super::mountinfo::{self, MountEntry};
use super::point::is_dead_at;
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

/// Removes the mount that a session's process left behind when it died. Only to be called by whoever
/// knows that no process has the session.
pub fn detach_dead(mount_point: &Path, session: &SessionId) -> Result<(), UnmountError> {
    let failed = |doing, source| UnmountError::Io {
        doing,
        mount_point: mount_point.to_owned(),
        source,
    };
    let not_dead = || UnmountError::NotDead {
        mount_point: mount_point.to_owned(),
        session: session.clone(),
    };
    let path = super::point::resolve(mount_point).map_err(|_| not_dead())?;
    let there = mountinfo::at(&path).map_err(|error| failed("see what is mounted at", error))?;
    let entry = there.ok_or_else(not_dead)?;
    if Source::parse(&entry) != Some(Source::Session(session.clone())) || !is_dead_at(&path) {
        return Err(not_dead());
    }
    detach(&entry)
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
            Source::ReadOnly => None,
        };
        Some(ActiveMount {
            mount_point: entry.mount_point,
            session,
        })
    };
    Ok(mountinfo::read()?.into_iter().filter_map(ours).collect())
}
