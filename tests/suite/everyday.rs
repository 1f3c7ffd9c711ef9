//! What a shell's user does, done in a mount and in a plain copy of the same folder: what the programs say and what is there
//! afterwards is the same, and base and diff show it again.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::machine::{Machine, args, mounting_from_both_stores, skipped, until};
use crate::process::said;
use crate::tree::{Detail, Tree, copy};

mounting_from_both_stores![
    copying_gives_what_it_gives_on_a_local_disk,
    moving_gives_what_it_gives_on_a_local_disk,
    editing_gives_what_it_gives_on_a_local_disk,
    overwriting_parts_gives_what_it_gives_on_a_local_disk,
    archives_are_made_and_unpacked_as_on_a_local_disk,
    removing_gives_what_it_gives_on_a_local_disk,
    linking_gives_what_it_gives_on_a_local_disk,
    modes_and_times_are_what_they_are_on_a_local_disk,
    looking_around_shows_what_it_shows_on_a_local_disk,
    unusual_names_and_deep_directories_are_no_trouble,
    system_calls_give_what_they_give_on_a_local_disk,
];

/// The folder that all of it is done in.
fn fill(machine: &Machine, folder: &str) {
    let root = machine.dir(folder);
    let file = |name: &str, bytes: &[u8]| {
        machine.file(root.join(name), bytes);
    };
    file("a.txt", b"alpha\nbeta\ngamma\n");
    file("b.txt", b"pear\napple\nfig\n");
    file("zero", b"");
    file("dir/x", b"x of dir\n");
    file("dir/sub/y", b"y of sub\n");
    file("dir/sub/z", b"z of sub");
    file("with space/\u{fc}n\u{ef}.txt", b"text\n");
    file("run.sh", b"#!/bin/sh\necho ran with $# arguments\n");
    let big: Vec<u8> = (0..2_500_000_u32)
        .map(|i| (i % 253) as u8 ^ (i >> 12) as u8)
        .collect();
    file("big", &big);
    machine.file(root.join(OsStr::from_bytes(b"caf\xe9")), b"latin 1\n");
    fs::create_dir(root.join("empty")).unwrap();
    symlink("a.txt", root.join("link")).unwrap();
    symlink("../b.txt", root.join("dir/up")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    make_old(&root, 1_000_000_000);
    let runnable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(root.join("run.sh"), runnable).unwrap();
}

/// Sets all files' times to 2001, so that a time that changes is noticed, and the usual permissions.
fn make_old(dir: &Path, seconds: u64) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        let (time, mode) = (
            Duration::new(seconds, 123_456_000),
            if path.is_dir() { 0o755 } else { 0o644 },
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if path.is_dir() {
            make_old(&path, seconds + 1);
        }
        let times = fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + time);
        fs::File::open(&path).unwrap().set_times(times).unwrap();
    }
}

/// Runs the script in a mount and in a plain copy.
fn same(machine: &Machine, script: &str) {
    same_in(machine, &[], script);
}

/// The same in a mount with these options.
fn same_in(machine: &Machine, options: &[&str], script: &str) {
    fill(machine, "input");
    let input = machine.path("input");
    let plain = machine.path("plain");
    copy(&input, &plain);
    let manifest = machine.snapshot(&input, "base.manifest");
    let mut arguments = args!["--commit", &manifest].to_vec();
    arguments.extend(options.iter().map(Into::into));
    let mount = machine.mount(arguments, "mnt");
    Tree::read(&mount.dir, Detail::Live).assert_is(&Tree::read(&plain, Detail::Live));

    let in_dir = |dir: &Path| {
        let mut command = machine.command("sh");
        if let Some(python) = python() {
            command.env("PYTHON", python);
        }
        said(command.args(["-c", script]).current_dir(dir))
    };
    let expected = in_dir(&plain);
    assert!(!expected.err.contains("Traceback"), "{expected:#?}");
    let found = in_dir(&mount.dir);
    assert_eq!(found.err, expected.err);
    assert_eq!(found.out, expected.out);
    assert_eq!(found.code, expected.code);
    Tree::read(&mount.dir, Detail::Live).assert_is(&Tree::read(&plain, Detail::Live));

    let unmounted = machine.json(args!["umount", &mount.dir]);
    let mut layers = args!["--read-only", &manifest].to_vec();
    if let Some(diff) = unmounted["commit"]["manifest"]["address"].as_str() {
        layers.push(diff.into());
    }
    let mount = machine.mount(layers, "again");
    Tree::read(&mount.dir, Detail::Committed).assert_is(&Tree::read(&plain, Detail::Committed));
    machine.ok(args!["umount", &mount.dir]);
    until("no session is left", || machine.sessions().is_empty());
}

