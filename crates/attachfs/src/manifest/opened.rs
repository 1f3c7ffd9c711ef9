//! A manifest that was read, and one that was made.

use attachfs_manifest::wire::{
    DecodeError, EncodeError, Format, Manifest, Note, Noted, decode_lenient, decode_noted, encode,
};
use attachfs_manifest::{
    ChunkSize, ContentHash, Diff, DiffError, DowngradeError, JoinError, ManifestPath, MergeError,
    PartitionError, PathError, Snapshot, SnapshotError, SubtreeError, is_drive,
};
use attachfs_session::FailureClass;
use attachfs_tree::LayerError;

use crate::error::{Doing as _, Error};
use crate::manifests::{ManifestBytes, unusable};

/// A manifest that was read.
#[derive(Debug, Clone)]
pub struct OpenedManifest {
    /// What it is called.
    pub name: String,
    /// The hash of its bytes.
    pub hash: ContentHash,
    /// Its format.
    pub format: Format,
    /// What it holds.
    pub manifest: Manifest,
    /// The faults of the manifest, if it was read leniently in spite of them.
    pub fault: Option<DecodeError>,
    /// What in it says nothing.
    pub note: Option<Note>,
}

/// Reads a manifest; leniently as far as [`decode_lenient`] goes.
pub fn open_manifest(bytes: &ManifestBytes, lenient: bool) -> Result<OpenedManifest, Error> {
    let doing = || unusable(&bytes.name);
    let (read, fault) = if lenient {
        let read = decode_lenient(&bytes.bytes).doing(doing)?;
        let (format, manifest, note) = (read.format, read.manifest, read.note);
        (
            Noted {
                format,
                manifest,
                note,
            },
            read.fault,
        )
    } else {
        (decode_noted(&bytes.bytes).doing(doing)?, None)
    };
    Ok(OpenedManifest {
        name: bytes.name.clone(),
        hash: ContentHash::of(&bytes.bytes),
        format: read.format,
        manifest: read.manifest,
        fault,
        note: read.note,
    })
}

impl OpenedManifest {
    /// The manifest as a snapshot, or an error that it is a diff.
    pub fn snapshot(&self) -> Result<&Snapshot, Error> {
        match &self.manifest {
            Manifest::Snapshot(snapshot) => Ok(snapshot),
            Manifest::Diff(_) => Err(self.refused(OperationError::NotASnapshot)),
        }
    }

    /// The manifest as a diff, or an error that it is a snapshot.
    pub fn diff(&self) -> Result<&Diff, Error> {
        match &self.manifest {
            Manifest::Diff(diff) => Ok(diff),
            Manifest::Snapshot(_) => Err(self.refused(OperationError::NotADiff)),
        }
    }

    /// The format in which something made of it is written: its own, if that is written at all.
    pub(crate) fn written_format(&self) -> Format {
        match self.format {
            Format::Draft2025_12_04 => Format::V2025_12,
            format => format,
        }
    }

    pub(crate) fn refused(&self, source: impl Into<OperationError>) -> Error {
        source.into().of(&self.name)
    }

    /// A path in it as a person writes it: relative, or absolute if the manifest is. `None` is the root.
    pub(crate) fn path(&self, text: &[u8]) -> Result<Option<ManifestPath>, Error> {
        path_in(self.format.is_absolute(), text).map_err(|source| self.refused(source))
    }
}

/// A path as a person writes it. `None` is the root.
pub(crate) fn path_in(
    is_absolute: bool,
    text: &[u8],
) -> Result<Option<ManifestPath>, OperationError> {
    let below = match (is_absolute, text.strip_prefix(b"/")) {
        (true, Some(below)) => below,
        (true, None) if is_on_drive(text) => text,
        (true, None) => return Err(OperationError::NotAbsolute(shown(text))),
        (false, Some(_)) => return Err(OperationError::NotRelative(shown(text))),
        (false, None) => text.strip_prefix(b"./").unwrap_or(text),
    };
    let below = below.strip_suffix(b"/").unwrap_or(below);
    match below {
        b"" | b"." => Ok(None),
        below => ManifestPath::new(below)
            .map(Some)
            .map_err(|source| OperationError::Path {
                path: shown(text),
                source,
            }),
    }
}

/// Whether a path begins with a drive: such a path is absolute.
pub(crate) fn is_on_drive(text: &[u8]) -> bool {
    text.split(|&byte| byte == b'/')
        .next()
        .is_some_and(is_drive)
}

pub(crate) fn shown(text: &[u8]) -> String {
    attachfs_manifest::EscapedBytes(text).to_string()
}

