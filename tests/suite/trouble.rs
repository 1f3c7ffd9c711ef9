//! Stores that cannot be read: that it is told before anything is mounted, and afterwards in `status`, at the end and in a log that
//! stays short.

use std::fs;
use std::path::{Path, PathBuf};

use attachfs_manifest::ContentHash;
use attachfs_test_s3::{Mishap, Rule};
use rustix::process::Signal;

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};
use crate::process::{Said, said};

mounting_from_both_stores![
    a_mount_whose_objects_are_all_missing_is_refused_and_one_that_lacks_some_is_made,
    what_has_no_objects_is_mounted_from_a_store_that_is_empty,
    status_counts_failed_reads_and_shows_the_last_with_the_place_of_the_log,
    the_log_of_a_session_with_failed_reads_outlives_it,
    the_log_of_a_session_that_is_discarded_goes_with_it,
    a_missing_object_that_is_read_again_and_again_is_one_line,
    a_store_that_is_away_is_one_line_and_its_return_is_another,
];

/// A folder of small files, a manifest of it, and the files' texts by their names.
fn base(machine: &Machine) -> PathBuf {
    for number in 0..20 {
        let name = format!("input/dir/{number}");
        machine.file(&name, text(number));
    }
    machine.snapshot(&machine.path("input"), "base.manifest")
}

fn text(number: u32) -> String {
    format!("the text of file {number:03}\n")
}

fn object(machine: &Machine, number: u32) -> PathBuf {
    machine.object(&ContentHash::of(text(number).as_bytes()).to_string())
}

/// Nothing is mounted, and no session is there.
#[track_caller]
fn nothing_is_left(machine: &Machine) {
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
}

/// Mounts, which fails as a failure of the store, and leaves nothing.
#[track_caller]
fn refused(machine: &Machine, change: impl FnOnce(&mut std::process::Command)) -> Said {
    let mut mount = machine.mounting(args![machine.path("base.manifest")], "mnt");
    change(&mut mount);
    let said = said(&mut mount).with_code(11);
    nothing_is_left(machine);
    assert_eq!(fs::read_dir(machine.path("mnt")).unwrap().count(), 0);
    said
}

#[test]
fn a_store_that_cannot_be_read_is_told_with_advice_before_anything_is_mounted() {
    Machine::mounting_from_s3(|machine| {
        base(machine);
        refused(machine, |mount| {
            mount.env("AWS_SECRET_ACCESS_KEY", "wrong");
        })
        .saying("check the profile or the keys");
        refused(machine, |mount| {
            mount.env("AWS_ACCESS_KEY_ID", "somebody-else");
        });
        refused(machine, |mount| {
            mount
                .env_remove("AWS_ACCESS_KEY_ID")
                .env_remove("AWS_SECRET_ACCESS_KEY");
        })
        .saying("credentials");
        let at = machine.path("mnt");
        let elsewhere = |store: &str| {
            let manifest = machine.path("base.manifest");
            let mount = args!["mount", "--store", store, manifest, &at];
            let said = machine.says(mount).with_code(11);
            nothing_is_left(machine);
            said
        };
        elsewhere("s3://no-such-bucket/x").saying("there is no such bucket");
        elsewhere("s3://farm/some/other").saying("store and prefix");
        machine.server().stop();
        refused(machine, |_| {}).saying("could not be reached");
        // Without asking it is mounted, and reads fail.
        let manifest = machine.path("base.manifest");
        let mount = machine.mount(args!["--no-probe", &manifest], "mnt");
        fs::read(mount.dir.join("dir/0")).unwrap_err();
        machine.server().start_again();
        assert_eq!(
            fs::read_to_string(mount.dir.join("dir/0")).unwrap(),
            text(0)
        );
    });
}

fn a_mount_whose_objects_are_all_missing_is_refused_and_one_that_lacks_some_is_made(
    machine: &Machine,
) {
    let manifest = base(machine);
    // All are of the same length: these two are asked for first.
    for number in [0, 1] {
        fs::remove_file(object(machine, number)).unwrap();
    }
    let mount = machine.mount(args![&manifest], "mnt");
    assert_eq!(
        fs::read_to_string(mount.dir.join("dir/2")).unwrap(),
        text(2)
    );
    machine.ok(args!["umount", &mount.dir]);
    for object in machine.objects() {
        fs::remove_file(object).unwrap();
    }
    let missing = refused(machine, |_| {}).saying("none of 3 objects");
    assert!(missing.err.contains(&machine.store()), "{missing:?}");
    let run = args![
        "run",
        "--store",
        machine.store(),
        "--manifest",
        &manifest,
        "--",
        "true"
    ];
    machine.says(run).with_code(125).saying("none of 3 objects");
    nothing_is_left(machine);
    machine.mount(args!["--no-probe", &manifest], "mnt");
}