/// A Python whose home may be elsewhere.
fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let ask = [
            "-c",
            "import sys, sqlite3; sys.stdout.write(sys.executable)",
        ];
        let output = Command::new("python3").args(ask).output().ok()?;
        let path = OsStr::from_bytes(&output.stdout).into();
        output.status.success().then_some(path)
    });
    found.as_deref()
}

/// A shell script that runs a Python program.
fn in_python(text: &str) -> String {
    format!("\"$PYTHON\" - <<'END'\n{text}END\n")
}

/// Whether a test that needs a program on this machine can go on.
fn has(what: &str, there: bool) -> bool {
    if !there {
        skipped(&format!("there is no {what}"));
    }
    there
}

fn copying_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(machine, include_str!("everyday/copying.sh"));
}

fn moving_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(machine, include_str!("everyday/moving.sh"));
}

fn editing_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(machine, include_str!("everyday/editing.sh"));
}

fn overwriting_parts_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(machine, include_str!("everyday/overwriting.sh"));
}

fn archives_are_made_and_unpacked_as_on_a_local_disk(machine: &Machine) {
    same(machine, include_str!("everyday/archiving.sh"));
}

fn removing_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(machine, include_str!("everyday/removing.sh"));
}

fn linking_gives_what_it_gives_on_a_local_disk(machine: &Machine) {
    same(machine, include_str!("everyday/linking.sh"));
}

fn modes_and_times_are_what_they_are_on_a_local_disk(machine: &Machine) {
    same(machine, include_str!("everyday/modes_and_times.sh"));
}

fn looking_around_shows_what_it_shows_on_a_local_disk(machine: &Machine) {
    same(machine, include_str!("everyday/looking.sh"));
}

fn unusual_names_and_deep_directories_are_no_trouble(machine: &Machine) {
    same(machine, include_str!("everyday/names.sh"));
}

fn system_calls_give_what_they_give_on_a_local_disk(machine: &Machine) {
    if !has("python3", python().is_some()) {
        return;
    }
    same(
        machine,
        &in_python(include_str!("everyday/system_calls.py")),
    );
}

#[test]
fn a_version_control_system_works_in_a_mount() {
    let there = Command::new("git").arg("--version").output().is_ok();
    if !has("git", there) {
        return;
    }
    Machine::mounting_from_directory(|machine| {
        same(machine, include_str!("everyday/git.sh"));
    });
}

#[test]
fn a_database_works_in_a_mount() {
    if !has("python3", python().is_some()) {
        return;
    }
    Machine::mounting_from_directory(|machine| {
        same(machine, &in_python(include_str!("everyday/database.py")));
    });
}

#[test]
fn ten_thousand_files_in_one_directory_are_made_and_removed() {
    Machine::mounting_from_directory(|machine| {
        same(machine, include_str!("everyday/many.sh"));
    });
}

