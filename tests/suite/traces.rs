//! Traces: what one run reads is recorded, and fetched ahead by the next one. Each mount here has a cache of its own, which
//! is empty, so that every byte comes from the store.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use attachfs_manifest::ContentHash;
use attachfs_test_s3::{Mishap, Rule};
use rustix::mount::UnmountFlags;
use rustix::process::Signal;
use serde_json::Value;

use crate::machine::{Machine, Mount, args, until};
use crate::process::{has_ended, kill, kill_and_wait};

const FILES: u32 = 12;
const LEN: usize = 40_000;
/// What large objects are fetched in.
const UNIT: u64 = 128 << 10;

fn bytes(number: u32) -> Vec<u8> {
    let words = (0..LEN as u32 / 4).flat_map(|word| (word ^ number << 16).to_le_bytes());
    words.collect()
}

/// Longer than what is fetched whole.
fn long() -> Vec<u8> {
    (0..9 << 20).map(|at: u32| (at >> 10) as u8).collect()
}

fn name_of(bytes: &[u8]) -> String {
    ContentHash::of(bytes).to_string()
}

/// A folder of short files and a long one, and a manifest of it.
fn base(machine: &Machine) -> PathBuf {
    for number in 0..FILES {
        machine.file(format!("input/dir/{number}"), bytes(number));
    }
    machine.file("input/long", long());
    machine.snapshot_in_pieces(&machine.path("input"), "base.manifest", 1 << 30)
}

/// Mounts on a directory of this name with an empty cache, and fetches nothing of its own accord.
fn mount(machine: &Machine, name: &str, options: &[OsString]) -> Mount {
    let cache = machine.path(format!("cache-of-{name}"));
    let plain = args![
        "--cache-dir",
        cache,
        "--no-probe",
        "--prefetch",
        "off",
        machine.path("base.manifest")
    ];
    machine.mount([options, &plain[..]].concat(), name)
}

fn read(mount: &Mount, numbers: &[u32]) {
    for &number in numbers {
        let path = mount.dir.join(format!("dir/{number}"));
        assert!(fs::read(path).unwrap() == bytes(number), "file {number}");
    }
}

/// How often the server was asked for bytes of each object.
fn gets(machine: &Machine) -> BTreeMap<String, usize> {
    let mut gets = BTreeMap::new();
    for request in machine.server().requests() {
        if let Some((_, name)) = request.path.split_once("/Data/")
            && request.method == "GET"
        {
            *gets.entry(name[..32].to_owned()).or_default() += 1;
        }
    }
    gets
}

/// The objects that the server was asked for since, each with the number of requests.
fn gets_since(machine: &Machine, before: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let now = gets(machine).into_iter();
    let more = now.map(|(name, count)| {
        let before = before.get(&name).copied().unwrap_or(0);
        (name, count - before)
    });
    more.filter(|(_, count)| *count > 0).collect()
}

fn prefetched(machine: &Machine, mount: &Mount) -> Value {
    machine.json(args!["stats", &mount.dir])["prefetch"].clone()
}

/// The ranges of a trace: the object, its first byte and the one behind its last.
fn ranges(trace: &Path) -> Vec<(String, u64, u64)> {
    let text = fs::read_to_string(trace).unwrap();
    let lines = text
        .lines()
        .skip(1)
        .filter(|line| !line.starts_with("end "));
    let range = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (start, end) = words[1].split_once('-').unwrap();
        (
            words[0].to_owned(),
            start.parse().unwrap(),
            end.parse().unwrap(),
        )
    };
    lines.map(range).collect()
}

/// Records the trace of a mount in which this is done.
fn record(machine: &Machine, name: &str, work: impl FnOnce(&Mount)) -> PathBuf {
    let trace = machine.path(format!("{name}.trace"));
    let mount = mount(machine, name, &args!["--record-trace", &trace]);
    work(&mount);
    machine.ok(args!["umount", &mount.dir]);
    trace
}

