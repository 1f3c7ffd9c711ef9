//! The cache while its processes are killed, its bytes are altered, others make room in it, and its disk hangs.

use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use attachfs_manifest::ContentHash;
use attachfs_test_s3::{Mishap, Request, Rule};
use rustix::process::Signal;

use super::{FILES, base, cached, info, read, read_all};
use crate::machine::{Machine, Mount, args, until};
use crate::process::{has_ended, kill, said, stop};

const MIB: usize = 1 << 20;
const UNIT: usize = 128 << 10;

/// An object of 24 MiB less some bytes, which is warmed in three requests.
struct Long {
    bytes: Vec<u8>,
    name: String,
    manifest: PathBuf,
}

impl Long {
    fn new(machine: &Machine) -> Self {
        let words =
            (0..6 * MIB as u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes());
        let mut bytes: Vec<u8> = words.collect();
        bytes.truncate(24 * MIB - 5);
        machine.file("long/file", &bytes);
        let manifest = machine.snapshot_in_pieces(&machine.path("long"), "long.manifest", 1 << 30);
        let name = ContentHash::of(&bytes).to_string();
        Self {
            bytes,
            name,
            manifest,
        }
    }

    /// The first two thirds of it are in the cache, and the process that brought them was killed.
    fn begin(&self, machine: &Machine) {
        let hold = Rule::on("GET", Mishap::Hold).of(&self.name).after(2);
        machine.server().add(hold);
        let warming = machine.start(machine.attachfs(self.warm(machine)));
        until("two thirds are written", || {
            self.knows(machine, 0..16 * MIB)
        });
        warming.signal(Signal::KILL);
        warming.wait();
        machine.server().heal();
    }

    fn warm(&self, machine: &Machine) -> Vec<std::ffi::OsString> {
        args!["cache", "warm", "--store", machine.store(), &self.manifest].to_vec()
    }

    /// Its file in the cache.
    fn cached(&self, machine: &Machine, ending: &str) -> PathBuf {
        self.find(machine, ending).unwrap()
    }

    fn find(&self, machine: &Machine, ending: &str) -> Option<PathBuf> {
        let partitions = fs::read_dir(machine.path("cache/attachfs/v1")).ok()?;
        let shelves = partitions.map(|entry| entry.unwrap().path().join(&self.name[..2]));
        let mut files = shelves.map(|shelf| shelf.join(format!("{}{ending}", self.name)));
        files.find(|file| file.exists())
    }

    /// Whether all units of this range count. A unit counts when its checksum is written, which is after its bytes.
    fn knows(&self, machine: &Machine, range: Range<usize>) -> bool {
        /// Where the checksums begin in the file about the units.
        const CHECKSUMS: usize = 4096;
        let about = self.find(machine, ".units").map(fs::read);
        let about = about.map_or_else(Vec::new, Result::unwrap);
        let checksums = about.get(CHECKSUMS..).unwrap_or_default();
        let (checksums, _) = checksums.as_chunks::<8>();
        let checksums = checksums.get(range.start / UNIT..range.end.div_ceil(UNIT));
        checksums.is_some_and(|checksums| checksums.iter().all(|sum| *sum != [0; 8]))
    }
}

/// The bytes that a request for an object asks for.
fn bytes_of(request: &Request) -> Option<Range<usize>> {
    if request.method != "GET" || !request.path.contains("/Data/") {
        return None;
    }
    let Some(range) = &request.range else {
        return Some(0..usize::MAX);
    };
    let range = range.strip_prefix("bytes=").unwrap();
    let (first, last) = range.split_once('-').unwrap();
    Some(first.parse().unwrap()..last.parse::<usize>().unwrap() + 1)
}

fn flip(file: &Path, at: usize) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[!byte[0]], at as u64).unwrap();
}

#[test]
fn the_next_process_goes_on_with_a_large_object_where_a_killed_one_was() {
    Machine::with_s3(|machine| {
        let long = Long::new(machine);
        long.begin(machine);
        machine.ok(args!["cache", "verify"]);
        let report = machine.json(long.warm(machine));
        assert_eq!(report["fetched_bytes"], 8 * MIB - 5);
        assert!(fs::read(long.cached(machine, "")).unwrap() == long.bytes);
        assert_eq!(machine.json(long.warm(machine))["present"], 1);
    });
}

