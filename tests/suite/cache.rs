//! `attachfs cache`, and what mounts do with the cache: bounds, disks that are full or read-only, damage, and what
//! somebody put there.

mod adversity;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use attachfs_manifest::ContentHash;
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::Value;

use crate::machine::{Machine, Mount, args, skipped, until};
use crate::process::{has_ended, said};

const FILES: u32 = 24;
const LEN: usize = 40_000;

fn bytes(number: u32) -> Vec<u8> {
    let words = (0..LEN as u32 / 4).flat_map(|word| (word ^ number << 16).to_le_bytes());
    words.collect()
}

fn object_name(number: u32) -> String {
    ContentHash::of(&bytes(number)).to_string()
}

/// A folder of files of one object each, and a manifest of it.
fn base(machine: &Machine) -> PathBuf {
    for number in 0..FILES {
        machine.file(format!("input/dir/{number}"), bytes(number));
    }
    machine.snapshot(&machine.path("input"), "base.manifest")
}

fn read(mount: &Mount, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let path = mount.dir.join(format!("dir/{number}"));
        assert!(fs::read(path).unwrap() == bytes(number), "file {number}");
    }
}

/// Mounts with these options, reads all files and unmounts. Gives what was said until it was mounted, and the log from then on.
fn read_all(machine: &Machine, options: &[&str]) -> String {
    let number = fs::read_dir(machine.dir("logs")).unwrap().count();
    let log = machine.path(format!("logs/{number}"));
    let mut arguments = args![machine.path("base.manifest"), "--read-only", "--log", &log].to_vec();
    arguments.extend(options.iter().map(Into::into));
    let mounted = said(&mut machine.mounting(arguments, "mnt")).with_code(0);
    let mount = Mount::of(&mounted);
    read(&mount, 0..FILES);
    machine.ok(args!["umount", &mount.dir]);
    // What it says last, and the locks of its cache.
    until("the process ends", || has_ended(mount.pid));
    mounted.err + &fs::read_to_string(log).unwrap()
}

fn info(machine: &Machine) -> Value {
    machine.json(args!["cache", "info"])
}

/// The file of an object in the cache.
fn cached(machine: &Machine, number: u32) -> Option<PathBuf> {
    let name = object_name(number);
    let partitions = fs::read_dir(machine.path("cache/attachfs/v1")).ok()?;
    partitions
        .map(|entry| entry.unwrap().path().join(&name[..2]).join(&name))
        .find(|path| path.exists())
}

fn gets(machine: &Machine) -> usize {
    let requests = machine.server().requests();
    let of_objects = requests
        .iter()
        .filter(|request| request.method == "GET" && request.path.contains("/Data/"));
    of_objects.count()
}

#[test]
fn what_mounts_fetched_is_shown_and_goes_when_it_is_told_to() {
    Machine::mounting_from_s3(|machine| {
        assert_eq!(info(machine)["objects"], 0);
        base(machine);
        read_all(machine, &[]);
        let shown = info(machine);
        assert_eq!(shown["objects"], FILES);
        assert!(shown["bytes"].as_u64().unwrap() >= u64::from(FILES) * LEN as u64);
        assert!(shown["max_bytes"].as_u64() > shown["min_free"].as_u64());
        machine
            .ok(args!["cache", "info"])
            .printing("24 objects")
            .printing("limits");
        let gc = |options: &[&str]| {
            let mut all = args!["cache", "gc"].to_vec();
            all.extend(options.iter().map(Into::into));
            machine.json(all)
        };
        assert_eq!(gc(&[])["removed"], 0, "it is within its bounds");
        assert_eq!(gc(&["--older-than", "1h"])["removed"], 0);
        assert_eq!(gc(&["--max-size", "500K", "-n"])["objects"], 12);
        assert_eq!(info(machine)["objects"], FILES, "it only looked");
        assert_eq!(gc(&["--max-size", "500K"])["removed"], 12);
        assert_eq!(info(machine)["objects"], 12);
        assert_eq!(gc(&["--max-size", "0"])["objects"], 0);
        let before = gets(machine);
        read_all(machine, &[]);
        assert!(gets(machine) > before);
        machine
            .says(args!["cache", "gc", "--max-size", "much"])
            .with_code(2)
            .saying("not a size");
    });
}

