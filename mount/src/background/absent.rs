//! No processes in the background, on a platform without mounts.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{Child, Command};

use super::StandardStream;
use crate::MountError;

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        MountError::NotHere,
    ))
}

/// One end of a connection between a process in the background and the one that started it: there is none.
#[derive(Debug)]
pub struct StarterLink(Infallible);

/// Starts nothing.
pub fn start_linked(_command: &mut Command) -> io::Result<(Child, StarterLink)> {
    unsupported()
}

impl StarterLink {
    /// No process is started in the background.
    pub fn of_this_process() -> io::Result<Self> {
        unsupported()
    }

    /// The same end once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self.0 {}
    }

    /// Closes it for both ends.
    pub fn shut_down(&self) {
        match self.0 {}
    }

    /// Waits until something comes, which stays to be read, or the other end is gone. Whether something came.
    pub fn wait_for_word(&self) -> bool {
        match self.0 {}
    }
}

impl Read for &StarterLink {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}

impl Write for &StarterLink {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}

/// Leaves nothing.
pub fn leave_terminal() -> io::Result<()> {
    unsupported()
}

/// Redirects nothing.
pub fn redirect(_stream: StandardStream, _file: &File) -> io::Result<()> {
    unsupported()
}
