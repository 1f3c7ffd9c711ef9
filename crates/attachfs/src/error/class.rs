//! The class of failure of each library's errors: what the caller can do about them.

use std::error::Error as StdError;
use std::io;

use attachfs_commit::{CommitError, OpenSessionError};
use attachfs_durable::{CacheDirError, DurableError};
use attachfs_fetch::FetchError;
use attachfs_jobs::{DocumentError, OutputMetadataError, ParseJobAddressError, ReadError};
use attachfs_manifest::wire::{DecodeError, EncodeError, GlobConfigError};
use attachfs_manifest::{GlobError, LayoutError, PathError, SnapshotError};
use attachfs_mount::{MountError, UnmountError};
use attachfs_scan::ScanError;
use attachfs_session::{ControlError, FailureClass, SessionError, SessionListError};
use attachfs_store::{ParseAddressError, ParseKeyError, StoreError};
use attachfs_transfer::{DownloadError, PublishError, TransferError};
use attachfs_tree::{BuildError, LayerError, RootError};
use attachfs_vfs::overlay::{JournalError, RecoveryError};
use attachfs_vfs::{FsError, OpenError};

use super::Error;

/// An error that knows its class.
pub(crate) trait Classified: StdError + Send + Sync + 'static {
    /// Which it is, where nothing else is known of what was being done.
    fn class(&self) -> FailureClass;
}

/// Says of errors which class they are of, and makes `?` turn them into an [`Error`] with the sentence that they have.
macro_rules! classified {
    ($($error:ty => $class:expr;)*) => {$(
        impl $crate::error::Classified for $error {
            fn class(&self) -> attachfs_session::FailureClass {
                let class: fn(&Self) -> attachfs_session::FailureClass = $class;
                class(self)
            }
        }

        impl From<$error> for $crate::error::Error {
            fn from(error: $error) -> Self {
                Self::of($crate::error::Classified::class(&error), error)
            }
        }
    )*};
}
pub(crate) use classified;

classified! {
    ControlError => of_control;
    DocumentError => |_| FailureClass::Usage;
    DurableError => |_| FailureClass::Other;
    EncodeError => |_| FailureClass::Other;
    GlobError => |_| FailureClass::Usage;
    LayerError => of_layer;
    MountError => |_| FailureClass::Mount;
    OpenError => of_open;
    OutputMetadataError => |_| FailureClass::Usage;
    ParseAddressError => |_| FailureClass::Usage;
    ParseJobAddressError => |_| FailureClass::Usage;
    ParseKeyError => |_| FailureClass::Usage;
    PublishError => |error| of_publish(error, FailureClass::Store);
    ReadError => of_read;
    RootError => |_| FailureClass::Usage;
    ScanError => of_scan;
    SessionError => of_session;
    TransferError => |error| of_transfer(error, FailureClass::Store);
    UnmountError => of_unmount;
}

/// Errors that do not say by themselves what they are about: only with [`doing`](super::Doing::doing).
macro_rules! classified_only {
    ($($error:ty => $class:expr;)*) => {$(
        impl Classified for $error {
            fn class(&self) -> FailureClass {
                let class: fn(&Self) -> FailureClass = $class;
                class(self)
            }
        }
    )*};
}

classified_only! {
    BuildError => |_| FailureClass::Integrity;
    CacheDirError => |error| match error {
        CacheDirError::NotACache(_) => FailureClass::Usage,
        _ => FailureClass::Other,
    };
    CommitError => of_commit;
    DecodeError => |_| FailureClass::Integrity;
    Error => Error::class;
    FetchError => |error| of_fetch(error, FailureClass::Store);
    FsError => |error| of_overlay(error, FailureClass::Store);
    GlobConfigError => |_| FailureClass::Usage;
    LayoutError => |error| match error {
        LayoutError::Unhashed => FailureClass::Usage,
        _ => FailureClass::Integrity,
    };
    PathError => |_| FailureClass::Usage;
    SnapshotError => |_| FailureClass::Other;
    StoreError => of_store;
    io::Error => |_| FailureClass::Other;
    serde_json::Error => |_| FailureClass::Other;
}

fn of_read(error: &ReadError) -> FailureClass {
    match error {
        ReadError::List { source, .. } | ReadError::Store { source, .. } => of_store(source),
        ReadError::Diff { .. } => FailureClass::Usage,
        ReadError::Metadata { .. }
        | ReadError::Decode { .. }
        | ReadError::Hash { .. }
        | ReadError::Merge { .. } => FailureClass::Integrity,
    }
}

impl From<OpenSessionError> for Error {
    fn from(error: OpenSessionError) -> Self {
        match error {
            OpenSessionError::Session(error) => error.into(),
            OpenSessionError::Overlay(error) => error.into(),
        }
    }
}

/// Errors that always mean the same to a caller.
macro_rules! said {
    ($($error:ty => $sentence:literal;)*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::new(error.class(), $sentence).because(error)
            }
        }
    )*};
}

said! {
    BuildError => "the manifest cannot be mounted";
    CacheDirError => "cannot use the cache";
    FsError => "the overlay failed";
    GlobConfigError => "the patterns cannot be read";
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        of_stopped("the commit stopped", error)
    }
}

