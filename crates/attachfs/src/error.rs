//! Errors of the use cases, by what their user can do about them.

use std::path::PathBuf;

use attachfs_commit::CommitError;
use attachfs_durable::DurableError;
use attachfs_fetch::{CacheError, FetchError};
use attachfs_manifest::wire::{DecodeError, EncodeError};
use attachfs_manifest::{ManifestPath, PathError};
use attachfs_mount::{ControlError, Failure, FailureKind, MountError, UnmountError};
use attachfs_scan::ScanError;
use attachfs_store::{ParseAddressError, StoreError};
use attachfs_transfer::TransferError;
use attachfs_tree::{BuildError, LayerError};
use attachfs_vfs::{FsError, OpenError, SessionError};

/// What kind of failure it is: what a script would tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// What was asked makes no sense.
    Usage,
    /// Mounting or unmounting.
    Mount,
    /// The store.
    Store,
    /// Bytes are not what they should be.
    Integrity,
    /// Some of it is done; the same command goes on.
    Incomplete,
    /// Something is in use.
    Busy,
    /// Cancelled by its user.
    Cancelled,
    /// Anything else.
    Other,
}

/// A failed use case.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
    /// An address.
    #[error(transparent)]
    Address(#[from] ParseAddressError),
    /// A manifest could not be read.
    #[error("cannot read the manifest {}", path.display())]
    ReadManifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A manifest could not be fetched.
    #[error("cannot fetch the manifest {address}")]
    FetchManifest {
        /// Where it should be.
        address: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A manifest could not be stored.
    #[error("cannot store the manifest {key}")]
    PublishManifest {
        /// Where it should go.
        key: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A manifest makes no sense.
    #[error("{name} is no manifest that can be used")]
    Decode {
        /// The manifest.
        name: String,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// Manifests that do not go together.
    #[error(transparent)]
    Layers(#[from] LayerError),
    /// A manifest that cannot be mounted.
    #[error("the manifest cannot be mounted")]
    Build(#[from] BuildError),
    /// A manifest that cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A path that a person gave.
    #[error("\"{text}\" is no path in a manifest")]
    Path {
        /// What was given.
        text: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// Nothing at a path.
    #[error("there is no \"{0}\" in the manifest")]
    NoSuchPath(ManifestPath),
    /// A store could not be opened.
    #[error("cannot use the store {address}")]
    OpenStore {
        /// Which.
        address: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// Not enough room for a copy.
    #[error("the store {} has room for {available} bytes, {needed} are to be copied", store.display())]
    NoRoom {
        /// The embedded store.
        store: PathBuf,
        /// Bytes that can be written.
        available: u64,
        /// Bytes to be written.
        needed: u64,
    },
    /// Scanning a folder.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Uploading.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The local cache.
    #[error("cannot use the cache")]
    Cache(#[from] CacheError),
    /// Reading a file's bytes.
    #[error("cannot read \"{path}\"")]
    Fetch {
        /// The file.
        path: ManifestPath,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// A session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A session's writes.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No such session.
    #[error("there is no session and no mount \"{0}\"; `attachfs list` shows what there is")]
    NoSession(String),
    /// Several sessions fit.
    #[error("\"{name}\" means several sessions: {ids}")]
    Ambiguous {
        /// What was given.
        name: String,
        /// Their ids.
        ids: String,
    },
    /// A session that is in use and does not answer.
    #[error("the session {} is in use by a process that does not answer; it may be committing it", .0.display())]
    NoAnswer(PathBuf),
    /// The process that has a session did not do it.
    #[error("{}", with_causes(.0))]
    Remote(Failure),
    /// Nothing to unmount.
    #[error("session {0} is not mounted; commit or discard it")]
    NotMounted(String),
    /// A session of a mount that nobody could write to.
    #[error("the mount is read-only: there is nothing to commit")]
    ReadOnly,
    /// Mounting.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Unmounting.
    #[error(transparent)]
    Unmount(#[from] UnmountError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The overlay.
    #[error("the overlay failed")]
    Overlay(#[from] FsError),
    /// A commit.
    #[error("the commit stopped")]
    Commit(#[source] CommitError),
    /// The command could not be started.
    #[error("cannot run {command}")]
    Command {
        /// Which.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A durable file.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// Any other failure of the operating system.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn with_causes(failure: &Failure) -> String {
    let causes = failure.causes.iter().map(String::as_str);
    std::iter::once(failure.text.as_str())
        .chain(causes)
        .collect::<Vec<_>>()
        .join(": ")
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}

impl Error {
    /// What kind of failure it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Usage(_)
            | Self::Address(_)
            | Self::Path { .. }
            | Self::NoSuchPath(_)
            | Self::NoSession(_)
            | Self::Ambiguous { .. }
            | Self::NotMounted(_)
            | Self::ReadOnly => Class::Usage,
            Self::Decode { .. } | Self::Layers(_) | Self::Build(_) => Class::Integrity,
            Self::FetchManifest { .. }
            | Self::PublishManifest { .. }
            | Self::OpenStore { .. }
            | Self::NoRoom { .. } => Class::Store,
            Self::Transfer(error) => class_of_transfer(error, Class::Store),
            Self::Fetch { source, .. } => match source {
                FetchError::Damaged { .. } | FetchError::WrongLength { .. } => Class::Integrity,
                _ => Class::Store,
            },
            Self::Remote(failure) => failure.kind.into(),
            Self::Session(SessionError::InUse(_))
            | Self::Unmount(UnmountError::Busy { .. })
            | Self::NoAnswer(_) => Class::Busy,
            Self::Mount(_) | Self::Unmount(_) => Class::Mount,
            // What it had done is in the session.
            Self::Control(ControlError::Closed | ControlError::Connection(_)) => Class::Incomplete,
            Self::Commit(error) => match error {
                CommitError::Busy(_) => Class::Busy,
                CommitError::Transfer(error) => class_of_transfer(error, Class::Incomplete),
                CommitError::Publish { .. } => Class::Incomplete,
                CommitError::Conflict { .. } | CommitError::Damaged(_) => Class::Integrity,
                _ => Class::Other,
            },
            _ => Class::Other,
        }
    }
}

/// A transfer that failed for reasons outside of it can be repeated: `unfinished` says what that
/// means to who asked for it.
fn class_of_transfer(error: &TransferError, unfinished: Class) -> Class {
    match error {
        TransferError::Cancelled => Class::Cancelled,
        TransferError::Store { .. }
        | TransferError::Ask { .. }
        | TransferError::Unconfirmed { .. } => unfinished,
        _ => Class::Other,
    }
}

impl From<FailureKind> for Class {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Usage => Self::Usage,
            FailureKind::Mount => Self::Mount,
            FailureKind::Store => Self::Store,
            FailureKind::Integrity => Self::Integrity,
            FailureKind::Incomplete => Self::Incomplete,
            FailureKind::Busy => Self::Busy,
            FailureKind::Cancelled => Self::Cancelled,
            FailureKind::Internal => Self::Other,
        }
    }
}

impl From<Class> for FailureKind {
    fn from(class: Class) -> Self {
        match class {
            Class::Usage => Self::Usage,
            Class::Mount => Self::Mount,
            Class::Store => Self::Store,
            Class::Integrity => Self::Integrity,
            Class::Incomplete => Self::Incomplete,
            Class::Busy => Self::Busy,
            Class::Cancelled => Self::Cancelled,
            Class::Other => Self::Internal,
        }
    }
}