#[test]
fn a_mount_does_not_fetch_again_what_a_killed_one_read_of_a_large_object() {
    Machine::mounting_from_s3(|machine| {
        let long = Long::new(machine);
        let asked = |mount: &Mount, from: usize, len: usize| {
            let file = fs::File::open(mount.dir.join("file")).unwrap();
            let mut read = vec![0; len];
            file.read_exact_at(&mut read, from as u64).unwrap();
            assert!(
                read == long.bytes[from..from + len],
                "{len} bytes at {from}"
            );
        };
        let mount = machine.mount(args!["--prefetch", "off", &long.manifest], "first");
        asked(&mount, 4 * MIB, 8 * MIB);
        until("it is in the cache", || {
            long.knows(machine, 4 * MIB..12 * MIB)
        });
        crate::process::kill_and_wait(mount.pid);
        crate::machine::detach(&mount.dir);
        let mount = machine.mount(
            args!["--prefetch", "off", "--read-only", &long.manifest],
            "second",
        );
        let before = machine.server().requests().len();
        asked(&mount, 4 * MIB, 8 * MIB);
        // The kernel reads ahead: what lies behind may be fetched.
        for request in &machine.server().requests()[before..] {
            let range = bytes_of(request);
            assert!(
                range.is_none_or(|range| range.end <= 4 * MIB || range.start >= 12 * MIB),
                "it is fetched again: {request:?}"
            );
        }
        asked(&mount, 0, long.bytes.len());
        machine.ok(args!["umount", &mount.dir]);
        // Then all of it is written.
        until("the process ends", || has_ended(mount.pid));
        // All of it is there now.
        let mount = machine.mount(args!["--read-only", &long.manifest], "third");
        machine.server().stop();
        asked(&mount, 0, long.bytes.len());
        machine.server().start_again();
        until("all of it is verified", || {
            info(machine)["partial_objects"] == 0
        });
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn an_altered_byte_in_a_part_of_a_large_object_costs_its_unit() {
    Machine::with_s3(|machine| {
        let long = Long::new(machine);
        long.begin(machine);
        flip(&long.cached(machine, ".part"), 3 * UNIT + 77);
        let report = machine.json(long.warm(machine));
        assert_eq!(report["fetched_bytes"], 8 * MIB - 5 + UNIT);
        assert!(fs::read(long.cached(machine, "")).unwrap() == long.bytes);
        machine.ok(args!["cache", "gc", "--max-size", "0"]);
        long.begin(machine);
        flip(&long.cached(machine, ".part"), 5 * UNIT);
        machine
            .says(args!["cache", "verify"])
            .with_code(12)
            .printing("1 of its units");
        let report = machine.json(long.warm(machine));
        assert_eq!(report["fetched_bytes"], 8 * MIB - 5 + UNIT);
    });
}

#[test]
fn what_was_read_last_outlives_what_was_not() {
    Machine::mounting_from_s3(|machine| {
        base(machine);
        read_all(machine, &[]);
        for number in 0..FILES {
            let file = fs::File::options()
                .write(true)
                .open(cached(machine, number).unwrap())
                .unwrap();
            let age = Duration::from_hours(1 + u64::from(number));
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        // The oldest ones are read again.
        let mount = machine.mount(args!["--read-only", machine.path("base.manifest")], "again");
        read(&mount, 18..FILES);
        machine.ok(args!["umount", &mount.dir]);
        let room = (12 * super::LEN.next_multiple_of(4096)).to_string();
        machine.ok(args!["cache", "gc", "--max-size", room]);
        let left: Vec<u32> = (0..FILES)
            .filter(|&number| cached(machine, number).is_some())
            .collect();
        assert_eq!(left, (0..6).chain(18..24).collect::<Vec<_>>());
    });
}

#[test]
fn mounts_read_right_while_others_make_room_and_are_killed() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let mount = |at: &str| {
            let small = args!["--read-only", "--max-cache-size", "400K", &manifest];
            machine.mount(small, at)
        };
        for round in 0..4 {
            let mounts = [mount(&format!("a{round}")), mount(&format!("b{round}"))];
            std::thread::scope(|scope| {
                for mount in &mounts {
                    scope.spawn(|| read(mount, 0..FILES));
                }
                for verb in [
                    &["gc", "--max-size", "100K"][..],
                    &["verify"],
                    &["gc", "--max-size", "0"],
                ] {
                    let mut all = args!["cache"].to_vec();
                    all.extend(verb.iter().map(Into::into));
                    let running = machine.start(machine.attachfs(all));
                    if round % 2 == 0 {
                        running.signal(Signal::KILL);
                        running.wait();
                    } else {
                        running.wait().with_code(0);
                    }
                }
            });
            for mount in mounts {
                machine.ok(args!["umount", &mount.dir]);
            }
        }
        machine.ok(args!["cache", "verify"]);
        machine.ok(args!["cache", "gc", "--max-cache-size", "400K"]);
        assert!(info(machine)["bytes"].as_u64().unwrap() <= 400 << 10);
    });
}

/// A disk that stops to answer when its process is stopped.
fn disk(machine: &Machine) -> Mount {
    let store = machine.dir("local");
    machine.file("nothing/here", "");
    let manifest = machine.path("nothing.manifest");
    let snapshot = args![
        "snapshot",
        machine.path("nothing"),
        "-o",
        &manifest,
        "--store",
        &store
    ];
    machine.ok(snapshot);
    let at = machine.dir("disk");
    Mount::of(
        &said(&mut machine.attachfs(args!["mount", "--json", "--store", store, manifest, at]))
            .with_code(0),
    )
}

#[test]
fn every_verb_ends_although_the_disk_of_the_cache_does_not_answer() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let disk = disk(machine);
        let cache = disk.dir.join("cache");
        let verbs = |manifest: &Path| {
            let store = machine.store();
            let warm = args!["--store", &store, manifest].to_vec();
            let ids = args!["0123456789abcdef0123456789abcdef"].to_vec();
            [
                ("warm", warm.clone()),
                ("info", vec![]),
                ("gc", vec![]),
                ("verify", vec![]),
                ("pin", warm),
                ("unpin", ids),
            ]
            .map(|(verb, rest)| {
                let mut all = args!["cache", verb, "--cache-dir", &cache].to_vec();
                all.extend(rest);
                machine.start(machine.attachfs(all))
            })
        };
        let [warm, info, gc, verify, pin, unpin] = verbs(&manifest);
        for fine in [warm, info, gc, verify, pin] {
            fine.wait().with_code(0);
        }
        unpin.wait().with_code(2);
        assert!(stop(disk.pid));
        for stuck in verbs(&manifest) {
            stuck.wait().with_code(14).saying("does not answer");
        }
        kill(disk.pid, Signal::CONT);
        machine.ok(args!["umount", &disk.dir]);
    });
}

