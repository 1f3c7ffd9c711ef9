//! What a mount says was used of its inputs: `report`, and the files that it writes when it ends.

mod page;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::Advice;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};
use crate::process::has_ended;

mounting_from_both_stores![
    a_report_tells_which_files_were_read_and_which_were_not,
    a_report_is_written_however_a_mount_is_unmounted,
];

/// Longer than an object that is verified before it is given out.
const LONG: usize = 12 << 20;
const FAR: u64 = 10 << 20;

/// A folder with a long and two short files, and a manifest of it with the long one in one piece.
fn base(machine: &Machine) -> PathBuf {
    let long: Vec<u8> = (0..LONG / 8).flat_map(usize::to_le_bytes).collect();
    machine.file("input/long", long);
    machine.file("input/dir/short", "a short text");
    machine.file("input/dir/never", "never read");
    machine.snapshot_in_pieces(&machine.path("input"), "base.manifest", 16 << 20)
}

fn report(machine: &Machine, mount: &Mount) -> Value {
    machine.json(args!["report", &mount.dir])
}

fn read_report(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What a list of a report has of a path.
fn of<'a>(list: &'a Value, path: &str) -> Option<&'a Value> {
    let all = list.as_array().unwrap();
    all.iter().find(|entry| entry["path"] == path)
}

/// Reads bytes of a file, and has the kernel read none beside them.
fn read_only(file: &File, from: u64) {
    rustix::fs::fadvise(file, 0, None, Advice::Random).unwrap();
    file.read_exact_at(&mut [0; 4096], from).unwrap();
}

fn a_report_tells_which_files_were_read_and_which_were_not(machine: &Machine) {
    let manifest = base(machine);
    let mount = machine.mount(args!["--prefetch", "off", &manifest], "mnt");
    let nothing = report(machine, &mount);
    assert_eq!(nothing["inputs"]["used_files"], 0, "{nothing}");
    assert_eq!(nothing["inputs"]["never_read"]["files"], 3, "{nothing}");
    let long = File::open(mount.dir.join("long")).unwrap();
    read_only(&long, 0);
    read_only(&long, FAR);
    fs::read(mount.dir.join("dir/short")).unwrap();
    let told = report(machine, &mount);
    let read = of(&told["read"], "long").unwrap();
    assert_eq!(
        read["ranges"],
        json!([[0, 4096], [FAR, FAR + 4096]]),
        "{told}"
    );
    assert_eq!(read["size"], LONG, "{told}");
    assert_eq!(read["opens"], 1, "{told}");
    // Part of a long object was given out, and cannot be verified yet.
    assert_eq!(read["bytes_unverified"], 8192, "{told}");
    let short = of(&told["read"], "dir/short").unwrap();
    assert_eq!(
        (&short["bytes_read"], &short["bytes_unverified"]),
        (&json!(12), &json!(0))
    );
    assert_eq!(
        told["never_read"],
        json!([{"path": "dir/never", "size": 10}])
    );
    let sums = &told["inputs"];
    assert_eq!(sums["used_files"], 2, "{told}");
    assert_eq!(
        sums["never_read"],
        json!({"files": 1, "bytes": 10}),
        "{told}"
    );
    assert_eq!(sums["bytes_read"], 8192 + 12, "{told}");
    assert_eq!(sums["bytes_unverified"], 8192, "{told}");
    let first_uses = told["timeline"]["first_uses"].as_array().unwrap();
    assert_eq!(
        first_uses
            .iter()
            .map(|uses| uses.as_u64().unwrap())
            .sum::<u64>(),
        2
    );
    // Against a download of everything.
    let (full, saved) = (&told["full_download"], &told["saved"]);
    assert_eq!(full["requests"], 3, "{told}");
    assert_eq!(full["bytes"], LONG + 12 + 10, "{told}");
    let fetched = told["fetched"]["bytes"].as_u64().unwrap();
    assert!(fetched < 1 << 20, "{told}");
    assert_eq!(
        saved["bytes"].as_u64().unwrap() + fetched,
        (LONG + 22) as u64,
        "{told}"
    );
    assert!(told["money"].is_null(), "{told}");
    drop(long);
    // All of it was read, so it was verified.
    fs::read(mount.dir.join("long")).unwrap();
    let verified = report(machine, &mount);
    assert_eq!(verified["inputs"]["bytes_unverified"], 0, "{verified}");
    assert_eq!(
        of(&verified["read"], "long").unwrap()["ranges"],
        json!([[0, LONG]])
    );
    machine
        .ok(args!["report", &mount.session])
        .printing("inputs     2 of 3 files used; 1 never read, 10 B\n")
        .printing("10 B  dir/never\n");
}

