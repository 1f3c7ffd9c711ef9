//! What `attachfs` takes of a folder, and what it says of the rest: links to directories above, names that nobody can hold, mounts in
//! the folder, and names that begin with a dot.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::machine::{Machine, args, skipped, until};
use crate::process::{Running, Said, kill, stop};

/// A folder `t` with a file `s`, and a link to it in `t/root`.
fn with_link_above(machine: &Machine) -> PathBuf {
    machine.file("t/s", "s");
    machine.file("t/root/f", "f");
    symlink("..", machine.path("t/root/up")).unwrap();
    machine.path("t")
}

/// Arguments, and more of them.
fn with(first: impl AsRef<[OsString]>, more: &[&str]) -> Vec<OsString> {
    let more = more.iter().map(OsString::from);
    first.as_ref().iter().cloned().chain(more).collect()
}

fn manifest(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap()
}

/// The paths of a manifest of 2023-03-03.
fn paths(manifest: &Value) -> Vec<&str> {
    let all = manifest["paths"].as_array().unwrap().iter();
    all.map(|entry| entry["path"].as_str().unwrap()).collect()
}

/// What an account says was left out, and why.
fn left_out(account: &Value) -> Vec<(&str, &str)> {
    let all = account["skipped"].as_array().unwrap().iter();
    all.map(|one| {
        (
            one["path"].as_str().unwrap(),
            one["reason"].as_str().unwrap(),
        )
    })
    .collect()
}

/// The paths of the files, and of directories with a slash, that a snapshot of a folder takes.
fn taken(machine: &Machine, folder: &Path, more: &[&str]) -> (Vec<String>, Value) {
    let out = machine.path("taken.manifest");
    let account = machine.json(with(args!["snapshot", folder, "-o", &out], more));
    let manifest: Value = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
    let names = |list: &str| manifest[list].as_array().unwrap().clone();
    let dirs = names("dirs");
    let mut full: Vec<String> = Vec::new();
    let path = |name: &str, full: &[String]| match name.strip_prefix('$') {
        Some(rest) => {
            let (number, name) = rest.split_once('/').unwrap();
            format!("{}/{name}", full[number.parse::<usize>().unwrap()])
        }
        None => name.to_owned(),
    };
    for dir in &dirs {
        let found = path(dir["name"].as_str().unwrap(), &full);
        full.push(found);
    }
    let files = names("files");
    let files = files
        .iter()
        .map(|file| path(file["name"].as_str().unwrap(), &full));
    let mut all: Vec<String> = files
        .chain(full.iter().map(|dir| format!("{dir}/")))
        .collect();
    all.sort();
    (all, account)
}

#[test]
fn a_file_behind_a_link_to_a_directory_above_is_in_the_manifest_when_it_is_listed() {
    Machine::with_directory(|machine| {
        let folder = with_link_above(machine);
        let list = machine.file("list", "root/up/s\n");
        let snapshot = |more: &[&str]| {
            let arguments = args!["snapshot", &folder, "--files-from", &list, "-o", "-"];
            machine.ok(with(arguments, more))
        };
        let old = snapshot(&["--format", "2023-03-03"]);
        assert_eq!(paths(&manifest(&old)), ["root/up/s"]);
        let old = snapshot(&["--symlinks", "collapse-all"]);
        assert!(old.out.contains("\"name\":\"$1/s\""), "{}", old.out);
        for kept in ["collapse-escaping", "exclude-escaping"] {
            let said = snapshot(&["--symlinks", kept]);
            assert!(
                said.out.contains("\"symlink\":{\"name\":\".\"}"),
                "{}",
                said.out
            );
            assert!(said.out.contains("\"name\":\"s\""), "{}", said.out);
        }
        let without = snapshot(&["--symlinks", "exclude-all"]);
        without.saying("root/up/s: the symbolic link is left out as asked");
        for policy in [
            "preserve",
            "transitive-include-targets",
            "collapse-escaping",
        ] {
            let file = folder.join("root/up/s");
            let said = machine.ok(args![
                "manifest",
                "collect",
                "--absolute",
                &file,
                "--symlinks",
                policy,
                "-o",
                "-"
            ]);
            assert!(
                said.out.contains("/s\",\"size\":1"),
                "{policy}: {}",
                said.out
            );
        }
    });
}