/// The error of a commit that was only to be looked at.
pub(crate) fn would_stop(error: CommitError) -> Error {
    of_stopped("the commit would stop", error)
}

/// The error of a look at what changed, when no commit was asked for.
pub(crate) fn not_told(error: CommitError) -> Error {
    of_stopped("what changed cannot be told", error)
}

fn of_stopped(sentence: &str, error: CommitError) -> Error {
    let class = error.class();
    let advice = match &error {
        CommitError::Busy(_) => {
            Some("`commit --skip-open` leaves them out, `commit --wait SECONDS` waits for them")
        }
        CommitError::OutgoingLinks(_) => {
            Some("`--symlinks skip` leaves them out, `--symlinks collapse` puts what they show")
        }
        CommitError::UnheldLinks(_) => Some("`--symlinks skip` leaves them out"),
        CommitError::Lost {
            may_be_public: true,
            ..
        } => Some(
            "the session is kept; put the objects back into the store (`attachfs store sync` from a store that has them, or `attachfs snapshot` of the files as \
             they were) and commit once more; if they are gone for good, remove that manifest from the store: then the next commit is begun anew with what the session has",
        ),
        CommitError::Lost {
            may_be_public: false,
            ..
        } => Some("the session is kept; `commit` without --resume begins anew with what it has"),
        _ if class == FailureClass::Incomplete => Some(
            "nothing is lost, the session has all of it; commit once more when that is mended, and it goes on",
        ),
        _ => None,
    };
    let said = Error::new(class, sentence).because(error);
    match advice {
        Some(advice) => said.advise(advice),
        None => said,
    }
}

/// The list of sessions knows no verbs of a program: what its user can do is said here.
impl From<SessionListError> for Error {
    fn from(error: SessionListError) -> Self {
        let (class, advice) = match &error {
            SessionListError::Unknown(_) => (
                FailureClass::Usage,
                Some("`attachfs list` shows all sessions".to_owned()),
            ),
            SessionListError::Ended { id } => (
                FailureClass::Usage,
                Some(format!(
                    "`attachfs status {id}` shows what it published, and where that is"
                )),
            ),
            SessionListError::Ambiguous { .. } => (FailureClass::Usage, None),
            SessionListError::Unreachable { id, .. } => (
                FailureClass::Other,
                Some(format!(
                    "is its disk mounted? If it is gone for good, `attachfs discard --forget {id}` takes it from the \
                     list"
                )),
            ),
            SessionListError::Replaced { id: Some(_), .. } => (
                FailureClass::Other,
                Some("`attachfs list --prune` forgets it".to_owned()),
            ),
            SessionListError::Reachable { .. } => (
                FailureClass::Usage,
                Some("discard it, or take it away first".to_owned()),
            ),
            SessionListError::Session(error) => (of_session(error), None),
            _ => (FailureClass::Other, None),
        };
        let error = Self::of(class, error);
        match advice {
            Some(advice) => error.advise(advice),
            None => error,
        }
    }
}

fn of_commit(error: &CommitError) -> FailureClass {
    match error {
        CommitError::Busy(_) | CommitError::LeftOpen(_) | CommitError::Cut => FailureClass::Busy,
        CommitError::Transfer(error) => of_transfer(error, FailureClass::Incomplete),
        CommitError::Base { source, .. } => of_fetch(source, FailureClass::Incomplete),
        // The session lost them.
        error if error.is_lost() => FailureClass::Integrity,
        CommitError::Written { source, .. } => of_overlay(source, FailureClass::Incomplete),
        CommitError::Overlay(error) => of_overlay(error, FailureClass::Incomplete),
        CommitError::Session(error) => of_session(error),
        CommitError::Publish(error) => of_publish(error, FailureClass::Incomplete),
        CommitError::Lost { .. } => FailureClass::Incomplete,
        CommitError::Damaged(_)
        | CommitError::Total { .. }
        | CommitError::Key { .. }
        | CommitError::Decode(_)
        | CommitError::Layer(_)
        | CommitError::Layers(_)
        | CommitError::Unreadable(_)
        | CommitError::Tainted(_)
        | CommitError::Parent { .. }
        | CommitError::Differs(_) => FailureClass::Integrity,
        CommitError::OutgoingLinks(_)
        | CommitError::UnheldLinks(_)
        | CommitError::Collapse { .. }
        | CommitError::TooLong(_)
        | CommitError::TooLarge { .. }
        | CommitError::Path { .. }
        | CommitError::ReadOnly
        | CommitError::Files(_)
        | CommitError::NoFiles
        | CommitError::Io { .. }
        | CommitError::Diff(_)
        | CommitError::Snapshot(_)
        | CommitError::Encode(_) => FailureClass::Other,
    }
}

/// `unfinished` is the class of a failure to ask the store.
fn of_publish(error: &PublishError, unfinished: FailureClass) -> FailureClass {
    match error {
        PublishError::Conflict { .. } | PublishError::OtherMetadata { .. } => {
            FailureClass::Integrity
        }
        PublishError::Store { .. } => unfinished,
    }
}

