//! What a mount's life asks of the kernel: FUSE on Linux, by mount(2) and umount2(2), or by fusermount3 for users who
//! may not.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use attachfs_session::SessionId;
use attachfs_vfs::FileSystem;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::device::{self, DeviceOptions, HELPER};
use super::error::MountError;
use super::mountinfo::{self, MountEntry};
use super::place::Place;
use super::point::{self, Finding, MountPoint};
use super::source::MountSource;
use super::unmount::{Refusal, Unmount, detach};
use super::walk::Walked;
use super::{MountOptions, read_ahead};
use crate::chain::chain;
pub(super) use crate::fuse::Connection;

/// As many dead mounts may lie one over the other.
const MOST_DEAD: usize = 16;

/// Whether there can be mounts here: what else is missing, mounting says.
#[expect(clippy::unnecessary_wraps, reason = "as on a platform without mounts")]
pub(super) fn supported() -> Result<(), MountError> {
    Ok(())
}

/// Mounts, and greets the kernel. Nothing is mounted after an error.
pub(super) fn connect<F: FileSystem>(
    fs: Arc<F>,
    options: &MountOptions,
) -> Result<(Connection<F>, MountEntry), MountError> {
    let session = options.session.as_ref();
    let point = free_point(&options.mount_point, session)?;
    let source = MountSource::new(session).map_err(|source| MountError::Io {
        doing: "name what is mounted on",
        mount_point: point.path.clone(),
        source,
    })?;
    let device_options = DeviceOptions {
        source,
        read_only: fs.is_read_only(),
        allow_other: options.allow_other,
    };
    let device = device::mount(&point, &device_options)?;
    let failed = |doing, source| {
        give_up(&point.path);
        MountError::Io {
            doing,
            mount_point: point.path.clone(),
            source,
        }
    };
    let runtime = options.runtime.clone();
    // The ids are random, so their beginnings differ.
    let id = options.session.as_ref().and_then(|id| id.as_str().get(..8));
    let generation = id.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let generation = generation.unwrap_or_default();
    let connection = Connection::greet(fs, device, runtime, options.fast_path, generation)
        .map_err(|error| failed("greet the kernel at", error))?;
    let entry = mountinfo::at(&point.path)
        .and_then(|entry| entry.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(|error| failed("see what is mounted at", error))?;
    Ok((connection, entry))
}

/// Takes the name of a mount away that did not come about.
pub(super) fn give_up(path: &Path) {
    if let Err(refusal) = unmount(path, Unmount::Detach) {
        tracing::warn!("after a failure to mount: {}", chain(&refusal.at(path)));
    }
}

/// The directory to mount on. Dead mounts of the session there go.
fn free_point(given: &Path, session: Option<&SessionId>) -> Result<MountPoint, MountError> {
    let mut dead = 0;
    loop {
        match point::look(given, session)? {
            Finding::Free(point) => return Ok(point),
            Finding::OwnDead(entry) if dead < MOST_DEAD => {
                dead += 1;
                detach(&entry).map_err(|error| MountError::Io {
                    doing: "remove the dead mount at",
                    mount_point: entry.mount_point,
                    source: io::Error::other(error),
                })?;
            }
            Finding::OwnDead(entry) => {
                return Err(MountError::AlreadyMounted {
                    mount_point: entry.mount_point,
                    source_name: MountSource::display(&entry.source),
                    session: session.cloned(),
                });
            }
        }
    }
}

/// Waits until a mount gives its first answer.
pub(super) fn first_answer(entry: &MountEntry) -> io::Result<()> {
    rustix::fs::statvfs(&entry.mount_point)?;
    read_ahead::raise(&entry.device);
    Ok(())
}

/// Waits for an answer of the process that serves a mount, be it an error.
pub(super) fn ask(mount_point: &Path) {
    // That it was answered is enough.
    let _ = rustix::fs::statvfs(mount_point);
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

/// Takes a mount away although its process may live. Whether what waited for an answer got an error.
pub(super) fn cut_off(entry: &MountEntry) -> Result<bool, Refusal> {
    let aborted = abort_connection(entry);
    // Ends the connection as well. For root only.
    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::FORCE | UnmountFlags::DETACH;
    match rustix::mount::unmount(&entry.mount_point, flags) {
        Ok(()) => Ok(true),
        Err(Errno::PERM) => {
            unmount_by_helper(&entry.mount_point, Unmount::Detach)?;
            Ok(aborted)
        }
        Err(error) => Err(Refusal::Io(error.into())),
    }
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
    let abort: PathBuf = ["/sys/fs/fuse/connections", minor, "abort"]
        .iter()
        .collect();
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

/// Whether this user mounted it: anyone can call a mount of theirs by the id of a session.
pub(super) fn is_own(entry: &MountEntry) -> bool {
    entry.user() == Some(rustix::process::getuid().as_raw())
}

/// Where a path leads.
pub(super) fn place_of(given: &Path) -> io::Result<Place> {
    let walked = Walked::along(given, &mountinfo::read()?)?;
    let mount = walked.fuse.as_ref().map(Into::into);
    let path = walked.path;
    Ok(Place { path, mount })
}