#[test]
fn a_directory_of_a_hundred_thousand_files_is_removed() {
    const INPUTS: usize = 100_000;
    Machine::mounting_from_directory(|machine| {
        let inputs: Vec<_> = (0..INPUTS)
            .map(|number| {
                format!(r#"{{"hash":"{number:032x}","mtime":1000000,"path":"many/{number:06}","size":1}}"#)
            })
            .collect();
        let manifest = format!(
            r#"{{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":[{}],"totalSize":{INPUTS}}}"#,
            inputs.join(",")
        );
        let manifest = machine.file("many.manifest", manifest);
        // None of them is in the store, and none is read.
        let mount = machine.mount(args!["--no-probe", &manifest], "mnt");
        let many = mount.dir.join("many");
        for number in 0..1000 {
            fs::write(many.join(format!("new-{number}")), "new").unwrap();
        }
        said(Command::new("rm").arg("-r").arg(&many)).with_code(0);
        assert!(!many.exists());
        let committed = machine.json(args!["commit", "--wait", "20", &mount.dir]);
        let diff = committed["manifest"]["address"].as_str().unwrap();
        let both = machine.mount(args!["--read-only", "--no-probe", &manifest, diff], "both");
        assert_eq!(fs::read_dir(&both.dir).unwrap().count(), 0);
    });
}

#[test]
fn a_directory_is_removed_while_others_list_it() {
    const FILES: usize = 400;
    Machine::mounting_from_directory(|machine| {
        machine.file("input/a", "a");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        let mount = machine.mount(args![&manifest], "mnt");
        // The kernel asks for a part of such names at a time.
        let name = |number: usize| format!("{number:0200}");
        for round in 0..20 {
            let dir = mount.dir.join(format!("dir-{round}"));
            fs::create_dir(&dir).unwrap();
            for number in 0..FILES {
                fs::write(dir.join(name(number)), "").unwrap();
            }
            let removed = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                let list = || {
                    // What is there all the time is seen once, whatever else goes.
                    while !removed.load(std::sync::atomic::Ordering::SeqCst) {
                        if let Ok(entries) = fs::read_dir(&dir) {
                            let names = entries.map_while(|entry| Some(entry.ok()?.file_name()));
                            let mut names: Vec<_> = names.collect();
                            names.sort();
                            assert!(names.windows(2).all(|two| two[0] != two[1]));
                        }
                    }
                };
                let listing = [scope.spawn(list), scope.spawn(list)];
                let rm = said(Command::new("rm").arg("-r").arg(&dir));
                removed.store(true, std::sync::atomic::Ordering::SeqCst);
                for lister in listing {
                    lister.join().unwrap();
                }
                assert_eq!((rm.code, &*rm.err), (0, ""), "round {round}");
            });
            assert!(!dir.exists());
        }
    });
}

#[test]
fn files_are_synchronized_in_a_mount() {
    if !has(
        "rsync",
        said(Command::new("rsync").arg("--version")).code == 0,
    ) {
        return;
    }
    Machine::mounting_from_directory(|machine| {
        same(machine, include_str!("everyday/syncing.sh"));
    });
}

#[test]
fn holes_and_attributes_are_packed_and_unpacked_in_a_mount() {
    if !has("python3", python().is_some()) {
        return;
    }
    Machine::mounting_from_directory(|machine| {
        same(machine, include_str!("everyday/packing.sh"));
    });
}

#[test]
fn crates_are_built_in_a_mount() {
    Machine::mounting_from_directory(|machine| {
        same(machine, include_str!("everyday/building.sh"));
    });
}

#[test]
fn processes_write_through_mappings_in_a_mount() {
    if !has("python3", python().is_some()) {
        return;
    }
    Machine::mounting_from_directory(|machine| {
        same(machine, &in_python(include_str!("everyday/mapping.py")));
    });
}

#[test]
fn programs_do_the_same_where_the_kernel_keeps_what_is_written() {
    let python_is_there = has("python3", python().is_some());
    let in_shell = [
        include_str!("everyday/copying.sh"),
        include_str!("everyday/moving.sh"),
        include_str!("everyday/editing.sh"),
        include_str!("everyday/overwriting.sh"),
        include_str!("everyday/archiving.sh"),
        include_str!("everyday/linking.sh"),
        include_str!("everyday/modes_and_times.sh"),
        include_str!("everyday/looking.sh"),
        include_str!("everyday/git.sh"),
        include_str!("everyday/syncing.sh"),
    ];
    let in_other = [
        include_str!("everyday/system_calls.py"),
        include_str!("everyday/database.py"),
        include_str!("everyday/mapping.py"),
    ];
    let in_other = in_other.map(in_python);
    let in_other = in_other
        .iter()
        .map(String::as_str)
        .chain([include_str!("everyday/packing.sh")]);
    let scripts = in_shell
        .into_iter()
        .chain(in_other.filter(|_| python_is_there));
    for script in scripts {
        Machine::mounting_from_directory(|machine| {
            same_in(machine, &["--writeback-cache"], script);
        });
    }
}
