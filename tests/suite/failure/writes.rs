//! Commits that cannot be made yet, and disks that are full.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use attachfs_test_s3::{Mishap, Rule};
use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::json;

use super::{base, bring_back, take_away};
use crate::machine::{Machine, Mount, args, mounting_from_both_stores, skipped, until};
use crate::process::{Running, has_ended};
use crate::tree::{Detail, Tree};

mounting_from_both_stores![
    a_commit_without_its_store_is_incomplete_and_succeeds_when_it_is_repeated,
    another_manifest_at_the_place_of_a_commit_is_not_overwritten,
];

fn a_commit_without_its_store_is_incomplete_and_succeeds_when_it_is_repeated(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args!["--commit", &manifest], "mnt");
    fs::write(mount.dir.join("new"), "new").unwrap();
    let expected = Tree::read(&mount.dir, Detail::Committed);
    take_away(machine);
    let commit = machine.says(args!["commit", &mount.dir]).with_code(13);
    commit.saying("the commit stopped");
    // Unmounting does so all the same, and keeps what it could not commit.
    let unmounted = machine.says(args!["umount", &mount.dir]).with_code(13);
    let unmounted = unmounted
        .saying("the commit stopped")
        .printing("is kept with 1 changed path");
    unmounted.printing(&format!("attachfs commit {}", &mount.session[..8]));
    assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
    let unreachable = machine.says(args!["commit", &mount.session]);
    unreachable.with_code(if machine.is_s3() { 13 } else { 11 });
    bring_back(machine);
    assert_eq!(machine.published(&mount.session), []);
    let commit = machine.json(args!["commit", &mount.session]);
    let diff = commit["manifest"]["address"].as_str().unwrap();
    assert_eq!(machine.published(&mount.session).len(), 1);
    let again = machine.mount(args!["--read-only", &manifest, diff], "again");
    Tree::read(&again.dir, Detail::Committed).assert_is(&expected);
}

fn another_manifest_at_the_place_of_a_commit_is_not_overwritten(machine: &Machine) {
    let mount = machine.mount(args![base(machine)], "mnt");
    fs::write(mount.dir.join("new"), "new").unwrap();
    let folder = machine
        .store_files()
        .join("Manifests/attachfs")
        .join(&mount.session);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("1.manifest"), "someone else's").unwrap();
    // It gets the next number.
    let commit = machine.json(args!["commit", &mount.dir]);
    assert_eq!(commit["manifest"]["generation"], 2, "{commit}");
    let published = machine.published(&mount.session);
    assert_eq!(published.len(), 2);
    let theirs = published.iter().find(|(key, _)| key == "1.manifest");
    assert_eq!(theirs.unwrap().1, b"someone else's");
}

#[test]
fn a_commit_stops_at_links_that_lead_out_and_lists_them() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        symlink("/etc/passwd", mount.dir.join("abs")).unwrap();
        symlink("../../up", mount.dir.join("dir/up")).unwrap();
        symlink("../a", mount.dir.join("dir/inside")).unwrap();
        symlink(mount.dir.join("dir/x"), mount.dir.join("inside-too")).unwrap();
        for name in [mount.dir.as_os_str(), mount.session.as_ref()] {
            let commit = machine.says(args!["commit", name]).with_code(1);
            let commit = commit
                .saying("\"abs\" -> \"/etc/passwd\"")
                .saying("\"dir/up\" -> \"../../up\"");
            assert_eq!(commit.err.matches("/etc/passwd").count(), 1, "{commit:#?}");
            assert!(!commit.err.contains("inside"), "{commit:#?}");
            assert_eq!(machine.published(&mount.session), []);
        }
        let diff = machine.json(args!["diff", &mount.dir]);
        assert_eq!(diff["account"]["links"], json!(["abs", "dir/up"]));
        let commit = machine.json(args!["commit", "--symlinks", "skip", &mount.dir]);
        assert_eq!(commit["account"]["links"], json!(["abs", "dir/up"]));
        assert_eq!(commit["account"]["added"], 2);
        let address = commit["manifest"]["address"].as_str().unwrap();
        let listed = machine.json(args!["ls", "-R", address]);
        let lines = listed.as_array().unwrap().iter();
        let targets: Vec<_> = lines.filter_map(|line| line["target"].as_str()).collect();
        assert_eq!(targets, ["../a", "dir/x"]);
        let unmounted = machine.json(args!["umount", &mount.dir]);
        assert_eq!(
            (&unmounted["kept"], &unmounted["uncommitted"]),
            (&json!(true), &json!(2))
        );
    });
}

