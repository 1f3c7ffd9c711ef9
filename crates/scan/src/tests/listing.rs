//! A list of files in place of a walk.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use attachfs_manifest::PathFilter;

use super::{folder, lines, policy, skipped};
use crate::{
    FileList, Scan, ScanError, ScanOptions, Silent, SkipReason, SymlinkPolicy, scan_listed,
};

fn list(required: &[&str], optional: &[&str]) -> FileList {
    let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
    FileList {
        required: paths(required),
        optional: paths(optional),
    }
}

fn listed(root: &Path, required: &[&str], symlinks: SymlinkPolicy) -> Result<Scan, ScanError> {
    scan_listed(root, &list(required, &[]), &policy(symlinks), &Silent)
}

fn default(root: &Path, required: &[&str]) -> Result<Scan, ScanError> {
    listed(root, required, SymlinkPolicy::default())
}

#[test]
fn listed_files_and_their_directories_are_found_and_nothing_else() {
    let (_temp, root) = folder();
    fs::write(root.join("d/g"), "g").unwrap();
    let absolute = root.canonicalize().unwrap().join("d/f");
    let scan = default(&root, &["d/./g", absolute.to_str().unwrap(), "d/e/../f"]).unwrap();
    assert_eq!(lines(&scan), ["d/", "d/f", "d/g"]);
    assert_eq!(scan.byte_count(), 2);
    for entry in &scan.entries {
        if let crate::EntryKind::File(file) = &entry.kind {
            assert!(file.open().is_ok());
        }
    }
}

#[test]
fn a_listed_directory_is_taken_without_what_is_in_it() {
    let (_temp, root) = folder();
    assert_eq!(lines(&default(&root, &["d", "."]).unwrap()), ["d/"]);
}

#[test]
fn a_missing_file_is_an_error_unless_it_is_optional() {
    let (_temp, root) = folder();
    for missing in ["none", "d/none", "d/f/none", "none/f"] {
        let error = default(&root, &[missing]).unwrap_err();
        assert!(
            matches!(&error, ScanError::Io { path, .. } if path.starts_with(root.canonicalize().unwrap())),
            "{error}"
        );
        let options = ScanOptions::default();
        let scan = scan_listed(&root, &list(&["d/f"], &[missing, "d/e"]), &options, &Silent);
        let scan = scan.unwrap();
        assert_eq!(lines(&scan), ["d/", "d/e/", "d/f"]);
        assert_eq!(skipped(&scan), [(missing.to_owned(), SkipReason::Missing)]);
    }
}

#[test]
fn a_missing_file_is_listed_if_what_is_unreadable_is_skipped() {
    let (_temp, root) = folder();
    let options = ScanOptions {
        skip_unreadable: true,
        ..ScanOptions::default()
    };
    let scan = scan_listed(&root, &list(&["none", "d/f"], &[]), &options, &Silent).unwrap();
    assert_eq!(lines(&scan), ["d/", "d/f"]);
    assert_eq!(skipped(&scan), [("none".to_owned(), SkipReason::Vanished)]);
}

#[test]
fn a_file_outside_of_the_root_is_refused() {
    let (temp, root) = folder();
    let outside = temp.path().join("out/x");
    for path in ["../out/x", outside.to_str().unwrap(), "d/../../out/x"] {
        let error = default(&root, &[path]).unwrap_err();
        assert!(matches!(error, ScanError::Outside { .. }), "{error}");
    }
}

#[test]
fn a_link_on_the_way_is_kept_or_replaced_as_in_a_walk() {
    let (_temp, root) = folder();
    symlink("d", root.join("l")).unwrap();
    symlink("../out", root.join("o")).unwrap();
    let kept = default(&root, &["l/f", "o/x"]).unwrap();
    assert_eq!(lines(&kept), ["d/", "d/f", "l -> d", "o/", "o/x"]);
    let replaced = listed(&root, &["l/f", "o/sub/y"], SymlinkPolicy::CollapseAll).unwrap();
    assert_eq!(lines(&replaced), ["l/", "l/f", "o/", "o/sub/", "o/sub/y"]);
    let without = listed(&root, &["l/f", "o/x"], SymlinkPolicy::ExcludeEscaping).unwrap();
    assert_eq!(lines(&without), ["d/", "d/f", "l -> d"]);
    assert_eq!(
        skipped(&without),
        [("o/x".to_owned(), SkipReason::LinkExcluded)]
    );
    let none = listed(&root, &["l", "l/f", "d/f"], SymlinkPolicy::ExcludeAll).unwrap();
    assert_eq!(lines(&none), ["d/", "d/f"]);
    let without = ["l", "l/f"].map(|path| (path.to_owned(), SkipReason::LinkExcluded));
    assert_eq!(skipped(&none), without);
}

