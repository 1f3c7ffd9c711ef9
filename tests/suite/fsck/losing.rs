//! `fsck --repair` of sessions in which something is lost: what is left is never taken for all, and nothing goes that may still be
//! needed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{damage, texts};
use crate::machine::{Machine, Mount, args, detach, until};
use crate::power::{base, contents, killed, named};
use crate::tree::copy;

/// The first byte of each record's payload, by the numbers that `Record` and `NamespacePart` have in the journal.
const COMMIT: &[u8] = &[1, 0];
const LAYER: &[u8] = &[5];
const INODES: &[u8] = &[6, 0];
const NAMES: &[u8] = &[6, 2];

/// Where the first record of a journal begins.
fn first_record(journal: &[u8]) -> usize {
    1 + journal.iter().position(|&byte| byte == b'\n').unwrap()
}

/// Damages the first record of a journal whose payload begins like this.
fn damage_record(journal: &Path, begins: &[u8]) {
    let mut bytes = fs::read(journal).unwrap();
    let mut at = first_record(&bytes);
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let payload = at + 28;
        if bytes[payload..].starts_with(begins) {
            bytes[payload + len - 1] ^= 4;
            fs::write(journal, bytes).unwrap();
            return;
        }
        at = payload + len + 1;
    }
    panic!("no record begins with {begins:?}");
}

fn kill(mount: &Mount, machine: &Machine) {
    mount.kill_when_all_is_closed(machine);
    detach(&mount.dir);
}

/// The bytes of all files below a directory.
fn all_bytes(dir: &Path) -> Vec<Vec<u8>> {
    contents(dir).into_values().collect()
}

/// The journal of a session, after it was compacted.
fn compacted(mount: &Mount) -> PathBuf {
    let journal = mount.session_dir.join("journal");
    let len = || fs::metadata(&journal).unwrap().len();
    let link = mount.dir.join("link");
    while len() < 5 << 20 {
        symlink("x".repeat(4000), &link).unwrap();
        fs::remove_file(&link).unwrap();
    }
    until("the journal is short", || len() < 100_000);
    journal
}

#[test]
fn no_written_file_goes_if_the_state_in_a_compacted_journal_is_damaged() {
    Machine::mounting_from_directory(|machine| {
        for (at, part) in [INODES, NAMES].into_iter().enumerate() {
            let mount = machine.mount(args![base(machine)], format!("mnt{at}"));
            let texts: Vec<String> = (0..10).map(|number| format!("text {number}")).collect();
            for text in &texts {
                fs::write(mount.dir.join(text), text).unwrap();
            }
            let journal = compacted(&mount);
            kill(&mount, machine);
            damage_record(&journal, part);
            machine.ok(args!["fsck", "--repair", &mount.session]);
            let mount = machine.resume(&mount.session_dir, &mount.dir);
            machine.ok(args!["umount", &mount.dir]);
            let kept = all_bytes(&mount.session_dir.join("scratch"));
            for text in &texts {
                assert!(kept.contains(&text.as_bytes().to_vec()), "{text} is gone");
            }
        }
    });
}

#[test]
fn a_repair_that_keeps_no_record_has_the_next_commit_ask_before_it_deletes_what_was_published() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("f"), "f").unwrap();
        mount.until_all_is_closed(machine);
        machine.ok(args!["commit", &mount.dir]);
        let journal = compacted(&mount);
        kill(&mount, machine);
        damage_record(&journal, INODES);
        machine.ok(args!["fsck", "--repair", &mount.session]);
        machine.says(args!["commit", &mount.session]).with_code(14);
        assert_eq!(machine.published(&mount.session).len(), 1);
        let asked = machine.json(args!["commit", "--accept-open", &mount.session]);
        assert_eq!(asked["account"]["deleted"], 1, "{asked}");
    });
}

#[test]
fn a_journal_that_ends_within_the_state_it_was_compacted_to_is_damaged() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("f"), "f").unwrap();
        let journal = compacted(&mount);
        kill(&mount, machine);
        let bytes = fs::read(&journal).unwrap();
        let mut at = first_record(&bytes);
        while !bytes[at + 28..].starts_with(NAMES) {
            at += 29 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        }
        for cut in [at, at + 40] {
            fs::write(&journal, &bytes[..cut]).unwrap();
            let before = contents(&mount.session_dir);
            for verb in ["status", "commit", "fsck"] {
                let said = machine.says(args![verb, &mount.session]).with_code(12);
                if verb != "fsck" {
                    said.saying(&format!("attachfs fsck {}", mount.session));
                }
            }
            assert_eq!(contents(&mount.session_dir), before);
        }
    });
}

