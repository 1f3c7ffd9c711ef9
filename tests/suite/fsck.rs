//! `fsck`: what it says of a session whose files are whole or damaged, and what it makes of a damaged one.

mod losing;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::machine::{Machine, Mount, args};
use crate::power::{contents, killed, named};

/// Damages a journal in the record that has this text, and returns what was there before.
fn damage(journal: &Path, text: &str) -> Vec<u8> {
    let sound = fs::read(journal).unwrap();
    let mut places = sound.windows(text.len());
    let at = places.position(|some| some == text.as_bytes());
    let mut damaged = sound.clone();
    damaged[at.expect("a record has this text")] ^= 4;
    fs::write(journal, damaged).unwrap();
    sound
}

fn scratch(mount: &Mount) -> Vec<PathBuf> {
    let entries = fs::read_dir(mount.session_dir.join("scratch")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).collect()
}

fn texts(report: &Value, list: &str) -> String {
    let all = report[list].as_array().unwrap().iter();
    all.map(|one| one.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn fsck_of_a_sound_session_tells_what_is_in_it_and_changes_nothing() {
    Machine::mounting_from_directory(|machine| {
        let mount = killed(machine);
        let before = contents(&mount.session_dir);
        let report = machine.json(args!["fsck", &mount.session]);
        assert_eq!(
            (&report["sound"], &report["written"]),
            (&true.into(), &1.into())
        );
        assert!(report["records"].as_u64().unwrap() >= 4, "{report}");
        assert_eq!(texts(&report, "problems"), "");
        machine
            .ok(args!["fsck", "--repair", &mount.session])
            .printing("sound ");
        assert_eq!(contents(&mount.session_dir), before);

        machine.ok(args!["commit", &mount.session]);
        let report = machine.json(args!["fsck", &mount.session]);
        assert_eq!(
            (&report["sound"], &report["commits"]),
            (&true.into(), &1.into())
        );
        let manifest = mount.session_dir.join("commits/1.manifest");
        fs::write(&manifest, "{}").unwrap();
        let refused = machine.says(args!["fsck", &mount.session]).with_code(12);
        refused.printing(manifest.to_str().unwrap());
    });
}

#[test]
fn fsck_keeps_the_records_before_a_damaged_one_and_deletes_nothing() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![super::power::base(machine)], "mnt");
        for name in ["first", "second", "third"] {
            fs::write(mount.dir.join(name), name).unwrap();
        }
        crate::machine::until("they are closed", || {
            named(machine, &mount.session, "open").is_empty()
        });
        crate::process::kill_and_wait(mount.pid);
        crate::machine::detach(&mount.dir);
        let journal = mount.session_dir.join("journal");
        damage(&journal, "second");
        let damaged = fs::read(&journal).unwrap();
        let before = contents(&mount.session_dir);

        let refused = machine.says(args!["fsck", &mount.session]).with_code(12);
        refused
            .printing(journal.to_str().unwrap())
            .printing("--repair");
        assert_eq!(contents(&mount.session_dir), before);
        let report = machine.json(args!["fsck", "--repair", &mount.session]);
        assert_eq!(report["sound"], true);
        let aside = mount.session_dir.join("scratch/aside");
        assert!(
            texts(&report, "repaired").contains(aside.to_str().unwrap()),
            "{report}"
        );
        assert_eq!(fs::read(aside.join("journal")).unwrap(), damaged);
        assert_eq!(scratch(&mount).len(), 1, "the others were moved");

        let mount = machine.resume(&mount.session_dir, &mount.dir);
        assert_eq!(fs::read(mount.dir.join("first")).unwrap(), b"first");
        assert!(!mount.dir.join("second").exists());
        machine.ok(args!["umount", &mount.dir]);
        let mut kept: Vec<_> = fs::read_dir(&aside)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        kept.retain(|path| !path.ends_with("journal"));
        let mut kept: Vec<_> = kept.iter().map(|path| fs::read(path).unwrap()).collect();
        kept.sort();
        assert_eq!(kept, [b"second".to_vec(), b"third".to_vec()]);
        machine.says(args!["commit", &mount.session]).with_code(14);
        machine.ok(args!["commit", "--accept-open", &mount.session]);
        // What was set aside keeps the session.
        machine.ok(args!["discard", "--yes", &mount.session]);
        assert!(!mount.session_dir.exists());
    });
}

#[test]
fn fsck_makes_a_journal_where_it_is_lost_or_is_none() {
    Machine::mounting_from_directory(|machine| {
        let mount = killed(machine);
        let journal = mount.session_dir.join("journal");
        for bytes in [None, Some(&b"attach"[..]), Some(b"something else\n")] {
            match bytes {
                Some(bytes) => fs::write(&journal, bytes).unwrap(),
                None => fs::remove_file(&journal).unwrap(),
            }
            machine.says(args!["fsck", &mount.session]).with_code(12);
            machine.ok(args!["fsck", "--repair", &mount.session]);
            assert_eq!(named(machine, &mount.session, "open"), [""; 0]);
        }
        let aside = mount.session_dir.join("scratch/aside");
        assert_eq!(fs::read(aside.join("journal")).unwrap(), b"attach");
        assert_eq!(
            fs::read(aside.join("journal.1")).unwrap(),
            b"something else\n"
        );
    });
}

#[test]
fn a_file_whose_bytes_are_missing_is_empty_after_fsck_and_a_commit_asks_about_it() {
    Machine::mounting_from_directory(|machine| {
        let mount = killed(machine);
        let of_f = scratch(&mount)
            .into_iter()
            .find(|path| fs::read(path).unwrap() == b"f");
        fs::remove_file(of_f.unwrap()).unwrap();
        let refused = machine.says(args!["fsck", &mount.session]).with_code(12);
        refused.printing("\"f\"");
        machine.ok(args!["fsck", "--repair", &mount.session]);
        assert_eq!(named(machine, &mount.session, "left_open"), ["f"]);
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("\"f\"");
        machine.ok(args!["commit", "--skip-open", &mount.session]);
    });
}

#[test]
fn fsck_names_a_damaged_manifest_of_the_base_and_waits_for_no_mount() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![super::power::base(machine)], "mnt");
        fs::write(mount.dir.join("f"), "f").unwrap();
        machine.says(args!["fsck", &mount.session]).with_code(14);
        machine.ok(args!["umount", &mount.dir]);
        let manifest = mount.session_dir.join("base/0");
        let sound = fs::read(&manifest).unwrap();
        fs::write(&manifest, [&sound[..], b" "].concat()).unwrap();
        let refused = machine
            .says(args!["fsck", "--repair", &mount.session])
            .with_code(12);
        refused.printing(manifest.to_str().unwrap());
        fs::write(&manifest, sound).unwrap();
        machine.ok(args!["fsck", &mount.session]);
    });
}
