//! What verbs find and say: of stores that lack something, of manifests that are not quite right, to programs and in a pipe.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{made, scene, snapshot, text};
use crate::machine::{Machine, args};
use crate::process::said;

#[test]
fn checking_finds_what_the_store_lacks() {
    Machine::with_directory(|machine| {
        let whole = snapshot(machine, &scene(machine), "whole");
        let check = args!["manifest", "check", &whole, "--store", machine.store()];
        let report = machine.json(&check);
        assert_eq!(
            (&report["asked"], &report["bad_objects"]),
            (&json!(true), &json!([]))
        );
        let objects = report["objects"].as_u64().unwrap();
        let stored = fs::read_dir(machine.path("store/Data")).unwrap().flatten();
        let stored =
            stored.filter(|entry| entry.file_name().to_string_lossy().ends_with(".xxh128"));
        assert_eq!(objects, stored.count() as u64);
        machine.ok(&check).printing("sound\n");

        let hash_of = |bytes: &[u8]| attachfs_manifest::ContentHash::of(bytes).to_string();
        fs::remove_file(machine.object(&hash_of(b"a"))).unwrap();
        machine.says(&check).with_code(13).printing("not sound");
        let piece = "0123456789".repeat(50);
        fs::write(machine.object(&hash_of(piece.as_bytes())), "short").unwrap();
        fs::write(machine.object(&hash_of(b"deep")), "DEEP").unwrap();
        let found = |deep: bool| {
            let mut arguments: Vec<_> = check.clone().into();
            arguments.push("--json".into());
            if deep {
                arguments.push("--deep".into());
            }
            let said = machine.says(arguments).with_code(12);
            let bad = said.json()["bad_objects"].as_array().unwrap().clone();
            bad.into_iter()
                .map(|bad| (bad["path"].clone(), bad["reason"].clone()))
                .collect::<Vec<_>>()
        };
        let missing = (json!("a.txt"), json!("the store does not have it"));
        let short = (
            json!("big"),
            json!("it has 5 bytes in the store, and 500 in the manifest"),
        );
        let reason = format!("its bytes have the hash {}", hash_of(b"DEEP"));
        let damaged = (json!("d/e/deep.exr"), json!(reason));
        assert_eq!(found(false), [missing.clone(), short.clone()]);
        assert_eq!(found(true), [missing, short, damaged]);
        machine.says(&check).with_code(12).printing("not sound");
    });
}

#[test]
fn checking_lists_names_that_make_trouble_elsewhere_and_files_without_a_hash() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        machine.file("scene/A.txt", "A");
        machine.file("scene/aux.exr", "x");
        let collected = machine.path("collected");
        machine.ok(args!["manifest", "collect", &root, "-o", &collected]);
        let report = machine.json(args!["manifest", "check", &collected, "--case-report"]);
        let names: Vec<_> = report["names"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name["path"].clone())
            .collect();
        for name in ["a.txt", "aux.exr", "bad\\xff"] {
            assert!(names.contains(&json!(name)), "{name}: {report}");
        }
        assert_eq!(report["unhashed"], 7);
        assert!(
            report["first_unhashed"]
                .as_array()
                .unwrap()
                .contains(&json!("big"))
        );
        // Nobody asked for their bytes, until a store is to have them.
        let with_store = args!["manifest", "check", &collected, "--store", machine.store()];
        machine
            .says(with_store)
            .with_code(13)
            .printing("attachfs manifest hash");
    });
}