fn what_has_no_objects_is_mounted_from_a_store_that_is_empty(machine: &Machine) {
    machine.file("input/dir/empty", "");
    let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
    for object in machine.objects() {
        fs::remove_file(object).unwrap();
    }
    let mount = machine.mount(args![&manifest], "mnt");
    assert_eq!(fs::read(mount.dir.join("dir/empty")).unwrap(), b"");
    if machine.is_s3() {
        let at = machine.dir("other");
        let store = "s3://no-such-bucket/x";
        let mount = args!["mount", "--store", store, &manifest, &at];
        machine.says(mount).with_code(11);
    }
}

#[test]
fn a_mount_that_has_everything_in_the_cache_starts_without_its_store_and_says_so() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let read_all = |mount: &Mount| {
            for number in 0..20 {
                let path = mount.dir.join(format!("dir/{number}"));
                assert_eq!(fs::read_to_string(path).unwrap(), text(number));
            }
        };
        let mount = machine.mount(args![&manifest], "mnt");
        fs::read(mount.dir.join("dir/0")).unwrap();
        machine.ok(args!["umount", &mount.dir]);
        machine.server().stop();
        refused(machine, |_| {}).saying("could not be reached");
        machine.server().start_again();
        let mount = machine.mount(args![&manifest], "mnt");
        read_all(&mount);
        machine.ok(args!["umount", &mount.dir]);
        machine.server().stop();
        let mount = Mount::of(&said(&mut machine.mounting(args![&manifest], "mnt")).with_code(0));
        read_all(&mount);
        machine.ok(args!["umount", &mount.dir]);
        let mut plain = machine.attachfs(args!["mount", "--store", machine.store(), &manifest]);
        said(plain.arg(machine.path("mnt")))
            .with_code(0)
            .saying("mounted from the cache");
    });
}

#[test]
fn a_session_whose_store_cannot_be_read_stays_as_it_is_and_is_taken_up_later() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args![&manifest], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        crate::process::kill_and_wait(mount.pid);
        machine.server().stop();
        let resume = args!["mount", "--session", &mount.session_dir, &mount.dir];
        machine
            .says(&resume)
            .with_code(11)
            .saying("could not be reached");
        machine.server().start_again();
        machine.ok(&resume);
        assert_eq!(fs::read(mount.dir.join("new")).unwrap(), b"new");
        assert_eq!(
            fs::read_to_string(mount.dir.join("dir/3")).unwrap(),
            text(3)
        );
    });
}

#[test]
fn who_interrupts_a_mount_that_waits_for_its_store_leaves_nothing() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        machine
            .server()
            .add(Rule::on("GET", Mishap::Silence).of("/Data/"));
        for verb in ["mount", "run"] {
            let before = machine.server().requests().len();
            let command = if verb == "mount" {
                machine.mounting(args!["--foreground", &manifest], "mnt")
            } else {
                let store = machine.store();
                machine.attachfs(args![
                    "run",
                    "--store",
                    store,
                    "--manifest",
                    &manifest,
                    "--",
                    "true"
                ])
            };
            let running = machine.start(command);
            machine
                .server()
                .wait_for("the store is asked", |requests| requests.len() > before);
            running.signal(Signal::INT);
            running
                .wait()
                .with_code(if verb == "mount" { 15 } else { 130 });
            nothing_is_left(machine);
        }
    });
}

