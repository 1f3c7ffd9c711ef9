//! What a walk finds, and where it does not let itself be led.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use attachfs_durable::FileStamp;
use attachfs_manifest::PathFilter;
use tempfile::TempDir;

use super::{During, file, folder, lines, policy, scanned, skipped};
use crate::{
    Progress, ProgressEvent, ScanError, ScanOptions, Silent, SkipReason, SymlinkPolicy, scan,
};

#[test]
fn entries_come_in_the_order_of_the_formats() {
    let temp = TempDir::new().unwrap();
    for name in ["a", "a-b"] {
        fs::create_dir(temp.path().join(name)).unwrap();
        fs::write(temp.path().join(name).join("c"), "").unwrap();
    }
    for name in ["\u{e000}", "\u{10000}", "a.txt"] {
        fs::write(temp.path().join(name), "").unwrap();
    }
    let found = lines(&scanned(temp.path(), SymlinkPolicy::default()));
    let expected = [
        "a/",
        "a-b/",
        "a-b/c",
        "a.txt",
        "a/c",
        "\u{10000}",
        "\u{e000}",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_file_is_described_by_its_metadata() {
    let (_temp, root) = folder();
    fs::set_permissions(root.join("d/f"), fs::Permissions::from_mode(0o610)).unwrap();
    let scan = scanned(&root, SymlinkPolicy::default());
    let file = file(&scan, "d/f");
    assert_eq!((file.size, file.runnable), (1, true));
    assert_eq!(file.source(), root.canonicalize().unwrap().join("d/f"));
    let (opened, now) = file.open().unwrap();
    assert_eq!(now, *file);
    assert_eq!(FileStamp::of(&opened).unwrap(), file.stamp);
}

#[test]
fn what_a_link_that_escapes_points_to_takes_its_place() {
    let (_temp, root) = folder();
    symlink("../out", root.join("o")).unwrap();
    symlink("../out/x", root.join("x")).unwrap();
    symlink("d", root.join("l")).unwrap();
    let scan = scanned(&root, SymlinkPolicy::CollapseEscaping);
    let expected = [
        "d/", "d/e/", "d/f", "l -> d", "o/", "o/sub/", "o/sub/y", "o/x", "x",
    ];
    assert_eq!(lines(&scan), expected);
    assert!(skipped(&scan).is_empty());
}

#[test]
fn a_link_inside_what_took_a_links_place_stays_one_if_it_points_into_it() {
    let (temp, root) = folder();
    symlink("../x", temp.path().join("out/sub/in")).unwrap();
    symlink("../../root/d/f", temp.path().join("out/sub/back")).unwrap();
    symlink("../out", root.join("o")).unwrap();
    let found = lines(&scanned(&root, SymlinkPolicy::CollapseEscaping));
    assert!(found.contains(&"o/sub/in -> o/x".to_owned()), "{found:?}");
    assert!(found.contains(&"o/sub/back".to_owned()), "{found:?}");
}

#[test]
fn every_link_is_replaced_where_none_may_remain() {
    let (_temp, root) = folder();
    symlink("d", root.join("l")).unwrap();
    symlink("f", root.join("d/g")).unwrap();
    let scan = scanned(&root, SymlinkPolicy::CollapseAll);
    assert_eq!(
        lines(&scan),
        ["d/", "d/e/", "d/f", "d/g", "l/", "l/e/", "l/f", "l/g"]
    );
}

#[test]
fn links_are_left_out_with_their_reason() {
    let (_temp, root) = folder();
    symlink("../out", root.join("o")).unwrap();
    symlink("d", root.join("l")).unwrap();
    let escaping = scanned(&root, SymlinkPolicy::ExcludeEscaping);
    assert_eq!(lines(&escaping), ["d/", "d/e/", "d/f", "l -> d"]);
    assert_eq!(
        skipped(&escaping),
        [("o".to_owned(), SkipReason::LinkExcluded)]
    );
    let all = scanned(&root, SymlinkPolicy::ExcludeAll);
    assert_eq!(lines(&all), ["d/", "d/e/", "d/f"]);
    assert_eq!(skipped(&all).len(), 2);
}

#[test]
fn a_broken_link_is_kept_inside_and_reported_outside() {
    let (_temp, root) = folder();
    symlink("nothing", root.join("inside")).unwrap();
    symlink("../nothing", root.join("outside")).unwrap();
    let scan = scanned(&root, SymlinkPolicy::CollapseEscaping);
    assert_eq!(lines(&scan), ["d/", "d/e/", "d/f", "inside -> nothing"]);
    assert_eq!(
        skipped(&scan),
        [("outside".to_owned(), SkipReason::LinkBroken)]
    );
}

#[test]
fn a_circle_is_gone_round_once_and_cut_where_it_would_repeat() {
    let (temp, root) = folder();
    symlink("..", root.join("d/up")).unwrap();
    symlink("self", root.join("self")).unwrap();
    let scan = scanned(&root, SymlinkPolicy::CollapseAll);
    assert_eq!(
        lines(&scan),
        [
            "d/",
            "d/e/",
            "d/f",
            "d/up/",
            "d/up/d/",
            "d/up/d/e/",
            "d/up/d/f"
        ]
    );
    let cut = ["d/up/d/up", "d/up/self", "self"].map(|p| (p.to_owned(), SkipReason::LinkCycle));
    assert_eq!(skipped(&scan), cut);
    let kept = lines(&scanned(&root, SymlinkPolicy::CollapseEscaping));
    assert!(kept.contains(&"d/up -> .".to_owned()), "{kept:?}");

    // A circle through a neighbouring folder.
    fs::remove_file(root.join("d/up")).unwrap();
    fs::remove_file(root.join("self")).unwrap();
    symlink("../../root", temp.path().join("out/sub/root")).unwrap();
    symlink("../out", root.join("o")).unwrap();
    let scan = scanned(&root, SymlinkPolicy::CollapseAll);
    assert!(lines(&scan).contains(&"o/sub/root/d/f".to_owned()));
    let cut = ("o/sub/root/o".to_owned(), SkipReason::LinkCycle);
    assert_eq!(skipped(&scan), [cut]);
}

#[test]
fn many_links_to_one_directory_above_do_not_multiply() {
    let (_temp, root) = folder();
    for number in 0..30 {
        symlink(".", root.join(format!("here{number}"))).unwrap();
    }
    let scan = scanned(&root, SymlinkPolicy::CollapseAll);
    assert_eq!(scan.file_count(), 31);
    assert_eq!(scan.skipped.len(), 30 * 30);
}

#[test]
fn a_circle_that_a_pattern_leads_into_is_told_where_it_is_cut() {
    let (_temp, root) = folder();
    symlink("..", root.join("d/up")).unwrap();
    let options = ScanOptions {
        filter: PathFilter::new(&["d/up/d/up/*"], &[] as &[&str]).unwrap(),
        ..policy(SymlinkPolicy::CollapseAll)
    };
    let scan = scan(&root, &options, &Silent).unwrap();
    let cut = ("d/up/d/up".to_owned(), SkipReason::LinkCycle);
    assert_eq!(skipped(&scan), [cut]);
}

#[test]
fn a_link_to_a_name_that_no_manifest_can_hold_is_left_out_with_its_reason() {
    let (_temp, root) = folder();
    symlink("n".repeat(256), root.join("inside")).unwrap();
    symlink(format!("../{}", "n".repeat(256)), root.join("outside")).unwrap();
    for symlinks in [SymlinkPolicy::CollapseEscaping, SymlinkPolicy::CollapseAll] {
        let scan = scanned(&root, symlinks);
        assert_eq!(lines(&scan), ["d/", "d/e/", "d/f"]);
        let left_out = ["inside", "outside"].map(|p| (p.to_owned(), SkipReason::LinkTooLong));
        assert_eq!(skipped(&scan), left_out);
    }
}

#[test]
fn special_files_are_reported() {
    let (_temp, root) = folder();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    let scan = scanned(&root, SymlinkPolicy::default());
    assert_eq!(skipped(&scan), [("socket".to_owned(), SkipReason::Special)]);
}

#[test]
fn the_root_may_be_named_by_a_link() {
    let (temp, root) = folder();
    let alias = temp.path().join("alias");
    symlink(&root, &alias).unwrap();
    symlink(alias.join("d/f"), root.join("l")).unwrap();
    let found = lines(&scanned(&alias, SymlinkPolicy::default()));
    assert_eq!(found, ["d/", "d/e/", "d/f", "l -> d/f"]);
}

#[test]
fn a_root_that_is_no_folder_is_refused() {
    let (_temp, root) = folder();
    let error = scan(&root.join("d/f"), &ScanOptions::default(), &Silent).unwrap_err();
    assert!(matches!(error, ScanError::NotADirectory(_)), "{error}");
    let error = scan(&root.join("none"), &ScanOptions::default(), &Silent).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

#[test]
fn a_listener_can_cancel() {
    struct Never;
    impl Progress for Never {
        fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    let (_temp, root) = folder();
    let error = scan(&root, &ScanOptions::default(), &Never).unwrap_err();
    assert!(matches!(error, ScanError::Cancelled(_)));
}

#[test]
fn a_file_swapped_for_a_link_is_not_opened() {
    let (temp, root) = folder();
    let scan = scanned(&root, SymlinkPolicy::default());
    fs::remove_file(root.join("d/f")).unwrap();
    symlink(temp.path().join("out/x"), root.join("d/f")).unwrap();
    let file = file(&scan, "d/f");
    assert!(matches!(file.open().unwrap_err(), ScanError::Replaced(_)));
}

#[test]
fn a_directory_swapped_for_a_link_is_not_passed_through() {
    let (temp, root) = folder();
    let scan = scanned(&root, SymlinkPolicy::default());
    fs::rename(root.join("d"), temp.path().join("moved")).unwrap();
    symlink(temp.path().join("moved"), root.join("d")).unwrap();
    let file = file(&scan, "d/f");
    assert!(matches!(file.open().unwrap_err(), ScanError::Replaced(_)));
}

#[test]
fn another_directory_under_the_same_name_is_not_read() {
    let (temp, root) = folder();
    let (from, to) = (root.join("d"), temp.path().join("moved"));
    let swap = During::new(move || {
        fs::rename(&from, &to).unwrap();
        fs::create_dir(&from).unwrap();
    });
    let error = scan(&root, &ScanOptions::default(), &swap).unwrap_err();
    assert!(
        matches!(&error, ScanError::Replaced(path) if path.ends_with("d")),
        "{error}"
    );
}

#[test]
fn a_directory_swapped_for_a_link_is_not_read() {
    let (temp, root) = folder();
    let (from, to) = (root.join("d"), temp.path().join("moved"));
    let swap = During::new(move || {
        fs::rename(&from, &to).unwrap();
        symlink(&to, &from).unwrap();
    });
    let error = scan(&root, &ScanOptions::default(), &swap).unwrap_err();
    assert!(
        matches!(&error, ScanError::Replaced(path) if path.ends_with("d")),
        "{error}"
    );
}

#[test]
fn a_root_that_is_moved_meanwhile_is_read_all_the_same() {
    let (temp, root) = folder();
    let (from, to) = (root.clone(), temp.path().join("moved"));
    let swap = During::new(move || {
        fs::rename(&from, &to).unwrap();
        symlink("out", &from).unwrap();
    });
    let scan = scan(&root, &ScanOptions::default(), &swap).unwrap();
    assert_eq!(lines(&scan), ["d/", "d/e/", "d/f"]);
    assert!(file(&scan, "d/f").open().is_ok());
}

#[test]
fn links_that_lead_anywhere_cannot_be_kept_in_a_relative_manifest() {
    let (_temp, root) = folder();
    for symlinks in [
        SymlinkPolicy::Preserve,
        SymlinkPolicy::TransitiveIncludeTargets,
    ] {
        let options = ScanOptions {
            symlinks,
            ..ScanOptions::default()
        };
        let error = scan(&root, &options, &Silent).unwrap_err();
        assert!(error.to_string().contains(&symlinks.to_string()), "{error}");
    }
}

#[test]
fn a_directory_that_nothing_is_chosen_from_is_not_read() {
    let (_temp, root) = folder();
    let unwanted = [root.join("node_modules"), root.join(".git")];
    for directory in &unwanted {
        fs::create_dir(directory).unwrap();
    }
    let options = ScanOptions {
        filter: PathFilter::new(&["**/*"], &["node_modules/**"]).unwrap(),
        ..ScanOptions::default()
    };
    // Reading one of them would be an error.
    let remove = During::new(|| {
        for path in &unwanted {
            fs::remove_dir(path).unwrap();
        }
    });
    let scan = scan(&root, &options, &remove).unwrap();
    assert_eq!(lines(&scan), ["d/", "d/e/", "d/f"]);
}

#[test]
fn a_directory_is_an_entry_if_it_is_chosen_or_holds_something_that_is() {
    let (_temp, root) = folder();
    let found = |include: &[&str], exclude: &[&str]| {
        let options = ScanOptions {
            filter: PathFilter::new(include, exclude).unwrap(),
            ..ScanOptions::default()
        };
        lines(&scan(&root, &options, &Silent).unwrap())
    };
    assert_eq!(found(&["**/f"], &[]), ["d/", "d/f"]);
    assert_eq!(found(&["d/*"], &["**/f"]), ["d/", "d/e/"]);
    assert_eq!(found(&["**/x"], &[]), [""; 0]);
    assert_eq!(found(&["d/"], &[]), ["d/"]);
}

#[test]
fn a_file_in_what_took_a_links_place_is_not_reached_through_another_link() {
    let (temp, root) = folder();
    symlink("../out", root.join("o")).unwrap();
    let scan = scanned(&root, SymlinkPolicy::CollapseEscaping);
    let file = file(&scan, "o/sub/y");
    assert!(file.open().is_ok());
    fs::rename(temp.path().join("out"), temp.path().join("moved")).unwrap();
    symlink("moved", temp.path().join("out")).unwrap();
    assert!(matches!(file.open().unwrap_err(), ScanError::Replaced(_)));
}

#[test]
fn links_between_folders_that_have_no_end_of_paths_are_an_error_that_names_one() {
    let temp = TempDir::new().unwrap();
    for level in 0..40 {
        let folder = temp.path().join(format!("d{level}"));
        fs::create_dir(&folder).unwrap();
        for name in ["x", "y"] {
            symlink(format!("../d{}", level + 1), folder.join(name)).unwrap();
        }
    }
    let options = ScanOptions {
        symlinks: SymlinkPolicy::CollapseAll,
        ..ScanOptions::default()
    };
    let error = scan(temp.path(), &options, &Silent).unwrap_err();
    assert!(matches!(error, ScanError::TooManyLinks(_)), "{error}");
    let kept = scan(temp.path(), &ScanOptions::default(), &Silent).unwrap();
    assert_eq!(kept.entries.len(), 40 * 3);
}