#[test]
fn a_listed_link_that_is_replaced_by_a_directory_brings_all_of_it() {
    let (_temp, root) = folder();
    symlink("../out", root.join("o")).unwrap();
    let scan = default(&root, &["o", "o/x"]).unwrap();
    assert_eq!(lines(&scan), ["o/", "o/sub/", "o/sub/y", "o/x"]);
}

#[test]
fn a_file_behind_a_link_to_a_directory_above_is_found_however_often_its_path_goes_round() {
    let (_temp, root) = folder();
    symlink("..", root.join("d/up")).unwrap();
    fs::write(root.join("s"), "s").unwrap();
    let replaced = listed(
        &root,
        &["d/up/s", "d/up/d/up/d/f"],
        SymlinkPolicy::CollapseAll,
    );
    let replaced = replaced.unwrap();
    assert_eq!(
        lines(&replaced),
        [
            "d/",
            "d/up/",
            "d/up/d/",
            "d/up/d/up/",
            "d/up/d/up/d/",
            "d/up/d/up/d/f",
            "d/up/s"
        ]
    );
    assert_eq!(skipped(&replaced), []);
    let kept = default(&root, &["d/up/s", "d/up/d/up/d/f"]).unwrap();
    assert_eq!(lines(&kept), ["d/", "d/f", "d/up -> .", "s"]);
    let none = listed(&root, &["d/up/s"], SymlinkPolicy::ExcludeAll).unwrap();
    let without = ("d/up/s".to_owned(), SkipReason::LinkExcluded);
    assert_eq!((lines(&none), skipped(&none)), (vec![], vec![without]));
}

#[test]
fn a_listed_link_to_a_directory_above_brings_all_of_it_once() {
    let (_temp, root) = folder();
    symlink("..", root.join("d/up")).unwrap();
    for listed_path in ["d/up", "d/up/d/up"] {
        let scan = listed(&root, &[listed_path], SymlinkPolicy::CollapseAll).unwrap();
        let file = format!("{listed_path}/d/f");
        assert!(lines(&scan).contains(&file), "{:?}", lines(&scan));
    }
}

#[test]
fn a_listed_file_that_cannot_be_taken_is_an_error_unless_it_is_optional() {
    let (_temp, root) = folder();
    symlink("b", root.join("a")).unwrap();
    symlink("a", root.join("b")).unwrap();
    symlink("nothing", root.join("broken")).unwrap();
    symlink("n".repeat(256), root.join("long")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    for (path, symlinks, reason) in [
        ("a", SymlinkPolicy::CollapseAll, SkipReason::LinkCycle),
        ("a/x", SymlinkPolicy::CollapseAll, SkipReason::LinkCycle),
        ("a/x", SymlinkPolicy::default(), SkipReason::LinkCycle),
        ("broken", SymlinkPolicy::CollapseAll, SkipReason::LinkBroken),
        ("long", SymlinkPolicy::default(), SkipReason::LinkTooLong),
        ("long/x", SymlinkPolicy::default(), SkipReason::LinkTooLong),
        ("long", SymlinkPolicy::CollapseAll, SkipReason::LinkTooLong),
        (
            "long/x",
            SymlinkPolicy::CollapseAll,
            SkipReason::LinkTooLong,
        ),
        ("socket", SymlinkPolicy::default(), SkipReason::Special),
    ] {
        let error = listed(&root, &[path], symlinks).unwrap_err();
        let is_told = matches!(&error, ScanError::NotTaken { path: at, reason: why }
            if at.ends_with(path) && *why == reason);
        assert!(is_told, "{path}: {error}");
        let scan = scan_listed(&root, &list(&[], &[path]), &policy(symlinks), &Silent).unwrap();
        assert_eq!(skipped(&scan), [(path.to_owned(), reason)]);
        let skipping = ScanOptions {
            skip_unreadable: true,
            ..policy(symlinks)
        };
        let scan = scan_listed(&root, &list(&[path], &[]), &skipping, &Silent).unwrap();
        assert_eq!(skipped(&scan), [(path.to_owned(), reason)]);
    }
}

#[test]
fn the_filter_chooses_among_the_listed_too() {
    let (_temp, root) = folder();
    fs::write(root.join("d/g"), "g").unwrap();
    let options = ScanOptions {
        filter: PathFilter::new(&["**/*"], &["d/f"]).unwrap(),
        ..ScanOptions::default()
    };
    let scan = scan_listed(&root, &list(&["d/f", "d/g"], &[]), &options, &Silent).unwrap();
    assert_eq!(lines(&scan), ["d/", "d/g"]);
}