#[test]
fn what_a_run_read_is_fetched_ahead_for_the_next_one_and_nothing_else() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let trace = machine.path("run.trace");
        let script = "cat dir/7 dir/2 dir/7 > /dev/null; \
                      dd if=long of=/dev/null bs=64k skip=96 count=1 2> /dev/null; cat dir/5 > /dev/null";
        machine.ok(args![
            "run",
            "--store",
            machine.store(),
            "--manifest",
            manifest,
            "--prefetch",
            "off",
            "--record-trace",
            &trace,
            "--",
            "sh",
            "-c",
            script
        ]);
        let ranges = ranges(&trace);
        let short = |number| (name_of(&bytes(number)), 0, LEN as u64);
        assert_eq!(ranges[..2], [short(7), short(2)]);
        let (of, start, end) = ranges[2].clone();
        assert!(of == name_of(&long()) && start <= 96 << 16 && end >= 97 << 16);
        assert_eq!(ranges[3..], [short(5)]);

        let before = gets(machine);
        let mount = mount(machine, "next", &args!["--prefetch-trace", &trace]);
        // The kernel reads ahead, and large objects come in units.
        let of_long = end.next_multiple_of(UNIT).min(9 << 20) - start / UNIT * UNIT;
        let all = 3 * LEN as u64 + of_long;
        until("what the run read is there", || {
            prefetched(machine, &mount)["bytes"] == all
        });
        let mut names = [7, 2, 5].map(|number| name_of(&bytes(number))).to_vec();
        names.push(name_of(&long()));
        names.sort();
        let fetched = gets_since(machine, &before);
        assert_eq!(fetched.keys().cloned().collect::<Vec<_>>(), names);
        assert!(fetched.values().all(|&count| count == 1), "{fetched:?}");
        let stats = machine.json(args!["stats", &mount.dir]);
        assert_eq!(stats["bytes"]["read"], 0, "nobody has read");
        assert_eq!(stats["trace_dropped"], Value::Null);

        // It is read without another request, and counted once.
        read(&mount, &[7, 2, 7]);
        assert_eq!(gets_since(machine, &before), fetched);
        let of_read = prefetched(machine, &mount);
        assert_eq!(of_read["read"], 2 * LEN as u64, "{of_read}");
        read(&mount, &[1]);
        let ended = machine.json(args!["umount", &mount.dir])["prefetch"].clone();
        assert_eq!(
            (&ended["bytes"], &ended["read"]),
            (&all.into(), &of_read["read"])
        );
        assert_eq!(ended["unread"], all - 2 * LEN as u64);
    });
}