#[test]
fn what_is_read_leniently_is_said_to_be_wrong() {
    Machine::with_directory(|machine| {
        let hash = attachfs_manifest::ContentHash::of(b"x");
        let entry = format!(r#"{{"hash":"{hash}","mtime":1,"path":"d/./a","size":1}}"#);
        let head = r#"{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":["#;
        let odd = machine.file("odd", format!("{head}{entry}],\"totalSize\":9}}"));
        machine
            .says(args!["manifest", "filter", &odd, "-e", "none", "-o", "-"])
            .with_code(12)
            .saying("d/./a");
        let read = machine.ok(args![
            "manifest",
            "filter",
            &odd,
            "--lenient",
            "-e",
            "none",
            "-o",
            "-"
        ]);
        assert!(
            read.out
                .contains(r#""path":"d/a","size":1}],"totalSize":1}"#),
            "{read:?}"
        );
        read.saying("it is read all the same").saying("d/./a");
        let checked = machine
            .says(args!["manifest", "check", &odd, "--lenient", "--json"])
            .with_code(12);
        assert!(checked.json()["fault"].as_str().unwrap().contains("d/./a"));
    });
}

#[test]
fn verbs_go_together_in_a_pipe() {
    Machine::with_directory(|machine| {
        let whole = snapshot(machine, &scene(machine), "whole");
        let mut piped = text(&whole);
        for step in [
            args!["manifest", "join", "-", "/srv/job", "-o", "-"].to_vec(),
            args!["manifest", "subtree", "-", "/srv", "-o", "-"].to_vec(),
            args!["manifest", "compose", "-", "-o", "-"].to_vec(),
            args!["manifest", "subtree", "-", "job", "-o", "-"].to_vec(),
        ] {
            let mut command = machine.attachfs(step);
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(piped.as_bytes())
                .unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{output:?}"
            );
            piped = String::from_utf8(output.stdout).unwrap();
        }
        assert_eq!(piped, text(&whole));
    });
}

#[test]
fn names_that_are_not_text_survive_every_verb() {
    Machine::with_directory(|machine| {
        let whole = snapshot(machine, &scene(machine), "whole");
        let name = r#""name":"bad\udcff""#;
        assert!(text(&whole).contains(name));
        for arguments in [
            args!["compose", &whole].to_vec(),
            args!["merge", &whole, &whole].to_vec(),
            args!["filter", &whole, "-i", "bad?"].to_vec(),
            args!["subtree", &whole, "."].to_vec(),
            args!["convert", &whole, "--format", "2025-12"].to_vec(),
        ] {
            assert!(made(machine, &arguments).contains(name), "{arguments:?}");
        }
        let listed = machine.ok(args![
            "manifest",
            "collect",
            machine.path("scene"),
            "-o",
            "-"
        ]);
        assert!(listed.out.contains(name));
    });
}

#[test]
fn every_verb_says_what_it_is_for_and_shows_an_example() {
    Machine::with_directory(|machine| {
        let help = machine.ok(args!["manifest", "--help"]).out;
        for words in [
            "Examples:",
            "attachfs manifest diff old.manifest new.manifest",
            "standard input",
        ] {
            assert!(help.contains(words), "{words}: {help}");
        }
        for (verb, words) in [
            ("collect", "without hashes"),
            ("hash", "that have no hash"),
            ("diff", "--output writes a diff manifest"),
            ("compose", "into one"),
            ("merge", "the last counts"),
            ("filter", "Only paths that match"),
            ("subtree", "becomes the root"),
            ("join", "makes an absolute manifest"),
            ("partition", "0.manifest"),
            ("convert", "what that drops"),
            ("check", "whether a store has its objects"),
        ] {
            assert!(help.contains(verb), "{verb}");
            let help = said(&mut machine.attachfs(args!["manifest", verb, "--help"]))
                .with_code(0)
                .out;
            assert!(help.contains(words), "{verb}: {help}");
        }
    });
}

/// The fields that programs may count on, where a manifest was written.
#[test]
fn what_is_printed_for_programs_has_the_same_fields_everywhere() {
    Machine::with_directory(|machine| {
        let whole = snapshot(machine, &scene(machine), "whole");
        let out = machine.path("out");
        for arguments in [
            args!["manifest", "compose", &whole, "-o", &out].to_vec(),
            args!["manifest", "merge", &whole, "-o", &out].to_vec(),
            args!["manifest", "filter", &whole, "-e", "none", "-o", &out].to_vec(),
            args!["manifest", "subtree", &whole, ".", "-o", &out].to_vec(),
        ] {
            let done: Value = machine.json(&arguments);
            let expected = json!({
                "manifest": out, "format": "2025-12", "entries": 10, "bytes": 2509,
                "hash": attachfs_manifest::ContentHash::of(text(&whole).as_bytes()).to_string(),
            });
            assert_eq!(done, expected, "{arguments:?}");
        }
    });
}

#[test]
fn a_manifest_that_was_asked_for_obeys_the_umask() {
    Machine::with_directory(|machine| {
        let old = snapshot(machine, &scene(machine), "old");
        machine.file("scene/more", "more");
        let new = snapshot(machine, &machine.path("scene"), "new");
        let (root, store, out) = (machine.path("scene"), machine.store(), machine.path("out"));
        let publish = args!["manifest", "upload", &old, "--store", &store, "--key", "m"];
        machine.ok(publish);
        for verb in [
            args!["snapshot", &root, "-o", &out].to_vec(),
            args!["manifest", "diff", &old, &new, "-o", &out].to_vec(),
            args!["manifest", "download", "m", "--store", &store, "-o", &out].to_vec(),
        ] {
            for (umask, mode) in [("022", 0o644), ("007", 0o660)] {
                let mut command = machine.command("sh");
                let script = format!("umask {umask} && exec \"$@\"");
                let program = crate::programs::program("attachfs");
                command.args(["-c", &script, "sh"]).arg(program).args(&verb);
                said(&mut command).with_code(0);
                let is = fs::metadata(&out).unwrap().permissions().mode();
                assert_eq!(is & 0o777, mode, "{verb:?}");
            }
        }
    });
}
