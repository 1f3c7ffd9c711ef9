//! Words and numbers: that they say what is so, and once.

use std::fs;

use attachfs_test_s3::{Mishap, Rule};

use crate::machine::{Machine, args};
use crate::process::said;

#[test]
fn a_bucket_that_is_not_there_is_one_line_of_cache_warm() {
    Machine::with_s3(|machine| {
        for number in 0..40 {
            machine.file(format!("input/{number}"), format!("file {number}"));
        }
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        let nowhere = "s3://nobucket/prefix";
        let warm = machine.says(args!["cache", "warm", "--store", nowhere, &manifest]);
        let warm = warm
            .with_code(11)
            .saying("the store s3://nobucket/prefix cannot be read");
        assert_eq!(
            (warm.err.lines().count(), &warm.out[..]),
            (1, ""),
            "{warm:?}"
        );
        // A prefix at which nothing is.
        let empty = format!("{}/other", machine.store());
        let warm = machine.says(args!["cache", "warm", "--store", &empty, &manifest]);
        let warm = warm
            .with_code(11)
            .saying("gave none of 8 objects")
            .saying("is missing");
        assert_eq!(
            (warm.err.lines().count(), &warm.out[..]),
            (1, ""),
            "{warm:?}"
        );
    });
}

#[test]
fn what_cache_warm_cannot_fetch_is_named_by_its_path() {
    Machine::with_s3(|machine| {
        machine.file("input/dir/sound", "sound");
        machine.file("input/dir/missing", "missing");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        let listed = machine.json(args!["ls", &manifest, "dir/missing"]);
        let hash = listed[0]["hash"].as_str().unwrap();
        fs::remove_file(machine.object(hash)).unwrap();
        let warm = machine.says(args![
            "cache",
            "warm",
            "--store",
            machine.store(),
            &manifest
        ]);
        warm.with_code(13)
            .printing(&format!("failed     dir/missing: object {hash} is missing"));
    });
}

#[test]
fn a_file_whose_read_failed_says_why_and_what_was_committed_says_so() {
    Machine::mounting_from_directory(|machine| {
        let bytes: Vec<u8> = (0..3 << 20).map(|at: u32| (at >> 10) as u8).collect();
        machine.file("input/three", bytes);
        machine.file("input/missing", "missing");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        let listed = machine.json(args!["ls", &manifest, "missing"]);
        fs::remove_file(machine.object(listed[0]["hash"].as_str().unwrap())).unwrap();
        let mount = machine.mount(args![&manifest], "mnt");
        let why = |name: &str| machine.ok(args!["why", mount.dir.join(name)]);
        assert!(!why("missing").out.contains("failed"));
        fs::read(mount.dir.join("missing")).unwrap_err();
        let told = why("missing")
            .printing("failed     ")
            .printing("is missing");
        assert!(!told.out.contains("Io"), "{told:?}");
        assert!(!why("three").out.contains("failed"));
        // Two bytes in the middle of the second of three chunks.
        let three = fs::OpenOptions::new()
            .write(true)
            .open(mount.dir.join("three"));
        std::os::unix::fs::FileExt::write_all_at(&three.unwrap(), b"!!", 1_500_000).unwrap();
        mount.until_all_is_closed(machine);
        why("three")
            .printing(" of 3 chunks\n")
            .printing("committed  no");
        fs::write(mount.dir.join("new"), "of the job").unwrap();
        mount.until_all_is_closed(machine);
        let commit = machine.ok(args!["commit", &mount.dir]);
        assert!(!commit.out.contains("0, 0 B"), "{commit:?}");
        for name in ["three", "new"] {
            why(name).printing("committed  yes\n");
        }
        assert!(!why("missing").out.contains("committed"));
    });
}

#[test]
fn what_comes_from_the_cache_is_told_in_bytes() {
    Machine::mounting_from_s3(|machine| {
        let long: Vec<u8> = (0..20 << 20).map(|at: u32| (at >> 12) as u8).collect();
        machine.file("input/long", &long);
        let manifest =
            machine.snapshot_in_pieces(&machine.path("input"), "base.manifest", 16 << 20);
        machine.ok(args![
            "cache",
            "warm",
            "--store",
            machine.store(),
            &manifest
        ]);
        let ran = machine.ok(args![
            "run",
            "--store",
            machine.store(),
            "--manifest",
            &manifest,
            "--no-passthrough",
            "--",
            "sh",
            "-c",
            "cat long >/dev/null"
        ]);
        let ran = ran.saying("read       1 file, 20.97 MB; ");
        let ran = ran.saying(", 20.97 MB from the cache");
        assert!(!ran.err.contains("objects from the cache"), "{ran:?}");
    });
}