#[test]
fn the_traces_of_several_runs_are_fetched_together_and_what_is_not_mounted_is_left_out() {
    Machine::mounting_from_s3(|machine| {
        base(machine);
        let first = record(machine, "first", |mount| read(mount, &[0, 1]));
        let second = record(machine, "second", |mount| read(mount, &[1, 2]));
        let other = machine.path("other.trace");
        let text = fs::read(&first).unwrap();
        assert!(text.starts_with(b"attachfs trace 1\n"));
        // Another job's: the same form, objects that nobody has here.
        let line = format!("{} 0-5 0\n", "f".repeat(32));
        let text = format!("attachfs trace 1\n{line}end 1 0 ");
        let sum = ContentHash::of(text.as_bytes());
        fs::write(&other, format!("{text}{sum}\n")).unwrap();
        let before = gets(machine);
        let options = [&other, &first, &second].map(|trace| args!["--prefetch-trace", trace]);
        let mount = mount(machine, "next", &options.concat());
        until("what the runs read is there", || {
            prefetched(machine, &mount)["bytes"] == 3 * LEN as u64
        });
        assert_eq!(gets_since(machine, &before).len(), 3);
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn everything_is_fetched_if_nearly_all_of_it_was_read() {
    Machine::mounting_from_s3(|machine| {
        base(machine);
        let trace = record(machine, "first", |mount| {
            assert!(fs::read(mount.dir.join("long")).unwrap() == long());
            read(mount, &[3, 4]);
        });
        let mount = mount(machine, "next", &args!["--prefetch-trace", &trace]);
        let all = (9 << 20) + u64::from(FILES) * LEN as u64;
        until("everything is there", || {
            prefetched(machine, &mount)["bytes"] == all
        });
        machine.server().stop();
        read(&mount, &[11]);
        machine.server().start_again();
        machine.ok(args!["umount", &mount.dir]);
    });
}

#[test]
fn a_read_does_not_wait_for_what_is_fetched_ahead() {
    Machine::mounting_from_s3(|machine| {
        // Together they are longer than the memory of the mount.
        let of = |number: u8| vec![number; 2 << 20];
        for number in 0..24 {
            machine.file(format!("input/many/{number}"), of(number));
        }
        let waited_for = vec![99; 4 << 20];
        machine.file("input/one", &waited_for);
        machine.snapshot_in_pieces(&machine.path("input"), "base.manifest", 1 << 30);
        let trace = record(machine, "first", |mount| {
            for number in 0..20 {
                fs::read(mount.dir.join(format!("many/{number}"))).unwrap();
            }
        });
        let names: Vec<String> = (0..24).map(|number| name_of(&of(number))).collect();
        for name in &names {
            machine.server().add(Rule::on("GET", Mishap::Hold).of(name));
        }
        let before = gets(machine);
        let mut options = args!["--prefetch-trace", &trace].to_vec();
        options.extend(args!["--memory-target", "32MiB", "--max-connections", "4"]);
        let mount = mount(machine, "next", &options);
        machine.server().wait_for("requests that hang", |requests| {
            let asked = requests.iter().filter(|request| {
                request.method == "GET" && names.iter().any(|name| request.path.contains(name))
            });
            asked.count() >= before.values().sum::<usize>() + 3
        });
        assert!(fs::read(mount.dir.join("one")).unwrap() == waited_for);
        // It did not come only because those had been given up.
        let requests = machine.json(args!["stats", &mount.dir])["requests"].clone();
        let given_up = (&requests["failed"], &requests["timed_out"]);
        assert_eq!(given_up, (&0.into(), &0.into()));
        machine.ok(args!["umount", &mount.dir]);
        machine.server().heal();
    });
}

#[test]
fn no_more_is_fetched_ahead_than_was_allowed() {
    Machine::mounting_from_s3(|machine| {
        base(machine);
        let trace = record(machine, "first", |mount| read(mount, &[0, 1, 2, 3]));
        let log = machine.path("log");
        let options = args![
            "-v",
            "--log",
            &log,
            "--prefetch-trace",
            trace,
            "--prefetch-bytes",
            "100K"
        ];
        let mount = mount(machine, "next", &options);
        until("it has stopped", || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            log.contains("it has fetched as many bytes as it may")
        });
        let fetched = prefetched(machine, &mount);
        assert_eq!(fetched["bytes"], 2 * LEN as u64);
        read(&mount, &[0]);
        machine.ok(args!["umount", &mount.dir]);
        until("the process ends", || has_ended(mount.pid));
        let log = fs::read_to_string(&log).unwrap();
        let told = "fetched=80000 read=40000 never_read=40000";
        assert!(log.contains(told), "{log}");
    });
}

#[test]
fn mounts_of_the_same_manifest_find_the_traces_of_earlier_ones_by_themselves() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let traces = machine.path("deep/traces");
        let first = mount(machine, "first", &args!["--trace-dir", &traces]);
        read(&first, &[4, 5]);
        machine.ok(args!["umount", &first.dir]);
        let mode = fs::metadata(&traces).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        machine.ok(args![
            "run",
            "--store",
            machine.store(),
            "--manifest",
            &manifest,
            "--prefetch",
            "off",
            "--trace-dir",
            &traces,
            "--",
            "cat",
            "dir/6"
        ]);
        let third = mount(machine, "third", &args!["--trace-dir", &traces]);
        until("what both read is there", || {
            prefetched(machine, &third)["bytes"] == 3 * LEN as u64
        });
        machine.ok(args!["umount", &third.dir]);

        // Another input, which has one of these objects.
        machine.file("other/6", bytes(6));
        machine.file("other/many", vec![9; 3 * LEN]);
        machine.snapshot(&machine.path("other"), "base.manifest");
        let log = machine.path("log");
        let options = args!["-v", "--log", &log, "--trace-dir", &traces];
        let other = mount(machine, "other-job", &options);
        read_nothing_ahead(machine, &other);
        machine.ok(args!["umount", &other.dir]);
        // The third mount read nothing: that is no trace to keep.
        let kept = fs::read_dir(&traces).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
            name.contains(".trace")
        });
        assert_eq!(kept.count(), 3);
        // What somebody else could write to decides nothing.
        fs::set_permissions(&traces, fs::Permissions::from_mode(0o777)).unwrap();
        let refused = args!["--trace-dir", &traces, machine.path("base.manifest")];
        let said = crate::process::said(&mut machine.mounting(refused, "refused"));
        assert!(
            said.code != 0 && said.err.contains("write to it"),
            "{said:?}"
        );
    });
}