#[test]
fn a_mount_keeps_the_cache_within_the_bound_that_it_was_given() {
    Machine::mounting_from_s3(|machine| {
        base(machine);
        read_all(machine, &["--max-cache-size", "400K"]);
        let shown = info(machine);
        assert!(shown["objects"].as_u64().unwrap() >= 1, "{shown}");
        assert!(shown["bytes"].as_u64().unwrap() <= 400 << 10, "{shown}");
        // Nothing is kept where all of the disk is to stay free, and everything is read.
        machine.ok(args!["cache", "gc", "--max-size", "0"]);
        read_all(machine, &["--cache-min-free", "1000T"]);
        assert_eq!(info(machine)["objects"], 0);
    });
}

#[test]
fn what_is_warmed_is_read_without_the_store() {
    Machine::mounting_from_s3(|machine| {
        // One file is long enough to be kept in units.
        let long: Vec<u8> = (0..9 << 20).map(|at: u32| (at >> 10) as u8).collect();
        for number in 0..3 {
            machine.file(format!("input/dir/{number}"), bytes(number));
        }
        machine.file("input/long", &long);
        let folder = machine.path("input");
        let manifest = machine.snapshot_in_pieces(&folder, "base.manifest", 1 << 30);
        let warm = |more: &[&str]| {
            let mut all = args!["cache", "warm", "--store", machine.store(), &manifest].to_vec();
            all.extend(more.iter().map(Into::into));
            machine.json(all)
        };
        let some = warm(&["--include", "dir/*", "--exclude", "*/2"]);
        assert_eq!((&some["objects"], &some["fetched"]), (&2.into(), &2.into()));
        let all = warm(&[]);
        assert_eq!((&all["objects"], &all["present"]), (&4.into(), &2.into()));
        let before = gets(machine);
        assert_eq!(warm(&[])["fetched"], 0);
        assert_eq!(gets(machine), before);
        let shown = info(machine);
        assert_eq!(
            (&shown["objects"], &shown["partial_objects"]),
            (&4.into(), &0.into())
        );
        let mount = machine.mount(args![&manifest], "mnt");
        machine.server().stop();
        read(&mount, 0..3);
        machine.server().start_again();
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn everything_that_is_mounted_comes_into_the_cache_if_all_is_prefetched() {
    Machine::mounting_from_s3(|machine| {
        // One file is long enough to be kept in units.
        let long: Vec<u8> = (0..9 << 20).map(|at: u32| (at >> 10) as u8).collect();
        for number in 0..3 {
            machine.file(format!("input/dir/{number}"), bytes(number));
        }
        machine.file("input/long", &long);
        let folder = machine.path("input");
        let manifest = machine.snapshot_in_pieces(&folder, "base.manifest", 1 << 30);
        let mount = machine.mount(args!["--prefetch", "all", &manifest], "mnt");
        until("everything is in the cache", || {
            let shown = info(machine);
            (&shown["objects"], &shown["partial_objects"]) == (&4.into(), &0.into())
        });
        machine.server().stop();
        read(&mount, 0..3);
        assert_eq!(fs::read(mount.dir.join("long")).unwrap(), long);
        machine.server().start_again();
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn what_the_store_has_wrong_or_lacks_is_told_and_the_rest_is_warmed() {
    Machine::with_s3(|machine| {
        let manifest = base(machine);
        let warm = args!["cache", "warm", "--store", machine.store(), &manifest];
        fs::remove_file(machine.object(&object_name(5))).unwrap();
        machine.says(&warm).with_code(13).printing(&object_name(5));
        fs::write(machine.object(&object_name(7)), vec![0; LEN]).unwrap();
        machine.ok(args!["cache", "gc", "--max-size", "0"]);
        machine.says(&warm).with_code(12).printing(&object_name(7));
        assert_eq!(info(machine)["objects"], FILES - 2);
        machine.file("input/dir/5", bytes(5));
        fs::write(machine.object(&object_name(5)), bytes(5)).unwrap();
        fs::write(machine.object(&object_name(7)), bytes(7)).unwrap();
        machine.ok(&warm);
        // A directory needs none.
        let here = machine.dir("here");
        machine
            .says(args!["cache", "warm", "--store", here, &manifest])
            .with_code(2)
            .saying("without the cache");
        let small = args![
            "cache",
            "warm",
            "--store",
            machine.store(),
            &manifest,
            "--max-cache-size",
            "100K"
        ];
        machine.ok(args!["cache", "gc", "--max-size", "0"]);
        machine.says(small).with_code(13).printing("not kept");
    });
}

#[test]
fn what_is_damaged_in_the_cache_is_found_and_removed_by_verify() {
    Machine::with_s3(|machine| {
        let manifest = base(machine);
        machine.ok(args!["cache", "verify"]);
        machine.ok(args![
            "cache",
            "warm",
            "--store",
            machine.store(),
            &manifest
        ]);
        let all = machine.json(args!["cache", "verify"]);
        assert_eq!(
            (&all["objects"], &all["bytes"]),
            (&FILES.into(), &(FILES as usize * LEN).into())
        );
        let file = cached(machine, 3).unwrap();
        let mut altered = bytes(3);
        altered[9999] ^= 1;
        fs::write(&file, altered).unwrap();
        machine
            .says(args!["cache", "verify"])
            .with_code(12)
            .printing(&object_name(3));
        assert!(!file.exists());
        machine.ok(args!["cache", "verify"]);
    });
}

#[test]
fn what_is_pinned_stays_until_it_is_unpinned() {
    Machine::with_s3(|machine| {
        let manifest = base(machine);
        let pin = |more: &[&str]| {
            let mut all = args!["cache", "pin", "--store", machine.store(), &manifest].to_vec();
            all.extend(more.iter().map(Into::into));
            machine.json(all)
        };
        assert_eq!(pin(&["--include", "dir/1*"])["pinned"][0]["objects"], 11);
        machine.ok(args![
            "cache",
            "warm",
            "--store",
            machine.store(),
            &manifest
        ]);
        let gone = machine.json(args!["cache", "gc", "--max-size", "0"]);
        assert_eq!(
            (&gone["removed"], &gone["pinned"]),
            (&13.into(), &11.into())
        );
        let shown = info(machine);
        assert_eq!(
            (&shown["objects"], &shown["pinned_objects"]),
            (&11.into(), &11.into())
        );
        assert_eq!(shown["pins"].as_array().unwrap().len(), 1);
        // A pin of the same manifest takes its place.
        assert_eq!(pin(&[])["pinned"][0]["objects"], FILES);
        let pins = info(machine)["pins"].clone();
        assert_eq!(pins.as_array().unwrap().len(), 1);
        machine.ok(args!["cache", "info"]).printing("base.manifest");
        machine.ok(args!["cache", "unpin", &manifest]);
        machine
            .says(args!["cache", "unpin", &manifest])
            .with_code(2)
            .saying("is not pinned");
        pin(&[]);
        let id = pins[0]["id"].as_str().unwrap();
        machine.ok(args!["cache", "unpin", id]);
        assert_eq!(
            machine.json(args!["cache", "gc", "--max-size", "0"])["objects"],
            0
        );
    });
}

/// A file system of its own of so many bytes, unless this machine cannot make one.
fn small_disk(machine: &Machine, name: &str, bytes: u64) -> Option<PathBuf> {
    let dir = machine.dir(name);
    let size = std::ffi::CString::new(format!("size={bytes},mode=0700")).unwrap();
    let made = rustix::mount::mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), size.as_c_str());
    if let Err(error) = made {
        skipped(&format!("there is no disk to fill: {error}"));
        return None;
    }
    Some(dir)
}

fn lines_with(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn a_full_disk_under_the_cache_costs_requests_and_is_not_said_for_each_of_them() {
    Machine::mounting_from_s3(|machine| {
        base(machine);
        let Some(disk) = small_disk(machine, "disk", 512 << 10) else {
            return;
        };
        let cache = disk.join("cache");
        let at = ["--cache-dir", cache.to_str().unwrap()];
        let options = [&at[..], &["--max-cache-size", "1T"]].concat();
        let times = |log: &str| {
            lines_with(log, "the disk cache cannot be written to")
                + lines_with(log, "the disk cache is full")
                + lines_with(log, "going on without the disk cache")
        };
        // Somebody else fills it, and leaves room for some objects: whether that is seen in time, and others are removed, or a write
        // fails, is a matter of time.
        fs::write(disk.join("others"), vec![7; 256 << 10]).unwrap();
        for _ in 0..2 {
            let log = read_all(machine, &options);
            assert!(times(&log) <= 2, "{log}");
        }
        let gc = args!["cache", "gc", "--cache-dir", &cache, "--max-size", "0"];
        machine.ok(gc);
        // There is no room, and nothing that could be removed; then not even the cache's directories.
        for is_gone in [false, true] {
            if is_gone {
                fs::remove_dir_all(cache.join("v1")).unwrap();
            }
            let mut filler = fs::File::create(disk.join("more")).unwrap();
            while std::io::Write::write(&mut filler, &[7; 4096]).is_ok_and(|written| written > 0) {}
            let log = read_all(machine, &options);
            assert!((1..=2).contains(&times(&log)), "{log}");
        }
        rustix::mount::unmount(&disk, UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn a_read_only_disk_under_the_cache_is_no_reason_not_to_mount_or_read() {
    Machine::mounting_from_s3(|machine| {
        base(machine);
        let Some(disk) = small_disk(machine, "disk", 8 << 20) else {
            return;
        };
        let options = ["--cache-dir", disk.to_str().unwrap()];
        read_all(machine, &options);
        let before = gets(machine);
        let read_only = MountFlags::RDONLY;
        rustix::mount::mount_remount(&disk, read_only, c"").unwrap();
        read_all(machine, &options);
        assert_eq!(
            gets(machine),
            before + 1,
            "what is there is read, but for the probe"
        );
        // Nothing was ever there.
        let below = disk.join("below");
        let log = read_all(machine, &["--cache-dir", below.to_str().unwrap()]);
        assert_eq!(lines_with(&log, "mounts go on without it"), 1, "{log}");
        rustix::mount::unmount(&disk, UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn what_was_put_into_a_cache_is_neither_followed_nor_waited_for_nor_removed() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let warm = args!["cache", "warm", "--store", machine.store(), &manifest];
        machine.ok(&warm);
        let fifo =
            |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        let outside = machine.dir("outside");
        let precious = |number| {
            let path = outside.join(object_name(number));
            fs::write(&path, "precious").unwrap();
            path
        };
        // In the place of an object a link and a pipe; in the place of a shelf a link; and something of another name.
        let link = cached(machine, 1).unwrap();
        fs::remove_file(&link).unwrap();
        symlink(precious(1), &link).unwrap();
        let pipe = cached(machine, 2).unwrap();
        fs::remove_file(&pipe).unwrap();
        fifo(&pipe);
        let shelf = cached(machine, 3).unwrap().parent().unwrap().to_owned();
        fs::rename(&shelf, machine.path("moved")).unwrap();
        precious(3);
        symlink(&outside, &shelf).unwrap();
        let notes = link.with_file_name("notes.txt");
        fs::write(&notes, "by hand").unwrap();
        fifo(&link.with_file_name(".staged-AAAAAAAAAAAA"));

        read_all(machine, &[]);
        machine.ok(args!["cache", "verify"]);
        machine.ok(args!["cache", "gc", "--max-size", "0"]);
        machine.says(&warm);
        let shown = info(machine);
        assert!(shown["foreign"].as_u64().unwrap() >= 3, "{shown}");
        machine.ok(args!["cache", "gc", "--max-size", "0"]);
        for number in [1, 3] {
            let kept = fs::read(outside.join(object_name(number))).unwrap();
            assert_eq!(kept, b"precious");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 2);
        assert!(link.is_symlink() && shelf.is_symlink() && notes.exists());
        assert!(fs::symlink_metadata(&pipe).is_ok());
    });
}

#[test]
fn a_cache_that_others_can_change_is_refused_by_all_verbs() {
    Machine::with_s3(|machine| {
        let manifest = base(machine);
        let warm = args!["cache", "warm", "--store", machine.store(), &manifest];
        machine.ok(&warm);
        let dir = machine.path("cache/attachfs");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o770)).unwrap();
        for verb in ["info", "gc", "verify"] {
            machine
                .says(args!["cache", verb])
                .with_code(1)
                .saying("others could change the cache");
        }
        machine
            .says(&warm)
            .with_code(1)
            .saying("others could change");
        machine
            .says(args!["cache", "unpin", &manifest])
            .with_code(1);
    });
}