/// A transfer that failed for reasons outside of it can be repeated: `unfinished` is the class
/// of such a failure for this use case.
fn of_transfer(error: &TransferError, unfinished: FailureClass) -> FailureClass {
    match error {
        TransferError::Cancelled(_) => FailureClass::Cancelled,
        TransferError::Changed { .. } | TransferError::Differs { .. } => FailureClass::Busy,
        TransferError::Unfinished(_) => FailureClass::Incomplete,
        TransferError::Scan(error) => of_scan(error),
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
        TransferError::Read { .. }
        | TransferError::TooLarge { .. }
        | TransferError::Scratch { .. }
        | TransferError::Snapshot(_) => FailureClass::Other,
    }
}

fn of_scan(error: &ScanError) -> FailureClass {
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

/// `unfinished` is the class of a failure to get bytes.
fn of_fetch(error: &FetchError, unfinished: FailureClass) -> FailureClass {
    match error {
        FetchError::Damaged { .. }
        | FetchError::WrongLength { .. }
        | FetchError::Replaced { .. } => FailureClass::Integrity,
        FetchError::Missing { .. } | FetchError::Store { .. } | FetchError::TimedOut { .. } => {
            unfinished
        }
    }
}

fn of_store(error: &StoreError) -> FailureClass {
    match error {
        StoreError::Setting { .. } => FailureClass::Usage,
        _ => FailureClass::Store,
    }
}

fn of_layer(error: &LayerError) -> FailureClass {
    match error {
        LayerError::Root(_) | LayerError::PlacedAbsolute(_) => FailureClass::Usage,
        _ => FailureClass::Integrity,
    }
}

fn of_control(error: &ControlError) -> FailureClass {
    match error {
        // What it had done is in the session.
        ControlError::Closed | ControlError::Connection(_) => FailureClass::Incomplete,
        ControlError::NotBegun => FailureClass::Busy,
        ControlError::Connect { .. }
        | ControlError::NotTrusted { .. }
        | ControlError::Silent { .. }
        | ControlError::Version(_)
        | ControlError::Malformed(_) => FailureClass::Other,
    }
}

fn of_unmount(error: &UnmountError) -> FailureClass {
    match error {
        UnmountError::Busy { .. }
        | UnmountError::StillUsed { .. }
        | UnmountError::Detached { .. } => FailureClass::Busy,
        UnmountError::Covered { .. }
        | UnmountError::NoHelper(_)
        | UnmountError::Helper { .. }
        | UnmountError::Io { .. } => FailureClass::Mount,
    }
}

fn of_session(error: &SessionError) -> FailureClass {
    match error {
        SessionError::InUse(_) => FailureClass::Busy,
        SessionError::NotEmpty { .. } | SessionError::NotHandedIn(_) => FailureClass::Usage,
        SessionError::DamagedBase { .. } | SessionError::Description { .. } => {
            FailureClass::Integrity
        }
        SessionError::Exists(_)
        | SessionError::Ending(_)
        | SessionError::Missing(_)
        | SessionError::Format { .. }
        | SessionError::Foreign { .. }
        | SessionError::Durable(_) => FailureClass::Other,
    }
}

fn of_open(error: &OpenError) -> FailureClass {
    match error {
        OpenError::Recovery(error) => of_recovery(error),
        OpenError::Journal(error) => of_journal(error),
        OpenError::Scratch(_) | OpenError::Thread(_) => FailureClass::Other,
    }
}

fn of_recovery(error: &RecoveryError) -> FailureClass {
    match error {
        RecoveryError::Journal(error) => of_journal(error),
        RecoveryError::Mutation { .. }
        | RecoveryError::CutOffState(_)
        | RecoveryError::State { .. }
        | RecoveryError::Layer { .. }
        | RecoveryError::MissingJournal { .. }
        | RecoveryError::MissingScratchDir(_)
        | RecoveryError::MissingScratch { .. } => FailureClass::Integrity,
        RecoveryError::Scratch(_)
        | RecoveryError::UnreadableScratch { .. }
        | RecoveryError::Durable(_)
        | RecoveryError::Sync(_) => FailureClass::Other,
    }
}

fn of_journal(error: &JournalError) -> FailureClass {
    match error {
        JournalError::Damaged { .. }
        | JournalError::CutOff { .. }
        | JournalError::NotAJournal(_) => FailureClass::Integrity,
        JournalError::Io { .. }
        | JournalError::OtherVersion { .. }
        | JournalError::TooLong(_)
        | JournalError::NotDurable
        | JournalError::LookedAt
        | JournalError::Poisoned
        | JournalError::Durable(_) => FailureClass::Other,
    }
}

/// What an operation of the file system failed of, which its causes tell.
fn of_overlay(error: &FsError, unfinished: FailureClass) -> FailureClass {
    let first = StdError::source(error);
    std::iter::successors(first, |&cause| cause.source())
        .find_map(|cause| {
            if let Some(error) = cause.downcast_ref::<FetchError>() {
                Some(of_fetch(error, unfinished))
            } else {
                cause.downcast_ref::<JournalError>().map(of_journal)
            }
        })
        .unwrap_or(FailureClass::Other)
}
