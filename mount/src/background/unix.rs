//! Processes in the background, on Linux.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::StandardStream;
use super::inherit::pass_on_standard_files_only;

/// One end of a connection between a process in the background and the one that started it.
#[derive(Debug)]
pub struct StarterLink(UnixStream);

/// Starts a program whose standard output is the other end of a link. It inherits no other files than the three
/// standard ones: a lock that a shell holds on a descriptor would stay as long as the mount.
pub fn start_linked(command: &mut Command) -> io::Result<(Child, StarterLink)> {
    let (ours, theirs) = UnixStream::pair()?;
    pass_on_standard_files_only()?;
    let child = command.stdout(Stdio::from(OwnedFd::from(theirs))).spawn()?;
    Ok((child, StarterLink(ours)))
}

impl StarterLink {
    /// In a process that was started by [`start_linked`]: its standard output.
    pub fn of_this_process() -> io::Result<Self> {
        let socket = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self(socket.into()))
    }

    /// The same end once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Closes it for both ends.
    pub fn shut_down(&self) {
        // It may be closed already: what was wanted.
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// Waits until something comes, which stays to be read, or the other end is gone. Whether something came.
    pub fn wait_for_word(&self) -> bool {
        let mut byte = [0];
        let peeked =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut byte, RecvFlags::PEEK));
        matches!(peeked, Ok((_, 1..)))
    }
}

impl Read for &StarterLink {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }
}

impl Write for &StarterLink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&self.0).flush()
    }
}

/// Leaves the terminal and the limits that the starter of this process happens to have, within a runtime of tokio: its
/// session, its umask, its limits. A write that a limit forbids is an error of that write, and not the end of the process.
pub fn leave_terminal() -> io::Result<()> {
    // The leader of a session already: nothing to leave.
    match rustix::process::setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    for resource in [Resource::Fsize, Resource::Cpu] {
        lift(resource);
    }
    Ok(())
}

/// As much as is allowed at all: what a shell limits is not meant for a process in the background.
fn lift(resource: Resource) {
    let Rlimit { maximum, .. } = getrlimit(resource);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(resource, all) {
        tracing::warn!(%error, "the limit {resource:?} stays what it is");
    }
}

/// Makes a standard stream of this process lead to a file.
pub fn redirect(stream: StandardStream, file: &File) -> io::Result<()> {
    let redirected = match stream {
        StandardStream::Input => rustix::stdio::dup2_stdin(file),
        StandardStream::Output => rustix::stdio::dup2_stdout(file),
        StandardStream::Error => rustix::stdio::dup2_stderr(file),
    };
    Ok(redirected?)
}