/// A manifest that was made, ready to be written.
#[derive(Debug, Clone)]
pub struct MadeManifest {
    /// Its format.
    pub format: Format,
    /// What it holds.
    pub manifest: Manifest,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl MadeManifest {
    pub(crate) fn new(manifest: Manifest, format: Format) -> Result<Self, EncodeError> {
        let bytes = encode(&manifest, format)?;
        Ok(Self {
            format,
            manifest,
            bytes,
        })
    }

    /// The hash of its bytes.
    pub fn hash(&self) -> ContentHash {
        ContentHash::of(&self.bytes)
    }

    /// How many files, links, directories and deletions it has.
    pub fn entries(&self) -> usize {
        match &self.manifest {
            Manifest::Snapshot(snapshot) => snapshot.len(),
            Manifest::Diff(diff) => diff.len(),
        }
    }
}

/// Why an operation on a manifest is not possible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// A diff was given where a snapshot is needed.
    #[error("it is a diff, and a snapshot is needed")]
    NotASnapshot,
    /// A snapshot was given where a diff is needed.
    #[error("it is a snapshot, and a diff is needed")]
    NotADiff,
    /// Absolute and relative manifests do not go together.
    #[error(
        "it is of format {found}, and the first one of {first}: only one of them has absolute paths"
    )]
    Style {
        /// Of the first manifest.
        first: Format,
        /// Of this one.
        found: Format,
    },
    /// A diff between manifests that cut their files differently fits neither.
    #[error(
        "it cuts large files at {new}, the first one at {old}: no diff goes from one to the other"
    )]
    ChunkSize {
        /// How the first manifest cuts files.
        old: ChunkSize,
        /// How this one does.
        new: ChunkSize,
    },
    /// A path of an absolute manifest must be absolute.
    #[error("\"{0}\" must be an absolute path, because the manifest has absolute paths")]
    NotAbsolute(String),
    /// A path of a relative manifest must be relative.
    #[error("\"{0}\" must be a path from the root of the manifest, without a slash before it")]
    NotRelative(String),
    /// Not a path.
    #[error("\"{path}\" is no path of a manifest")]
    Path {
        /// As it was given.
        path: String,
        /// What is wrong.
        #[source]
        source: PathError,
    },
    /// A file of the folder is not what the manifest says of it.
    #[error(
        "\"{path}\" is not what the manifest says: {} bytes, {} microseconds there, {} bytes, {} \
         microseconds here; collect the folder again",
        there.0, there.1, here.0, here.1
    )]
    Changed {
        /// The file.
        path: ManifestPath,
        /// Size and time in the manifest.
        there: (u64, i64),
        /// Size and time of the file.
        here: (u64, i64),
    },
    /// There is something else where the manifest has a file.
    #[error("\"{0}\" is a file in the manifest and none in the folder; collect the folder again")]
    NoFile(ManifestPath),
    /// Diffs that do not follow each other, or do not fit.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// Layers that do not fit.
    #[error(transparent)]
    Layers(#[from] LayerError),
    /// Snapshots that cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// A part that cannot be cut out.
    #[error(transparent)]
    Subtree(#[from] SubtreeError),
    /// It cannot be moved.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// It cannot be split so.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// An older format cannot hold it.
    #[error(transparent)]
    Downgrade(#[from] DowngradeError),
    /// The result is no snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The result cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl OperationError {
    /// The error of an operation on the manifest that is called so.
    pub(crate) fn of(self, name: &str) -> Error {
        Error::new(self.class(), name).because(self)
    }

    fn class(&self) -> FailureClass {
        match self {
            Self::NotASnapshot
            | Self::NotADiff
            | Self::Style { .. }
            | Self::ChunkSize { .. }
            | Self::NotAbsolute(_)
            | Self::NotRelative(_)
            | Self::Path { .. }
            | Self::Partition(_)
            | Self::Subtree(_)
            | Self::Join(_)
            | Self::Downgrade(_)
            | Self::Encode(_) => FailureClass::Usage,
            Self::Changed { .. } | Self::NoFile(_) => FailureClass::Busy,
            Self::Diff(_) | Self::Layers(_) | Self::Merge(_) | Self::Snapshot(_) => {
                FailureClass::Integrity
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_colon_is_no_drive() {
        for (text, expected) in [
            ("C:", true),
            ("c:/proj", true),
            ("a:b", false),
            ("ab:/c", false),
        ] {
            assert_eq!(is_on_drive(text.as_bytes()), expected, "{text}");
        }
    }
}
