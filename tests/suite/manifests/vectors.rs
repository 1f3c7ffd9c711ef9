//! The references' vectors, through the program.

use std::fs;

use serde_json::{Value, json};

use super::made;
use crate::golden::{ABC_HASH, OUTSIDE_HASH, build, cases, set_mtime};
use crate::machine::{Machine, args};

fn id(case: &Value) -> &str {
    case["id"].as_str().unwrap()
}

/// By name, what an absolute manifest says of what lies below a folder.
fn below(manifest: &str, root: &str) -> Vec<String> {
    let manifest: Value = serde_json::from_str(manifest).unwrap();
    let mut directories: Vec<String> = Vec::new();
    let mut said = Vec::new();
    let full = |directories: &[String], name: &str| match name
        .strip_prefix('$')
        .and_then(|name| name.split_once('/'))
    {
        Some((number, name)) => format!("{}/{name}", directories[number.parse::<usize>().unwrap()]),
        None => name.to_owned(),
    };
    for list in ["dirs", "files"] {
        for entry in manifest[list].as_array().unwrap() {
            let path = full(&directories, entry["name"].as_str().unwrap());
            if list == "dirs" {
                directories.push(path.clone());
            }
            let mut entry = entry.clone();
            entry["name"] = path.clone().into();
            if let Some(target) = entry["symlink"]["name"].as_str() {
                entry["symlink"] = full(&directories, target).into();
            }
            if path.starts_with(root) {
                said.push(
                    entry
                        .to_string()
                        .replace(root, "/root")
                        .replace(OUTSIDE_HASH, ABC_HASH),
                );
            }
        }
    }
    said
}

#[test]
fn the_program_collects_the_references_trees_as_paths_of_the_machine() {
    Machine::with_directory(|machine| {
        let cases = cases("collect-v2025.json");
        assert_eq!(cases.len(), 8);
        for case in cases {
            let root = build(&machine.path(id(&case)), &case);
            let chunk_size = match case["fileChunkSizeBytes"].as_i64().unwrap() {
                -1 => "none".to_owned(),
                bytes => bytes.to_string(),
            };
            let symlinks = case["policy"].as_str().unwrap().replace('_', "-");
            let collected = machine.path("collected");
            machine.ok(args![
                "manifest",
                "collect",
                "--absolute",
                &root,
                "--symlinks",
                symlinks,
                "--chunk-size",
                chunk_size,
                "-o",
                &collected,
            ]);
            let hashed = machine.path("hashed");
            machine.ok(args!["manifest", "hash", &collected, "-o", &hashed]);
            let ours = fs::read_to_string(&hashed).unwrap();
            let theirs = case["abs"].as_str().unwrap();
            let their_root = case["root"].as_str().unwrap();
            assert_eq!(
                below(&ours, root.to_str().unwrap()),
                below(theirs, their_root),
                "{}",
                id(&case)
            );
            let relative = made(machine, args!["subtree", &hashed, &root]);
            let expected = case["rel"]
                .as_str()
                .unwrap()
                .replace(OUTSIDE_HASH, ABC_HASH);
            assert_eq!(relative, expected, "{}", id(&case));
        }
    });
}

