//! What happens where something else is in the way.

use std::io;

use attachfs_durable::{HeldDir, Kind};

/// What happens to a file whose place is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conflict {
    /// It gets another name: `stem (1).suffix`, or the next number that is free.
    #[default]
    CreateCopy,
    /// It is not fetched.
    Skip,
    /// It replaces what is there. A directory is never replaced.
    Overwrite,
}

/// What stands where something else is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupant {
    Dir,
    File,
    Link,
    Other,
}

impl Occupant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dir => "a directory",
            Self::File => "a file",
            Self::Link => "a symbolic link",
            Self::Other => "a FIFO, a socket or a device",
        }
    }

    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Dir => Self::Dir,
            Kind::File => Self::File,
            Kind::Link => Self::Link,
            Kind::Other => Self::Other,
        }
    }
}

/// What stands at a name, if anything does.
pub(super) fn occupant_of(dir: &HeldDir, name: &[u8]) -> io::Result<Option<Occupant>> {
    Ok(dir.look(name)?.map(|facts| Occupant::of(facts.kind)))
}

/// What [`Conflict`] means for what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    Leave(&'static str),
    Replace,
    Copy,
    Refuse(&'static str),
}

/// What happens where `occupant` is in the way.
pub(super) fn resolve(conflict: Conflict, occupant: Occupant) -> Resolution {
    match (conflict, occupant) {
        (Conflict::Skip, Occupant::File) => Resolution::Leave("there is another file in its place"),
        (Conflict::Skip, Occupant::Link) => Resolution::Leave("there is another link in its place"),
        (Conflict::Skip, Occupant::Dir) => Resolution::Leave("there is a directory in its place"),
        (Conflict::Skip, Occupant::Other) => {
            Resolution::Leave("there is a FIFO, a socket or a device in its place")
        }
        (Conflict::CreateCopy, _) => Resolution::Copy,
        (Conflict::Overwrite, Occupant::File | Occupant::Link) => Resolution::Replace,
        (Conflict::Overwrite, Occupant::Dir) => {
            Resolution::Refuse("there is a directory in its place, which is not replaced")
        }
        (Conflict::Overwrite, Occupant::Other) => Resolution::Refuse(
            "there is a FIFO, a socket or a device in its place, which is not replaced",
        ),
    }
}
