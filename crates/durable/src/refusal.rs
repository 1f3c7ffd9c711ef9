//! Why the system refused an operation, in terms of no platform.

use std::io;

use crate::platform;

/// Why the system refused an operation, for the cases that a caller acts on. More precise than
/// [`io::ErrorKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing has this name.
    NotThere,
    /// A directory was needed.
    NotADirectory,
    /// A symbolic link where none is followed, or links in a circle.
    Link,
    /// The path leads out of the directory that was to hold it, or to another file system.
    Outside,
    /// A pipe without a reader or writer, or a missing device.
    NoPeer,
    /// The other side of a network file system does not know the file any more.
    Stale,
    /// The name, or the path, is too long.
    NameTooLong,
    /// This process, or the machine, cannot open another file.
    TooManyOpenFiles,
    /// No memory.
    NoMemory,
    /// Anything else.
    Other,
}

impl Refusal {
    /// `None` for an error that did not come from the system.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.raw_os_error().map(platform::refusal)
    }
}

/// The error that the system would have given.
impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::from_raw_os_error(platform::code_of(refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_system_is_told_from_an_error_of_our_own() {
        let dir = tempfile::tempdir().unwrap();
        let missing = std::fs::File::open(dir.path().join("none")).unwrap_err();
        assert_eq!(Refusal::of(&missing), Some(Refusal::NotThere));
        std::fs::write(dir.path().join("f"), "").unwrap();
        let below = crate::HeldDir::open(&dir.path().join("f")).unwrap_err();
        assert_eq!(Refusal::of(&below), Some(Refusal::NotADirectory));
        assert_eq!(Refusal::of(&io::Error::other("ours")), None);
    }

    #[test]
    fn a_refusal_made_here_is_understood_as_one_of_the_system() {
        for refusal in [
            Refusal::NotThere,
            Refusal::NotADirectory,
            Refusal::Link,
            Refusal::Outside,
            Refusal::NoPeer,
            Refusal::Stale,
            Refusal::NameTooLong,
            Refusal::TooManyOpenFiles,
            Refusal::NoMemory,
            Refusal::Other,
        ] {
            assert_eq!(Refusal::of(&refusal.into()), Some(refusal));
        }
    }
}
