//! Which class of failure an error is of: what its user can do about it.

use attachfs_commit::CommitError;
use attachfs_fetch::FetchError;
use attachfs_mount::UnmountError;
use attachfs_scan::ScanError;
use attachfs_session::{ControlError, FailureClass, SessionError};
use attachfs_store::StoreError;
use attachfs_transfer::{DownloadError, PublishError, TransferError};
use attachfs_tree::LayerError;
use attachfs_vfs::overlay::{JournalError, RecoveryError};
use attachfs_vfs::{FsError, OpenError};

use super::Error;

impl Error {
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
            Self::DownloadStopped { source, .. } => class_of_transfer(source, FailureClass::Store),
            Self::Transfer(error) => class_of_transfer(error, FailureClass::Store),
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
        | CommitError::Layer(_)
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
        | RecoveryError::Layer { .. }
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
