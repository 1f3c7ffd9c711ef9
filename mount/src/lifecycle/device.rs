//! Mounting: `/dev/fuse` opened and tied to a directory.
//!
//! Whoever may call mount(2) does so; for others the setuid program fusermount3 does it and passes the
//! opened device over a socket.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};

use super::error::MountError;
use super::point::MountPoint;
use super::source::{MountSource, NAME};

const DEVICE: &str = "/dev/fuse";
/// The helper that mounts and unmounts for users other than root.
pub(super) const HELPER: &str = "fusermount3";

/// How a file system is mounted.
#[derive(Debug)]
pub(super) struct DeviceOptions {
    pub(super) source: MountSource,
    pub(super) read_only: bool,
    pub(super) allow_other: bool,
}

/// Mounts, and returns the device through which the kernel asks.
pub(super) fn mount(point: &MountPoint, options: &DeviceOptions) -> Result<OwnedFd, MountError> {
    let device = open()?;
    match mount_directly(point, options, &device) {
        Ok(()) => Ok(device),
        Err(Errno::PERM) => {
            drop(device);
            mount_by_helper(&point.path, options)
        }
        Err(Errno::NODEV) => Err(MountError::NoDevice),
        Err(error) => Err(MountError::Io {
            doing: "mount on",
            mount_point: point.path.clone(),
            source: error.into(),
        }),
    }
}

fn open() -> Result<OwnedFd, MountError> {
    match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(file) => Ok(file.into()),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => MountError::NoDevice,
            io::ErrorKind::PermissionDenied => MountError::DevicePermission(error),
            // ENXIO and ENODEV: there is a node, and no driver behind it.
            _ if matches!(
                Errno::from_io_error(&error),
                Some(Errno::NXIO | Errno::NODEV)
            ) =>
            {
                MountError::NoDevice
            }
            _ => MountError::Io {
                doing: "open",
                mount_point: DEVICE.into(),
                source: error,
            },
        }),
    }
}

fn mount_directly(
    point: &MountPoint,
    options: &DeviceOptions,
    device: &OwnedFd,
) -> rustix::io::Result<()> {
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        point.mode,
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).expect("the options are numbers and words without a NUL");
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if options.read_only {
        flags |= MountFlags::RDONLY;
    }
    let fs_type = format!("fuse.{NAME}");
    rustix::mount::mount(
        options.source.to_string(),
        &point.path,
        fs_type,
        flags,
        data.as_c_str(),
    )
}

/// Lets fusermount3 mount. It sends the device over the socket that `_FUSE_COMMFD` names, which here
/// is its standard input.
pub(super) fn mount_by_helper(path: &Path, options: &DeviceOptions) -> Result<OwnedFd, MountError> {
    let failed = |doing, source| MountError::Io {
        doing,
        mount_point: path.to_owned(),
        source,
    };
    let mut words = format!(
        "fsname={},subtype={NAME},default_permissions,nosuid,nodev",
        options.source
    );
    if options.read_only {
        words.push_str(",ro");
    }
    if options.allow_other {
        words.push_str(",allow_other");
    }
    let (ours, theirs) =
        UnixStream::pair().map_err(|error| failed("prepare mounting on", error))?;
    let child = Command::new(HELPER)
        .args(["-o", &words, "--"])
        .arg(path)
        .env("_FUSE_COMMFD", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => MountError::NoHelper(error),
            _ => failed("run fusermount3 for", error),
        })?;
    // The command, which held the other end, is gone: if the child exits, this does not block.
    let device = receive(&ours);
    let output = child
        .wait_with_output()
        .map_err(|error| failed("wait for fusermount3 at", error))?;
    match device {
        Ok(Some(device)) if output.status.success() => Ok(device),
        Err(error) if output.status.success() => Err(failed("receive the device for", error)),
        _ => Err(refusal(path, &String::from_utf8_lossy(&output.stderr))),
    }
}

fn refusal(path: &Path, said: &str) -> MountError {
    if said.contains("user_allow_other") {
        return MountError::AllowOther;
    }
    let message = match said.trim() {
        "" => "it gave no reason".to_owned(),
        said => said.escape_debug().to_string(),
    };
    MountError::Helper {
        mount_point: path.to_owned(),
        message,
    }
}

/// The file descriptor that comes over a socket; `None` if the other end closed without one.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut buffers = [IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more than one descriptor came",
        ));
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return Ok(descriptors.next());
        }
    }
    Ok(None)
}