#[test]
fn what_lies_behind_a_link_to_a_directory_above_gets_its_hash() {
    Machine::with_directory(|machine| {
        let folder = with_link_above(machine).join("root");
        let collected = machine.path("collected");
        machine.ok(args![
            "manifest",
            "collect",
            "--absolute",
            &folder,
            "-o",
            &collected
        ]);
        let hashed = manifest(&machine.ok(args!["manifest", "hash", &collected, "-o", "-"]));
        let files = hashed["files"].as_array().unwrap();
        let content: Vec<bool> = files
            .iter()
            .map(|file| file.get("hash").is_some() || file.get("symlink").is_some())
            .collect();
        assert_eq!(content, [true; 4], "{files:?}");
    });
}

#[test]
fn what_is_listed_and_cannot_be_taken_is_an_error_that_names_it() {
    Machine::with_directory(|machine| {
        let folder = with_link_above(machine);
        symlink("nowhere", folder.join("broken")).unwrap();
        symlink("self", folder.join("self")).unwrap();
        for name in ["broken", "self", "self/x", "none"] {
            let list = machine.file("list", format!("s\n{name}\n"));
            let arguments = args![
                "snapshot",
                &folder,
                "--format",
                "2023-03-03",
                "--files-from",
                list,
                "-o",
                "-"
            ];
            let said = machine.says(&arguments).with_code(1);
            said.saying(name);
            let told = machine.ok([&arguments[..], &args!["--skip-unreadable"]].concat());
            assert_eq!(paths(&manifest(&told)), ["s"]);
            told.saying(&format!("left out   {name}: "));
        }
    });
}

#[test]
fn a_link_to_a_name_that_no_manifest_can_hold_is_told_and_all_else_is_taken() {
    Machine::with_directory(|machine| {
        machine.file("in/f", "f");
        symlink("n".repeat(256), machine.path("in/inside")).unwrap();
        symlink(format!("/{}", "n".repeat(256)), machine.path("in/outside")).unwrap();
        let (all, account) = taken(machine, &machine.path("in"), &[]);
        assert_eq!(all, ["f"]);
        let names: Vec<_> = left_out(&account)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(names, ["inside", "outside"]);
        assert!(left_out(&account)[0].1.contains("255 bytes"));
    });
}

#[test]
fn a_mount_of_attachfs_in_a_folder_is_taken_or_left_out_only_if_that_is_said() {
    Machine::mounting_from_directory(|machine| {
        machine.file("input/result", "result");
        let input = machine.snapshot(&machine.path("input"), "input.manifest");
        machine.file("project/scene", "scene");
        let mount = machine.mount(args![input], "project/out");
        let project = machine.path("project");
        for said in [
            machine.says(args!["snapshot", &project, "-o", "-"]),
            machine.says(args!["manifest", "collect", &project, "-o", "-"]),
            machine.says(args![
                "manifest",
                "collect",
                "--absolute",
                &project,
                "-o",
                "-"
            ]),
            machine.says(args!["snapshot", &project, "-o", "-", "--skip-unreadable"]),
        ] {
            let said = said.with_code(2).saying(mount.dir.to_str().unwrap());
            said.saying("--one-file-system").saying("--cross-mounts");
        }
        let (all, account) = taken(machine, &project, &["--one-file-system"]);
        assert_eq!(all, ["out/", "scene"]);
        let told = left_out(&account);
        assert!(
            told[0].0 == "out" && told[0].1.contains("another file system"),
            "{told:?}"
        );
        let (all, _) = taken(machine, &project, &["--cross-mounts"]);
        assert_eq!(all, ["out/", "out/result", "scene"]);
        // Nothing of it is meant.
        let (all, _) = taken(
            machine,
            &project,
            &["--exclude", "out", "--exclude", "out/**"],
        );
        assert_eq!(all, ["scene"]);
        // Whoever names a place in the mount means it.
        let (all, _) = taken(machine, &mount.dir, &[]);
        assert_eq!(all, ["result"]);
        let list = machine.file("list", "out/result\n");
        let (all, _) = taken(machine, &project, &["--files-from", list.to_str().unwrap()]);
        assert_eq!(all, ["out/", "out/result"]);
    });
}