fn status_counts_failed_reads_and_shows_the_last_with_the_place_of_the_log(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    let status = machine.json(args!["status", &mount.dir]);
    assert_eq!(status["last_error"], serde_json::Value::Null);
    let log = mount.session_dir.join("log");
    assert_eq!(status["log"], log.to_str().unwrap());
    fs::remove_file(object(machine, 5)).unwrap();
    fs::read(mount.dir.join("dir/5")).unwrap_err();
    let status = machine.json(args!["status", &mount.dir]);
    let counters = &status["counters"];
    assert!(counters["reads_failed"].as_u64().unwrap() >= 1, "{status}");
    // What failed was not read.
    assert_eq!(counters["files_read"], 0, "{status}");
    assert_eq!(counters["bytes_read"], 0, "{status}");
    let last = &status["last_error"];
    assert_eq!(last["path"], "dir/5");
    let key = object(machine, 5);
    let key = Path::new("Data").join(key.file_name().unwrap());
    assert_eq!(last["object"], key.to_str().unwrap());
    assert!(last["text"].as_str().unwrap().contains("is missing"));
    assert!(last["at"].as_u64().unwrap() > 1_700_000_000);
    machine
        .ok(args!["status", &mount.dir])
        .printing("failed     ")
        .printing("dir/5")
        .printing(log.to_str().unwrap());
    fs::read(mount.dir.join("dir/6")).unwrap();
    let status = machine.json(args!["status", &mount.dir]);
    assert_eq!(status["counters"]["files_read"], 1);
    assert_eq!(status["counters"]["bytes_read"], text(6).len());
    // Of a session that nobody has, the log is still told.
    fs::write(mount.dir.join("new"), "new").unwrap();
    machine
        .ok(args!["umount", &mount.dir])
        .printing("failed     ")
        .printing(log.to_str().unwrap());
    let status = machine.json(args!["status", &mount.session]);
    assert_eq!(status["log"], log.to_str().unwrap());
}

fn the_log_of_a_session_with_failed_reads_outlives_it(machine: &Machine) {
    let manifest = base(machine);
    let logs = machine.path("state/attachfs/logs");
    let sound = machine.mount(args![&manifest], "mnt");
    fs::read(sound.dir.join("dir/6")).unwrap();
    machine.ok(args!["umount", &sound.dir]);
    assert!(!logs.exists());
    fs::remove_file(object(machine, 5)).unwrap();
    for how in [&["--read-only"][..], &[]] {
        let mut arguments: Vec<std::ffi::OsString> = how.iter().map(Into::into).collect();
        arguments.push(manifest.clone().into());
        let mount = machine.mount(&arguments, "mnt");
        fs::read(mount.dir.join("dir/5")).unwrap_err();
        let kept = logs.join(format!("{}.log", mount.session));
        let report = machine.json(args!["umount", &mount.dir]);
        assert_eq!(report["log"], kept.to_str().unwrap());
        assert!(report["reads_failed"].as_u64().unwrap() >= 1);
        until("the session is gone", || !mount.session_dir.exists());
        let log = fs::read_to_string(&kept).unwrap();
        assert!(log.contains("dir/5"), "{log}");
    }
    // However it is unmounted.
    let mount = machine.mount(args![&manifest], "mnt");
    fs::read(mount.dir.join("dir/5")).unwrap_err();
    fs::write(mount.dir.join("new"), "new").unwrap();
    let out = machine.path("out.manifest");
    let report = machine.json(args!["umount", &mount.dir, "-o", &out]);
    let kept = logs.join(format!("{}.log", mount.session));
    assert_eq!(report["log"], kept.to_str().unwrap());
    assert!(kept.exists() && !mount.session_dir.exists());
    let mount = machine.mount(args!["--read-only", &manifest], "mnt");
    fs::read(mount.dir.join("dir/5")).unwrap_err();
    crate::process::kill(mount.pid, Signal::TERM);
    until("the session is gone", || !mount.session_dir.exists());
    assert!(logs.join(format!("{}.log", mount.session)).exists());
    assert_eq!(fs::read_dir(&logs).unwrap().count(), 4);
}

fn the_log_of_a_session_that_is_discarded_goes_with_it(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    fs::remove_file(object(machine, 5)).unwrap();
    fs::read(mount.dir.join("dir/5")).unwrap_err();
    machine.ok(args!["discard", "--yes", &mount.dir]);
    assert!(!mount.session_dir.exists());
    assert!(!machine.path("state/attachfs/logs").exists());
}

