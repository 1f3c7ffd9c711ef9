//! Named pipes: one end for a runtime, which tokio has, and one that blocks for a bounded time, which the standard library has not.
#![allow(unsafe_code, reason = "windows-sys has only unsafe functions")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr::null;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};
use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_OPERATION_ABORTED, ERROR_PIPE_BUSY, HANDLE, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_OVERLAPPED, ReadFile, SECURITY_IDENTIFICATION, WriteFile,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Pipes::{
    GetNamedPipeClientProcessId, GetNamedPipeServerProcessId, WaitNamedPipeW,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects,
};

use super::security::{self, Descriptor};
use crate::Peer;
use crate::socket::BlockingEnd;

/// How long a server may have no end free that a client could connect to.
const BUSY: Duration = Duration::from_secs(2);

/// An end that a client can connect to, for this user and the system. The first one fails if the pipe is there already.
pub(super) fn serve(path: &str, is_first: bool) -> io::Result<Served> {
    let descriptor = Descriptor::of_pipe()?;
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor.as_ptr(),
        bInheritHandle: 0,
    };
    let mut options = ServerOptions::new();
    options
        .first_pipe_instance(is_first)
        .reject_remote_clients(true);
    // SAFETY: the attributes are what the call wants, and they and their descriptor live until it has returned.
    let pipe =
        unsafe { options.create_with_security_attributes_raw(path, (&raw mut attributes).cast()) };
    pipe.map(Served)
}

/// An end that nobody has connected to yet.
#[derive(Debug)]
pub(super) struct Served(NamedPipeServer);

impl Served {
    /// Waits until somebody has. A future that is dropped loses nothing.
    pub(super) async fn connected(&self) -> io::Result<()> {
        self.0.connect().await
    }
}

impl From<Served> for Accepted {
    fn from(served: Served) -> Self {
        served.0
    }
}

pub(crate) type Accepted = NamedPipeServer;

pub(crate) fn accepted_from(pipe: &Accepted) -> io::Result<Peer> {
    let mut process = 0;
    // SAFETY: the handle is open, and the number is there.
    let done = unsafe { GetNamedPipeClientProcessId(pipe.as_raw_handle(), &raw mut process) };
    peer(done, process)
}

fn peer(done: i32, process: u32) -> io::Result<Peer> {
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer {
        owner: security::user_of_process(process)?,
        me: security::user()?,
        process: Some(process),
    })
}

/// Connects to a pipe; nothing if nobody serves it.
pub(super) fn connect(path: &str) -> io::Result<Option<Connection>> {
    let until = Instant::now() + BUSY;
    loop {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(FILE_FLAG_OVERLAPPED)
            // Its server may see who connects, and not act in their name.
            .security_qos_flags(SECURITY_IDENTIFICATION);
        match options.open(path) {
            Ok(pipe) => return Connection::new(pipe).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, error));
                }
                wait_for_end(path, left);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits until an end of a pipe is free. Another client may take it first.
fn wait_for_end(path: &str, at_most: Duration) {
    let name: Vec<u16> = std::ffi::OsStr::new(path)
        .encode_wide()
        .chain([0])
        .collect();
    // SAFETY: the name ends in a zero. Whether one is free, the next attempt shows.
    unsafe { WaitNamedPipeW(name.as_ptr(), milliseconds(at_most).max(1)) };
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(INFINITE - 1)
}

/// Something that can be waited for, and that stays as it is once it was set.
#[derive(Debug)]
struct Event(OwnedHandle);

impl Event {
    fn new() -> io::Result<Self> {
        // SAFETY: without a name and attributes; what it gives is a handle that nobody else owns.
        unsafe {
            let handle = CreateEventW(null(), 1, 0, null());
            if handle.is_null() {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedHandle::from_raw_handle(handle)))
        }
    }

    fn set(&self) {
        // SAFETY: the handle is open, and is that of an event: this cannot fail.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    /// Closed when it was hung up.
    pipe: Option<File>,
    /// Set when a transfer is done.
    done: Event,
    hung_up: Arc<Event>,
    longest_read: Duration,
    longest_write: Duration,
}

impl Connection {
    fn new(pipe: File) -> io::Result<Self> {
        Ok(Self {
            pipe: Some(pipe),
            done: Event::new()?,
            hung_up: Arc::new(Event::new()?),
            longest_read: Duration::MAX,
            longest_write: Duration::MAX,
        })
    }