#[test]
fn a_mount_reads_from_the_store_while_the_disk_of_the_cache_does_not_answer() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let disk = disk(machine);
        let cache = disk.dir.join("cache");
        read_all(machine, &["--cache-dir", cache.to_str().unwrap()]);
        let options = args!["--read-only", "--cache-dir", &cache, &manifest];
        let mount = machine.mount(options, "mnt");
        read(&mount, 0..1);
        assert!(stop(disk.pid));
        let done = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for number in 0..FILES {
                let (done, mount) = (&done, &mount);
                scope.spawn(move || {
                    read(mount, number..number + 1);
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            // Three threads of the mount at most wait for the disk.
            until("most files are read", || {
                done.load(Ordering::Relaxed) >= FILES - 3
            });
            kill(disk.pid, Signal::CONT);
        });
        machine.ok(args!["umount", &mount.dir]);
        machine.ok(args!["umount", &disk.dir]);
    });
}

#[test]
fn what_cannot_be_pinned_is_named() {
    Machine::with_s3(|machine| {
        let manifest = base(machine);
        let pin = |manifest: &Path| {
            machine.says(args!["cache", "pin", "--store", machine.store(), manifest])
        };
        let missing = pin(&machine.path("missing.manifest"));
        assert_ne!(missing.code, 0);
        missing.saying("missing.manifest");
        let broken = pin(&machine.file("broken.manifest", "{\"manifestVersion\": 1}"));
        assert_ne!(broken.code, 0);
        broken.saying("broken.manifest");
        assert_eq!(info(machine)["pins"].as_array().unwrap().len(), 0);
        pin(&manifest).with_code(0);
        for odd in ["00000000000000000000000000000000", "./", "-x", ""] {
            let said = machine.says(args!["cache", "unpin", odd]);
            assert_ne!(said.code, 0, "{odd}");
        }
        assert_eq!(info(machine)["pins"].as_array().unwrap().len(), 1);
        let mut odd = machine.attachfs(args!["cache", "info"]);
        odd.env("ATTACHFS_MAX_CACHE_SIZE", "much");
        said(&mut odd).with_code(2).saying("not a size");
    });
}
