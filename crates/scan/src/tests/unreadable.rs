//! An entry that cannot be read, vanishes or is replaced fails a scan, or is listed on request.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use rustix::process::{Uid, geteuid};

use super::{During, folder, lines, skipped};
use crate::place::{Reading, Root};
use crate::walk::{PartialScan, Walk};
use crate::{
    Cancelled, Phase, ProgressEvent, Scan, ScanError, ScanOptions, Silent, SkipReason, scan,
};

fn skipping() -> ScanOptions {
    ScanOptions {
        skip_unreadable: true,
        ..ScanOptions::default()
    }
}

#[test]
fn a_directory_that_vanishes_is_an_error_or_listed() {
    let (_temp, root) = folder();
    fs::create_dir(root.join("other")).unwrap();
    let victim = root.join("d");
    let remove = During::new(|| fs::remove_dir_all(&victim).unwrap());
    let found = scan(&root, &skipping(), &remove).unwrap();
    assert_eq!(lines(&found), ["other/"]);
    assert_eq!(skipped(&found), [("d".to_owned(), SkipReason::Vanished)]);
    assert_eq!(found.unreadable_count(), 1);

    fs::create_dir(&victim).unwrap();
    let remove = During::new(|| fs::remove_dir_all(&victim).unwrap());
    let error = scan(&root, &ScanOptions::default(), &remove).unwrap_err();
    assert!(
        matches!(&error, ScanError::Io { path, .. } if path.ends_with("d")),
        "{error}"
    );
}

#[test]
fn a_directory_that_is_replaced_is_listed_and_not_read() {
    let (temp, root) = folder();
    let (from, to) = (root.join("d"), temp.path().join("moved"));
    let swap = During::new(|| {
        fs::rename(&from, &to).unwrap();
        symlink(&to, &from).unwrap();
    });
    let found = scan(&root, &skipping(), &swap).unwrap();
    assert_eq!(lines(&found), [""; 0]);
    assert_eq!(skipped(&found), [("d".to_owned(), SkipReason::Replaced)]);
}

#[test]
fn a_file_that_vanishes_after_its_name_was_read_is_an_error_or_listed() {
    let (_temp, root) = folder();
    for options in [ScanOptions::default(), skipping()] {
        fs::write(root.join("gone"), "").unwrap();
        let place = Arc::new(Root::open(&root, &options).unwrap().place);
        let walk = Walk::new(&options, &[&root], &Silent).unwrap();
        let mut reading = Reading::open(&place).unwrap();
        let names = reading.dir.list().unwrap();
        fs::remove_file(root.join("gone")).unwrap();

        let (name, kind) = names.iter().find(|(name, _)| name == b"gone").unwrap();
        let (mut found, mut more) = (PartialScan::default(), Vec::new());
        let error = walk
            .entry(&mut reading, name, kind, &mut found, &mut more)
            .unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
        let path = reading.path(name).unwrap();
        let outcome = walk.excuse(error, Some(&path), &mut found);
        assert_eq!(outcome.is_ok(), options.skip_unreadable);
        assert_eq!(found.skipped.len(), usize::from(options.skip_unreadable));
    }
}

/// Runs a function as a user for whom file modes count, unlike for root.
fn as_plain_user<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if geteuid().is_root() {
                // For this thread alone, and the threads that it starts.
                let nobody = Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            action()
        });
        thread.join().unwrap()
    })
}

fn scan_as_plain_user(options: &ScanOptions) -> Result<Scan, ScanError> {
    let (temp, root) = folder();
    fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(root.join("locked")).unwrap();
    fs::write(root.join("locked/x"), "x").unwrap();
    fs::set_permissions(root.join("locked"), Permissions::from_mode(0o000)).unwrap();
    let outcome = as_plain_user(|| scan(&root, options, &Silent));
    fs::set_permissions(root.join("locked"), Permissions::from_mode(0o700)).unwrap();
    outcome
}

#[test]
fn a_directory_that_may_not_be_read_is_an_error_or_listed() {
    let error = scan_as_plain_user(&ScanOptions::default()).unwrap_err();
    assert!(error.to_string().contains("locked"), "{error}");
    let found = scan_as_plain_user(&skipping()).unwrap();
    assert_eq!(lines(&found), ["d/", "d/e/", "d/f"]);
    let reason = SkipReason::Unreadable(ErrorKind::PermissionDenied);
    assert_eq!(skipped(&found), [("locked".to_owned(), reason)]);
    assert!(reason.to_string().contains("permission denied"), "{reason}");
}

#[test]
fn a_root_that_cannot_be_read_is_an_error_all_the_same() {
    let (_temp, root) = folder();
    let error = scan(&root.join("none"), &skipping(), &Silent).unwrap_err();
    assert!(matches!(error, ScanError::Io { .. }), "{error}");
}

#[test]
fn a_lack_of_file_descriptors_is_no_reason_to_leave_a_file_out() {
    let lack = ScanError::io("open", "f".as_ref(), rustix::io::Errno::MFILE);
    assert_eq!(lack.skip_reason(), None);
    assert_eq!(
        ScanError::from(Cancelled::after(ProgressEvent::of(Phase::Scan))).skip_reason(),
        None
    );
}

/// Makes directories in one another until their path is longer than a manifest can hold, and gives how many
/// of them it can.
fn dig(root: &std::path::Path) -> usize {
    let mut at = rustix::fs::open(
        root,
        rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let name = "n".repeat(255);
    for _ in 0..17 {
        rustix::fs::mkdirat(&at, &name, 0o755.into()).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, &name, flags, rustix::fs::Mode::empty()).unwrap();
    }
    // 255 and a slash each, up to 4095.
    16
}

#[test]
fn a_path_that_no_manifest_can_hold_is_an_error_or_told_by_its_directory() {
    let (_temp, root) = folder();
    let deepest = dig(&root);
    let error = scan(&root, &ScanOptions::default(), &Silent).unwrap_err();
    assert!(
        matches!(error, ScanError::Unrepresentable { .. }),
        "{error}"
    );
    let scan = scan(&root, &skipping(), &Silent).unwrap();
    assert_eq!(scan.entries.len(), deepest + 3);
    let [told] = &scan.skipped[..] else {
        panic!("{:?}", scan.skipped);
    };
    assert_eq!(told.reason, SkipReason::Unrepresentable);
    assert_eq!(told.path.components().count(), deepest);
}