    fn pipe(&self) -> io::Result<&File> {
        let pipe = self.pipe.as_ref();
        Ok(pipe.ok_or(io::ErrorKind::ConnectionReset)?)
    }

    /// Starts a transfer with `start`, which gives what its call gave, and waits for its end: for the time that was set, and until
    /// it is hung up.
    fn transfer(
        &mut self,
        timeout: Duration,
        start: impl FnOnce(HANDLE, *mut OVERLAPPED) -> i32,
    ) -> io::Result<usize> {
        let pipe = self.pipe()?.as_raw_handle();
        let mut overlapped = OVERLAPPED {
            hEvent: self.done.0.as_raw_handle(),
            ..OVERLAPPED::default()
        };
        let overlapped = &raw mut overlapped;
        if start(pipe, overlapped) == 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(ERROR_IO_PENDING as i32) {
                return Err(error);
            }
        }
        let events = [self.done.0.as_raw_handle(), self.hung_up.0.as_raw_handle()];
        let mut len = 0;
        // SAFETY: both handles are open, and so is the pipe. The last call returns when the transfer has ended, broken off or not:
        // until then `overlapped` and the buffer of the caller are there.
        let (waited, ended) = unsafe {
            let count = events.len() as u32;
            let waited = WaitForMultipleObjects(count, events.as_ptr(), 0, milliseconds(timeout));
            if waited != WAIT_OBJECT_0 {
                CancelIoEx(pipe, overlapped);
            }
            let ended = if GetOverlappedResult(pipe, overlapped, &raw mut len, 1) == 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(len as usize)
            };
            (waited, ended)
        };
        if waited == WAIT_OBJECT_0 + 1 {
            // Closed, so that the other end sees it.
            self.pipe = None;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        match ended {
            Err(error) if error.raw_os_error() == Some(ERROR_OPERATION_ABORTED as i32) => {
                if waited == WAIT_TIMEOUT {
                    Err(io::ErrorKind::TimedOut.into())
                } else {
                    Err(error)
                }
            }
            ended => ended,
        }
    }
}

impl BlockingEnd for Connection {
    fn peer(&self) -> io::Result<Peer> {
        let mut process = 0;
        // SAFETY: the handle is open, and the number is there.
        let done =
            unsafe { GetNamedPipeServerProcessId(self.pipe()?.as_raw_handle(), &raw mut process) };
        peer(done, process)
    }

    fn set_longest_read(&mut self, longest: Duration) -> io::Result<()> {
        self.longest_read = longest;
        Ok(())
    }

    fn set_longest_write(&mut self, longest: Duration) -> io::Result<()> {
        self.longest_write = longest;
        Ok(())
    }

    fn hang_up(&self) -> io::Result<HangUp> {
        Ok(HangUp(self.hung_up.clone()))
    }
}

fn len_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (to, len) = (buffer.as_mut_ptr(), len_of(buffer));
        let read = self.transfer(self.longest_read, |pipe, overlapped| {
            // SAFETY: the buffer is as long as is said, and borrowed until the transfer has ended, as `overlapped` is.
            unsafe { ReadFile(pipe, to, len, std::ptr::null_mut(), overlapped) }
        });
        match read {
            // The other end was closed.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            read => read,
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (from, len) = (bytes.as_ptr(), len_of(bytes));
        self.transfer(self.longest_write, |pipe, overlapped| {
            // SAFETY: as for reading; the bytes are only read.
            unsafe { WriteFile(pipe, from, len, std::ptr::null_mut(), overlapped) }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct HangUp(Arc<Event>);

impl HangUp {
    pub(crate) fn now(self) {
        self.0.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_its_users_alone() {
        let path = format!(r"\\.\pipe\attachfs-test-{}", std::process::id());
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let _inside = runtime.enter();
        let _served = serve(&path, true).unwrap();
        let connection = connect(&path).unwrap().unwrap();
        let protection = security::protection(connection.pipe().unwrap()).unwrap();
        assert_eq!(protection.owner, security::user().unwrap());
        assert_eq!(protection.writers, Vec::<String>::new());
        assert!(protection.is_protected);
    }
}
