//! This process and those that it starts, as far as platforms differ.

use std::io;
use std::process::ExitStatus;

use crate::platform;

/// The numbers of the user and the group that run this program. Windows has none: 0, which counts where a mount shows
/// whose its files are.
pub fn user_numbers() -> (u32, u32) {
    platform::user_numbers()
}

/// Gives memory that this process has freed back to the system, where its allocator keeps it. Takes milliseconds for some 100 MB.
pub fn give_back_memory() {
    platform::give_back_memory();
}

/// Has this process's allocator keep little of what is freed, for a program that runs for long and whose memory is bounded by its
/// own counts. To be called before there are other threads. `GLIBC_TUNABLES` has no say any more.
pub fn keep_little_freed_memory() {
    platform::keep_little_freed_memory();
}

/// Lets all other threads of the machine go before this one where processors are short: for a thread whose work nobody waits for.
/// That cannot be taken back.
pub fn lower_priority() {
    if let Err(error) = platform::lower_priority() {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// A request to this process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-\; on Windows Ctrl-Break.
    Quit,
    /// SIGTERM; on Windows that the system shuts down.
    Terminate,
    /// SIGHUP, unless the program was started with that signal ignored, as nohup(1) does; on Windows that the console is closed.
    HangUp,
}

/// Hears of one kind of request to stop, which does not end the process any more.
#[derive(Debug)]
pub struct StopSignal(platform::StopSignal);

impl StopSignal {
    /// Listens from now on, within a runtime of tokio.
    pub fn listen(to: Stop) -> io::Result<Self> {
        platform::StopSignal::listen(to).map(Self)
    }

    /// Waits for the next one; for ever if there can be none.
    pub async fn recv(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Asks a process to stop (SIGTERM). Windows has no such request: [`io::ErrorKind::Unsupported`].
pub fn ask_to_stop(process: u32) -> io::Result<()> {
    platform::ask_to_stop(process)
}

/// The signal that ended a process; on Windows none ever does.
pub fn signal_of(status: ExitStatus) -> Option<i32> {
    platform::signal_of(status)
}

/// How many files this process may have open, by the limit that it was started with.
#[derive(Debug, Clone, Copy)]
pub struct OpenFiles(platform::OpenFiles);

/// Lets this process open as many files as it is allowed to: each file that is open in a mount and was
/// written to is one of the process that serves it, and a transfer has files and connections in flight. Programs
/// that are started afterwards may too, but for those to which the limit
/// is given that this process had ([`OpenFiles::as_given`]). On Windows memory alone bounds them.
pub fn raise_open_files() -> OpenFiles {
    OpenFiles(platform::raise_open_files())
}

impl OpenFiles {
    /// Starts a program, which has the limit that this process was given.
    pub fn as_given<T>(&self, start: impl FnOnce() -> T) -> T {
        self.0.as_given(start)
    }
}