#[test]
fn a_commit_is_busy_while_someone_writes_to_a_file_waits_or_leaves_it_out() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("closed"), "closed").unwrap();
        let mut open = File::create(mount.dir.join("dir/open")).unwrap();
        open.write_all(b"half").unwrap();
        machine
            .says(args!["commit", &mount.dir])
            .with_code(14)
            .saying("dir/open");
        assert_eq!(
            machine.json(args!["status", &mount.dir])["open"],
            json!(["dir/open"])
        );
        let skipped = machine.json(args!["commit", "--skip-open", &mount.dir]);
        assert_eq!(skipped["account"]["open"], json!(["dir/open"]));
        assert_eq!(skipped["account"]["added"], 1);

        let mut waiting: Running =
            machine.start(machine.attachfs(args!["commit", "--wait", "50", "--json", &mount.dir]));
        open.write_all(b" and half").unwrap();
        assert!(waiting.is_running());
        drop(open);
        let commit = waiting.wait().with_code(0).json();
        assert_eq!(commit["account"]["added"], 1);
        assert_eq!(commit["account"]["bytes"], 13);

        // Open for reading is no reason to wait.
        let reader = File::open(mount.dir.join("closed")).unwrap();
        machine
            .ok(args!["commit", &mount.dir])
            .printing("nothing changed");
        machine.says(args!["umount", &mount.dir]).with_code(14);
        drop(reader);
        let unmounted = machine.json(args!["umount", &mount.dir]);
        assert_eq!(unmounted["kept"], false);
    });
}

#[test]
fn a_commit_that_hangs_is_cancelled_by_its_user() {
    Machine::mounting_from_s3(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        machine.ok(args!["umount", &mount.dir]);
        machine
            .server()
            .add(Rule::on("PUT", Mishap::Silence).of("/Data/"));
        let before = machine.server().requests().len();
        let commit: Running = machine.start(machine.attachfs(args!["commit", &mount.session]));
        machine.server().wait_for("the upload", |requests| {
            requests[before..]
                .iter()
                .any(|request| request.method == "PUT")
        });
        let pid = commit.pid();
        let begun = Instant::now();
        // The first asks; a program that waits for the store does not listen. The second ends it.
        until("it ends", || {
            if !has_ended(pid) {
                commit.signal(Signal::INT);
            }
            has_ended(pid)
        });
        commit.wait().with_code(15);
        assert!(begun.elapsed() < Duration::from_mins(1));
        machine.server().heal();
        machine
            .ok(args!["commit", &mount.session])
            .printing("1 added");
    });
}

#[test]
fn credentials_that_expire_during_a_commit_are_told_with_what_to_do_and_it_goes_on_with_new_ones() {
    Machine::mounting_from_s3(|machine| {
        let expired = Mishap::Error {
            status: 400,
            code: "ExpiredToken",
        };
        // The first outputs, some of them, the manifest.
        for (number, (part, after)) in [("/Data/", 0), ("/Data/", 5), ("/Manifests/", 0)]
            .into_iter()
            .enumerate()
        {
            let manifest = base(machine);
            let mount = machine.mount(args![&manifest], format!("mnt{number}"));
            for file in 0..20 {
                let text = format!("{number} {file}");
                fs::write(mount.dir.join(format!("new{file}")), text).unwrap();
            }
            mount.until_all_is_closed(machine);
            let expected = Tree::read(&mount.dir, Detail::Committed);
            for session in [mount.dir.as_os_str(), mount.session.as_ref()] {
                if session == mount.session.as_str() {
                    machine.ok(args!["umount", &mount.dir]);
                }
                let rule = Rule::on("PUT", expired.clone()).of(part).after(after);
                machine.server().add(rule);
                let refused = machine.says(args!["commit", session]);
                refused
                    .with_code(13)
                    .saying("ExpiredToken")
                    .saying("the credentials have expired; log in again")
                    .saying("nothing is lost")
                    .saying("commit once more");
                assert_eq!(machine.published(&mount.session), []);
                machine.server().heal();
            }
            let commit = machine.json(args!["commit", &mount.session]);
            let diff = commit["manifest"]["address"].as_str().unwrap();
            let look = format!("look{number}");
            let look = machine.mount(args!["--read-only", &manifest, diff], look);
            Tree::read(&look.dir, Detail::Committed).assert_is(&expected);
        }
    });
}

