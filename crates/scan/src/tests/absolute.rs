//! Folders and files from anywhere, as paths below `/`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::{file, folder, line, policy, skipped};
use crate::{
    Collection, EntryKind, Scan, ScanError, Silent, SkipReason, SymlinkPolicy, scan_absolute,
};

fn collection(directories: &[&Path], files: &[&Path], optional: &[&Path]) -> Collection {
    let owned = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
    Collection {
        directories: owned(directories),
        files: owned(files),
        optional_files: owned(optional),
    }
}

fn collected(collection: &Collection, symlinks: SymlinkPolicy) -> Scan {
    scan_absolute(collection, &policy(symlinks), &Silent).unwrap()
}

/// The lines of what lies below `top`, with its path left out.
fn lines(scan: &Scan, top: &Path) -> Vec<String> {
    let prefix = format!("{}/", top.to_str().unwrap().trim_start_matches('/'));
    let below = |line: String| {
        let short = line.strip_prefix(&prefix)?;
        (!short.is_empty()).then(|| short.replace(&format!("-> {prefix}"), "-> "))
    };
    scan.entries.iter().map(line).filter_map(below).collect()
}

/// [`folder`], with its real path.
fn place() -> (TempDir, PathBuf) {
    let (temp, _) = folder();
    let top = temp.path().canonicalize().unwrap();
    (temp, top)
}

#[test]
fn what_is_collected_has_its_path_from_the_root_of_the_file_system() {
    let (_temp, top) = place();
    let given = collection(&[&top.join("root")], &[&top.join("out/x")], &[]);
    let scan = collected(&given, SymlinkPolicy::default());
    assert_eq!(scan.root, Path::new("/"));
    let expected = ["out/", "out/x", "root/", "root/d/", "root/d/e/", "root/d/f"];
    assert_eq!(lines(&scan, &top), expected);
    let path = top.join("root/d/f");
    let entry = path.to_str().unwrap().trim_start_matches('/');
    assert_eq!(file(&scan, entry).source(), path);
    assert!(file(&scan, entry).open().is_ok());
}

#[test]
fn a_missing_file_is_an_error_unless_it_is_optional() {
    let (_temp, top) = place();
    for missing in [top.join("none"), top.join("none/x"), top.join("out/x/y")] {
        let required = collection(&[], &[&missing], &[]);
        let error = scan_absolute(&required, &policy(SymlinkPolicy::default()), &Silent);
        assert!(error.is_err(), "{missing:?}");
        let optional = collection(&[], &[], &[&top.join("out/x"), &missing]);
        let scan = collected(&optional, SymlinkPolicy::default());
        assert_eq!(lines(&scan, &top), ["out/", "out/x"]);
        assert_eq!(scan.skipped[0].reason, SkipReason::Missing);
    }
    let no_folder = collection(&[&top.join("out/x")], &[], &[]);
    let error = scan_absolute(&no_folder, &policy(SymlinkPolicy::default()), &Silent);
    assert!(matches!(error, Err(ScanError::NotADirectory(_))));
}

#[test]
fn a_link_escapes_what_was_given_and_not_one_folder() {
    let (_temp, top) = place();
    symlink("../out/x", top.join("root/to_file")).unwrap();
    symlink("../out/sub/y", top.join("root/away")).unwrap();
    symlink("none", top.join("root/broken")).unwrap();
    let given = collection(&[&top.join("root")], &[&top.join("out/x")], &[]);
    let scan = collected(&given, SymlinkPolicy::CollapseEscaping);
    let expected = [
        "out/",
        "out/x",
        "root/",
        "root/away",
        "root/broken -> root/none",
        "root/d/",
        "root/d/e/",
        "root/d/f",
        "root/to_file -> out/x",
    ];
    assert_eq!(lines(&scan, &top), expected);
    let scan = collected(&given, SymlinkPolicy::ExcludeEscaping);
    assert!(!lines(&scan, &top).contains(&"root/away".to_owned()));
    assert_eq!(skipped(&scan).len(), 1);
}