#[test]
fn what_the_cache_does_not_keep_is_told_in_a_line() {
    Machine::mounting_from_s3(|machine| {
        let long: Vec<u8> = (0..4 << 20).map(|at: u32| (at >> 12) as u8).collect();
        machine.file("input/long", &long);
        machine.file("input/short", "short");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        let mount = machine.mount(args!["--max-cache-size", "0", &manifest], "mnt");
        fs::read(mount.dir.join("short")).unwrap();
        let few = machine.ok(args!["status", &mount.dir]);
        assert!(!few.out.contains("not kept"), "{few:?}");
        fs::read(mount.dir.join("long")).unwrap();
        let line = "in the cache: its disk was too slow, full or failing";
        crate::machine::until("the cache gave up on it", || {
            machine.ok(args!["status", &mount.dir]).out.contains(line)
        });
        let stats = machine.json(args!["stats", &mount.dir]);
        assert!(
            stats["cache"]["dropped_bytes"].as_u64().unwrap() >= 1 << 20,
            "{stats}"
        );
        machine.ok(args!["stats", &mount.dir]).printing(line);
        machine.ok(args!["umount", &mount.dir]).printing(line);
    });
}

#[test]
fn a_pin_can_be_taken_away_for_one_store() {
    Machine::with_s3(|machine| {
        machine.file("input/a", "of the input");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        let (store, other) = (machine.store(), format!("{}/other", machine.store()));
        for store in [&store, &other] {
            machine.ok(args!["cache", "pin", "--store", store, &manifest]);
        }
        let pins = || machine.json(args!["cache", "info"])["pins"].clone();
        machine.ok(args!["cache", "unpin", "--store", &other, &manifest]);
        let left = pins();
        assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
        assert_eq!(left[0]["store"], store.as_str(), "{left}");
        machine.ok(args!["cache", "unpin", &manifest]);
        assert_eq!(pins(), serde_json::json!([]));
    });
}

#[test]
fn values_that_make_no_sense_are_refused_in_plain_words() {
    Machine::with_directory(|machine| {
        let mut mount = machine.attachfs(args!["mount", "no.manifest", "mnt"]);
        let refused = said(mount.env("ATTACHFS_NO_PASSTHROUGH", "maybe")).with_code(2);
        refused.saying("ATTACHFS_NO_PASSTHROUGH").saying("maybe");
        for good in ["0", "1", "no", "yes", ""] {
            let mut mount = machine.attachfs(args!["mount", "no.manifest", "mnt"]);
            let other = said(mount.env("ATTACHFS_NO_PASSTHROUGH", good));
            assert!(!other.err.contains("ATTACHFS_NO_PASSTHROUGH"), "{other:?}");
        }
        let none = machine
            .says(args!["list", "--max-connections", "0"])
            .with_code(2);
        none.saying("at least one request has to be possible");
        for verb in ["add", "mount"] {
            let usage = machine.says(args![verb]).with_code(2);
            let usage = usage.saying("<MANIFEST[=SUBDIR]>... <MOUNTPOINT>");
            let line = usage.err.lines().find(|line| line.starts_with("Usage:"));
            assert!(!line.unwrap().contains("MOUNTPOINT>..."), "{usage:?}");
        }
    });
}

#[test]
fn a_cancelled_warming_says_how_far_it_came() {
    Machine::with_s3(|machine| {
        for number in 0..60 {
            machine.file(format!("input/{number}"), format!("file {number}"));
        }
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
            let before = machine.server().requests().len();
            machine
                .server()
                .add(Rule::on("GET", Mishap::Hold).of("/Data/").after(3));
            let warm = args!["cache", "warm", "--store", machine.store(), &manifest];
            let warm = machine.start(machine.attachfs(warm));
            machine
                .server()
                .wait_for("it fetches", |requests| requests.len() > before + 8);
            warm.signal(signal);
            warm.wait().with_code(15).saying("cancelled");
            machine.server().heal();
        }
    });
}
