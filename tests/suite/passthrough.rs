//! Files of the disk cache that the kernel reads by itself: which they are, that nobody notices but by the time that it takes, and
//! what happens to one that is written, evicted, or whose process dies.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use attachfs_manifest::ContentHash;
use serde_json::{Value, json};

use crate::machine::{Machine, Mount, args, skipped, until};
use crate::process::{has_ended, kill_and_wait, said};

/// A small object and a large one, each long enough for the kernel to read, and a short one.
const FILES: [(&str, usize); 3] = [
    ("scene/small", 2 << 20 | 5),
    ("scene/large", 9 << 20 | 7),
    ("scene/short", 10_000),
];
const SMALL: &str = FILES[0].0;
const LARGE: &str = FILES[1].0;

/// `CAP_SYS_ADMIN`, in the mask of capabilities.
const SYS_ADMIN: u64 = 1 << 21;

fn bytes(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect()
}

/// Whether the kernel takes files of this machine's cache from a process of this user.
fn can_pass(machine: &Machine) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    if mask & SYS_ADMIN == 0 {
        skipped("the kernel takes files from who has CAP_SYS_ADMIN only");
        return false;
    }
    let kind = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(machine.path(""))
        .output()
        .unwrap();
    let is_stacked = kind.stdout.starts_with(b"overlay") || kind.stdout.starts_with(b"fuse");
    if is_stacked {
        skipped("the tests' files are on a stacked file system");
    }
    !is_stacked
}

/// Does a test with a manifest of which the cache has everything.
fn with_all_cached(test: impl FnOnce(&Machine, &Path)) {
    Machine::mounting_from_s3(|machine| {
        if !can_pass(machine) {
            return;
        }
        let manifest = cached(machine);
        test(machine, &manifest);
    });
}

fn cached(machine: &Machine) -> PathBuf {
    for (name, len) in FILES {
        machine.file(Path::new("input").join(name), bytes(len));
    }
    let manifest = machine.snapshot_in_pieces(&machine.path("input"), "base.manifest", 1 << 30);
    machine.ok(args![
        "cache",
        "warm",
        "--store",
        machine.store(),
        &manifest
    ]);
    manifest
}

fn stats(machine: &Machine, mount: &Mount) -> Value {
    machine.json(args!["stats", &mount.dir])
}

fn opens(machine: &Machine, mount: &Mount) -> u64 {
    stats(machine, mount)["passthrough"]["opens"]
        .as_u64()
        .unwrap()
}

/// Waits until the process knows that all files are closed, which is a moment after close(2).
fn until_nothing_is_open(machine: &Machine, mount: &Mount) {
    until("all files are closed", || {
        stats(machine, mount)["open_file_count"] == 0
    });
}

/// The file of an object in the cache.
fn cached_object(machine: &Machine, bytes: &[u8]) -> PathBuf {
    let name = ContentHash::of(bytes).to_string();
    let partitions = fs::read_dir(machine.path("cache/attachfs/v1")).unwrap();
    let mut paths = partitions.map(|entry| entry.unwrap().path().join(&name[..2]).join(&name));
    paths.find(|path| path.exists()).unwrap()
}

#[track_caller]
fn check_all(dir: &Path) {
    for (name, len) in FILES {
        assert!(fs::read(dir.join(name)).unwrap() == bytes(len), "{name}");
    }
}

fn content(file: &File, len: usize) -> Vec<u8> {
    let mut found = vec![0; len + 1];
    let mut at = 0;
    loop {
        match file.read_at(&mut found[at..], at as u64).unwrap() {
            0 => break,
            more => at += more,
        }
    }
    found.truncate(at);
    found
}

/// Opens a file, which the kernel reads by itself from then on, and reads none of it.
fn held(machine: &Machine, mount: &Mount, name: &str) -> File {
    let before = opens(machine, mount);
    let file = File::open(mount.dir.join(name)).unwrap();
    assert_eq!(opens(machine, mount), before + 1);
    file
}

#[test]
fn a_file_that_lies_complete_in_the_cache_is_read_by_the_kernel_itself() {
    with_all_cached(|machine, manifest| {
        for options in [&[][..], &["--read-only".into()]] {
            let mut arguments = options.to_vec();
            arguments.push(manifest.into());
            let mount = machine.mount(arguments, "mnt");
            machine.server().stop();
            check_all(&mount.dir);
            let told = stats(machine, &mount);
            let expected = json!({"used": true, "opens": 2, "scratch_opens": 0, "refused": 0});
            assert_eq!(told["passthrough"], expected);
            assert_eq!(told["bytes"]["read"], FILES[2].1, "{told}");
            for verb in ["stats", "status"] {
                let told = machine.ok(args![verb, &mount.dir]);
                told.printing("2 files opened that it reads from the cache by itself");
            }
            // Two at a time, of which one closes first.
            let [first, second] = [0, 1].map(|_| File::open(mount.dir.join(LARGE)).unwrap());
            drop(first);
            assert!(content(&second, FILES[1].1) == bytes(FILES[1].1));
            drop(second);
            machine.server().start_again();
            machine.ok(args!["umount", &mount.dir]);
            until("the process ends", || has_ended(mount.pid));
        }
    });
}