#[test]
fn a_report_names_who_looked_up_what_is_missing() {
    Machine::mounting_from_directory(|machine| {
        // The kernel remembers no name here, so each look-up comes to attachfs.
        let mount = machine.mount(args!["--case-insensitive", base(machine)], "mnt");
        let mut asked = Vec::new();
        for _ in 0..2 {
            let mut cat = machine.command("cat");
            let cat = cat.arg(mount.dir.join("dir/absent.exr"));
            let mut cat = cat.stderr(std::process::Stdio::null()).spawn().unwrap();
            asked.push(cat.id());
            assert_eq!(cat.wait().unwrap().code(), Some(1));
        }
        fs::write(mount.dir.join("made"), "by the job").unwrap();
        let told = report(machine, &mount);
        let missing = of(&told["missing"]["listed"], "dir/absent.exr").unwrap();
        assert_eq!(
            missing["process"],
            json!({"pid": asked[0], "name": "cat"}),
            "{told}"
        );
        assert!(missing["lookups"].as_u64().unwrap() >= 2, "{told}");
        assert_eq!(of(&told["missing"]["listed"], "made"), None, "{told}");
        assert_eq!(told["missing"]["names"], 1, "{told}");
        let line = format!("x  dir/absent.exr, by cat ({})\n", asked[0]);
        machine.ok(args!["report", &mount.dir]).printing(&line);
    });
}

fn a_report_is_written_however_a_mount_is_unmounted(machine: &Machine) {
    let manifest = base(machine);
    for end in ["attachfs umount", "umount", "Ctrl-C", "a signal"] {
        let (json, html) = (machine.path("use.json"), machine.path("use.html"));
        let options = args!["--report", "use.json", "--report", &html, &manifest];
        let is_used = |dir: &Path| {
            // It is killed while it reads.
            let mut reader = machine.command("tail");
            reader.args(["-f", "-c", "+1"]).arg(dir.join("dir/short"));
            let mut reader = machine.start(reader);
            reader.wait_for_output("a short text");
            reader.signal(Signal::KILL);
            reader.wait().with_code(137);
        };
        if end == "Ctrl-C" {
            let options = [&args!["--foreground"][..], &options[..]].concat();
            let mut mount = machine.start(machine.mounting(options, "mnt"));
            mount.wait_for_output("mount_point");
            is_used(&machine.path("mnt"));
            mount.signal(Signal::INT);
            mount.wait().with_code(0);
        } else {
            let mount = machine.mount(options, "mnt");
            is_used(&mount.dir);
            match end {
                "attachfs umount" => {
                    let said = machine.ok(args!["umount", &mount.dir]);
                    said.printing("report     ").printing("use.html\n");
                }
                "umount" => umount(&mount.dir),
                _ => crate::process::kill(mount.pid, Signal::TERM),
            }
            until("the process has ended", || has_ended(mount.pid));
        }
        let told = read_report(&json);
        assert_eq!(told["attachfs_report"], 1, "{end}: {told}");
        assert_eq!(told["ended"], true, "{end}: {told}");
        assert!(of(&told["read"], "dir/short").is_some(), "{end}: {told}");
        assert!(
            of(&told["never_read"], "dir/never").is_some(),
            "{end}: {told}"
        );
        let page = fs::read_to_string(&html).unwrap();
        assert!(page.contains("dir/short"), "{end}");
        // The next mount writes over them, because they are reports.
        fs::write(&html, "").unwrap();
    }
}

/// Unmounts as root does, or with FUSE's helper.
fn umount(dir: &Path) {
    let is_root = rustix::process::geteuid().is_root();
    let (program, options) = if is_root {
        ("umount", &[][..])
    } else {
        ("fusermount3", &["-u"][..])
    };
    until("it is not busy", || {
        let mut command = Command::new(program);
        command.args(options).arg(dir);
        command.output().unwrap().status.success()
    });
}

