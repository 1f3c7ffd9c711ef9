//! What is wrong with what a verb is given, and what it says then.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::{TIME, made, scene, snapshot, text};
use crate::golden::set_mtime;
use crate::machine::{Machine, args};

#[test]
fn what_is_no_manifest_is_refused_by_every_verb() {
    Machine::with_directory(|machine| {
        let whole = snapshot(machine, &scene(machine), "whole");
        let cut = text(&whole);
        let bad = [
            machine.file("words", "not JSON\n"),
            machine.file("empty", ""),
            machine.file("cut", &cut[..cut.len() / 2]),
            machine.file("bytes", b"\xff\xfe\x00"),
            machine.file("other", r#"{"manifestVersion":"1999","paths":[]}"#),
        ];
        let out = machine.path("out");
        for bad in &bad {
            for arguments in [
                args!["manifest", "hash", bad, "--root", ".", "-o", &out].to_vec(),
                args!["manifest", "diff", bad, &whole, "-o", &out].to_vec(),
                args!["manifest", "diff", &whole, bad, "-o", &out].to_vec(),
                args!["manifest", "compose", &whole, bad, "-o", &out].to_vec(),
                args!["manifest", "merge", &whole, bad, "-o", &out].to_vec(),
                args!["manifest", "filter", bad, "-i", "*", "-o", &out].to_vec(),
                args!["manifest", "subtree", bad, "d", "-o", &out].to_vec(),
                args!["manifest", "join", bad, "d", "-o", &out].to_vec(),
                args!["manifest", "partition", bad, "--output-dir", &out].to_vec(),
                args![
                    "manifest", "convert", bad, "--format", "2025-12", "-o", &out
                ]
                .to_vec(),
                args!["manifest", "check", bad, "--lenient"].to_vec(),
            ] {
                let said = machine.says(&arguments).with_code(12);
                assert_eq!(said.out, "", "{arguments:?}");
                said.saying(bad.to_str().unwrap())
                    .saying("is no manifest that can be used");
                assert!(!out.exists(), "{arguments:?}");
            }
        }
    });
}

#[test]
fn what_is_not_there_is_named() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        let whole = snapshot(machine, &root, "whole");
        for (arguments, name) in [
            (
                args!["manifest", "check", "no-manifest"].to_vec(),
                "no-manifest",
            ),
            (
                args!["manifest", "collect", "no-folder", "-o", "-"].to_vec(),
                "no-folder",
            ),
            (
                args![
                    "manifest",
                    "collect",
                    &root,
                    "--files-from",
                    "no-list",
                    "-o",
                    "-"
                ]
                .to_vec(),
                "no-list",
            ),
            (
                args!["snapshot", &root, "--files-from", "no-list", "-o", "-"].to_vec(),
                "no-list",
            ),
            (
                args![
                    "manifest", "filter", &whole, "--globs", "no-globs", "-o", "-"
                ]
                .to_vec(),
                "no-globs",
            ),
            (
                args!["manifest", "join", &whole, "x", "-o", "no-folder/out"].to_vec(),
                "no-folder/out",
            ),
            (
                args!["manifest", "check", &whole, "--store", "no-store"].to_vec(),
                "no-store",
            ),
        ] {
            let said = machine.says(&arguments);
            assert!(![0, 101].contains(&said.code), "{said:#?}");
            assert_eq!(said.out, "", "{arguments:?}");
            said.saying(name);
        }
    });
}

