//! Sessions whose process was killed: what verbs read of them, whole or damaged, and the files that were open.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::base;
use crate::machine::{Machine, Mount, args, detach, until};
use crate::process::{Running, kill_and_wait, said};

/// What a session's files have, but for the log.
pub(crate) fn contents(session_dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![session_dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
                found.insert(path, Vec::new());
            } else if path.is_file() && !path.ends_with("log") {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// The files that are open for writing.
pub(super) fn open(machine: &Machine, mount: &Mount) -> Vec<String> {
    named(machine, &mount.session, "open")
}

pub(crate) fn named(machine: &Machine, session: &str, list: &str) -> Vec<String> {
    let status = machine.json(args!["status", session]);
    let names = status[list].as_array().unwrap();
    names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// A session with two files, one of them deleted, whose process was killed.
pub(crate) fn killed(machine: &Machine) -> Mount {
    let mount = machine.mount(args![base(machine)], "mnt");
    fs::write(mount.dir.join("f"), "f").unwrap();
    fs::write(mount.dir.join("gone"), "gone").unwrap();
    fs::remove_file(mount.dir.join("gone")).unwrap();
    until("they are closed", || open(machine, &mount).is_empty());
    kill_and_wait(mount.pid);
    detach(&mount.dir);
    mount
}

#[test]
fn the_journal_of_a_mount_becomes_short_again_and_says_the_same_after_a_kill() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let journal = mount.session_dir.join("journal");
        let len = || fs::metadata(&journal).unwrap().len();
        fs::write(mount.dir.join("kept"), "kept").unwrap();
        let link = mount.dir.join("link");
        while len() < 5 << 20 {
            std::os::unix::fs::symlink("x".repeat(4000), &link).unwrap();
            fs::remove_file(&link).unwrap();
        }
        until("the journal is short", || len() < 100_000);
        fs::write(mount.dir.join("later"), "later").unwrap();
        fs::remove_file(mount.dir.join("a")).unwrap();
        until("they are closed", || open(machine, &mount).is_empty());
        kill_and_wait(mount.pid);
        detach(&mount.dir);
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        let read = |name: &str| fs::read_to_string(mount.dir.join(name));
        assert_eq!(read("kept").unwrap(), "kept");
        assert_eq!(read("later").unwrap(), "later");
        assert_eq!(read("big").unwrap().len(), 300_000);
        read("a").unwrap_err();
        machine
            .ok(args!["commit", &mount.session])
            .printing("2 added");
    });
}

#[test]
fn verbs_that_only_look_at_a_killed_session_change_nothing_in_it() {
    Machine::mounting_from_directory(|machine| {
        let mount = killed(machine);
        let dir = &mount.session_dir;
        let unknown = dir.join("scratch/40000000000000ff");
        fs::write(&unknown, "whose?").unwrap();
        let mut journal = OpenOptions::new()
            .append(true)
            .open(dir.join("journal"))
            .unwrap();
        journal.write_all(b"torn").unwrap();
        let before = contents(dir);
        for verb in [
            &["status"][..],
            &["diff"],
            &["commit", "--dry-run"],
            &["list"],
        ] {
            let mut command = machine.attachfs(args![]);
            command.args(verb);
            if verb != ["list"] {
                command.arg(&mount.session);
            }
            said(&mut command).with_code(0);
            assert_eq!(contents(dir), before, "{verb:?}");
        }
        machine.ok(args!["commit", &mount.session]);
        let aside = dir.join("scratch/aside");
        assert_eq!(fs::read(aside.join("40000000000000ff")).unwrap(), b"whose?");
        let status = machine.json(args!["status", &mount.session]);
        assert_eq!(status["set_aside"], 1);
        assert_eq!(status["set_aside_in"], aside.to_str().unwrap());
    });
}

#[test]
fn a_damaged_journal_is_named_by_every_verb_and_nothing_is_deleted() {
    Machine::mounting_from_directory(|machine| {
        let mount = killed(machine);
        let dir = &mount.session_dir;
        let journal = dir.join("journal");
        let sound = fs::read(&journal).unwrap();
        let mut flipped = sound.clone();
        *flipped.last_mut().unwrap() ^= 4;
        let damaged = [&sound[..0], &sound[..5], &sound[..18], &flipped];
        for bytes in damaged {
            fs::write(&journal, bytes).unwrap();
            let before = contents(dir);
            for verb in ["status", "diff", "commit"] {
                let refused = machine.says(args![verb, &mount.session]).with_code(12);
                refused.saying(journal.to_str().unwrap());
                assert_eq!(contents(dir), before, "{verb}");
            }
        }
        fs::write(&journal, sound).unwrap();
        machine
            .ok(args!["commit", &mount.session])
            .printing("1 added");
    });
}

/// Writes half of a file and keeps it open, until it is killed.
fn half_written(machine: &Machine, dir: &Path) -> Running {
    let mut writer = machine.command("sh");
    writer
        .args([
            "-c",
            "exec 3> half; echo one >&3; echo ready; exec sleep 1000",
        ])
        .current_dir(dir);
    let mut writer = machine.start(writer);
    writer.wait_for_output("ready\n");
    writer
}

#[test]
fn a_file_that_was_open_at_a_kill_stops_the_commit_until_it_is_accepted() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("whole"), "whole").unwrap();
        let writer = half_written(machine, &mount.dir);
        until("one file is open", || open(machine, &mount) == ["half"]);
        kill_and_wait(mount.pid);
        writer.signal(Signal::KILL);
        writer.wait();
        detach(&mount.dir);

        assert_eq!(named(machine, &mount.session, "left_open"), ["half"]);
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("\"half\"").saying("--accept-open");
        let skipped = machine.json(args!["commit", "--skip-open", &mount.session]);
        assert_eq!(skipped["account"]["added"], 1);
        assert_eq!(skipped["account"]["open"][0], "half");

        // Mounted again it still is one of which nobody knows.
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("\"half\"");
        let accepted = machine.json(args!["commit", "--accept-open", &mount.session]);
        assert_eq!(accepted["account"]["added"], 1);
        assert_eq!(accepted["account"]["accepted"][0], "half");
        machine.ok(args!["commit", &mount.session]);
        assert!(named(machine, &mount.session, "left_open").is_empty());
    });
}

#[test]
fn a_file_that_was_open_at_a_kill_is_whole_once_it_is_written_and_closed_again() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let writer = half_written(machine, &mount.dir);
        kill_and_wait(mount.pid);
        writer.signal(Signal::KILL);
        writer.wait();
        detach(&mount.dir);
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        fs::write(mount.dir.join("half"), "one\ntwo\n").unwrap();
        until("it is closed", || open(machine, &mount).is_empty());
        machine.ok(args!["commit", &mount.session]);
    });
}

#[test]
fn a_file_whose_writer_was_cut_off_by_a_forced_unmount_stops_the_commit() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let writer = half_written(machine, &mount.dir);
        machine.ok(args!["umount", "--force", &mount.dir]);
        writer.signal(Signal::KILL);
        writer.wait();
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("\"half\"");
        machine.ok(args!["commit", "--accept-open", &mount.session]);
    });
}
