//! This process and those that it starts.

use std::io;
use std::process::ExitStatus;

use tokio::signal::windows;

use crate::process::Stop;

pub(crate) fn user_numbers() -> (u32, u32) {
    (0, 0)
}

pub(crate) fn lower_priority() -> io::Result<()> {
    super::calls::lower_priority()
}

#[derive(Debug)]
pub(crate) enum StopSignal {
    Interrupt(windows::CtrlC),
    Quit(windows::CtrlBreak),
    Terminate(windows::CtrlShutdown),
    HangUp(windows::CtrlClose),
}

impl StopSignal {
    pub(crate) fn listen(to: Stop) -> io::Result<Self> {
        match to {
            Stop::Interrupt => windows::ctrl_c().map(Self::Interrupt),
            Stop::Quit => windows::ctrl_break().map(Self::Quit),
            Stop::Terminate => windows::ctrl_shutdown().map(Self::Terminate),
            Stop::HangUp => windows::ctrl_close().map(Self::HangUp),
        }
    }

    pub(crate) async fn recv(&mut self) -> Option<()> {
        match self {
            Self::Interrupt(signal) => signal.recv().await,
            Self::Quit(signal) => signal.recv().await,
            Self::Terminate(signal) => signal.recv().await,
            Self::HangUp(signal) => signal.recv().await,
        }
    }
}

pub(crate) fn ask_to_stop(_process: u32) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "Windows has no signal that asks a process to stop",
    ))
}

pub(crate) fn signal_of(_status: ExitStatus) -> Option<i32> {
    None
}

/// The system's own heap gives back what it does not need.
pub(crate) fn give_back_memory() {}

pub(crate) fn keep_little_freed_memory() {}

/// Handles are bounded by memory alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenFiles;

pub(crate) fn raise_open_files() -> OpenFiles {
    OpenFiles
}

impl OpenFiles {
    #[expect(clippy::unused_self, reason = "as on Unix")]
    pub(crate) fn as_given<T>(self, start: impl FnOnce() -> T) -> T {
        start()
    }
}