#[test]
fn a_kind_that_a_verb_cannot_use_is_said() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        let whole = snapshot(machine, &root, "whole");
        fs::remove_file(root.join("a.txt")).unwrap();
        let later = snapshot(machine, &root, "later");
        let diff = machine.path("diff");
        machine.ok(args!["manifest", "diff", &whole, &later, "-o", &diff]);
        let absolute = machine.path("absolute");
        machine.ok(args!["manifest", "join", &whole, "/srv", "-o", &absolute]);
        for (arguments, words) in [
            (
                args!["manifest", "hash", &diff, "--root", ".", "-o", "-"].to_vec(),
                "it is a diff",
            ),
            (
                args!["manifest", "diff", &diff, &whole].to_vec(),
                "it is a diff",
            ),
            (
                args!["manifest", "partition", &diff, "--output-dir", "parts"].to_vec(),
                "it is a diff",
            ),
            (
                args!["manifest", "compose", &diff, &whole, "-o", "-"].to_vec(),
                "it is a snapshot",
            ),
            (
                args!["manifest", "merge", &whole, &absolute, "-o", "-"].to_vec(),
                "absolute paths",
            ),
            (
                args!["manifest", "diff", &whole, &absolute].to_vec(),
                "absolute paths",
            ),
            (
                args!["manifest", "diff", &absolute, "--root", &root].to_vec(),
                "absolute paths",
            ),
            (
                args!["manifest", "join", &absolute, "x", "-o", "-"].to_vec(),
                "absolute paths",
            ),
            (
                args!["manifest", "subtree", &absolute, "srv", "-o", "-"].to_vec(),
                "must be an absolute path",
            ),
            (
                args!["manifest", "subtree", &whole, "/d", "-o", "-"].to_vec(),
                "without a slash",
            ),
            (
                args!["manifest", "subtree", &whole, "../d", "-o", "-"].to_vec(),
                "no path of a manifest",
            ),
            (
                args!["manifest", "subtree", &whole, "big", "-o", "-"].to_vec(),
                "is a file, not a directory",
            ),
            (
                args!["manifest", "hash", &whole, "-o", "-"].to_vec(),
                "--root",
            ),
            (
                args![
                    "manifest",
                    "convert",
                    &absolute,
                    "--format",
                    "2023-03-03",
                    "-o",
                    "-"
                ]
                .to_vec(),
                "subtree",
            ),
            (
                args!["manifest", "filter", &whole, "-i", "../x", "-o", "-"].to_vec(),
                "leads out",
            ),
            (
                args!["manifest", "collect", &root, "-i", "../x", "-o", "-"].to_vec(),
                "leads out",
            ),
            (
                args!["snapshot", &root, "-i", "/etc/*", "-o", "-"].to_vec(),
                "/etc/*",
            ),
        ] {
            let said = machine.says(&arguments).with_code(2);
            assert_eq!(said.out, "", "{arguments:?}");
            said.saying(words);
        }
    });
}

#[test]
fn a_file_that_changed_since_it_was_listed_is_not_hashed() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        let collected = machine.path("collected");
        machine.ok(args!["manifest", "collect", &root, "-o", &collected]);
        let hash = args![
            "manifest",
            "hash",
            &collected,
            "--root",
            &root,
            "-o",
            machine.path("hashed")
        ];
        set_mtime(&root.join("big"), TIME + 1000);
        machine
            .says(&hash)
            .with_code(14)
            .saying("\"big\" is not what the manifest says");
        fs::write(root.join("big"), "short").unwrap();
        set_mtime(&root.join("big"), TIME);
        machine
            .says(&hash)
            .with_code(14)
            .saying("\"big\" is not what the manifest says");
        fs::remove_file(root.join("big")).unwrap();
        let gone = machine.says(&hash);
        assert_ne!(gone.code, 0, "{gone:#?}");
        gone.saying("big");
        assert!(!machine.path("hashed").exists());
    });
}

/// Who may read everything, root for one, cannot be kept from it by a mode.
fn reads_everything(machine: &Machine) -> bool {
    let locked = machine.file("locked", "x");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    fs::read(&locked).is_ok()
}

/// Runs the program as a user who cannot read everything.
fn as_nobody(command: &std::process::Command) -> std::process::Command {
    let mut drop = std::process::Command::new("setpriv");
    drop.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    drop.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => drop.env(name, value),
            None => drop.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        drop.current_dir(dir);
    }
    drop
}