#[test]
fn preserving_keeps_every_link_wherever_it_leads() {
    let (_temp, top) = place();
    symlink("../out", top.join("root/o")).unwrap();
    symlink("/", top.join("root/slash")).unwrap();
    let given = collection(&[&top.join("root")], &[], &[]);
    let scan = collected(&given, SymlinkPolicy::Preserve);
    let expected = [
        "root/",
        "root/d/",
        "root/d/e/",
        "root/d/f",
        "root/o -> out",
        "root/slash -> .",
    ];
    assert_eq!(lines(&scan, &top), expected);
}

#[test]
fn what_links_lead_to_is_collected_too_and_so_on() {
    let (_temp, top) = place();
    fs::write(top.join("far"), "far").unwrap();
    fs::create_dir(top.join("out/empty")).unwrap();
    symlink("../out", top.join("root/o")).unwrap();
    symlink("../../far", top.join("out/sub/far")).unwrap();
    symlink("none", top.join("out/broken")).unwrap();
    symlink("..", top.join("root/d/up")).unwrap();
    let given = collection(&[&top.join("root")], &[], &[]);
    let scan = collected(&given, SymlinkPolicy::TransitiveIncludeTargets);
    let expected = [
        "far",
        "out/",
        "out/broken -> out/none",
        "out/empty/",
        "out/sub/",
        "out/sub/far -> far",
        "out/sub/y",
        "out/x",
        "root/",
        "root/d/",
        "root/d/e/",
        "root/d/f",
        "root/d/up -> root",
        "root/o -> out",
    ];
    assert_eq!(lines(&scan, &top), expected);
}

#[test]
fn a_chain_of_links_is_collected_to_its_end() {
    let (_temp, top) = place();
    symlink("../out/second", top.join("root/first")).unwrap();
    symlink("x", top.join("out/second")).unwrap();
    let given = collection(&[], &[&top.join("root/first")], &[]);
    let scan = collected(&given, SymlinkPolicy::TransitiveIncludeTargets);
    let expected = [
        "out/",
        "out/second -> out/x",
        "out/x",
        "root/",
        "root/first -> out/second",
    ];
    assert_eq!(lines(&scan, &top), expected);
}

#[test]
fn a_link_that_leads_into_a_circle_stays_and_brings_nothing() {
    let (_temp, top) = place();
    symlink("b", top.join("out/b")).unwrap();
    symlink("../out/b/c", top.join("root/a")).unwrap();
    let given = collection(&[], &[&top.join("root/a")], &[]);
    let scan = collected(&given, SymlinkPolicy::TransitiveIncludeTargets);
    assert_eq!(lines(&scan, &top), ["root/", "root/a -> out/b/c"]);
}

#[test]
fn below_a_link_that_is_an_entry_its_place_is_collected() {
    let (_temp, top) = place();
    symlink("../out", top.join("root/a")).unwrap();
    symlink("a/sub/y", top.join("root/b")).unwrap();
    let given = collection(&[], &[&top.join("root/a"), &top.join("root/b")], &[]);
    let scan = collected(&given, SymlinkPolicy::TransitiveIncludeTargets);
    let expected = [
        "out/",
        "out/sub/",
        "out/sub/y",
        "out/x",
        "root/",
        "root/a -> out",
        "root/b -> root/a/sub/y",
    ];
    assert_eq!(lines(&scan, &top), expected);
}

#[test]
fn a_folder_named_through_a_link_keeps_the_name_that_it_was_given() {
    let (_temp, top) = place();
    symlink("root", top.join("alias")).unwrap();
    symlink(top.join("alias/d/f"), top.join("root/l")).unwrap();
    let given = collection(&[&top.join("alias")], &[], &[]);
    let scan = collected(&given, SymlinkPolicy::default());
    let expected = [
        "alias/",
        "alias/d/",
        "alias/d/e/",
        "alias/d/f",
        "alias/l -> alias/d/f",
    ];
    assert_eq!(lines(&scan, &top), expected);
    // When the link is found, in the folder that holds it, its path is already a directory.
    symlink(&top, top.join("root/top")).unwrap();
    let scan = collected(&given, SymlinkPolicy::TransitiveIncludeTargets);
    let found = lines(&scan, &top);
    assert!(found.contains(&"alias/d/f".to_owned()), "{found:?}");
    assert!(found.contains(&"root/d/f".to_owned()), "{found:?}");
}

