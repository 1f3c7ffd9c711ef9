//! Errors of the use cases, by what their user can do about them.

use std::path::PathBuf;

use attachfs_commit::{CommitError, OpenSessionError};
use attachfs_durable::CacheDirError;
use attachfs_durable::DurableError;
use attachfs_fetch::FetchError;
use attachfs_manifest::wire::{DecodeError, EncodeError};
use attachfs_manifest::{ManifestPath, PathError};
use attachfs_mount::{MountError, Process, UnmountError};
use attachfs_scan::ScanError;
use attachfs_session::{ControlError, Failure, FailureClass, SessionError, SessionId};
use attachfs_store::{ParseAddressError, StoreError};
use attachfs_transfer::{DownloadError, PublishError, Summary, TransferError};
use attachfs_tree::{BuildError, LayerError, RootError};
use attachfs_vfs::overlay::{JournalError, RecoveryError};
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
        id: attachfs_session::SessionId,
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
        id: Option<attachfs_session::SessionId>,
        /// Where it was.
        dir: PathBuf,
        /// The session that is there.
        found: attachfs_session::SessionId,
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
        source: TransferError,
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
    id: Option<&attachfs_session::SessionId>,
    entry: &std::path::Path,
    dir: &std::path::Path,
    found: &attachfs_session::SessionId,
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

    /// What kind of failure it is.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Usage(_)
            | Self::Glob(_)
            | Self::Globs(_)
            | Self::Address(_)
            | Self::Path { .. }
            | Self::Key(_)
            | Self::OutputMetadata(_)
            | Self::NoSuchPath(_)
            | Self::Root(_)
            | Self::Layers(LayerError::Root(_) | LayerError::PlacedAbsolute(_))
            | Self::Unhashed { .. }
            | Self::NoSession(_)
            | Self::Ended { .. }
            | Self::Ambiguous { .. }
            | Self::NotMounted(_)
            | Self::OpenStore {
                source: StoreError::Setting { .. },
                ..
            }
            | Self::ForeignMount { .. }
            | Self::ReadOnly => FailureClass::Usage,
            Self::Decode { .. }
            | Self::Layers(_)
            | Self::Build(_)
            | Self::Publish(PublishError::Conflict { .. } | PublishError::OtherMetadata { .. }) => {
                FailureClass::Integrity
            }
            Self::FetchManifest { .. }
            | Self::ListStore { .. }
            | Self::Probe { .. }
            | Self::ProbeMissing { .. }
            | Self::Publish(PublishError::Store { .. })
            | Self::OpenStore { .. }
            | Self::NoRoom { .. } => FailureClass::Store,
            Self::Operation { source, .. } => class_of_operation(source),
            Self::Scan(error) => class_of_scan(error),
            Self::Transfer(error) | Self::DownloadStopped { source: error, .. } => {
                class_of_transfer(error, FailureClass::Store)
            }
            Self::Fetch { source, .. } => class_of_fetch(source, FailureClass::Store),
            Self::Remote(failure) => failure.class,
            Self::Session(error) => class_of_session(error),
            Self::Open(error) => match error {
                OpenError::Recovery(error) => class_of_recovery(error),
                OpenError::Journal(error) => class_of_journal(error),
                OpenError::Scratch(_) | OpenError::Thread(_) => FailureClass::Other,
            },
            Self::NoAnswer { .. } | Self::InUse { .. } => FailureClass::Busy,
            Self::Mount(_) | Self::UnknownMount { .. } | Self::DeadMount { .. } => {
                FailureClass::Mount
            }
            Self::Unmount(error) => match error {
                UnmountError::Busy { .. } | UnmountError::StillUsed { .. } => FailureClass::Busy,
                UnmountError::Covered { .. }
                | UnmountError::NoHelper(_)
                | UnmountError::Helper { .. }
                | UnmountError::Io { .. } => FailureClass::Mount,
            },
            Self::Control(error) => match error {
                // What it had done is in the session.
                ControlError::Closed | ControlError::Connection(_) => FailureClass::Incomplete,
                ControlError::Connect { .. }
                | ControlError::NotTrusted { .. }
                | ControlError::Silent { .. }
                | ControlError::Version(_)
                | ControlError::Malformed(_) => FailureClass::Other,
            },
            Self::Overlay(error) => class_of_overlay(error, FailureClass::Store),
            Self::Commit(error) => class_of_commit(error),
            Self::ReadManifest { .. }
            | Self::Encode(_)
            | Self::Cache(_)
            | Self::Unreachable { .. }
            | Self::Replaced { .. }
            | Self::Command { .. }
            | Self::Durable(_)
            | Self::Io { .. } => FailureClass::Other,
        }
    }
}