#[test]
fn a_file_that_may_have_lost_its_last_writes_is_not_committed_unasked() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let open = || {
            let big = mount.dir.join("big");
            OpenOptions::new().write(true).open(big).unwrap()
        };
        open().write_all_at(b"X", 0).unwrap();
        mount.until_all_is_closed(machine);
        File::create(mount.dir.join("second")).unwrap();
        let big = open();
        big.write_all_at(b"Y", 0).unwrap();
        big.write_all_at(b"Z", 10).unwrap();
        drop(big);
        kill(&mount, machine);
        damage(&mount.session_dir.join("journal"), "second");
        machine.ok(args!["fsck", "--repair", &mount.session]);
        assert_eq!(named(machine, &mount.session, "left_open"), ["big"]);
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("\"big\"");
        machine.ok(args!["commit", "--accept-open", &mount.session]);
    });
}

#[test]
fn what_may_be_half_of_a_change_is_not_committed_unasked() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::remove_file(mount.dir.join("a")).unwrap();
        fs::write(mount.dir.join("second"), "in its place").unwrap();
        kill(&mount, machine);
        damage(&mount.session_dir.join("journal"), "second");
        machine.ok(args!["fsck", "--repair", &mount.session]);
        for option in [None, Some("--skip-open")] {
            let mut commit = machine.attachfs(args!["commit", &mount.session]);
            let refused = crate::process::said(commit.args(option)).with_code(14);
            refused.saying("--accept-open");
            assert_eq!(machine.published(&mount.session), []);
        }
        machine.ok(args!["commit", "--accept-open", &mount.session]);
        let mount = machine.resume(&mount.session_dir, &mount.dir);
        fs::write(mount.dir.join("later"), "later").unwrap();
        machine.ok(args!["commit", "--wait", "20", &mount.dir]);
    });
}

#[test]
fn a_journal_of_another_version_is_named_and_left_as_it_is() {
    Machine::mounting_from_directory(|machine| {
        let mount = killed(machine);
        let journal = mount.session_dir.join("journal");
        let mut bytes = fs::read(&journal).unwrap();
        bytes[17] = b'9';
        fs::write(&journal, bytes).unwrap();
        let before = contents(&mount.session_dir);
        for repair in [None, Some("--repair")] {
            let mut fsck = machine.attachfs(args!["fsck", &mount.session]);
            let refused = crate::process::said(fsck.args(repair)).with_code(1);
            refused
                .saying("version 9")
                .saying(journal.to_str().unwrap());
            assert_eq!(contents(&mount.session_dir), before);
        }
    });
}

/// A session with a layer and a file written over it, whose process was killed.
fn layered(machine: &Machine) -> Mount {
    let first = base(machine);
    machine.file("more/added", "added");
    let second = machine.snapshot(&machine.path("more"), "more.manifest");
    let mount = machine.mount(args![first], "mnt");
    machine.ok(args!["add", second, &mount.dir]);
    fs::write(mount.dir.join("after"), "after").unwrap();
    kill(&mount, machine);
    mount
}

#[test]
fn a_layer_that_cannot_be_read_is_named_and_costs_no_record() {
    Machine::mounting_from_directory(|machine| {
        let mount = layered(machine);
        let layer = mount.session_dir.join("layers/1");
        let away = machine.path("layer");
        let mode = |mode| fs::set_permissions(&layer, fs::Permissions::from_mode(mode)).unwrap();
        for missing in [true, false] {
            if missing {
                fs::rename(&layer, &away).unwrap();
            } else {
                mode(0o666);
            }
            let before = contents(&mount.session_dir);
            for arguments in [
                args!["fsck", &mount.session].to_vec(),
                args!["fsck", "--repair", &mount.session].to_vec(),
            ] {
                let refused = machine.says(arguments).with_code(12);
                let refused = refused.printing(layer.to_str().unwrap());
                assert!(!refused.out.contains("--repair makes"), "{refused:#?}");
                assert_eq!(contents(&mount.session_dir), before);
            }
            if missing {
                fs::rename(&away, &layer).unwrap();
            } else {
                mode(0o600);
            }
        }
        machine.ok(args!["fsck", &mount.session]);
        let mount = machine.resume(&mount.session_dir, &mount.dir);
        assert_eq!(fs::read(mount.dir.join("added")).unwrap(), b"added");
        assert_eq!(fs::read(mount.dir.join("after")).unwrap(), b"after");
    });
}

