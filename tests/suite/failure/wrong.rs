//! Long objects that the store has wrong: nothing of them can be verified before all of it was read.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use rustix::io::Errno;
use serde_json::Value;

use super::errno;
use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};

mounting_from_both_stores![
    who_reads_a_wrong_object_to_its_end_gets_an_error_and_the_session_is_not_committed,
    a_wrong_object_is_known_to_the_next_process_that_commits_the_session,
    a_strict_mount_gives_nothing_of_a_wrong_object,
];

const LEN: usize = 20_000_000;

/// A manifest with one file, and the hash of its object.
pub(crate) fn long(machine: &Machine) -> (std::path::PathBuf, String) {
    let bytes: Vec<u8> = (0..LEN as u32).map(|i| (i >> 8) as u8 ^ i as u8).collect();
    machine.file("input/long", bytes);
    let (input, manifest) = (machine.path("input"), machine.path("base.manifest"));
    let store = machine.store();
    machine.ok(args!["snapshot", input, "-o", &manifest, "--store", store]);
    let hash = machine.json(args!["ls", &manifest])[0]["hash"].clone();
    (manifest, hash.as_str().unwrap().to_owned())
}

/// Changes one byte of an object, as a bad disk would.
pub(crate) fn spoil(machine: &Machine, hash: &str) {
    let object = machine.object(hash);
    fs::set_permissions(&object, Permissions::from_mode(0o644)).unwrap();
    let file = OpenOptions::new().write(true).open(&object).unwrap();
    file.write_all_at(b"!", LEN as u64 / 2).unwrap();
}

fn tainted(machine: &Machine, mount: &Mount) -> Vec<Value> {
    let status = machine.json(args!["status", &mount.dir]);
    status["tainted"].as_array().unwrap().clone()
}

/// Reads the file to its end, which gives an error, and waits until the mount has dealt with it.
fn read_in_vain(mount: &Mount) {
    let mut read = Vec::new();
    let file = File::open(mount.dir.join("long"));
    let error = file.and_then(|mut file| file.read_to_end(&mut read));
    assert_eq!(errno(error), Some(Errno::IO));
}

fn who_reads_a_wrong_object_to_its_end_gets_an_error_and_the_session_is_not_committed(
    machine: &Machine,
) {
    let (manifest, hash) = long(machine);
    spoil(machine, &hash);
    let mount = machine.mount(args![&manifest], "mnt");
    let mut first = [0; 100];
    let mut early = File::open(mount.dir.join("long")).unwrap();
    early.read_exact(&mut first).unwrap();
    fs::write(mount.dir.join("result"), "made of it").unwrap();
    read_in_vain(&mount);
    // Nobody opens it any more, and what the kernel had of it is gone.
    assert_eq!(errno(File::open(mount.dir.join("long"))), Some(Errno::IO));
    until("the kernel has forgotten", || {
        early.seek(SeekFrom::Start(0)).unwrap();
        early.read_exact(&mut first).is_err()
    });
    until("the log names the file", || {
        let log = mount.log();
        log.lines()
            .any(|line| line.contains(&hash) && line.contains("\"long\""))
    });
    let tainted = tainted(machine, &mount);
    assert_eq!(tainted[0]["object"], hash.as_str());
    assert_eq!(tainted[0]["files"][0], "long");
    machine
        .ok(args!["status", &mount.dir])
        .printing("--accept-tainted");
    machine.ok(args!["diff", &mount.dir]).printing("result");
    let commit = machine.says(args!["commit", &mount.dir]);
    commit.with_code(12).saying(&hash).saying("\"long\"");
    let commit = machine.json(args!["commit", &mount.dir, "--accept-tainted"]);
    assert_eq!(commit["account"]["added"], 1);
}

fn a_wrong_object_is_known_to_the_next_process_that_commits_the_session(machine: &Machine) {
    let (manifest, hash) = long(machine);
    spoil(machine, &hash);
    let session = machine.path("session");
    let mount = machine.mount(args!["--session", &session, &manifest], "mnt");
    fs::write(mount.dir.join("result"), "made of it").unwrap();
    read_in_vain(&mount);
    until("it is written down", || {
        session.join("tainted.json").exists()
    });
    machine.ok(args!["umount", &mount.dir]);
    let commit = machine.says(args!["commit", &session]);
    commit.with_code(12).saying(&hash);
    machine.ok(args!["discard", "--yes", &session]);
    assert!(!session.exists());
}

fn a_strict_mount_gives_nothing_of_a_wrong_object(machine: &Machine) {
    let (manifest, hash) = long(machine);
    let sound = machine.mount(args!["--verify", "strict", &manifest], "sound");
    let mut bytes = [0; 4096];
    let file = File::open(sound.dir.join("long")).unwrap();
    file.read_exact_at(&mut bytes, LEN as u64 - 4096).unwrap();
    drop(file);
    machine.ok(args!["umount", &sound.dir]);
    // What is in the disk cache was verified.
    machine.ok(args!["cache", "gc", "--max-size", "0"]);
    spoil(machine, &hash);
    let mount = machine.mount(args!["--verify", "strict", &manifest], "mnt");
    let file = File::open(mount.dir.join("long")).unwrap();
    assert_eq!(errno(file.read_at(&mut bytes, 0)), Some(Errno::IO));
    fs::write(mount.dir.join("result"), "not made of it").unwrap();
    drop(file);
    machine.ok(args!["commit", &mount.dir]);
}

/// A server tells versions apart by its own means; `nothing_is_given_of_a_wrong_object_in_the_place_of_another` is about those.
#[test]
fn a_wrong_object_in_the_place_of_another_is_not_given_while_it_is_read() {
    Machine::mounting_from_directory(|machine| {
        let (manifest, hash) = long(machine);
        let mount = machine.mount(args!["--prefetch", "off", &manifest], "mnt");
        let file = File::open(mount.dir.join("long")).unwrap();
        let mut bytes = [0; 4096];
        file.read_exact_at(&mut bytes, 0).unwrap();
        spoil(machine, &hash);
        // Right bytes would be given here, but nobody knows that before all of it was read.
        let read = file.read_at(&mut bytes, LEN as u64 - 4096);
        assert_eq!(errno(read), Some(Errno::IO));
        assert_eq!(tainted(machine, &mount).len(), 1);
    });
}