fn class_of_commit(error: &CommitError) -> FailureClass {
    match error {
        CommitError::Busy(_) | CommitError::LeftOpen(_) => FailureClass::Busy,
        CommitError::Transfer(error) => class_of_transfer(error, FailureClass::Incomplete),
        CommitError::Base { source, .. } => class_of_fetch(source, FailureClass::Incomplete),
        CommitError::Overlay(error) => class_of_overlay(error, FailureClass::Incomplete),
        CommitError::Session(error) => class_of_session(error),
        CommitError::Publish(PublishError::Store { .. }) => FailureClass::Incomplete,
        CommitError::Publish(
            PublishError::Conflict { .. } | PublishError::OtherMetadata { .. },
        )
        | CommitError::Damaged(_)
        | CommitError::Decode(_)
        | CommitError::Layers(_)
        | CommitError::Unreadable(_)
        | CommitError::Differs(_) => FailureClass::Integrity,
        CommitError::OutgoingLinks(_)
        | CommitError::Path { .. }
        | CommitError::ReadOnly
        | CommitError::Io { .. }
        | CommitError::Diff(_)
        | CommitError::Snapshot(_)
        | CommitError::Encode(_) => FailureClass::Other,
    }
}

/// A transfer that failed for reasons outside of it can be repeated: `unfinished` says what that
/// means to who asked for it.
fn class_of_transfer(error: &TransferError, unfinished: FailureClass) -> FailureClass {
    match error {
        TransferError::Cancelled(_) => FailureClass::Cancelled,
        TransferError::Changed { .. } | TransferError::Differs { .. } => FailureClass::Busy,
        TransferError::Unfinished(_) => FailureClass::Incomplete,
        TransferError::Scan(error) => class_of_scan(error),
        TransferError::Store { .. }
        | TransferError::Ask { .. }
        | TransferError::Copy { .. }
        | TransferError::Unconfirmed { .. } => unfinished,
        TransferError::Download(error) => match error {
            DownloadError::Store { .. } => FailureClass::Store,
            DownloadError::TooLong { .. } => FailureClass::Usage,
            DownloadError::Disk { .. } | DownloadError::Sync { .. } => FailureClass::Incomplete,
            DownloadError::Root { .. } | DownloadError::Space(_) | DownloadError::NoRoom { .. } => {
                FailureClass::Other
            }
        },
        TransferError::Read { .. } | TransferError::Scratch { .. } | TransferError::Snapshot(_) => {
            FailureClass::Other
        }
    }
}

fn class_of_operation(error: &crate::manifest::OperationError) -> FailureClass {
    use crate::manifest::OperationError as Operation;
    match error {
        Operation::NotASnapshot
        | Operation::NotADiff
        | Operation::Style { .. }
        | Operation::ChunkSize { .. }
        | Operation::NotAbsolute(_)
        | Operation::NotRelative(_)
        | Operation::Path { .. }
        | Operation::Partition(_)
        | Operation::Subtree(_)
        | Operation::Join(_)
        | Operation::Downgrade(_)
        | Operation::Encode(_) => FailureClass::Usage,
        Operation::Changed { .. } | Operation::NoFile(_) => FailureClass::Busy,
        Operation::Diff(_)
        | Operation::Layers(_)
        | Operation::Merge(_)
        | Operation::Snapshot(_) => FailureClass::Integrity,
    }
}

fn class_of_scan(error: &ScanError) -> FailureClass {
    match error {
        ScanError::Cancelled(_) => FailureClass::Cancelled,
        ScanError::Replaced(_) => FailureClass::Busy,
        ScanError::Outside { .. }
        | ScanError::BelowNoDirectory { .. }
        | ScanError::NeedsAbsolute(_)
        | ScanError::TooManyLinks(_)
        | ScanError::OwnMount(_) => FailureClass::Usage,
        ScanError::NotADirectory(_)
        | ScanError::NotTaken { .. }
        | ScanError::Io { .. }
        | ScanError::Unrepresentable { .. } => FailureClass::Other,
    }
}

/// `unfinished` says what it means that bytes could not be had, now or at all.
fn class_of_fetch(error: &FetchError, unfinished: FailureClass) -> FailureClass {
    match error {
        FetchError::Damaged { .. }
        | FetchError::WrongLength { .. }
        | FetchError::Replaced { .. } => FailureClass::Integrity,
        FetchError::Missing { .. } | FetchError::Store { .. } | FetchError::TimedOut { .. } => {
            unfinished
        }
    }
}

fn class_of_session(error: &SessionError) -> FailureClass {
    match error {
        SessionError::InUse(_) => FailureClass::Busy,
        SessionError::NotEmpty { .. } => FailureClass::Usage,
        SessionError::DamagedBase { .. } | SessionError::Description { .. } => {
            FailureClass::Integrity
        }
        SessionError::Exists(_)
        | SessionError::Missing(_)
        | SessionError::Format { .. }
        | SessionError::Foreign { .. }
        | SessionError::Durable(_) => FailureClass::Other,
    }
}

fn class_of_recovery(error: &RecoveryError) -> FailureClass {
    match error {
        RecoveryError::Journal(error) => class_of_journal(error),
        RecoveryError::Mutation { .. }
        | RecoveryError::MissingJournal { .. }
        | RecoveryError::MissingScratch { .. } => FailureClass::Integrity,
        RecoveryError::Scratch(_) | RecoveryError::Durable(_) | RecoveryError::Sync(_) => {
            FailureClass::Other
        }
    }
}