fn a_missing_object_that_is_read_again_and_again_is_one_line(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    for number in [5, 6] {
        fs::remove_file(object(machine, number)).unwrap();
    }
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let path = mount.dir.join(format!("dir/{}", 5 + reader % 2));
            scope.spawn(move || {
                for _ in 0..100 {
                    fs::read(&path).unwrap_err();
                }
            });
        }
    });
    let log = mount.log();
    // Each minute that passed meanwhile is one more, with its count.
    let lines = log
        .lines()
        .filter(|line| !line.contains("more within a minute"));
    assert_eq!(lines.count(), 2, "{log}");
    for number in [5, 6] {
        assert!(log.contains(&format!("dir/{number}")), "{log}");
    }
    // What was not written is counted, at the end at the latest.
    let report = machine.json(args!["umount", &mount.dir]);
    let kept = PathBuf::from(report["log"].as_str().unwrap());
    until("the count is written", || {
        let log = fs::read_to_string(&kept).unwrap();
        log.contains("more within a minute")
    });
}

fn a_store_that_is_away_is_one_line_and_its_return_is_another(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args![&manifest], "mnt");
    if machine.is_s3() {
        machine.server().stop();
    } else {
        fs::rename(machine.path("store"), machine.path("away")).unwrap();
    }
    std::thread::scope(|scope| {
        for number in 0..10 {
            let path = mount.dir.join(format!("dir/{number}"));
            scope.spawn(move || fs::read(path).unwrap_err());
        }
    });
    let log = mount.log();
    // Each minute that passed meanwhile is one more, with its count.
    let begins = log
        .lines()
        .filter(|line| !line.contains("more within a minute"));
    assert_eq!(begins.count(), 1, "{log}");
    if machine.is_s3() {
        machine.server().start_again();
    } else {
        fs::rename(machine.path("away"), machine.path("store")).unwrap();
    }
    for number in 0..20 {
        fs::read(mount.dir.join(format!("dir/{number}"))).unwrap();
    }
    let log = mount.log();
    assert_eq!(log.matches("the store answers again").count(), 1, "{log}");
}

#[test]
fn the_log_of_a_mount_begins_anew_when_it_is_full() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args![&manifest], "mnt");
        let log = mount.session_dir.join("log");
        let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
        file.set_len(16 << 20).unwrap();
        for number in [5, 6] {
            fs::remove_file(object(machine, number)).unwrap();
            fs::read(mount.dir.join(format!("dir/{number}"))).unwrap_err();
        }
        assert_eq!(
            fs::metadata(log.with_extension("1")).unwrap().len(),
            16 << 20
        );
        assert_eq!(mount.log().lines().count(), 2, "{}", mount.log());
        let standard_error = fs::read_link(format!("/proc/{}/fd/2", mount.pid)).unwrap();
        assert_eq!(standard_error, log);
        let report = machine.json(args!["umount", &mount.dir]);
        let kept = PathBuf::from(report["log"].as_str().unwrap());
        assert!(kept.with_extension("log.1").exists());
        until("the session is gone", || !mount.session_dir.exists());
    });
}

#[test]
fn readers_that_go_away_are_no_errors() {
    Machine::mounting_from_s3(|machine| {
        let manifest = base(machine);
        let log = machine.path("my.log");
        let mount = machine.mount(args!["--log", &log, &manifest], "mnt");
        machine.server().add(Rule::on("GET", Mishap::Silence));
        let before = machine.server().requests().len();
        let readers: Vec<_> = (0..4)
            .map(|number| {
                let mut reader = machine.command("cat");
                reader.arg(mount.dir.join(format!("dir/{number}")));
                machine.start(reader)
            })
            .collect();
        machine
            .server()
            .wait_for("all are asked for", |requests| requests.len() >= before + 4);
        for reader in readers {
            reader.signal(Signal::KILL);
            reader.wait().with_code(128 + 9);
        }
        machine.ok(args!["umount", &mount.dir]);
        until("the process has ended", || {
            crate::process::has_ended(mount.pid)
        });
        assert_eq!(fs::read_to_string(&log).unwrap(), "");
    });
}

#[test]
fn a_log_that_cannot_be_written_disturbs_nothing() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args!["--log", "/dev/full", &manifest], "mnt");
        fs::remove_file(object(machine, 5)).unwrap();
        for _ in 0..10 {
            fs::read(mount.dir.join("dir/5")).unwrap_err();
        }
        assert_eq!(
            fs::read_to_string(mount.dir.join("dir/6")).unwrap(),
            text(6)
        );
        machine.ok(args!["umount", &mount.dir]).printing("failed");
    });
}