#[test]
fn what_cannot_be_read_is_an_error_unless_it_is_to_be_left_out() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        let closed = machine.dir("scene/closed");
        let secret = machine.file("scene/secret", "secret");
        for path in [&closed, &secret] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        }
        fs::set_permissions(machine.path(""), fs::Permissions::from_mode(0o777)).unwrap();
        let as_root = reads_everything(machine);
        let says = |arguments: &[std::ffi::OsString]| {
            let command = machine.attachfs(arguments);
            let mut command = if as_root {
                as_nobody(&command)
            } else {
                command
            };
            crate::process::said(&mut command)
        };
        let out = machine.path("out");
        for verb in [&["snapshot"][..], &["manifest", "collect"][..]] {
            let mut arguments: Vec<_> = verb.iter().map(Into::into).collect();
            arguments.extend(args![&root, "-o", &out]);
            let strict = says(&arguments).with_code(1);
            strict.saying("closed");
            assert!(!out.exists(), "{verb:?}");
            arguments.extend(args!["--skip-unreadable", "--json"]);
            let skipping = says(&arguments).with_code(0).json();
            let skipped: Vec<_> = skipping["skipped"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["path"].clone())
                .collect();
            assert!(skipped.contains(&json!("closed")), "{verb:?}: {skipping}");
            // To list a file is not to read it.
            assert_eq!(
                skipped.contains(&json!("secret")),
                verb[0] == "snapshot",
                "{skipping}"
            );
            if verb[0] == "manifest" {
                let hashed = machine.path("hashed");
                let hash = args!["manifest", "hash", &out, "--root", &root, "-o", &hashed];
                let refused = says(&hash);
                assert_ne!(refused.code, 0, "{refused:#?}");
                refused.saying("secret");
                let mut hash = hash.to_vec();
                hash.extend(args!["--skip-unreadable", "--json"]);
                let done = says(&hash).with_code(0).json();
                assert_eq!(done["skipped"][0]["path"], "secret", "{done}");
                assert_eq!(done["hashed"], 5);
            }
            fs::remove_file(&out).unwrap();
        }
        for path in [&closed, &secret] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }
    });
}

#[test]
fn large_manifests_take_no_time_to_speak_of() {
    Machine::with_directory(|machine| {
        let hash = attachfs_manifest::ContentHash::of(b"x");
        let manifest = |count: usize, last: &str| {
            let mut entries = String::new();
            for number in 0..count {
                let mtime = if number % 100 == 0 { last } else { "1" };
                entries += &format!(
                    "{}{{\"hash\":\"{hash}\",\"mtime\":{mtime},\"path\":\"d{:03}/f{number:06}\",\"size\":1}}",
                    if number == 0 { "" } else { "," },
                    number / 100,
                );
            }
            format!(
                "{{\"hashAlg\":\"xxh128\",\"manifestVersion\":\"2023-03-03\",\"paths\":[{entries}],\"totalSize\":{count}}}"
            )
        };
        let old = machine.file("old", manifest(20_000, "1"));
        let new = machine.file("new", manifest(20_000, "2"));
        let diff = machine.path("diff");
        let start = Instant::now();
        let changes = machine.json(args!["manifest", "diff", &old, &new, "-o", &diff]);
        assert_eq!(changes["modified"].as_array().unwrap().len(), 200);
        let full = machine.path("full");
        machine.ok(args![
            "manifest", "convert", &old, "--format", "2025-12", "-o", &full
        ]);
        let composed = made(machine, args!["compose", &full, &diff, "--ignore-parent"]);
        let expected = made(machine, args!["convert", &new, "--format", "2025-12"]);
        assert_eq!(composed, expected);
        let chosen = made(machine, args!["filter", &old, "-i", "d000/*"]);
        assert_eq!(chosen.matches("\"path\"").count(), 100);
        let joined = made(machine, args!["join", &full, "a/b/c"]);
        assert!(joined.len() > 1_000_000);
        assert_eq!(made(machine, args!["merge", &old, &new]), text(&new));
        // The debug build takes a second or two for all of them, and on a busy machine some more.
        assert!(
            start.elapsed() < Duration::from_mins(1),
            "{:?}",
            start.elapsed()
        );
    });
}

#[test]
fn an_interrupted_hash_says_how_far_it_came_and_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        Machine::with_directory(|machine| {
            let root = machine.dir("huge");
            // Holes take no room, and reading them takes time all the same.
            for number in 0..200 {
                let file = fs::File::create(root.join(format!("{number:03}"))).unwrap();
                file.set_len(1 << 31).unwrap();
            }
            let collected = machine.path("collected");
            machine.ok(args!["manifest", "collect", &root, "-o", &collected]);
            let hashed = machine.path("hashed");
            let command = machine.attachfs(args![
                "manifest", "hash", &collected, "--root", &root, "-o", &hashed
            ]);
            let mut running = machine.start(command);
            crate::machine::until("it reads", || {
                assert!(running.is_running(), "{:?}", running.so_far());
                let open = fs::read_dir(format!("/proc/{}/fd", running.pid()))
                    .unwrap()
                    .flatten();
                let mut open = open.filter_map(|fd| fs::read_link(fd.path()).ok());
                open.any(|file| file.parent() == Some(&root))
            });
            running.signal(signal);
            let start = Instant::now();
            let said = running.wait().with_code(15);
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{:?}",
                start.elapsed()
            );
            said.saying("cancelled after ").saying(" of 200 files");
            assert!(!hashed.exists());
        });
    }
}