/// Fails if something is fetched ahead in this mount, which has to fetch what is read now.
fn read_nothing_ahead(machine: &Machine, mount: &Mount) {
    let path = mount.dir.join("6");
    assert!(fs::read(path).unwrap() == bytes(6));
    assert_eq!(prefetched(machine, mount)["bytes"], 0);
}

#[test]
fn a_trace_is_written_at_each_end_of_a_mount_but_not_when_it_is_killed() {
    Machine::mounting_from_s3(|machine| {
        base(machine);
        let trace = machine.path("traces/t");
        machine.dir("traces");
        let begin = |name: &str, number: u32| {
            let mount = mount(machine, name, &args!["--record-trace", &trace]);
            read(&mount, &[number]);
            mount
        };
        let has = |number: u32| ranges(&trace) == [(name_of(&bytes(number)), 0, LEN as u64)];
        let first = begin("first", 1);
        assert!(!trace.exists());
        machine.ok(args!["umount", &first.dir]);
        assert!(has(1));
        let killed = begin("killed", 2);
        kill_and_wait(killed.pid);
        assert!(has(1), "the one before is whole");
        let names = fs::read_dir(machine.path("traces")).unwrap().count();
        assert_eq!(names, 1, "nothing else is left");
        // Taken up, it records what is read from then on.
        let options = args![
            "--session",
            &killed.session_dir,
            "--record-trace",
            &trace,
            "--prefetch",
            "off"
        ];
        let at = machine.path("killed");
        let again = [&args!["mount", "--json"][..], &options, &args![at]].concat();
        let again = Mount::of(&machine.ok(again));
        read(&again, &[3]);
        // As umount(8) does it.
        again.until_all_is_closed(machine);
        rustix::mount::unmount(&again.dir, UnmountFlags::empty()).unwrap();
        until("the process ends", || has_ended(again.pid));
        assert!(has(3));
        let stopped = begin("stopped", 4);
        stopped.until_all_is_closed(machine);
        kill(stopped.pid, Signal::TERM);
        until("the process ends", || has_ended(stopped.pid));
        assert!(has(4));
    });
}

#[test]
fn no_file_is_lost_to_a_trace_and_a_bad_trace_is_told_before_anything_is_made() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let refused = |option: &str, path: &Path| {
            let mut mounting = machine.mounting(args![option, path, &manifest], "mnt");
            let said = crate::process::said(&mut mounting);
            assert!(said.code != 0, "{said:?}");
            assert!(said.err.contains(path.to_str().unwrap()), "{said:?}");
            assert!(machine.sessions().is_empty() && machine.mounts().is_empty());
            said
        };
        let mine = machine.file("mine", "of the user");
        refused("--record-trace", &mine)
            .with_code(2)
            .saying("is no trace");
        assert_eq!(fs::read(&mine).unwrap(), b"of the user");
        let link = machine.path("link");
        symlink(&mine, &link).unwrap();
        refused("--record-trace", &link)
            .with_code(2)
            .saying("symbolic link");
        let pipe = machine.path("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        refused("--record-trace", &pipe)
            .with_code(2)
            .saying("is a pipe");
        let dir = machine.dir("folder");
        refused("--record-trace", &dir);
        let nowhere = args!["--record-trace", machine.path("missing/t"), &manifest];
        let said = crate::process::said(&mut machine.mounting(nowhere, "mnt"));
        assert!(
            said.code != 0 && said.err.contains("cannot write the trace"),
            "{said:?}"
        );

        refused("--prefetch-trace", &pipe).with_code(2);
        refused("--prefetch-trace", &dir).with_code(2);
        refused("--prefetch-trace", &machine.path("missing")).with_code(2);
        refused("--prefetch-trace", &mine)
            .with_code(2)
            .saying("line 1:");
        let huge = machine.path("huge");
        let mut file = File::create(&huge).unwrap();
        file.write_all(b"attachfs trace 1\n").unwrap();
        file.set_len(1 << 40).unwrap();
        refused("--prefetch-trace", &huge)
            .with_code(2)
            .saying("longer than a trace");
        let damaged = machine.file("damaged", "attachfs trace 1\n\x1b[31m 0-1 5\n");
        let said = refused("--prefetch-trace", &damaged)
            .with_code(2)
            .saying("line 2:");
        assert!(!said.err.contains('\x1b'));
        refused("--trace-dir", &machine.path("input"))
            .with_code(2)
            .saying("no directory of traces");
        assert_eq!(fs::read_dir(machine.path("input")).unwrap().count(), 2);
    });
}