#[test]
fn a_file_below_a_link_that_stays_one_is_refused() {
    let (_temp, top) = place();
    symlink("d", top.join("root/l")).unwrap();
    let given = collection(&[&top.join("root")], &[&top.join("root/l/f")], &[]);
    let options = policy(SymlinkPolicy::Preserve);
    let error = scan_absolute(&given, &options, &Silent).unwrap_err();
    assert!(
        matches!(error, ScanError::BelowNoDirectory { .. }),
        "{error}"
    );
    let scan = collected(&given, SymlinkPolicy::CollapseAll);
    assert!(lines(&scan, &top).contains(&"root/l/f".to_owned()));
}

/// The entries of an absolute manifest of the vectors, in the form of [`line`].
fn expected(text: &str) -> BTreeSet<String> {
    let manifest: Value = serde_json::from_str(text).unwrap();
    let mut dirs: Vec<String> = Vec::new();
    let resolve = |dirs: &[String], name: &Value| {
        let name = name["name"].as_str().unwrap();
        match name.strip_prefix('$').and_then(|rest| rest.split_once('/')) {
            Some((index, rest)) => format!("{}/{rest}", dirs[index.parse::<usize>().unwrap()]),
            None => name.trim_start_matches('/').to_owned(),
        }
    };
    for dir in manifest["dirs"].as_array().unwrap() {
        dirs.push(resolve(&dirs, dir));
    }
    let files = manifest["files"].as_array().unwrap().iter().map(|file| {
        let path = resolve(&dirs, file);
        match file.get("symlink") {
            Some(target) => format!("{path} -> {}", resolve(&dirs, target)),
            None => path,
        }
    });
    let mut lines: BTreeSet<String> = files.collect();
    lines.extend(dirs.iter().map(|dir| format!("{dir}/")));
    lines
}

#[test]
fn trees_with_links_give_the_references_absolute_entries() {
    let text = include_str!("../../../../tests/vectors/collect-v2025.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 8);
    for case in cases {
        let temp = TempDir::new().unwrap();
        let top = temp.path().canonicalize().unwrap();
        let root = top.join("root");
        fs::write(top.join("outside"), "abc").unwrap();
        fs::create_dir(&root).unwrap();
        for entry in case["tree"].as_array().unwrap() {
            let path = root.join(entry["path"].as_str().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match entry.get("kind").and_then(Value::as_str) {
                Some("dir") => fs::create_dir_all(&path).unwrap(),
                Some("symlink") => match entry["target"].as_str().unwrap() {
                    "/etc/hostname" => symlink(top.join("outside"), &path).unwrap(),
                    target => symlink(target, &path).unwrap(),
                },
                _ => fs::write(&path, "").unwrap(),
            }
        }
        let symlinks = [
            SymlinkPolicy::CollapseEscaping,
            SymlinkPolicy::CollapseAll,
            SymlinkPolicy::ExcludeEscaping,
            SymlinkPolicy::ExcludeAll,
        ]
        .into_iter()
        .find(|policy| case["policy"] == policy.to_string().as_str())
        .unwrap();
        let scan = collected(&collection(&[&root], &[], &[]), symlinks);
        let theirs = case["root"].as_str().unwrap().trim_start_matches('/');
        let ours = root.to_str().unwrap().trim_start_matches('/');
        let found: BTreeSet<String> = scan
            .entries
            .iter()
            .filter(|entry| entry.path.to_string().starts_with(ours))
            .map(|entry| line(entry).replace(ours, theirs))
            .collect();
        // The directories above the root have other names in this test.
        let mut expected = expected(case["abs"].as_str().unwrap());
        expected.retain(|line| line.starts_with(theirs));
        assert_eq!(found, expected, "{}", case["id"]);
        let above = &scan.entries[0];
        assert_eq!(above.kind, EntryKind::Dir);
    }
}
