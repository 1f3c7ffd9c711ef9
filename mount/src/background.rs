//! What a mount in the background needs of the system: the program starts itself again, linked to the one that it leaves.
//!
//! On a platform without mounts there is nothing to start: each of these fails with [`std::io::ErrorKind::Unsupported`].

#[cfg(not(unix))]
mod absent;
#[cfg(unix)]
mod inherit;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub use absent::{StarterLink, leave_terminal, redirect, start_linked};
#[cfg(unix)]
pub use unix::{StarterLink, leave_terminal, redirect, start_linked};

/// What a program reads from and writes to unless it is told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandardStream {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}
