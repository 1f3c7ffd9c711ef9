//! `--writeback-cache`: the kernel keeps what is written. What was synced or closed survives the process, and no commit has a file
//! of which the kernel still keeps something.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::SeekFrom;
use rustix::process::Signal;

use crate::machine::{Machine, Mount, args, until};
use crate::process::{kill_and_wait, said, stop};
use crate::writers::{self, MAPS, program};

/// Does a test in a mount whose writes the kernel keeps. Its base has two files, `big` and `part`.
fn keeping(test: impl FnOnce(&Machine, &Mount)) {
    Machine::mounting_from_directory(|machine| {
        for name in ["big", "part"] {
            machine.file(format!("input/{name}"), vec![b'.'; 300_000]);
        }
        let base = machine.snapshot(&machine.path("input"), "base.manifest");
        let mount = machine.mount(args!["--writeback-cache", base], "mnt");
        test(machine, &mount);
    });
}

/// The bytes that came to the process of a mount.
fn received(machine: &Machine, mount: &Mount) -> u64 {
    let stats = machine.json(args!["stats", &mount.dir]);
    stats["bytes"]["written"].as_u64().unwrap()
}

/// Commits the session, and gives what a path has in a new mount of it.
fn committed(machine: &Machine, mount: &Mount, options: &[&str], path: &str) -> Vec<u8> {
    commit(machine, mount, options);
    writers::committed(machine, &mount.session, path)
}

fn commit(machine: &Machine, mount: &Mount, options: &[&str]) {
    let mut commit = args!["commit", &mount.session].to_vec();
    commit.extend(options.iter().map(Into::into));
    machine.ok(commit);
}

#[test]
fn what_was_synced_or_closed_survives_a_kill_where_the_kernel_keeps_what_is_written() {
    keeping(|machine, mount| {
        let at = |name: &str| mount.dir.join(name);
        fs::write(at("closed"), vec![b'c'; 300_000]).unwrap();
        assert_eq!(received(machine, mount), 300_000);

        let mut synced = File::create(at("synced")).unwrap();
        synced.write_all(&[b's'; 10_000]).unwrap();
        synced.sync_data().unwrap();
        // In the middle of a page, whose rest is read of the store's object.
        let part = OpenOptions::new().write(true).open(at("big")).unwrap();
        part.write_all_at(b"PART", 100_000).unwrap();
        part.sync_all().unwrap();
        // Nothing that is written from here on comes to the process. The kernel may ask it something before it takes the bytes.
        let mut kept = File::create(at("kept")).unwrap();
        assert!(stop(mount.pid));
        std::thread::scope(|scope| {
            scope.spawn(|| drop(kept.write_all(&[b'k'; 10_000])));
            scope.spawn(|| drop(synced.write_all(&[b's'; 10_000])));
            kill_and_wait(mount.pid);
        });
        drop((synced, part, kept));
        let again = machine.resume(&mount.session_dir, &mount.dir);
        let read = |name: &str| fs::read(again.dir.join(name)).unwrap();
        assert!(read("closed") == vec![b'c'; 300_000]);
        let synced = read("synced");
        assert!(synced == [b's'; 10_000]);
        assert!(read("kept").is_empty());
        let big = read("big");
        assert_eq!(big.len(), 300_000);
        assert_eq!(&big[99_999..100_005], b".PART.");
        // Nothing of it came to the process, and it is known all the same that it is not whole.
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        let refused = refused.saying("kept").saying("synced").saying("big");
        assert!(!refused.err.contains("closed\""), "{refused:#?}");
        let big = committed(machine, mount, &["--accept-open"], "big");
        assert_eq!(&big[99_999..100_005], b".PART.");
    });
}

#[test]
fn a_commit_waits_for_the_close_of_a_file_that_the_kernel_keeps_and_has_its_last_bytes() {
    keeping(|machine, mount| {
        let at = mount.dir.join("kept");
        let mut file = File::create(&at).unwrap();
        file.write_all(b"begun, ").unwrap();
        let refused = machine.says(args!["commit", &mount.dir]).with_code(14);
        refused.saying("kept");
        let mut waiting =
            machine.start(machine.attachfs(args!["commit", "--wait", "60", &mount.dir]));
        file.write_all(b"ended").unwrap();
        assert!(waiting.is_running());
        drop(file);
        waiting.wait().with_code(0);
        assert_eq!(committed(machine, mount, &[], "kept"), b"begun, ended");
    });
}