#[test]
fn a_file_that_was_opened_before_it_was_complete_is_served_until_it_is_closed() {
    with_all_cached(|machine, manifest| {
        let hidden = machine.path("hidden");
        fs::rename(machine.path("cache"), &hidden).unwrap();
        machine.dir("cache");
        let mount = machine.mount(args!["--no-probe", manifest], "mnt");
        let first = File::open(mount.dir.join(SMALL)).unwrap();
        assert!(content(&first, FILES[0].1) == bytes(FILES[0].1));
        // It is in the cache now, as soon as it is written.
        until("it is in the cache", || {
            machine.json(args!["cache", "info"])["objects"] == 1
        });
        let second = File::open(mount.dir.join(SMALL)).unwrap();
        assert!(content(&second, FILES[0].1) == bytes(FILES[0].1));
        assert_eq!(opens(machine, &mount), 0);
        drop((first, second));
        until_nothing_is_open(machine, &mount);
        let third = held(machine, &mount, SMALL);
        assert!(content(&third, FILES[0].1) == bytes(FILES[0].1));
    });
}

#[test]
fn the_process_answers_all_reads_if_it_is_told_to_or_verifies_each_byte_first() {
    with_all_cached(|machine, manifest| {
        for option in ["--no-passthrough", "--verify=strict", ""] {
            let mut arguments = args![manifest].to_vec();
            if !option.is_empty() {
                arguments.push(option.into());
            }
            let mut command = machine.mounting(arguments, "mnt");
            if option.is_empty() {
                command.env("ATTACHFS_NO_PASSTHROUGH", "1");
            }
            let mount = Mount::of(&said(&mut command).with_code(0));
            check_all(&mount.dir);
            let told = stats(machine, &mount);
            assert_eq!(told["passthrough"]["opens"], 0, "{option}: {told}");
            let all: usize = FILES.iter().map(|(_, len)| len).sum();
            assert_eq!(told["bytes"]["read"], all, "{option}: {told}");
            machine.ok(args!["umount", &mount.dir]);
            until("the process ends", || has_ended(mount.pid));
        }
    });
}

#[test]
fn who_may_not_give_files_to_the_kernel_answers_the_reads_and_nobody_notices() {
    with_all_cached(|machine, manifest| {
        // In a user namespace of its own it may mount, and not that.
        let script = "
            set -e
            \"$0\" \"$@\"
            cmp input/scene/large mnt/scene/large
            cmp input/scene/small mnt/scene/small
            \"$0\" stats --json mnt > told.json
            \"$0\" umount mnt
        ";
        let mounting = machine.mounting(args![manifest], "mnt");
        let mut command = machine.command("unshare");
        command
            .args(["-Urm", "sh", "-c", script])
            .arg(mounting.get_program())
            .args(mounting.get_args());
        let ran = said(&mut command);
        if ran.err.contains("unshare: ") {
            skipped("there are no user namespaces here");
            return;
        }
        ran.with_code(0);
        let told = fs::read_to_string(machine.path("told.json")).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        // It is tried once.
        let expected = json!({"used": false, "opens": 0, "scratch_opens": 0, "refused": 1});
        assert_eq!(told["passthrough"], expected);
        let all = FILES[0].1 + FILES[1].1;
        assert_eq!(told["bytes"]["read"], all, "{told}");
    });
}

#[test]
fn who_reads_a_file_by_the_kernel_goes_on_after_the_process_was_killed() {
    with_all_cached(|machine, manifest| {
        let mount = machine.mount(args![manifest], "mnt");
        let files = [0, 1].map(|number| held(machine, &mount, FILES[number].0));
        kill_and_wait(mount.pid);
        for (file, (name, len)) in files.iter().zip(FILES) {
            assert!(content(file, len) == bytes(len), "{name}");
        }
        drop(files);
        let again = machine.resume(&mount.session_dir, &mount.dir);
        check_all(&again.dir);
    });
}