fn class_of_journal(error: &JournalError) -> FailureClass {
    match error {
        JournalError::Damaged { .. }
        | JournalError::CutOff { .. }
        | JournalError::NotAJournal(_) => FailureClass::Integrity,
        JournalError::Io { .. }
        | JournalError::TooLong(_)
        | JournalError::NotDurable
        | JournalError::LookedAt
        | JournalError::Poisoned
        | JournalError::Durable(_) => FailureClass::Other,
    }
}

/// What an operation of the file system failed of, which its causes tell.
fn class_of_overlay(error: &FsError, unfinished: FailureClass) -> FailureClass {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source())
        .find_map(|cause| {
            if let Some(error) = cause.downcast_ref::<FetchError>() {
                Some(class_of_fetch(error, unfinished))
            } else {
                cause.downcast_ref::<JournalError>().map(class_of_journal)
            }
        })
        .unwrap_or(FailureClass::Other)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use attachfs_manifest::ContentHash;
    use attachfs_vfs::FsErrorKind;
    use attachfs_vfs::overlay::Damage;

    use super::*;

    fn hash() -> ContentHash {
        ContentHash::of(b"object")
    }

    fn not_found() -> Arc<StoreError> {
        let what = "Data/object".to_owned();
        Arc::new(StoreError::NotFound { what })
    }

    fn in_overlay(cause: impl std::error::Error + Send + Sync + 'static) -> FsError {
        FsError::caused(FsErrorKind::Io, "read \"a\"", cause)
    }

    fn fetch_errors() -> [(FetchError, bool); 5] {
        let (hash, source) = (hash(), not_found());
        let damaged = FetchError::Damaged { hash, found: hash };
        let wrong_length = FetchError::WrongLength {
            hash,
            expected: 1,
            found: 2,
        };
        let missing = FetchError::Missing {
            hash,
            source: source.clone(),
        };
        let after = Duration::from_secs(1);
        [
            (damaged, true),
            (wrong_length, true),
            (missing, false),
            (FetchError::Store { hash, source }, false),
            (FetchError::TimedOut { hash, after }, false),
        ]
    }

    #[test]
    fn bytes_that_a_commit_cannot_have_leave_it_incomplete_and_wrong_ones_are_damage() {
        for (error, is_damage) in fetch_errors() {
            let expected = if is_damage {
                FailureClass::Integrity
            } else {
                FailureClass::Incomplete
            };
            let path = ManifestPath::new(b"a").unwrap();
            let source = error.clone();
            let base = CommitError::Base { path, source };
            assert_eq!(Error::from(base).class(), expected, "{error}");
            // A cause of a cause counts too.
            let nested = in_overlay(error.clone());
            let nested = CommitError::Overlay(in_overlay(nested));
            let direct = CommitError::Overlay(in_overlay(error));
            for overlay in [direct, nested] {
                let text = format!("{overlay:?}");
                assert_eq!(Error::from(overlay).class(), expected, "{text}");
            }
        }
    }

    #[test]
    fn bytes_that_a_reader_cannot_have_are_the_stores_failure() {
        for (error, is_damage) in fetch_errors() {
            let expected = if is_damage {
                FailureClass::Integrity
            } else {
                FailureClass::Store
            };
            let overlay = Error::Overlay(in_overlay(error.clone()));
            assert_eq!(overlay.class(), expected, "{error}");
        }
    }

    #[test]
    fn a_damaged_session_is_damage_wherever_it_is_found() {
        let path = || PathBuf::from("journal");
        let journal = || JournalError::Damaged {
            path: path(),
            record: 1,
            offset: 20,
            cause: Damage::HeaderSum,
        };
        let base = || SessionError::DamagedBase {
            path: path(),
            expected: hash(),
            found: hash(),
        };
        let missing = RecoveryError::MissingScratch {
            scratch: path(),
            name: "a".to_owned(),
        };
        let decode = attachfs_manifest::wire::decode(b"{").unwrap_err();
        let errors = [
            Error::Session(base()),
            Error::from(OpenSessionError::Session(base())),
            Error::Open(OpenError::Journal(journal())),
            Error::Open(OpenError::Recovery(RecoveryError::Journal(journal()))),
            Error::Open(OpenError::Recovery(missing)),
            Error::Overlay(in_overlay(journal())),
            Error::from(CommitError::Session(base())),
            Error::from(CommitError::Overlay(in_overlay(journal()))),
            Error::from(CommitError::Decode(decode)),
        ];
        for error in errors {
            assert_eq!(error.class(), FailureClass::Integrity, "{error:?}");
        }
    }

    #[test]
    fn a_file_that_changes_is_busy_and_a_failure_of_the_disk_is_neither() {
        let changed = || TransferError::Changed { path: "a".into() };
        let full = in_overlay(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(Error::Transfer(changed()).class(), FailureClass::Busy);
        assert_eq!(
            Error::from(CommitError::Transfer(changed())).class(),
            FailureClass::Busy
        );
        assert_eq!(
            Error::from(CommitError::Overlay(full)).class(),
            FailureClass::Other
        );
    }
}
