//! Stores that give slowly or break off, and what is asked of them before anybody reads it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use attachfs_test_s3::{Mishap, Request, Rule};

use crate::machine::{Machine, args};

const LEN: usize = 16 << 20;

/// A file that is one object too long to be verified before its first byte is served, and its manifest.
fn long_file(machine: &Machine) -> (Vec<u8>, PathBuf) {
    let bytes: Vec<u8> = (0..LEN)
        .map(|at| (at * 31 + at / 4096 * 17) as u8)
        .collect();
    machine.file("input/long", &bytes);
    let manifest = machine.snapshot_in_pieces(&machine.path("input"), "base.manifest", 1 << 30);
    (bytes, manifest)
}

/// How many objects, or ranges of them, were asked for.
fn gets(requests: &[Request]) -> usize {
    let gets = requests.iter().filter(|request| request.method == "GET");
    gets.filter(|request| request.path.contains("/Data/"))
        .count()
}

#[test]
fn small_reads_over_slow_connections_all_succeed_and_fetch_little() {
    Machine::mounting_from_s3(|machine| {
        let (bytes, manifest) = long_file(machine);
        let mount = machine.mount(args![&manifest], "mnt");
        let slow = Mishap::Trickle {
            bytes_per_second: 100_000,
        };
        machine.server().add(Rule::on("GET", slow));
        let file = File::open(mount.dir.join("long")).unwrap();
        std::thread::scope(|scope| {
            for number in 0..24_usize {
                let (file, bytes) = (&file, &bytes);
                scope.spawn(move || {
                    let at = number * 7 % 24 * 600_000 + 4096;
                    let mut read = [0; 4096];
                    file.read_exact_at(&mut read, at as u64).unwrap();
                    assert!(read == bytes[at..at + 4096], "{at}");
                });
            }
        });
        machine.server().heal();
        drop(file);
        let fetched = machine.json(args!["status", &mount.dir])["fetched"].clone();
        let fetched = fetched["bytes"].as_u64().unwrap();
        assert!(fetched <= 2 * 24 * (128 << 10), "{fetched}");
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn connections_that_break_cost_no_reader_an_error() {
    Machine::mounting_from_s3(|machine| {
        let (bytes, manifest) = long_file(machine);
        let mount = machine.mount(args![&manifest], "mnt");
        let broken = Mishap::Break { after: 300_000 };
        machine.server().add(Rule::on("GET", broken).times(5));
        assert!(fs::read(mount.dir.join("long")).unwrap() == bytes);
        let fetched = machine.json(args!["status", &mount.dir])["fetched"].clone();
        assert_eq!(fetched["failed"], 0, "{fetched}");
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn the_next_files_of_a_directory_are_fetched_before_they_are_opened_unless_that_is_off() {
    Machine::mounting_from_s3(|machine| {
        for number in 0..60 {
            machine.file(
                format!("input/frames/{number:03}"),
                format!("frame {number}"),
            );
        }
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        for (when, at) in [("off", "mnt-off"), ("auto", "mnt-auto")] {
            let cache = machine.dir(format!("cache-{when}"));
            let options = args![
                "--prefetch",
                when,
                "--cache-dir",
                cache,
                "--no-probe",
                &manifest
            ];
            let mount = machine.mount(options, at);
            let before = gets(&machine.server().requests());
            for number in 0..6 {
                let read = fs::read(mount.dir.join(format!("frames/{number:03}"))).unwrap();
                assert_eq!(read, format!("frame {number}").into_bytes());
            }
            if when == "off" {
                assert_eq!(gets(&machine.server().requests()) - before, 6);
            } else {
                machine
                    .server()
                    .wait_for("more files than were read", |requests| {
                        gets(requests) - before > 12
                    });
            }
            machine.ok(args!["umount", &mount.dir]);
        }
    });
}
