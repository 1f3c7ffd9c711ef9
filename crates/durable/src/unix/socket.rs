//! Unix sockets. A directory may have a longer path than a socket's address holds (107 bytes), so it is opened, and the
//! socket named through it.

use std::fs::{File, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Owner;
use crate::own::{Wanted, check};
use crate::socket::BlockingEnd;
use crate::{Kind, Peer};

pub(crate) const SOCKET_KIND: Kind = Kind::Other;

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 64;

#[derive(Debug)]
pub(crate) struct SocketDir {
    dir: File,
    name: &'static str,
}

impl SocketDir {
    pub(crate) fn open(path: &Path, name: &'static str) -> io::Result<Self> {
        let flags = (OFlags::PATH | OFlags::DIRECTORY).bits() as i32;
        let dir = File::options().read(true).custom_flags(flags).open(path)?;
        check(&super::standing(&dir)?, Wanted::Dir)?;
        Ok(Self { dir, name })
    }

    fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd")
            .join(self.dir.as_raw_fd().to_string())
            .join(self.name)
    }

    pub(crate) fn listen(&self) -> io::Result<Listener> {
        self.remove()?;
        let path = self.path();
        let socket = socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
        // Before anyone can connect. The directory is private already.
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        rustix::net::listen(&socket, BACKLOG)?;
        tokio::net::UnixListener::from_std(socket.into()).map(Listener)
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        let path = self.path();
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(&path),
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} is something else than a socket", self.name),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn connect(&self) -> io::Result<Option<Connection>> {
        let socket = socket()?;
        // It does not block: a server whose queue is full answers EAGAIN.
        match rustix::net::connect(&socket, &SocketAddrUnix::new(self.path())?) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(Some(stream))
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn peer_of(user: u32, process: Option<u32>) -> Peer {
    Peer {
        owner: Owner(user),
        me: Owner(rustix::process::geteuid().as_raw()),
        process,
    }
}

#[derive(Debug)]
pub(crate) struct Listener(tokio::net::UnixListener);

impl Listener {
    pub(crate) async fn accept(&mut self) -> io::Result<Accepted> {
        let (stream, _) = self.0.accept().await?;
        Ok(stream)
    }
}

pub(crate) type Accepted = tokio::net::UnixStream;

/// The user and the process when they connected.
pub(crate) fn accepted_from(stream: &Accepted) -> io::Result<Peer> {
    let cred = stream.peer_cred()?;
    let process = cred.pid().and_then(|pid| pid.try_into().ok());
    Ok(peer_of(cred.uid(), process))
}

pub(crate) type Connection = UnixStream;

impl BlockingEnd for Connection {
    /// The user and the process when they began to listen.
    fn peer(&self) -> io::Result<Peer> {
        let peer = rustix::net::sockopt::socket_peercred(self.as_fd())?;
        let process = u32::try_from(peer.pid.as_raw_nonzero().get()).ok();
        Ok(peer_of(peer.uid.as_raw(), process))
    }

    fn set_longest_read(&mut self, longest: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(longest))
    }

    fn set_longest_write(&mut self, longest: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(longest))
    }

    fn hang_up(&self) -> io::Result<HangUp> {
        self.try_clone().map(HangUp)
    }
}

#[derive(Debug)]
pub(crate) struct HangUp(UnixStream);

impl HangUp {
    pub(crate) fn now(self) {
        // Not connected any more: what was wanted.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