#[test]
fn a_report_that_cannot_be_written_is_a_warning_and_fails_no_commit() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let (gone, taken) = (
            machine.dir("gone").join("use.json"),
            machine.path("use.html"),
        );
        let options = args!["--commit", "--report", &gone, "--report", &taken, &manifest];
        let mount = machine.mount(options, "mnt");
        fs::write(mount.dir.join("new"), "written by the job").unwrap();
        mount.until_all_is_closed(machine);
        fs::remove_dir(machine.path("gone")).unwrap();
        fs::write(&taken, "the user's own").unwrap();
        let said = machine.ok(args!["umount", &mount.dir]);
        let said = said.printing("outputs    1 added");
        let said = said.saying(&format!("the report {} was not written: ", gone.display()));
        said.saying("use.html is there already and is no report");
        assert_eq!(fs::read_to_string(&taken).unwrap(), "the user's own");
        assert_eq!(machine.published(&mount.session).len(), 1);
    });
}

#[test]
fn a_report_on_a_disk_that_hangs_keeps_no_mount_from_ending() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let disk = machine.mount(args![&manifest], "disk");
        let file = disk.dir.join("use.json");
        let mount = machine.mount(args!["--commit", "--report", &file, &manifest], "mnt");
        fs::write(mount.dir.join("new"), "written by the job").unwrap();
        mount.until_all_is_closed(machine);
        assert!(crate::process::stop(disk.pid));
        let ended = machine.json(args!["umount", &mount.dir]);
        crate::process::kill(disk.pid, Signal::CONT);
        let failure = ended["reports"][0]["failure"].as_str().unwrap();
        assert!(failure.contains("within 20 s"), "{ended}");
        assert_eq!(ended["commit"]["account"]["added"], 1, "{ended}");
        until("the process has ended", || has_ended(mount.pid));
    });
}

#[test]
fn a_report_that_cannot_be_where_it_is_to_be_is_refused_before_anything_is_mounted() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mine = machine.file("mine.json", "{\"of\": \"the user\"}");
        let link = machine.path("link.html");
        std::os::unix::fs::symlink(&mine, &link).unwrap();
        for (file, why) in [
            (mine.clone(), "is there already and is no report"),
            (link, "is a symbolic link"),
            (machine.path("use.txt"), "has to end in .json or .html"),
            (machine.path("nowhere/use.html"), "nowhere"),
            (machine.path("mnt/use.html"), "would lie in"),
        ] {
            let mut mount = machine.mounting(args!["--report", &file, &manifest], "mnt");
            let refused = crate::process::said(&mut mount);
            assert!(refused.code != 0, "{refused:?}");
            refused.saying(why);
            assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
            assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
        }
        assert_eq!(fs::read_to_string(&mine).unwrap(), "{\"of\": \"the user\"}");
    });
}

#[test]
fn a_page_in_the_mount_that_it_reports_on_is_refused() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![&base(machine)], "mnt");
        let page = mount.dir.join("dir/use.html");
        let refused = machine.says(args!["report", "--html", &page, &mount.dir]);
        refused.with_code(2).saying("would lie in");
        assert!(!page.exists());
    });
}

#[test]
fn money_is_told_only_with_prices() {
    Machine::mounting_from_s3(|machine| {
        let priced = args!["--price-per-1000-gets", "1", "--price-per-gb", "100"];
        let manifest = base(machine);
        let mount = machine.mount([&priced[..], &args![&manifest]].concat(), "mnt");
        fs::read(mount.dir.join("dir/short")).unwrap();
        let told = report(machine, &mount);
        let number = |of: &Value| of.as_f64().unwrap();
        let cost = |of: &Value| number(&of["requests"]) / 1e3 + number(&of["bytes"]) / 1e7;
        let is = |found: &Value, expected: f64| {
            assert!(
                (number(found) - expected).abs() < 1e-9,
                "{expected}: {told}"
            );
        };
        let money = &told["money"];
        is(&money["spent"], cost(&told["fetched"]));
        is(&money["full_download"], cost(&told["full_download"]));
        is(
            &money["saved"],
            number(&money["full_download"]) - number(&money["spent"]),
        );
        assert!(number(&money["saved"]) > 1.0, "{told}");
        // Who asks may have prices of its own.
        let mine = machine.json(args!["report", "--price-per-gb", "0", &mount.dir]);
        assert_eq!(mine["money"]["full_download"], 0.0, "{mine}");
    });
}

