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
use attachfs_session::{Failure, FailureClass, SessionError};
use attachfs_store::StoreError;
use attachfs_transfer::TransferError;
use attachfs_vfs::overlay::{JournalError, RecoveryError};
use attachfs_vfs::{FsError, OpenError};

use super::{Doing as _, Error};

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
        let nested = CommitError::from(in_overlay(nested));
        let direct = CommitError::from(in_overlay(error));
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
        let overlay = Error::from(in_overlay(error.clone()));
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
        Error::from(base()),
        Error::from(OpenSessionError::Session(base())),
        Error::from(OpenError::Journal(journal())),
        Error::from(OpenError::Recovery(RecoveryError::Journal(journal()))),
        Error::from(OpenError::Recovery(missing)),
        Error::from(in_overlay(journal())),
        Error::from(CommitError::Session(base())),
        Error::from(CommitError::from(in_overlay(journal()))),
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
    assert_eq!(Error::from(changed()).class(), FailureClass::Busy);
    assert_eq!(
        Error::from(CommitError::from(changed())).class(),
        FailureClass::Busy
    );
    assert_eq!(
        Error::from(CommitError::Overlay(full)).class(),
        FailureClass::Other
    );
}

#[test]
fn an_error_says_what_was_being_done_and_keeps_its_causes() {
    let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
    let error = Err::<(), _>(refused())
        .doing(|| "cannot find /a".to_owned())
        .unwrap_err()
        .advise("mount its disk");
    assert_eq!(error.class(), FailureClass::Other);
    assert_eq!(error.to_string(), "cannot find /a");
    assert_eq!(error.advice(), Some("mount its disk"));
    let cause = error.cause::<io::Error>().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::PermissionDenied);
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), refused().to_string());

    let whole = Err::<(), _>(error)
        .doing(|| "cannot mount".to_owned())
        .unwrap_err();
    assert_eq!(
        attachfs_transfer::error_chain(&whole),
        format!("cannot mount: cannot find /a: {}", refused())
    );
    assert!(whole.cause::<io::Error>().is_some());
}

#[test]
fn an_error_with_the_sentence_of_its_cause_says_it_once() {
    let busy = || SessionError::InUse(PathBuf::from("session"));
    let error = Error::from(busy());
    assert_eq!(attachfs_transfer::error_chain(&error), busy().to_string());
    assert!(matches!(error.cause(), Some(SessionError::InUse(_))));
    assert_eq!(error.class(), FailureClass::Busy);
}

#[test]
fn a_failure_of_another_process_comes_back_with_its_causes_and_advice() {
    let refused = io::Error::other("no route to host");
    let error = Err::<(), _>(refused)
        .doing(|| "cannot connect".to_owned())
        .doing(|| "cannot commit".to_owned())
        .unwrap_err()
        .advise("try again");
    let failure = Failure::from(&error);
    assert_eq!(failure.causes, ["cannot connect", "no route to host"]);
    let line = serde_json::to_string(&failure).unwrap();
    let back = Error::from(serde_json::from_str::<Failure>(&line).unwrap());
    assert_eq!(
        attachfs_transfer::error_chain(&back),
        attachfs_transfer::error_chain(&error)
    );
    assert_eq!(back.class(), error.class());
    assert_eq!(back.advice(), Some("try again"));
}
