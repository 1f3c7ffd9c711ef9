//! Errors of the use cases, by what their user can do about them.

mod class;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use attachfs_commit::{CommitError, OpenSessionError};
use attachfs_durable::CacheDirError;
use attachfs_durable::DurableError;
use attachfs_fetch::FetchError;
use attachfs_manifest::wire::{DecodeError, EncodeError};
use attachfs_manifest::{ManifestPath, PathError};
use attachfs_mount::{MountError, Process, UnmountError};
use attachfs_scan::ScanError;
use attachfs_session::{ControlError, Failure, SessionError, SessionId};
use attachfs_store::{ParseAddressError, StoreError};
use attachfs_transfer::{PublishError, Summary, TransferError};
use attachfs_tree::{BuildError, LayerError, RootError};
use attachfs_vfs::{FsError, OpenError};

use crate::download::Downloads;

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
    /// An operation on a manifest is not possible.
    #[error("{name}")]
    Operation {
        /// What the manifest is called.
        name: String,
        /// Why.
        #[source]
        source: Box<crate::manifest::OperationError>,
    },
    /// A pattern that chooses paths makes no sense.
    #[error(transparent)]
    Glob(#[from] attachfs_manifest::GlobError),
    /// A list of patterns makes no sense.
    #[error("the patterns cannot be read")]
    Globs(#[from] attachfs_manifest::wire::GlobConfigError),
    /// A manifest could not be stored. All that it names is in the store.
    #[error(transparent)]
    Publish(#[from] PublishError),
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
    /// What is shown of an absolute manifest.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A manifest that cannot be mounted.
    #[error("the manifest cannot be mounted")]
    Build(#[from] BuildError),
    /// Files that nobody could read.
    #[error("{}; `attachfs manifest hash` gives them one", unhashed(.first, *.count))]
    Unhashed {
        /// One of them.
        first: ManifestPath,
        /// How many.
        count: usize,
    },
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
    /// The store of a mount cannot be read.
    #[error("the store {address} cannot be read")]
    Probe {
        /// Which.
        address: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The store of a mount has none of the objects that were looked for.
    #[error(
        "the store {address} has none of {tried} objects of the manifest that were looked for, {what} is one of \
             them; check that the files were uploaded to this store and prefix"
    )]
    ProbeMissing {
        /// Which.
        address: String,
        /// How many.
        tried: usize,
        /// The key or path of one.
        what: String,
    },
    /// A store does not say what is in it.
    #[error("cannot list the store {address}")]
    ListStore {
        /// Which.
        address: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A key that is none.
    #[error(transparent)]
    Key(#[from] attachfs_store::ParseKeyError),
    /// What is to be said of an output manifest.
    #[error(transparent)]
    OutputMetadata(#[from] attachfs_jobs::OutputMetadataError),
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
    Cache(#[from] CacheDirError),
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
    /// A session that has ended, and published something before.
    #[error(
        "session {id} has ended; `attachfs status {id}` shows what it published, and where that is"
    )]
    Ended {
        /// The session.
        id: SessionId,
    },
    /// Several sessions fit.
    #[error("\"{name}\" means several sessions: {ids}")]
    Ambiguous {
        /// What was given.
        name: String,
        /// Their ids.
        ids: String,
    },
    /// A session whose directory is not there now.
    #[error(
        "session {id} in {} cannot be reached; is its disk mounted? If it is gone for good, \
         `attachfs discard --forget {id}` takes it from the list", dir.display()
    )]
    Unreachable {
        /// The session.
        id: SessionId,
        /// Where it should be.
        dir: PathBuf,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A session in whose place there is another one.
    #[error("{}", replaced(id.as_ref(), entry, dir, found))]
    Replaced {
        /// What the list knows it by.
        entry: PathBuf,
        /// The session that is lost, if the list's name is one of a session.
        id: Option<SessionId>,
        /// Where it was.
        dir: PathBuf,
        /// The session that is there.
        found: SessionId,
    },
    /// A session whose process does not answer.
    #[error("the session {} is in use by {}, which does not answer; {}", dir.display(), named(process.as_ref()), if *mounted { MOUNTED } else { COMMITTING })]
    NoAnswer {
        /// Its directory.
        dir: PathBuf,
        /// The process, if it can be told.
        process: Option<Process>,
        /// Whether the session is mounted.
        mounted: bool,
    },
    /// A session that another process has.
    #[error("the session {} is in use by {}", dir.display(), named(process.as_ref()))]
    InUse {
        /// Its directory.
        dir: PathBuf,
        /// The process, if it can be told.
        process: Option<Process>,
    },
    /// A path in the mount of another program, or of another user.
    #[error("{} is in the mount {} of {source_name}, which is not a mount of this user's sessions; name a session by its id", path.display(), mount_point.display())]
    ForeignMount {
        /// What was given.
        path: PathBuf,
        /// Where that is mounted.
        mount_point: PathBuf,
        /// What is mounted there.
        source_name: String,
    },
    /// A mount of a session that is not known.
    #[error("{} is the mount of session {id}, which is not among the sessions in {}; `fusermount3 -u` removes the mount", mount_point.display(), sessions.display())]
    UnknownMount {
        /// Where it is mounted.
        mount_point: PathBuf,
        /// The session.
        id: SessionId,
        /// Where it was looked for.
        sessions: PathBuf,
    },
    /// The mount point has a mount whose process is gone.
    #[error("the process that served {} is gone; `attachfs umount {}` removes its mount, the session is kept", mount_point.display(), id)]
    DeadMount {
        /// The mount point.
        mount_point: PathBuf,
        /// The session.
        id: SessionId,
    },
    /// The process that has a session did not do it.
    #[error("{}", with_causes(.0))]
    Remote(Failure),
    /// Nothing to unmount.
    #[error("session {0} is not mounted; commit or discard it")]
    NotMounted(String),
    /// A session of a mount that nobody could write to.
    #[error("the session is read-only: there is nothing to commit")]
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
    /// A download stopped on its way.
    #[error("{source}")]
    DownloadStopped {
        /// What was done until then; the last folder is the one where it stopped.
        downloads: Box<Downloads>,
        /// Why.
        #[source]
        source: Box<TransferError>,
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

fn replaced(
    id: Option<&SessionId>,
    entry: &std::path::Path,
    dir: &std::path::Path,
    found: &SessionId,
) -> String {
    let dir = dir.display();
    match id {
        Some(id) => format!(
            "session {id} is lost: {dir}, where it was, holds session {found} now; \
             `attachfs list --prune` forgets it"
        ),
        None => format!(
            "{} is session {found}, under a name that is not its own",
            entry.display()
        ),
    }
}

const MOUNTED: &str = "`attachfs umount --force` takes its mount away and keeps the session";
const COMMITTING: &str = "it may be committing it";

fn named(process: Option<&Process>) -> String {
    process.map_or_else(|| "another process".to_owned(), Process::to_string)
}

fn unhashed(first: &ManifestPath, count: usize) -> String {
    match count - 1 {
        0 => format!("the file \"{first}\" has no hash and cannot be read"),
        others => format!("\"{first}\" and {others} more files have no hash and cannot be read"),
    }
}

fn with_causes(failure: &Failure) -> String {
    let causes = failure.causes.iter().map(String::as_str);
    std::iter::once(failure.text.as_str())
        .chain(causes)
        .collect::<Vec<_>>()
        .join(": ")
}

impl From<OpenSessionError> for Error {
    fn from(error: OpenSessionError) -> Self {
        match error {
            OpenSessionError::Session(error) => error.into(),
            OpenSessionError::Overlay(error) => error.into(),
        }
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}

impl Error {
    /// The account of an upload that stored some files and not all.
    pub fn unfinished(&self) -> Option<&Summary> {
        match self {
            Self::Transfer(TransferError::Unfinished(summary)) => Some(summary),
            _ => None,
        }
    }
}