#[test]
fn a_run_writes_a_report_of_what_its_command_used() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let file = machine.path("use.json");
        let store = machine.store();
        let run = machine.ok(args![
            "run",
            "--store",
            store,
            "--manifest",
            &manifest,
            "--report",
            &file,
            "--",
            "sh",
            "-c",
            "cat dir/short; test -e plugin.so || echo >new"
        ]);
        run.saying(&format!("report     {}", file.display()));
        let told = read_report(&file);
        assert!(of(&told["read"], "dir/short").is_some(), "{told}");
        assert!(of(&told["never_read"], "long").is_some(), "{told}");
        let missing = of(&told["missing"]["listed"], "plugin.so").unwrap();
        assert_eq!(missing["process"]["name"], "sh", "{told}");
        assert_eq!(of(&told["missing"]["listed"], "new"), None, "{told}");
    });
}

#[test]
fn a_report_of_a_session_that_is_not_mounted_is_a_usage_error() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        machine.ok(args!["umount", &mount.dir]);
        let refused = machine.says(args!["report", &mount.session]).with_code(2);
        refused.saying("is not mounted").saying("mount --report");
    });
}

/// A manifest of so many files, whose objects are nowhere.
fn many(machine: &Machine, files: u64) -> PathBuf {
    let path = machine.path("many.manifest");
    let mut manifest = std::io::BufWriter::new(File::create(&path).unwrap());
    write!(
        manifest,
        r#"{{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":["#
    )
    .unwrap();
    for number in 0..files {
        let comma = if number > 0 { "," } else { "" };
        let dir = number / 1000;
        write!(
            manifest,
            r#"{comma}{{"hash":"{number:032x}","mtime":1700000000000000,"path":"d{dir:03}/a file with a name {number:06}.exr","size":{}}}"#,
            1000 + number
        )
        .unwrap();
    }
    let total: u64 = (0..files).map(|number| 1000 + number).sum();
    write!(manifest, r#"],"totalSize":{total}}}"#).unwrap();
    manifest.flush().unwrap();
    path
}

/// The memory of a process, in KiB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().strip_suffix(" kB").unwrap();
    number.trim().parse().unwrap()
}

#[test]
fn the_report_of_100_000_files_is_bounded_and_so_is_the_memory_for_it() {
    const FILES: u64 = 100_000;
    const OPENED: u64 = 20_000;
    Machine::mounting_from_directory(|machine| {
        let (json, html) = (machine.path("use.json"), machine.path("use.html"));
        let manifest = many(machine, FILES);
        let options = args![
            "--no-probe",
            "--report",
            &json,
            "--report",
            &html,
            &manifest
        ];
        let mount = machine.mount(options, "mnt");
        let open = |number: u64| {
            let dir = number / 1000;
            let name = format!("d{dir:03}/a file with a name {number:06}.exr");
            drop(File::open(mount.dir.join(name)).unwrap());
        };
        open(0);
        report(machine, &mount);
        let before = memory(mount.pid);
        (0..OPENED).for_each(open);
        until("all files are closed", || {
            machine.json(args!["stats", &mount.dir])["open_file_count"] == 0
        });
        let told = report(machine, &mount);
        let grown = memory(mount.pid).saturating_sub(before);
        assert!(grown < 48 << 10, "{grown} KiB");
        let sums = &told["inputs"];
        assert_eq!(sums["used_files"], OPENED);
        assert_eq!(sums["only_opened_files"], OPENED);
        assert_eq!(sums["never_read"]["files"], FILES - OPENED);
        let never = told["never_read"].as_array().unwrap();
        assert_eq!(never.len(), 2000);
        assert_eq!(never[0]["path"], "d099/a file with a name 099999.exr");
        assert_eq!(told["full_download"]["requests"], FILES);
        machine.ok(args!["umount", &mount.dir]);
        let lens = [&json, &html].map(|file| fs::metadata(file).unwrap().len());
        assert!(lens[0] < 2 << 20 && lens[1] < 256 << 10, "{lens:?}");
    });
}
