//! What the errors of the operating system mean for a store.

use std::io;

use crate::{Reach, StoreError};

/// Whether the error means that a key has no file. In S3 a key can be a prefix of another key; in a
/// directory store one of them is then a directory, or the other's directory is a file.
pub(super) fn is_missing(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotFound | io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory
    )
}

/// The store's error for a failed write. If a directory is missing, the store itself has gone,
/// because the directory was there before.
pub(super) fn unwritable(what: String, error: impl Into<io::Error>) -> StoreError {
    let error = error.into();
    if error.kind() == io::ErrorKind::NotFound {
        return StoreError::Unreachable {
            what,
            source: error.into(),
        };
    }
    failed(what, error)
}

/// The store's error for a failed operation on a file.
pub(super) fn failed(what: String, error: impl Into<io::Error>) -> StoreError {
    use io::ErrorKind as Kind;
    let error = error.into();
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => StoreError::Full {
            what,
            source: error.into(),
        },
        Kind::PermissionDenied => StoreError::Denied {
            what,
            advice: "check the permissions and the owner of the store's directory".to_owned(),
            reach: Reach::Unknown,
            source: error.into(),
        },
        Kind::ReadOnlyFilesystem => StoreError::Denied {
            what,
            advice: "its file system is mounted read-only".to_owned(),
            reach: Reach::Unknown,
            source: error.into(),
        },
        Kind::StaleNetworkFileHandle
        | Kind::TimedOut
        | Kind::NetworkDown
        | Kind::NetworkUnreachable
        | Kind::HostUnreachable
        | Kind::NotConnected => StoreError::Unreachable {
            what,
            source: error.into(),
        },
        _ => StoreError::Other {
            what,
            source: error.into(),
        },
    }
}
