//! `--no-open`: mounts whose kernel opens files by itself.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use serde_json::Value;

use crate::failure::wrong::{long, spoil};
use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};

const USAGE: i32 = 2;

mounting_from_both_stores![
    who_reads_small_files_again_sends_no_message,
    what_is_added_shows_in_a_listing_that_the_kernel_keeps,
    a_wrong_object_is_not_read_although_the_kernel_opens_its_file,
    a_mount_that_can_be_written_is_not_made_without_opens,
];

/// How often each operation was asked for.
fn asked(machine: &Machine, mount: &Mount) -> Vec<(String, u64)> {
    let stats = machine.json(args!["stats", &mount.dir]);
    assert_eq!(stats["no_open"], true, "{stats}");
    let all = stats["operations"].as_array().unwrap().iter();
    // `stats` itself looks for the mount.
    let all = all.filter(|of| {
        !matches!(
            of["operation"].as_str(),
            Some("statfs" | "release" | "releasedir")
        )
    });
    let told = |of: &Value| {
        (
            of["operation"].as_str().unwrap().to_owned(),
            of["count"].as_u64().unwrap(),
        )
    };
    all.map(told).collect()
}

fn names(mount: &Mount, dir: &str) -> Vec<String> {
    let names = fs::read_dir(mount.dir.join(dir)).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn who_reads_small_files_again_sends_no_message(machine: &Machine) {
    for number in 0..100 {
        machine.file(format!("input/dir/{number:03}"), number.to_string());
    }
    let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
    let mount = machine.mount(args!["--read-only", "--no-open", &manifest], "mnt");
    let read_all = || {
        for (number, name) in names(&mount, "dir").iter().enumerate() {
            let text = fs::read_to_string(mount.dir.join("dir").join(name)).unwrap();
            assert_eq!(text, number.to_string());
        }
    };
    read_all();
    read_all();
    let before = asked(machine, &mount);
    assert!(
        before
            .iter()
            .any(|(operation, count)| operation == "read" && *count >= 100)
    );
    read_all();
    assert_eq!(asked(machine, &mount), before);
    machine
        .ok(args!["stats", &mount.dir])
        .printing("opens files by itself");
    let open = File::open(mount.dir.join("dir/000")).unwrap();
    machine.says(args!["umount", &mount.dir]).saying("in use");
    drop(open);
    machine.ok(args!["umount", &mount.dir]);
}

fn what_is_added_shows_in_a_listing_that_the_kernel_keeps(machine: &Machine) {
    machine.file("input/frames/1", "first\n");
    machine.file("input/frames/0", "stays\n");
    machine.file("second/frames/1", "second\n");
    machine.file("second/frames/2", "new\n");
    let first = machine.snapshot(&machine.path("input"), "first.manifest");
    let second = machine.snapshot(&machine.path("second"), "second.manifest");
    let modes = [&["--read-only", "--no-open"][..], &["--read-only"], &[]];
    for (number, mode) in modes.into_iter().enumerate() {
        let mut arguments: Vec<_> = mode.iter().map(OsString::from).collect();
        arguments.push(first.clone().into());
        let mount = machine.mount(arguments, format!("mnt{number}"));
        let at = |name: &str| mount.dir.join("frames").join(name);
        let mut unread = File::open(at("1")).unwrap();
        for _ in 0..3 {
            assert_eq!(names(&mount, "frames"), ["0", "1"]);
        }
        assert_eq!(fs::read_to_string(at("0")).unwrap(), "stays\n");
        machine.ok(args!["add", &second, &mount.dir]);
        assert_eq!(names(&mount, "frames"), ["0", "1", "2"]);
        assert_eq!(fs::read_to_string(at("1")).unwrap(), "second\n");
        assert_eq!(fs::read_to_string(at("2")).unwrap(), "new\n");
        let mut text = String::new();
        unread.read_to_string(&mut text).unwrap();
        assert_eq!(text, "first\n", "an open file stays what it was");
        drop(unread);
        machine.ok(args!["umount", &mount.dir]);
    }
}

fn a_wrong_object_is_not_read_although_the_kernel_opens_its_file(machine: &Machine) {
    let (manifest, hash) = long(machine);
    spoil(machine, &hash);
    let mount = machine.mount(args!["--read-only", "--no-open", &manifest], "mnt");
    let read = || fs::read(mount.dir.join("long"));
    assert!(read().is_err());
    // The kernel opens it, and has nothing of it any more.
    until("the kernel has forgotten the pages", || {
        let file = File::open(mount.dir.join("long")).unwrap();
        file.read_at(&mut [0; 100], 0).is_err()
    });
    machine.ok(args!["umount", &mount.dir]);
}

fn a_mount_that_can_be_written_is_not_made_without_opens(machine: &Machine) {
    machine.file("input/a", "a");
    let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
    let at = machine.dir("mnt");
    let refused = machine.says(args![
        "mount",
        "--no-open",
        "--store",
        machine.store(),
        &manifest,
        &at
    ]);
    refused.with_code(USAGE).saying("--read-only");
    assert_eq!(fs::read_dir(&at).unwrap().count(), 0);
}