#[test]
fn a_link_that_would_bring_what_is_in_a_mount_of_attachfs_stops_too() {
    Machine::mounting_from_directory(|machine| {
        machine.file("input/d/result", "result");
        let input = machine.snapshot(&machine.path("input"), "input.manifest");
        let mount = machine.mount(args![input], "mnt");
        machine.file("project/scene", "scene");
        symlink(mount.dir.join("d"), machine.path("project/results")).unwrap();
        let project = machine.path("project");
        let said = machine.says(args!["snapshot", &project, "-o", "-"]);
        said.with_code(2).saying(mount.dir.to_str().unwrap());
        let (all, account) = taken(machine, &project, &["--one-file-system"]);
        assert_eq!(all, ["scene"]);
        assert_eq!(left_out(&account)[0].0, "results");
        let (all, _) = taken(machine, &project, &["--cross-mounts"]);
        assert_eq!(all, ["results/", "results/result", "scene"]);
        let (all, _) = taken(machine, &project, &["--symlinks", "exclude-escaping"]);
        assert_eq!(all, ["scene"]);
    });
}

#[test]
fn a_mount_that_does_not_answer_holds_up_no_scan_that_leaves_it_alone() {
    Machine::mounting_from_directory(|machine| {
        machine.file("input/result", "result");
        let input = machine.snapshot(&machine.path("input"), "input.manifest");
        machine.file("project/scene", "scene");
        let mount = machine.mount(args![input, "--read-only"], "project/out");
        assert!(stop(mount.pid));
        let folder = machine.path("project");
        let scan = |more: &[&str]| {
            let mut command = machine.attachfs(args!["snapshot", &folder, "-o", "-"]);
            command.args(more);
            machine.start(command)
        };
        let mut all = [scan(&[]), scan(&["--one-file-system"])];
        until("both have ended", || {
            !all.iter_mut().any(Running::is_running)
        });
        kill(mount.pid, Signal::CONT);
        let [stopped, left] = all.map(Running::wait);
        stopped.with_code(2).saying("project/out");
        left.with_code(0).printing("scene");
    });
}

#[test]
fn other_file_systems_are_gone_into_unless_they_are_left_out() {
    Machine::with_directory(|machine| {
        machine.file("project/scene", "scene");
        let disk = machine.dir("project/disk");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&disk)
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            return skipped("mounting a tmpfs is for root");
        }
        fs::write(disk.join("f"), "f").unwrap();
        fs::create_dir(disk.join("d")).unwrap();
        symlink(disk.join("d"), machine.path("project/link")).unwrap();
        let by_default = taken(
            machine,
            &machine.path("project"),
            &["--symlinks", "collapse-all"],
        );
        let more = ["--symlinks", "collapse-all", "--one-file-system"];
        let left = taken(machine, &machine.path("project"), &more);
        let inside = taken(machine, &disk, &["--one-file-system"]);
        let unmounted = Command::new("umount").arg(&disk).status().unwrap();
        assert!(unmounted.success());
        assert_eq!(
            by_default.0,
            ["disk/", "disk/d/", "disk/f", "link/", "scene"]
        );
        assert_eq!(left.0, ["disk/", "scene"]);
        let names: Vec<_> = left_out(&left.1)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(names, ["disk", "link"]);
        assert_eq!(inside.0, ["d/", "f"]);
    });
}

