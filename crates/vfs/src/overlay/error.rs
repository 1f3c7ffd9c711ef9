//! Why a journal cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::DurableError;

use super::format::{Damage, READ};

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused.
    #[error("cannot {doing} the journal {}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file does not begin like a journal.
    #[error("{} is not a journal", .0.display())]
    NotAJournal(PathBuf),
    /// It is the journal of a version that this program does not know.
    #[error("the journal {} was written by another version of attachfs: it has version {found}, and this one reads {READ}", path.display())]
    OtherVersion {
        /// The journal.
        path: PathBuf,
        /// The number in its first line.
        found: String,
    },
    /// The file is shorter than a new journal.
    #[error("the journal {} has only {len} bytes: its records are lost", path.display())]
    CutOff {
        /// The journal.
        path: PathBuf,
        /// Its length.
        len: usize,
    },
    /// A record is damaged: what follows it cannot be trusted, and nothing is dropped silently.
    #[error("record {record} of the journal {} (at byte {offset}) is damaged", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// 1 for the first.
        record: u64,
        /// Where it starts.
        offset: u64,
        /// What is wrong with it.
        #[source]
        cause: Damage,
    },
    /// A record that is too long to be read back.
    #[error("a record of {0} bytes is too long for the journal")]
    TooLong(usize),
    /// An earlier sync failed.
    #[error(
        "an earlier sync of the session's files failed: their content may not survive a power loss"
    )]
    NotDurable,
    /// An earlier failure left the journal in an unknown state.
    #[error("the journal takes no more records after an earlier failure")]
    Poisoned,
    /// It was opened only to be looked at.
    #[error("the journal is only looked at")]
    LookedAt,
    /// The file cannot be used, or its directory: the system refused, or it is not this user's alone.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

pub(super) fn failed(
    doing: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> JournalError + use<> {
    let path = path.to_owned();
    move |source| JournalError::Io {
        doing,
        path: path.clone(),
        source,
    }
}