/// A file system of a few megabytes; none if this user may not make one.
pub(super) fn small_disk(machine: &Machine, name: &str) -> Option<PathBuf> {
    let at = machine.dir(name);
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=6m,mode=700", "small"])
        .arg(&at)
        .output()
        .unwrap();
    if !mount.status.success() {
        skipped("only root can make a small file system");
        return None;
    }
    Some(at)
}

/// Writes until there is no more room; gives what had been written by then.
fn fill(path: &Path) -> usize {
    let mut file = File::create(path).unwrap();
    for number in 0..1000 {
        if let Err(error) = file.write_all(&[number as u8; 10_000]) {
            assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC));
            return number * 10_000;
        }
    }
    panic!("there is no end to the space");
}

#[test]
fn without_room_for_writes_the_writer_is_told_and_the_rest_is_sound() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = small_disk(machine, "disk") else {
            return;
        };
        let manifest = base(machine);
        for (number, place) in ["--scratch-dir", "--session"].into_iter().enumerate() {
            let dir = disk.join(format!("{number}"));
            let mount = machine.mount(args![place, &dir, &manifest], format!("mnt{number}"));
            no_room(machine, &manifest, &mount);
            machine.ok(args!["discard", &mount.session, "--yes"]);
            // What the user named stays, empty.
            let left = if dir.exists() {
                fs::read_dir(&dir).unwrap().count()
            } else {
                0
            };
            assert_eq!(left, 0, "{place}");
        }
    });
}

fn no_room(machine: &Machine, manifest: &Path, mount: &Mount) {
    let at = |name: &str| mount.dir.join(name);
    fs::write(at("before"), vec![1; 500_000]).unwrap();
    let append = OpenOptions::new().append(true).open(at("a"));
    append.unwrap().write_all(b"more\n").unwrap();
    let written = fill(&at("much"));
    assert!(written > 1_000_000, "{written}");
    // Again and again, and in other ways.
    for name in ["more", "much/more", "dir/x"] {
        let _ = fs::write(at(name), vec![2; 300_000]);
    }
    let _ = OpenOptions::new()
        .append(true)
        .open(at("before"))
        .unwrap()
        .write(&vec![3; 300_000]);
    assert!(fs::read(at("before")).unwrap()[..500_000] == vec![1; 500_000]);
    assert_eq!(fs::read(at("a")).unwrap(), b"a of the input\nmore\n");
    let much = fs::read(at("much")).unwrap();
    assert!(much.len() >= written);
    for (number, part) in much[..written].chunks(10_000).enumerate() {
        assert!(
            part.iter().all(|&byte| byte == number as u8),
            "part {number}"
        );
    }
    let free = rustix::fs::statvfs(&mount.dir).unwrap();
    let free = free.f_bavail * free.f_frsize;
    assert!(free < 400_000, "{free}");
    // Making room works without room.
    for name in ["more", "much"] {
        if at(name).exists() {
            fs::remove_file(at(name)).unwrap();
        }
    }
    File::options()
        .write(true)
        .open(at("before"))
        .unwrap()
        .set_len(500_000)
        .unwrap();
    until("there is room", || {
        fs::write(at("after"), vec![4; 500_000]).is_ok()
    });
    fs::write(at("dir/x"), "x").unwrap();
    let expected = Tree::read(&mount.dir, Detail::Committed);
    machine.ok(args!["umount", &mount.dir]);
    let commit = machine.json(args!["commit", &mount.session]);
    let diff = commit["manifest"]["address"].as_str().unwrap();
    let again = machine.mount(args!["--read-only", manifest, diff], "again");
    Tree::read(&again.dir, Detail::Committed).assert_is(&expected);
    machine.ok(args!["umount", &again.dir]);
}
