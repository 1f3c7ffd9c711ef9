//! The errors of file system operations, in terms of no platform.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use attachfs_durable::{DurableError, Refusal};
use attachfs_tree::MutationError;

/// The kind of error for the caller. The adapters turn it into an errno or an NTSTATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FsErrorKind {
    /// Nothing has this name or number.
    NotFound,
    /// The name is taken.
    Exists,
    /// A directory was needed.
    NotADirectory,
    /// It is a directory, where a file was needed.
    IsADirectory,
    /// The directory is not empty.
    NotEmpty,
    /// The name is too long.
    NameTooLong,
    /// The request is invalid.
    Invalid,
    /// The mount is read-only.
    ReadOnly,
    /// No space left for what is written.
    NoSpace,
    /// The file is larger than the scratch file system can hold.
    TooLarge,
    /// The file's names have moved to another node: the request is to be repeated with what they lead to now.
    Moved,
    /// The handle is not open, or not for this.
    BadHandle,
    /// The offset is not within the file, or what was looked for does not follow it.
    BeyondEnd,
    /// Never permitted in this file system.
    NotPermitted,
    /// The file has no such extended attribute.
    NoAttribute,
    /// This file system does not support the operation.
    NotSupported,
    /// The process or the machine cannot open another file.
    TooManyOpenFiles,
    /// The mount is ending: nothing is written any more.
    Ended,
    /// The data could not be read or kept.
    Io,
}

impl FsErrorKind {
    /// All of them, in their order.
    pub const ALL: [Self; 19] = [
        Self::NotFound,
        Self::Exists,
        Self::NotADirectory,
        Self::IsADirectory,
        Self::NotEmpty,
        Self::NameTooLong,
        Self::Invalid,
        Self::ReadOnly,
        Self::NoSpace,
        Self::TooLarge,
        Self::Moved,
        Self::BadHandle,
        Self::BeyondEnd,
        Self::NotPermitted,
        Self::NoAttribute,
        Self::NotSupported,
        Self::TooManyOpenFiles,
        Self::Ended,
        Self::Io,
    ];

    /// Its name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::NotADirectory => "not_a_directory",
            Self::IsADirectory => "is_a_directory",
            Self::NotEmpty => "not_empty",
            Self::NameTooLong => "name_too_long",
            Self::Invalid => "invalid",
            Self::ReadOnly => "read_only",
            Self::NoSpace => "no_space",
            Self::TooLarge => "too_large",
            Self::Moved => "moved",
            Self::BadHandle => "bad_handle",
            Self::BeyondEnd => "beyond_end",
            Self::NotPermitted => "not_permitted",
            Self::NoAttribute => "no_attribute",
            Self::NotSupported => "not_supported",
            Self::TooManyOpenFiles => "too_many_open_files",
            Self::Ended => "ended",
            Self::Io => "io",
        }
    }
}

// A kind or an operation that is added has its place in the counts.
const _: () = assert!(FsErrorKind::ALL.len() == FsErrorKind::Io as usize + 1);

/// A failed operation. For [`Io`](FsErrorKind::Io) and [`NoSpace`](FsErrorKind::NoSpace) it keeps
/// what was being done and why it failed, for the log.
#[derive(Debug, Clone)]
pub struct FsError {
    kind: FsErrorKind,
    doing: Option<Box<str>>,
    blame: Option<Blame>,
    path: Option<Box<str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What has to be repaired before a read can succeed. Failures with equal blame have one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blame {
    /// The store as a whole.
    Store,
    /// The object with this key.
    Object(Box<str>),
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "the store",
            Self::Object(key) => key,
        })
    }
}

impl FsError {
    /// An error that the request itself explains, without a cause.
    pub const fn plain(kind: FsErrorKind) -> Self {
        Self {
            kind,
            doing: None,
            blame: None,
            path: None,
            source: None,
        }
    }

    /// A failure below the file system.
    pub fn caused(
        kind: FsErrorKind,
        doing: impl Into<Box<str>>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            doing: Some(doing.into()),
            blame: None,
            path: None,
            source: Some(source.into().into()),
        }
    }

    /// The same failure, with its blame.
    #[must_use]
    pub fn blaming(self, blame: Blame) -> Self {
        Self {
            blame: Some(blame),
            ..self
        }
    }

    /// The same failure, with the path of the file that was asked for, for the log.
    #[must_use]
    pub fn at(self, path: impl Into<Box<str>>) -> Self {
        Self {
            path: Some(path.into()),
            ..self
        }
    }

    /// An error of the operating system while working on the overlay.
    pub fn io(doing: impl Into<Box<str>>, source: io::Error) -> Self {
        Self::caused(kind_of_io(&source), doing, source)
    }

    /// The kind of error for the caller.
    pub fn kind(&self) -> FsErrorKind {
        self.kind
    }

    /// What has to be repaired, if it is known.
    pub fn blame(&self) -> Option<&Blame> {
        self.blame.as_ref()
    }

    /// The path of the file that was asked for, if it is known.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Whether the error has a cause that belongs into the log.
    pub fn has_cause(&self) -> bool {
        self.source.is_some()
    }
}

pub(crate) fn kind_of_io(error: &io::Error) -> FsErrorKind {
    if Refusal::of(error) == Some(Refusal::TooManyOpenFiles) {
        return FsErrorKind::TooManyOpenFiles;
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FsErrorKind::NoSpace,
        io::ErrorKind::FileTooLarge => FsErrorKind::TooLarge,
        _ => FsErrorKind::Io,
    }
}

impl From<FsErrorKind> for FsError {
    fn from(kind: FsErrorKind) -> Self {
        Self::plain(kind)
    }
}

impl From<DurableError> for FsError {
    fn from(error: DurableError) -> Self {
        let kind = kind_of_io(&error.source);
        Self::caused(kind, "the overlay", error)
    }
}

impl From<MutationError> for FsError {
    fn from(error: MutationError) -> Self {
        Self::plain(match error {
            MutationError::NoInode(_) | MutationError::NoName { .. } => FsErrorKind::NotFound,
            MutationError::Exists { .. } => FsErrorKind::Exists,
            MutationError::NotDir(_) => FsErrorKind::NotADirectory,
            MutationError::IsDir(_) => FsErrorKind::IsADirectory,
            MutationError::NotEmpty(_) => FsErrorKind::NotEmpty,
            MutationError::BelowItself(_) => FsErrorKind::Invalid,
            MutationError::NoXattr(_) => FsErrorKind::NoAttribute,
            MutationError::InodeTaken(_) | MutationError::WrongContent(_) => FsErrorKind::Io,
        })
    }
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.name().replace('_', " ");
        match (&self.doing, self.kind) {
            // The cause says what kind of trouble it is.
            (Some(doing), FsErrorKind::Io) => f.write_str(doing),
            (Some(doing), _) => write!(f, "{doing}: {kind}"),
            (None, FsErrorKind::Io) => f.write_str("input or output failed"),
            (None, _) => f.write_str(&kind),
        }
    }
}

impl StdError for FsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
