//! Why a folder cannot be scanned.

use std::io;
use std::path::{Path, PathBuf};

use attachfs_durable::{Refusal, path_bytes};
use attachfs_manifest::{EscapedBytes, ManifestPath, PathError};

use crate::Cancelled;
use crate::{SkipReason, SymlinkPolicy};

/// Why a scan, or opening a scanned file, failed. Every text names the path.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The root is not a directory.
    #[error("\"{}\" is not a folder", shown(.0))]
    NotADirectory(PathBuf),
    /// A listed file is not below the root.
    #[error("\"{}\" is not below \"{}\"", shown(.path), shown(.root))]
    Outside {
        /// The file.
        path: PathBuf,
        /// The folder.
        root: PathBuf,
    },
    /// A file that was asked for cannot be in the manifest.
    #[error("\"{}\" was asked for and cannot be taken: {reason}", shown(.path))]
    NotTaken {
        /// Where it is.
        path: PathBuf,
        /// Why it cannot be.
        reason: SkipReason,
    },
    /// Two files that were asked for exclude each other.
    #[error("\"{path}\" cannot be taken: \"{above}\" above it is taken too, as a file or link")]
    BelowNoDirectory {
        /// What lies below.
        path: ManifestPath,
        /// The link or file above it.
        above: ManifestPath,
    },
    /// Links that lead anywhere can only be kept in an absolute manifest.
    #[error("symbolic links cannot be treated by \"{0}\" unless the manifest is absolute")]
    NeedsAbsolute(SymlinkPolicy),
    /// Links to folders that hold links to folders.
    #[error(
        "too many symbolic links to folders are to be replaced by what they point to, the last one is \
         \"{}\"; leave them out, or keep them",
        shown(.0)
    )]
    TooManyLinks(PathBuf),
    /// A mount of attachfs lies in the folder, and no option says what to do with it.
    #[error(
        "attachfs has something mounted at \"{}\", in what is to be read: reading it would fetch all of it; \
         leave it out with --one-file-system, or take it with --cross-mounts",
        shown(.0)
    )]
    OwnMount(PathBuf),
    /// The system refused to read something.
    #[error("cannot {action} \"{}\"", shown(.path))]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A directory or file was replaced by something else since its name was read.
    #[error("\"{}\" was replaced by something else while it was being read", shown(.0))]
    Replaced(PathBuf),
    /// A name, a path or a link's target that no manifest can hold.
    #[error("\"{}\" cannot be in a manifest", shown(.path))]
    Unrepresentable {
        /// The file, directory or link.
        path: PathBuf,
        /// The cause.
        #[source]
        source: PathError,
    },
    /// [`Progress::update`](crate::Progress::update) asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl ScanError {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn unrepresentable(path: &Path, source: PathError) -> Self {
        Self::Unrepresentable {
            path: path.to_owned(),
            source,
        }
    }

    /// The reason under which this error can be listed instead of failing the scan, if it is about one
    /// file, directory or link. A lack of memory or of file descriptors is not about a file.
    pub fn skip_reason(&self) -> Option<SkipReason> {
        match self {
            Self::Replaced(_) => Some(SkipReason::Replaced),
            Self::NotTaken { reason, .. } => Some(*reason),
            Self::Unrepresentable { .. } => Some(SkipReason::Unrepresentable),
            Self::Io { source, .. } => match Refusal::of(source) {
                None | Some(Refusal::TooManyOpenFiles | Refusal::NoMemory) => None,
                Some(Refusal::NotThere | Refusal::NotADirectory | Refusal::Stale) => {
                    Some(SkipReason::Vanished)
                }
                Some(_) => Some(SkipReason::Unreadable(source.kind())),
            },
            Self::NotADirectory(_)
            | Self::Outside { .. }
            | Self::BelowNoDirectory { .. }
            | Self::NeedsAbsolute(_)
            | Self::TooManyLinks(_)
            | Self::OwnMount(_)
            | Self::Cancelled(_) => None,
        }
    }
}

fn shown(path: &Path) -> EscapedBytes<'_> {
    EscapedBytes(path_bytes(path))
}