#[test]
fn manifests_that_a_set_aside_journal_may_name_stay() {
    Machine::mounting_from_directory(|machine| {
        let mount = layered(machine);
        let layers = mount.session_dir.join("layers");
        let before = contents(&layers);
        damage_record(&mount.session_dir.join("journal"), LAYER);
        machine.ok(args!["fsck", "--repair", &mount.session]);
        let mount = machine.resume(&mount.session_dir, &mount.dir);
        assert!(!mount.dir.join("added").exists());
        let is_manifest = |path: &&PathBuf| path.extension().is_some_and(|of| of == "manifest");
        let manifest = before.keys().find(is_manifest).unwrap();
        assert!(manifest.exists());
        // A manifest that is added now takes the place of none of them.
        machine.file("other/other", "other");
        let other = machine.snapshot(&machine.path("other"), "other.manifest");
        machine.ok(args!["add", other, &mount.dir]);
        assert_eq!(fs::read(mount.dir.join("other")).unwrap(), b"other");
        machine.ok(args!["umount", &mount.dir]);
        let kept = all_bytes(&layers);
        for bytes in before.values() {
            assert!(kept.contains(bytes));
        }
        machine.ok(args!["fsck", &mount.session]);
        machine.ok(args!["discard", "--yes", &mount.session]);
        assert!(!mount.session_dir.exists());
    });
}

fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Commits a session whose journal does not know of the first of its commits, and then once more.
fn commit_anew(machine: &Machine, mount: &Mount, first: &[(std::ffi::OsString, Vec<u8>)]) -> Value {
    let commit = machine.json(args!["commit", "--accept-open", &mount.session]);
    let published = machine.published(&mount.session);
    assert_eq!(published.len(), 2, "{commit}");
    assert_eq!(published[0], first[0]);
    let again = machine.json(args!["commit", &mount.session]);
    assert_eq!(again["manifest"], commit["manifest"], "nothing changed");
    commit
}

/// Mounts a manifest and a commit over it, and reads a file.
fn read_with(machine: &Machine, commit: &Value, name: &str) -> Vec<u8> {
    let address = commit["manifest"]["address"].as_str().unwrap();
    let manifest = machine.path("base.manifest");
    let both = machine.mount(args!["--read-only", manifest, address], "both");
    fs::read(both.dir.join(name)).unwrap()
}

#[test]
fn a_session_that_lost_the_record_of_a_commit_can_be_committed_again() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("f"), "one\n").unwrap();
        mount.until_all_is_closed(machine);
        machine.ok(args!["commit", &mount.dir]);
        append(&mount.dir.join("f"), "two\n");
        kill(&mount, machine);
        let first = machine.published(&mount.session);
        let kept = mount.session_dir.join("commits/1.manifest");
        assert_eq!(fs::read(&kept).unwrap(), first[0].1);
        damage_record(&mount.session_dir.join("journal"), COMMIT);
        machine.ok(args!["fsck", "--repair", &mount.session]);
        let commit = commit_anew(machine, &mount, &first);
        assert_eq!(fs::read(&kept).unwrap(), first[0].1);
        assert_eq!(read_with(machine, &commit, "f"), b"one\ntwo\n");
    });
}

#[test]
fn a_session_that_was_restored_from_a_copy_before_its_commit_can_be_committed_again() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("f"), "one\n").unwrap();
        kill(&mount, machine);
        let saved = machine.path("saved");
        copy(&mount.session_dir, &saved);
        machine.ok(args!["commit", &mount.session]);
        let first = machine.published(&mount.session);
        fs::remove_dir_all(&mount.session_dir).unwrap();
        copy(&saved, &mount.session_dir);
        let mount = machine.resume(&mount.session_dir, &mount.dir);
        append(&mount.dir.join("f"), "two\n");
        mount.until_all_is_closed(machine);
        machine.ok(args!["umount", &mount.dir]);
        let commit = commit_anew(machine, &mount, &first);
        assert_eq!(read_with(machine, &commit, "f"), b"one\ntwo\n");
    });
}

