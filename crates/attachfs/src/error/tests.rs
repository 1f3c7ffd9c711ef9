//! Which class of failure an error has.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use attachfs_manifest::ContentHash;
use attachfs_vfs::FsErrorKind;
use attachfs_vfs::overlay::Damage;

use attachfs_commit::{CommitError, OpenSessionError};
use attachfs_fetch::FetchError;
use attachfs_manifest::ManifestPath;
use attachfs_session::{FailureClass, SessionError};
use attachfs_store::StoreError;
use attachfs_transfer::TransferError;
use attachfs_vfs::overlay::{JournalError, RecoveryError};
use attachfs_vfs::{FsError, OpenError};

use super::Error;

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