#[test]
fn a_cache_that_is_emptied_or_deleted_harms_nobody_who_reads_its_files_by_the_kernel() {
    with_all_cached(|machine, manifest| {
        let mount = machine.mount(args![manifest], "mnt");
        let files = [0, 1].map(|number| held(machine, &mount, FILES[number].0));
        machine.ok(args!["cache", "gc", "--max-size", "0"]);
        // What is open stays.
        assert_eq!(machine.json(args!["cache", "info"])["objects"], 2);
        fs::remove_dir_all(machine.path("cache")).unwrap();
        for (file, (name, len)) in files.iter().zip(FILES) {
            assert!(content(file, len) == bytes(len), "{name}");
        }
        // Who opens one of them now reads the same file.
        check_all(&mount.dir);
        drop(files);
        until_nothing_is_open(machine, &mount);
        let before = opens(machine, &mount);
        check_all(&mount.dir);
        assert_eq!(opens(machine, &mount), before);
    });
}

#[test]
fn a_file_of_the_cache_that_was_changed_is_not_given_to_the_kernel() {
    with_all_cached(|machine, manifest| {
        let mount = machine.mount(args![manifest], "mnt");
        drop(held(machine, &mount, SMALL));
        drop(held(machine, &mount, LARGE));
        until_nothing_is_open(machine, &mount);
        for (_, len) in &FILES[..2] {
            let object = cached_object(machine, &bytes(*len));
            let file = File::options().write(true).open(object).unwrap();
            file.write_at(b"damage", 1000).unwrap();
        }
        check_all(&mount.dir);
        assert_eq!(opens(machine, &mount), 2);
    });
}

