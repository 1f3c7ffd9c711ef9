//! The socket's place. A session's directory may have a longer path than a socket's address holds (107
//! bytes), so the directory is opened and the socket named through it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

const NAME: &str = "control.sock";
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A session's directory, opened.
#[derive(Debug)]
pub(super) struct SocketDir {
    dir: File,
    owner: u32,
}

impl SocketDir {
    /// Opens it. Fails with [`io::ErrorKind::PermissionDenied`] if it is not this user's, or others may
    /// write to it: then another user could listen there in place of the session's process.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = (OFlags::PATH | OFlags::DIRECTORY).bits() as i32;
        let dir = File::options().read(true).custom_flags(flags).open(path)?;
        let metadata = dir.metadata()?;
        let owner = metadata.uid();
        if owner != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            let text = "the session's directory is not this user's alone";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Self { dir, owner })
    }

    /// Whose directory it is.
    pub(super) fn owner(&self) -> u32 {
        self.owner
    }

    fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd")
            .join(self.dir.as_raw_fd().to_string())
            .join(NAME)
    }

    /// Listens. A socket that a dead process left is replaced: the caller has the session's lock.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        self.remove()?;
        let path = self.path();
        let socket = socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
        // Before anyone can connect. The directory is private already.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket.into())
    }

    /// Removes the socket; anything else of that name stays.
    pub(super) fn remove(&self) -> io::Result<()> {
        let path = self.path();
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(&path),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{NAME} is something else than a socket"),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Connects; `None` if nobody listens.
    pub(super) fn connect(&self) -> io::Result<Option<UnixStream>> {
        let socket = socket()?;
        // It does not block: a server whose queue is full answers EAGAIN.
        match rustix::net::connect(&socket, &SocketAddrUnix::new(self.path())?) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(Some(stream))
    }
}

fn socket() -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// The user and the process of the other end, when it connected or began to listen.
pub(super) fn peer(stream: &UnixStream) -> io::Result<(u32, Option<u32>)> {
    let peer = rustix::net::sockopt::socket_peercred(stream.as_fd())?;
    let pid = peer.pid.as_raw_nonzero().get();
    Ok((peer.uid.as_raw(), u32::try_from(pid).ok()))
}