#[test]
fn a_mapping_that_outlives_its_file_is_committed_when_it_is_gone_where_the_kernel_keeps_it() {
    keeping(|machine, mount| {
        let mut mapper = program(machine, mount, MAPS);
        mapper.wait_for_output("mapped");
        mapper.type_keys("\n");
        mapper.wait_for_output("written 0");
        let refused = machine.says(args!["commit", &mount.dir]).with_code(14);
        refused.saying("out/mapped");
        mapper.type_keys("\n");
        mapper.wait_for_output("written 1");
        mapper.signal(Signal::KILL);
        mapper.wait();
        let bytes = committed(machine, mount, &["--wait", "20"], "out/mapped");
        assert!(bytes.starts_with(b"write 00") && bytes[4096..].starts_with(b"write 01"));
    });
}

#[test]
fn who_is_cut_off_from_a_mount_that_keeps_what_is_written_is_asked_about() {
    keeping(|machine, mount| {
        let mut file = File::create(mount.dir.join("kept")).unwrap();
        file.write_all(b"begun").unwrap();
        machine.ok(args!["umount", "--force", &mount.dir]);
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("kept");
        drop(file);
        machine.says(args!["commit", &mount.session]).with_code(14);
    });
}

#[test]
fn holes_lengths_and_times_are_those_of_what_the_kernel_keeps() {
    keeping(|machine, mount| {
        let plain = machine.dir("plain");
        for dir in [&mount.dir, &plain] {
            let path = dir.join("kept");
            let file = File::create(&path).unwrap();
            file.write_all_at(b"late", 1 << 20).unwrap();
            let data = rustix::fs::seek(&file, SeekFrom::Data(0));
            assert_eq!(data, Ok(1 << 20), "{}", dir.display());
            let hole = rustix::fs::seek(&file, SeekFrom::Hole(1 << 20)).unwrap();
            assert!(hole >= (1 << 20) + 4);
            assert_eq!(fs::metadata(&path).unwrap().len(), (1 << 20) + 4);
            // Its time is the one that it is given, whenever the bytes get there.
            let time = UNIX_EPOCH + Duration::new(1_500_000_000, 5000);
            file.set_times(fs::FileTimes::new().set_modified(time))
                .unwrap();
            drop(file);
            let appended = OpenOptions::new().append(true).open(&path).unwrap();
            (&appended).write_all(b"r").unwrap();
            assert!(fs::metadata(&path).unwrap().modified().unwrap() > time);
            appended
                .set_times(fs::FileTimes::new().set_modified(time))
                .unwrap();
            drop(appended);
            let kept = fs::metadata(&path).unwrap();
            assert_eq!(kept.modified().unwrap(), time);
            assert_eq!(kept.len(), (1 << 20) + 5);
        }
        let status = || machine.json(args!["status", &mount.session]);
        until("it is closed", || status()["open"] == serde_json::json!([]));
        let again = said(
            machine
                .command("stat")
                .args(["-c", "%s %Y"])
                .arg(mount.dir.join("kept")),
        );
        assert_eq!(again.out, "1048581 1500000000\n");
        let bytes = committed(machine, mount, &[], "kept");
        assert!(bytes.ends_with(b"\0later") && bytes.len() == (1 << 20) + 5);
    });
}

#[test]
fn a_file_that_is_cut_to_the_length_it_has_keeps_the_time_that_the_kernel_shows() {
    // Where another program's sync(2) falls between a write and its close, the kernel sends the time and the bytes at once, and the time
    // of the bytes may be the later one. Without the rule that is tested each try fails.
    let is_kept = (0..5).any(|_| {
        let mut times = None;
        keeping(|machine, mount| times = Some(times_of_cut_files(machine, mount)));
        times.is_none_or(|(shown, published)| shown == published)
    });
    assert!(is_kept);
}

/// The times that the mount shows of files that were cut to the length that they had, and those that a commit publishes.
fn times_of_cut_files(machine: &Machine, mount: &Mount) -> ([u128; 3], [u128; 3]) {
    let paths = ["big", "part", "all"];
    let at = |name: &str| mount.dir.join(name);
    fs::write(at("all"), "all of it").unwrap();
    let part = OpenOptions::new().write(true).open(at("part")).unwrap();
    part.write_all_at(b"PART", 100_000).unwrap();
    drop(part);
    let time = |path: &str| fs::metadata(at(path)).unwrap().modified().unwrap();
    for path in paths {
        let cut = "import os, sys; os.truncate(sys.argv[1], os.stat(sys.argv[1]).st_size)";
        let old = time(path);
        until("the clock of files goes on", || {
            fs::write(at("clock"), "").unwrap();
            time("clock") > old + Duration::from_millis(2)
        });
        let mut python = machine.command("python3");
        said(python.args(["-c", cut]).arg(at(path))).with_code(0);
    }
    let shown = paths.map(|path| micros(time(path)));
    commit(machine, mount, &[]);
    let published = writers::seen(machine, &mount.session, |dir| {
        paths.map(|path| micros(fs::metadata(dir.join(path)).unwrap().modified().unwrap()))
    });
    (shown, published)
}

/// The microseconds since 1970: what a manifest has of a time.
fn micros(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap().as_micros()
}
