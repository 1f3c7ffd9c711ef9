//! What can be wrong with a manifest's text, and with a snapshot that a format cannot hold.

use std::fmt;
use std::str::Utf8Error;

use super::reader::JsonError;
use crate::{EscapedBytes, ManifestPath, ParseHashError, PathError, SnapshotError};

/// Why a text is not a manifest that this crate takes. The source says what is wrong with the
/// field or the entry that the message names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not text at all.
    #[error("the manifest is not UTF-8 text")]
    NotUtf8(#[from] Utf8Error),
    /// Text that is not JSON.
    #[error("the manifest is not valid JSON")]
    Json(#[from] JsonError),
    /// No field that says which format it is.
    #[error("not a manifest: it has neither \"manifestVersion\" nor \"specificationVersion\"")]
    NoVersion,
    /// An unknown format.
    #[error("unknown manifest version \"{}\"", EscapedBytes(.0))]
    UnknownVersion(Box<[u8]>),
    /// A field of the manifest as a whole.
    #[error("field \"{field}\" of the manifest")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong.
        #[source]
        source: FieldError,
    },
    /// One entry.
    #[error("{0}")]
    Entry(EntryPlace, #[source] EntryError),
    /// All entries together.
    #[error("the entries do not fit together")]
    Tree(#[source] SnapshotError),
}

/// Which entry of a manifest: the list, the place in it (the first is 0) and the path, as far as
/// it can be told. Shows as `files[3] "a/b"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPlace {
    /// `paths`, `dirs` or `files`.
    pub list: &'static str,
    /// Entries before it.
    pub index: usize,
    /// The path, or the name as the manifest has it where that cannot be resolved.
    pub path: Option<Box<[u8]>>,
}

impl fmt::Display for EntryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.list, self.index)?;
        match &self.path {
            Some(path) => write!(f, " \"{}\"", EscapedBytes(path)),
            None => Ok(()),
        }
    }
}

/// Something in a manifest that has no meaning and was ignored. No writer of the canonical form writes
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// An entry of an absolute manifest for the root directory itself. `openjd-snapshots` writes one into what
    /// it composes.
    RootEntry(EntryPlace),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RootEntry(place) => {
                write!(
                    f,
                    "{place} is the root directory itself, which needs no entry"
                )
            }
        }
    }
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The entry is not an object, or not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The path cannot be one.
    #[error(transparent)]
    Path(#[from] PathError),
    /// One of its fields.
    #[error("field \"{field}\"")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong.
        #[source]
        source: FieldError,
    },
    /// The entry does not go with the others.
    #[error(transparent)]
    Tree(#[from] SnapshotError),
    /// A path below a directory is spelled out.
    #[error("a path below a directory must be \"$N/name\", N its place in \"dirs\"")]
    NotAReference,
    /// `$N/` with an N that is not a plain decimal number.
    #[error("\"$\" must be followed by a plain decimal number and \"/\"")]
    BadReference,
    /// `$N/` with an N that is not the place of a directory further up.
    #[error("there is no directory {0} before it")]
    NoSuchDirectory(u64),
    /// All paths together are far longer than the text.
    #[error("the references make paths that are far longer than the manifest itself")]
    TooMuchText,
    /// A deletion in a snapshot.
    #[error("a snapshot deletes nothing")]
    DeleteInSnapshot,
    /// An absolute path where only relative ones are, or the reverse.
    #[error("the path must be {0}")]
    Style(&'static str),
    /// The root directory as an entry that is deleted.
    #[error("the root directory is not deleted")]
    RootDeleted,
    /// A link whose text leads out of the root.
    #[error("it leads out of the root")]
    LeadsOut,
    /// Paths of a Windows drive and of a Unix root directory in one manifest.
    #[error("the manifest has paths of a drive and of \"/\"")]
    TwoRoots,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The wrong type, or not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It has to be there.
    #[error("it is missing")]
    Missing,
    /// The object has it twice.
    #[error("it is there twice")]
    Twice,
    /// A field that does not go with another field or with the version.
    #[error("it does not belong in {0}")]
    OutOfPlace(&'static str),
    /// Not a hash.
    #[error(transparent)]
    Hash(#[from] ParseHashError),
    /// Not a hash, in a list of them.
    #[error("hash {index}")]
    ChunkHash {
        /// Hashes before it.
        index: usize,
        /// What is wrong.
        #[source]
        source: ParseHashError,
    },
    /// A number below or above what it can be.
    #[error("the number must be {0}")]
    Range(&'static str),
    /// A hash algorithm other than the only one.
    #[error("the only hash algorithm is \"xxh128\", not \"{}\"", EscapedBytes(.0))]
    HashAlgorithm(Box<[u8]>),
    /// Not the sum of the sizes.
    #[error("it says {said}, but the files have {sum} bytes together")]
    TotalSize {
        /// What the manifest says.
        said: u64,
        /// What its entries add up to.
        sum: u64,
    },
    /// Where a link points is not a path.
    #[error("the target of the link")]
    Target(#[source] Box<EntryError>),
}

impl DecodeError {
    pub(super) fn field(field: &'static str, source: impl Into<FieldError>) -> Self {
        let source = source.into();
        Self::Field { field, source }
    }

    /// Which entry is at fault, if it is one.
    pub fn entry(&self) -> Option<&EntryPlace> {
        match self {
            Self::Entry(place, _) => Some(place),
            _ => None,
        }
    }
}

impl EntryError {
    pub(super) fn field(field: &'static str, source: impl Into<FieldError>) -> Self {
        let source = source.into();
        Self::Field { field, source }
    }
}

/// Why a format cannot hold a snapshot or a diff.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It has no place for an entry.
    #[error("a manifest of version {format} cannot hold \"{path}\": {reason}")]
    Entry {
        /// The format.
        format: super::Format,
        /// The entry.
        path: ManifestPath,
        /// What the format does not have.
        reason: &'static str,
    },
    /// It has no deletions.
    #[error("a manifest of version {0} cannot hold a diff")]
    NoDiffs(super::Format),
    /// Files are cut into longer pieces than a number of the format can say.
    #[error("files cannot be cut at {0}: at most 2^63 - 1 are possible")]
    ChunkSize(crate::ChunkSize),
    /// The format is obsolete.
    #[error("manifests of version 2025-12-04-beta are read, but not written")]
    Draft,
}