#[test]
fn names_that_begin_with_a_dot_are_taken_unless_they_are_left_out() {
    Machine::with_directory(|machine| {
        for name in ["in/a", "in/.hidden", "in/.dir/b", "in/d/.c"] {
            machine.file(name, "x");
        }
        let folder = machine.path("in");
        let everything = [".dir/", ".dir/b", ".hidden", "a", "d/", "d/.c"];
        assert_eq!(taken(machine, &folder, &[]).0, everything);
        assert_eq!(taken(machine, &folder, &["--hidden", "yes"]).0, everything);
        assert_eq!(taken(machine, &folder, &["--hidden", "no"]).0, ["a", "d/"]);
        for more in [
            &["--hidden", "no", "--include", "**/*"][..],
            &["--hidden", "yes", "--exclude", "a"],
            &["--hidden", "no", "--globs", "{}"],
            &["--hidden", "perhaps"],
        ] {
            let arguments = with(args!["snapshot", &folder, "-o", "-"], more);
            machine.says(arguments).with_code(2);
        }
        let run = args!["run", "--manifest", "m", "--hidden", "no", "--", "true"];
        machine.says(run).saying("--input");
        let diff = args!["manifest", "diff", "a", "b", "--one-file-system"];
        assert!(!machine.says(diff).err.is_empty());
    });
}

#[test]
fn a_manifest_without_hidden_names_is_held_against_the_folder_without_them() {
    Machine::with_directory(|machine| {
        machine.file("in/a", "x");
        machine.file("in/.env", "secret");
        let folder = machine.path("in");
        let old = machine.path("old.manifest");
        machine.ok(args![
            "snapshot",
            &folder,
            "--hidden",
            "no",
            "--format",
            "2023-03-03",
            "-o",
            &old
        ]);
        let diff = args!["manifest", "diff", &old, "--root", &folder, "--json"];
        let said = machine.ok(&diff);
        assert_eq!(said.json()["new"], serde_json::json!([".env"]));
        said.saying("--hidden no");
        let without = machine.ok([&diff[..], &args!["--hidden", "no"]].concat());
        assert_eq!(without.json()["new"], serde_json::json!([]));
        assert_eq!(without.err, "");
    });
}

#[test]
fn what_may_be_secret_is_named_before_it_is_uploaded_unless_it_was_said_to_be_meant() {
    Machine::with_directory(|machine| {
        for name in [
            "in/a",
            "in/.env",
            "in/.git/HEAD",
            "in/.git/config",
            "in/keys/id_rsa",
        ] {
            machine.file(name, name);
        }
        let folder = machine.path("in");
        let upload = |more: &[&str]| {
            let (store, out) = (machine.store(), machine.path("m"));
            let arguments = args!["snapshot", &folder, "--json", "--store", store, "-o", out];
            machine.ok(with(arguments, more))
        };
        let said = upload(&[]).saying("4 files: .env, .git/, keys/id_rsa");
        let said = said.saying("--hidden yes");
        assert_eq!(said.json()["exposed"]["files"], 4);
        let said = upload(&["--hidden", "no"]);
        said.saying("1 file: keys/id_rsa");
        let list = machine.file("list", ".env\n");
        for meant in [
            &["--hidden", "yes"][..],
            &["--include", ".env", "--include", "keys/*"],
            &["--files-from", list.to_str().unwrap()],
        ] {
            let said = upload(meant);
            assert_eq!(
                (said.json()["exposed"].clone(), &said.err[..]),
                (Value::Null, "")
            );
        }
        let hashed_only = machine.ok(args!["snapshot", &folder, "-o", "-"]);
        assert_eq!(hashed_only.err, "");
    });
}

#[test]
fn a_pipe_that_takes_the_manifest_does_not_hide_what_was_left_out() {
    Machine::with_directory(|machine| {
        let folder = with_link_above(machine);
        let arguments = args!["snapshot", folder, "--symlinks", "exclude-all", "-o", "-"];
        machine
            .ok(arguments)
            .saying("root/up: the symbolic link is left out as asked");
    });
}