/// What programs do to a file: a shell script with its name as `$1`, and what it makes of the bytes.
type Change = (&'static str, fn(Vec<u8>) -> Vec<u8>);

fn with(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

const CHANGES: [Change; 7] = [
    ("printf more >> \"$1\"", |bytes| {
        [&bytes[..], b"more"].concat()
    }),
    ("printf new > \"$1\"", |_| b"new".to_vec()),
    ("cp other \"$1\"", |_| b"other".to_vec()),
    ("truncate -s 70000 \"$1\"", |bytes| bytes[..70_000].to_vec()),
    (
        "printf part | dd of=\"$1\" bs=1 seek=4090 conv=notrunc status=none",
        |bytes| with(bytes, 4090, b"part"),
    ),
    (
        "python3 -c 'import sys; f = open(sys.argv[1], \"r+b\"); f.seek(9); f.write(b\"py\"); f.flush(); f.truncate(90)' \"$1\"",
        |bytes| with(bytes, 9, b"py")[..90].to_vec(),
    ),
    (
        "vim -u NONE -N -i NONE -n -es -c 'set binary noendofline backupcopy=yes' -c '%d' -c 'call setline(1, \"vim\")' -c 'wq' \"$1\"",
        |_| b"vim".to_vec(),
    ),
];

#[test]
fn programs_write_an_input_that_others_read_by_the_kernel() {
    for (number, (script, change)) in CHANGES.into_iter().enumerate() {
        let program = script.split(' ').next().unwrap();
        if Command::new(program).arg("--version").output().is_err() {
            skipped(program);
            continue;
        }
        with_all_cached(|machine, manifest| {
            machine.file("other", "other");
            let mount = machine.mount(args![manifest], format!("mnt{number}"));
            for (name, len) in &FILES[..2] {
                let path = mount.dir.join(name);
                let reader = held(machine, &mount, name);
                let before = fs::metadata(&path).unwrap();
                assert!(content(&reader, 10) == bytes(11));
                let mut shell = machine.command("sh");
                shell.args(["-ec", script, "sh"]).arg(&path);
                let ran = said(&mut shell).with_code(0);
                assert_eq!(ran.err, "", "{script}");
                let expected = change(bytes(*len));
                assert!(fs::read(&path).unwrap() == expected, "{script}: {name}");
                let after = fs::metadata(&path).unwrap();
                assert_eq!(after.len(), expected.len() as u64, "{script}");
                assert_eq!(after.ino(), before.ino(), "{script}");
                let listed = fs::read_dir(path.parent().unwrap()).unwrap();
                let listed = listed.map(Result::unwrap);
                let file = listed.into_iter().find(|entry| entry.path() == path);
                assert_eq!(file.unwrap().metadata().unwrap().ino(), before.ino());
                // Who read it before has what it had.
                assert!(content(&reader, *len) == bytes(*len), "{script}");
                assert_eq!(reader.metadata().unwrap().len(), *len as u64, "{script}");
                assert_eq!(reader.metadata().unwrap().ino(), before.ino());
                drop(reader);
                assert!(fs::read(&path).unwrap() == expected, "{script}: {name}");
            }
            let committed = machine.json(args!["commit", &mount.dir]);
            assert_eq!(committed["account"]["changed"], 2, "{committed}");
            until_nothing_is_open(machine, &mount);
            kill_and_wait(mount.pid);
            let again = machine.resume(&mount.session_dir, &mount.dir);
            for (name, len) in &FILES[..2] {
                assert!(fs::read(again.dir.join(name)).unwrap() == change(bytes(*len)));
            }
        });
    }
}

#[test]
fn a_mapped_file_keeps_its_bytes_when_another_program_writes_it() {
    with_all_cached(|machine, manifest| {
        let mount = machine.mount(args![manifest], "mnt");
        let path = mount.dir.join(LARGE);
        let script = "
import hashlib, mmap, os, sys
path = sys.argv[1]
f = open(path, 'rb')
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
before = hashlib.md5(m).digest()
with open(path, 'r+b') as w:
    w.write(b'overwritten')
assert hashlib.md5(m).digest() == before
f.close()
assert hashlib.md5(m).digest() == before
assert open(path, 'rb').read(11) == b'overwritten'
";
        let mut python = machine.command("python3");
        python.args(["-c", script]).arg(&path);
        if Command::new("python3").arg("--version").output().is_err() {
            skipped("there is no python3");
            return;
        }
        said(&mut python).with_code(0);
        assert!(opens(machine, &mount) >= 1);
    });
}

/// A file of two large chunks and a small one.
const FILM: (&str, usize) = ("scene/film", 20 << 20 | 5);

#[test]
fn a_file_of_several_chunks_is_read_by_the_kernel_once_they_are_joined() {
    Machine::mounting_from_s3(|machine| {
        if !can_pass(machine) {
            return;
        }
        let film = bytes(FILM.1);
        machine.file(Path::new("input").join(FILM.0), &film);
        let manifest = machine.snapshot_in_pieces(&machine.path("input"), "base.manifest", 9 << 20);
        let mount = machine.mount(args![&manifest], "mnt");
        let path = mount.dir.join(FILM.0);
        let read = |opens_before: u64| {
            assert!(fs::read(&path).unwrap() == film);
            assert_eq!(opens(machine, &mount), opens_before);
            until_nothing_is_open(machine, &mount);
        };
        read(0);
        let info = || machine.json(args!["cache", "info"]);
        assert_eq!(info()["joined_files"], 0, "what is read once is not copied");
        until("it is joined", || {
            // As soon as all of it is written and verified, an open has it joined.
            drop(File::open(&path).unwrap());
            until_nothing_is_open(machine, &mount);
            info()["joined_files"] == 1
        });
        let cache = stats(machine, &mount)["cache"].clone();
        let bytes_of = |kind: &str| cache[kind].as_u64().unwrap();
        assert_eq!(cache["joined"], 1);
        let moved = bytes_of("joined_copied_bytes") + bytes_of("joined_cloned_bytes");
        assert_eq!(moved, FILM.1 as u64);

        machine.server().stop();
        let before = (
            opens(machine, &mount),
            stats(machine, &mount)["bytes"]["read"].clone(),
        );
        read(before.0 + 1);
        assert_eq!(stats(machine, &mount)["bytes"]["read"], before.1);
        // Its bytes are there once, and all of them are told.
        let told = info();
        let taken = told["bytes"].as_u64().unwrap();
        assert!(
            (FILM.1 as u64..FILM.1 as u64 * 6 / 5).contains(&taken),
            "{told}"
        );
        let cached = machine
            .command("getfattr")
            .args(["--only-values", "-n", "user.attachfs.cached"])
            .arg(&path)
            .output();
        if let Ok(cached) = cached {
            assert_eq!(String::from_utf8_lossy(&cached.stdout), "all");
        }
        // A mount that may not give it to the kernel finds its chunks there.
        let other = machine.mount(args!["--no-probe", "--no-passthrough", &manifest], "other");
        assert!(fs::read(other.dir.join(FILM.0)).unwrap() == film);
        machine.ok(args!["umount", &other.dir]);
        let verified = machine.json(args!["cache", "verify"]);
        assert_eq!(verified["damaged"], json!([]), "{verified}");
        machine.server().start_again();

        machine.ok(args!["umount", &mount.dir]);
        until("the process ends", || has_ended(mount.pid));
        let again = machine.mount(args![&manifest], "again");
        assert!(fs::read(again.dir.join(FILM.0)).unwrap() == film);
        assert_eq!(opens(machine, &again), 1, "who comes later has it at once");
        machine.ok(args!["umount", &again.dir]);
        until("the process ends", || has_ended(again.pid));
        machine.ok(args!["cache", "gc", "--max-size", "0"]);
        assert_eq!(info()["bytes"], 0);
        let last = machine.mount(args![&manifest], "last");
        assert!(fs::read(last.dir.join(FILM.0)).unwrap() == film);
    });
}