fn paths_in(manifest: &str) -> Vec<String> {
    let manifest: Value = serde_json::from_str(manifest).unwrap();
    let paths = manifest["paths"].as_array().unwrap().iter();
    paths
        .map(|entry| entry["path"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_program_chooses_the_references_files() {
    Machine::with_directory(|machine| {
        let mut compared = 0;
        for case in cases("snapshot-diff-filter.json") {
            if case["tree"].is_null() {
                continue;
            }
            let root = build(&machine.path(id(&case)), &case);
            let mut arguments =
                args!["snapshot", root, "-o", "-", "--format", "2023-03-03"].to_vec();
            // Without patterns the program takes hidden files too, Python does not.
            let all = json!(["**/*"]);
            let include = if case["include"].is_null() {
                &all
            } else {
                &case["include"]
            };
            for (option, patterns) in [("-i", include), ("-e", &case["exclude"])] {
                for pattern in patterns.as_array().into_iter().flatten() {
                    // The one pattern that leaves the root names it as it was called then.
                    let pattern = pattern.as_str().unwrap().replace("../snap/", "../root/");
                    arguments.extend(args![option, pattern]);
                }
            }
            let taken = machine.ok(arguments).out;
            let expected = match &case["paths_in_manifest"] {
                Value::Null => json!([]),
                paths => paths.clone(),
            };
            assert_eq!(json!(paths_in(&taken)), expected, "{}", id(&case));
            compared += 1;
        }
        assert_eq!(compared, 10);
    });
}

/// The folder that the vectors' diffs are of, before and after their `changes`.
fn changed_folder(machine: &Machine) -> (std::path::PathBuf, std::path::PathBuf) {
    const TIME: i64 = 1_700_000_000_123_456_789;
    let root = machine.dir("root");
    let write = |name: &str, text: &str, mtime: i64| {
        fs::write(root.join(name), text).unwrap();
        set_mtime(&root.join(name), mtime);
    };
    for name in ["gone", "keep", "mt", "mt1us", "mt2us", "size"] {
        write(name, "x", TIME);
    }
    write("same_meta_diff_content", "same", TIME);
    let base = machine.path("base");
    machine.ok(args![
        "snapshot",
        &root,
        "-o",
        &base,
        "--format",
        "2023-03-03"
    ]);
    write("size", "twelve bytes", TIME);
    write("mt", "x", TIME + 1_000_000_000);
    write("mt1us", "x", TIME + 1000);
    write("mt2us", "x", TIME + 2000);
    write("same_meta_diff_content", "emas", TIME);
    write("new", "n", TIME);
    write(".newhidden", "n", TIME);
    fs::remove_file(root.join("gone")).unwrap();
    (root, base)
}

#[test]
fn the_program_finds_the_references_changes() {
    Machine::with_directory(|machine| {
        let (root, base) = changed_folder(machine);
        let cases = cases("snapshot-diff-filter.json");
        let case = |name: &str| cases.iter().find(|case| id(case) == name).unwrap();
        let diff = args!["manifest", "diff", &base, "--root", &root, "-i", "**/*"];
        let found = machine.json(&diff);
        for kind in ["new", "modified", "deleted"] {
            assert_eq!(found[kind], case("diff_force_rehash_False")[kind], "{kind}");
        }
        for (word, option) in [("False", None), ("True", Some("--force-rehash"))] {
            let mut arguments = diff.to_vec();
            arguments.extend(option.map(Into::into));
            let found = machine.json(arguments);
            let mut put: Vec<_> = ["new", "modified"]
                .iter()
                .flat_map(|kind| found[kind].as_array().unwrap())
                .map(|path| path.as_str().unwrap())
                .collect();
            put.sort_unstable();
            let expected = case(&format!("snapshot_diff_force_rehash_{word}"));
            assert_eq!(json!(put), expected["paths_in_manifest"], "{word}");
        }
    });
}

fn written(machine: &Machine, texts: &Value) -> Vec<std::ffi::OsString> {
    let texts = texts.as_array().unwrap().iter().enumerate();
    texts
        .map(|(number, text)| {
            machine
                .file(format!("{number}"), text.as_str().unwrap())
                .into()
        })
        .collect()
}

#[test]
fn the_program_merges_as_the_reference_does() {
    Machine::with_directory(|machine| {
        for case in cases("merge-v2023.json") {
            let mut arguments = args!["merge"].to_vec();
            // One has a path twice, which only lenient reading takes.
            if id(&case) == "dup_within_with_other" {
                arguments.push("--lenient".into());
            }
            arguments.extend(written(machine, &case["manifests"]));
            match case["merged"].as_str() {
                Some(merged) => assert_eq!(made(machine, arguments), merged, "{}", id(&case)),
                None => {
                    arguments.insert(0, "manifest".into());
                    arguments.extend(args!["-o", "-"]);
                    machine.says(arguments).with_code(2);
                }
            }
        }
    });
}

#[test]
fn the_program_writes_the_references_diffs_and_puts_them_together() {
    Machine::with_directory(|machine| {
        let mut compared = 0;
        for case in cases("diff-compose-v2025.json") {
            let [parent, current] =
                ["parent", "current"].map(|name| machine.file(name, case[name].as_str().unwrap()));
            let diff = made(machine, args!["diff", &parent, &current]);
            // "a difference between a hashed and an unhashed snapshot" of docs/formats.md.
            let Some(expected) = case["diff"].as_str() else {
                assert_eq!(id(&case), "unhashed_current");
                continue;
            };
            assert_eq!(diff, expected, "{}", id(&case));
            let diff = machine.file("diff", &diff);
            let composed = made(machine, args!["compose", &parent, diff]);
            assert_eq!(
                composed,
                case["composed"].as_str().unwrap(),
                "{}",
                id(&case)
            );
            compared += 1;
        }
        assert!(compared > 5, "{compared}");
    });
}

/// What strict reading refuses of what a reference takes has its list in the library's tests.
#[test]
fn the_program_writes_again_what_the_references_read() {
    Machine::with_directory(|machine| {
        let mut read = 0;
        for file in ["manifests-v2023-decode.json", "manifests-v2025-decode.json"] {
            for case in cases(file) {
                let (Some(json), Some(expected)) =
                    (case["json"].as_str(), case["reencoded"].as_str())
                else {
                    continue;
                };
                let manifest = machine.file("case", json);
                let said = machine.says(args!["manifest", "compose", &manifest, "-o", "-"]);
                // The one of 2025-12 writes 2023-03-03 as its own.
                let is_old = |text: &str| text.contains("manifestVersion");
                if said.code == 0 && is_old(&said.out) == is_old(expected) {
                    // In 2025-12 a `totalSize` is what its writer said.
                    let text = |text: &str| match text.rsplit_once("\"totalSize\":") {
                        Some((before, _)) if !is_old(text) => before.to_owned(),
                        _ => text.to_owned(),
                    };
                    assert_eq!(text(&said.out), text(expected), "{}", id(&case));
                    read += 1;
                }
            }
        }
        assert!(read > 10, "{read}");
    });
}