#[test]
fn commits_behind_the_damage_are_not_forgotten() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("second"), "second").unwrap();
        mount.until_all_is_closed(machine);
        let commit = machine.json(args!["commit", &mount.dir]);
        kill(&mount, machine);
        damage(&mount.session_dir.join("journal"), "second");
        let report = machine.json(args!["fsck", "--repair", &mount.session]);
        assert!(texts(&report, "repaired").contains("1 commit"), "{report}");
        let report = machine.json(args!["fsck", &mount.session]);
        assert_eq!(report["commits"], 1);
        let status = machine.json(args!["status", &mount.session]);
        assert_eq!(
            status["committed"][0]["address"],
            commit["manifest"]["address"]
        );
        // It says that the file is gone, relative to that commit.
        let next = machine.json(args!["commit", "--accept-open", &mount.session]);
        assert_eq!(next["account"]["deleted"], 1, "{next}");
        assert_eq!(machine.published(&mount.session).len(), 2);
    });
}

#[test]
fn what_keeps_a_session_from_being_committed_is_not_called_sound() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("f"), "f").unwrap();
        mount.until_all_is_closed(machine);
        machine.ok(args!["commit", &mount.dir]);
        fs::write(mount.dir.join("second"), "second").unwrap();
        kill(&mount, machine);
        for name in ["1.total", "1.manifest"] {
            let path = mount.session_dir.join("commits").join(name);
            let sound = fs::read(&path).unwrap();
            for damaged in [Some(&b"something"[..]), None] {
                match damaged {
                    Some(bytes) => fs::write(&path, bytes).unwrap(),
                    None => fs::remove_file(&path).unwrap(),
                }
                let refused = machine.says(args!["fsck", &mount.session]).with_code(12);
                let refused = refused.printing(path.to_str().unwrap());
                assert!(!refused.out.contains("--repair makes"), "{refused:#?}");
            }
            fs::write(&path, &sound).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            machine.ok(args!["fsck", &mount.session]);
        }
        // Damage that can be repaired, and damage that cannot.
        fs::write(mount.session_dir.join("commits/1.total"), "x").unwrap();
        damage(&mount.session_dir.join("journal"), "second");
        let half = machine
            .says(args!["fsck", "--repair", &mount.session])
            .with_code(12);
        half.printing("repaired ").printing("damaged ");
        machine
            .says(args!["fsck", "--repair", &mount.session])
            .with_code(12);
    });
}

#[test]
fn a_scratch_directory_whose_disk_is_away_is_not_made_anew() {
    Machine::mounting_from_directory(|machine| {
        let place = machine.dir("place");
        let mount = machine.mount(args!["--scratch-dir", &place, base(machine)], "mnt");
        fs::write(mount.dir.join("f"), "f").unwrap();
        kill(&mount, machine);
        let away = machine.path("away");
        fs::rename(&place, &away).unwrap();
        fs::create_dir(&place).unwrap();
        let before = contents(&mount.session_dir);
        for arguments in [
            args!["fsck", &mount.session].to_vec(),
            args!["fsck", "--repair", &mount.session].to_vec(),
            args!["commit", &mount.session].to_vec(),
        ] {
            let refused = machine.says(arguments).with_code(12);
            let text = refused.out.clone() + &refused.err;
            assert!(text.contains("is its disk mounted?"), "{refused:#?}");
            assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
            assert_eq!(contents(&mount.session_dir), before);
        }
        fs::remove_dir(&place).unwrap();
        fs::rename(&away, &place).unwrap();
        machine.ok(args!["fsck", &mount.session]);
        machine.ok(args!["commit", &mount.session]);

        // If the directory is lost for good, a person makes an empty one: a commit then asks about its files.
        let scratch = place.join(&mount.session);
        fs::remove_dir_all(&scratch).unwrap();
        fs::create_dir(&scratch).unwrap();
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o700)).unwrap();
        machine.ok(args!["fsck", "--repair", &mount.session]);
        assert_eq!(named(machine, &mount.session, "left_open"), ["f"]);
    });
}
