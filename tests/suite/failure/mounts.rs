//! Mount points, users of a mount, signals, and who may mount.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::base;
use crate::machine::{Machine, args, skipped, until};
use crate::process::{Running, Said, has_ended, kill, said};
use crate::programs::program;

#[test]
fn a_mount_point_that_cannot_be_used_is_refused_with_advice() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = |at: &Path| {
            let mut mount = machine.attachfs(args!["mount", "--store", machine.store(), &manifest]);
            said(mount.arg(at))
        };
        let missing = mount(&machine.path("no/such/dir")).with_code(10);
        missing.saying("no/such/dir does not exist; create it");
        let file = machine.file("file", "");
        mount(&file).with_code(10).saying("is not a directory");
        let full = mount(&machine.path("input")).with_code(10);
        full.saying("is not empty");
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
        let mounted = machine.mount(args![&manifest], "mnt");
        let again = mount(&mounted.dir).with_code(10);
        again.saying("is already the mount point of");
        assert_eq!(machine.sessions().len(), 1);
        assert_eq!(machine.mounts(), [mounted.dir]);
    });
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    Machine::with_directory(|machine| {
        let manifest = base(machine);
        let at = machine.dir("mnt");
        let wrong: [&[OsString]; 10] = [
            &args!["mount", "--output-dir", "../out", &manifest, &at],
            &args!["mount"],
            &args!["mount", &at],
            &args!["fly"],
            &args!["mount", "--read-only", "--commit", &manifest, &at],
            &args!["mount", "-", "-", &at],
            &args!["mount", "--store", "https://x/y", &manifest, &at],
            &args!["status", "no-such-session"],
            &args!["umount", &at],
            &args![
                "snapshot",
                machine.path("input"),
                "-o",
                "m",
                "--chunk-size",
                "0"
            ],
        ];
        for arguments in wrong {
            let said = machine.says(arguments).with_code(2);
            assert!(!said.err.is_empty(), "{arguments:?}");
        }
        machine.ok(args!["--help"]);
        machine.ok(args!["mount", "--help"]);
    });
}

#[test]
fn a_mount_in_use_stays_until_it_is_forced_and_says_who_uses_it() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        let mut user = machine.command("sh");
        user.args(["-c", "echo here; exec sleep 1000"]);
        user.current_dir(mount.dir.join("dir"));
        let mut user: Running = machine.start(user);
        user.wait_for_output("here");
        let pid = user.pid();
        until("it has become the other program", || {
            fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sleep\n"
        });
        let busy = machine.says(args!["umount", &mount.dir]).with_code(14);
        let busy = busy.saying("is in use by sleep");
        busy.saying(&pid.to_string());
        assert_eq!(fs::read(mount.dir.join("new")).unwrap(), b"new");
        machine.ok(args!["umount", "--force", &mount.dir]);
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
        until("the process ends", || has_ended(mount.pid));
        machine.ok(args!["diff", &mount.session]).printing("+ new");
        user.signal(Signal::KILL);
        user.wait();
    });
}

#[test]
fn two_mounts_of_one_session_are_refused() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(
            args!["--session", machine.path("session"), &manifest],
            "mnt",
        );
        assert_eq!(mount.session_dir, machine.path("session"));
        let again = machine.says(args![
            "mount",
            "--session",
            &mount.session_dir,
            machine.dir("again")
        ]);
        again.with_code(14).saying("is in use");
        let other = args![
            "mount",
            "--session",
            &mount.session_dir,
            &manifest,
            machine.dir("again")
        ];
        machine
            .says(other)
            .with_code(2)
            .saying("there is a session in");
        fs::write(mount.dir.join("new"), "new").unwrap();
        machine.ok(args!["umount", &mount.dir]);
        let again = machine.resume(&mount.session_dir, &machine.dir("again"));
        assert_eq!(fs::read(again.dir.join("new")).unwrap(), b"new");
        machine.ok(args!["umount", &again.dir]);
        machine.ok(args!["discard", &mount.session_dir, "--yes"]);
        assert!(!mount.session_dir.exists());
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    });
}

#[test]
fn signals_unmount_cleanly_and_keep_the_session() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        for signal in [Signal::INT, Signal::TERM] {
            let mut mount: Running = machine.start(machine.mounting(args!["-f", &manifest], "mnt"));
            mount.wait_for_output("\n");
            let (out, _) = mount.so_far();
            let ready: Value = serde_json::from_str(&out).unwrap();
            let session = ready["session"].as_str().unwrap();
            fs::write(machine.path("mnt/new"), "new").unwrap();
            mount.signal(signal);
            mount.wait().with_code(0);
            assert_eq!(machine.mounts(), [] as [PathBuf; 0], "{signal:?}");
            machine.ok(args!["diff", session]).printing("+ new");
        }
        // In the background, and used: who uses it is cut off.
        let mount = machine.mount(args![&manifest], "mnt");
        let mut open = File::create(mount.dir.join("open")).unwrap();
        open.write_all(b"open").unwrap();
        kill(mount.pid, Signal::TERM);
        until("the process ends", || has_ended(mount.pid));
        // What the kernel writes by itself still gets into the file, and nothing else of the mount answers.
        let more = open.write_all(b"more").is_ok();
        open.metadata().unwrap_err();
        drop(open);
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
        machine
            .ok(args!["diff", &mount.session])
            .printing("left out   1 path open for writing: open");
        let committed = machine.json(args!["commit", "--accept-open", &mount.session]);
        let account = &committed["account"];
        let written = if more { "openmore" } else { "open" };
        assert_eq!(
            (&account["added"], &account["bytes"]),
            (&1.into(), &written.len().into())
        );
    });
}

#[test]
fn a_mount_whose_connection_is_aborted_keeps_its_session() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        // What an administrator does with a mount that hangs.
        let device = fs::metadata(&mount.dir).unwrap().dev();
        let connection = format!(
            "/sys/fs/fuse/connections/{}/abort",
            rustix::fs::minor(device)
        );
        if fs::write(&connection, "1").is_err() {
            skipped(
                "connections can be aborted by root only, where /sys/fs/fuse/connections is mounted",
            );
            return;
        }
        until("the process ends", || has_ended(mount.pid));
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
        machine.ok(args!["diff", &mount.session]).printing("+ new");
    });
}

/// Runs the program as the user `nobody`.
fn as_nobody(machine: &Machine, arguments: impl AsRef<[OsString]>) -> Said {
    let mut command = machine.command("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(machine.path("attachfs"))
        .args(arguments.as_ref());
    said(&mut command)
}

#[test]
fn a_user_who_is_not_root_mounts_or_is_told_what_is_missing() {
    if rustix::process::getuid().as_raw() != 0
        || Command::new("setpriv").arg("-V").output().is_err()
    {
        skipped("only root, with setpriv, can act as another user");
        return;
    }
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        fs::copy(program("attachfs"), machine.path("attachfs")).unwrap();
        let chowned = Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(machine.path(""))
            .status();
        assert!(chowned.unwrap().success());
        let at = machine.path("home/mnt");
        fs::create_dir(&at).unwrap();
        std::os::unix::fs::chown(&at, Some(65534), Some(65534)).unwrap();
        let mount = args!["mount", "--store", machine.store(), &manifest, &at];
        let mounted = as_nobody(machine, &mount);
        let mode = fs::metadata("/dev/fuse").unwrap().mode();
        if mode & 0o6 != 0o6 {
            mounted
                .with_code(10)
                .saying("no permission to open /dev/fuse; as root, run `chmod 666 /dev/fuse`");
            assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
            assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
            return;
        }
        if mounted.code != 0 {
            mounted.with_code(10).saying("fuse");
            return;
        }
        let mut read = machine.command("setpriv");
        read.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "sh",
            "-c",
        ]);
        // Not even root may look into it.
        read.arg("cd \"$0\" && cat a && echo new > new").arg(&at);
        said(&mut read).with_code(0).printing("a of the input");
        let unmounted = as_nobody(machine, args!["umount", "--json", &at])
            .with_code(0)
            .json();
        assert_eq!(unmounted["uncommitted"], 1);
        as_nobody(
            machine,
            args!["commit", unmounted["session"].as_str().unwrap()],
        )
        .with_code(0);
    });
}

/// As many as a tree must have to be saved.
const MANY: usize = 10_000;

/// A manifest of so many files, all with the text of one that is in the store.
fn many(machine: &Machine) -> PathBuf {
    let listed = machine.json(args!["ls", base(machine), "-R"]);
    let mut lines = listed.as_array().unwrap().iter();
    let one = lines.find(|line| line["path"] == "a").unwrap();
    let file = |number: usize| {
        let path = format!("{}/{number}", number % 50);
        let (hash, size) = (&one["hash"], &one["size"]);
        serde_json::json!({ "hash": hash, "mtime": 0, "path": path, "size": size })
    };
    let files: Vec<_> = (0..MANY).map(file).collect();
    let manifest = serde_json::json!({
        "hashAlg": "xxh128",
        "manifestVersion": "2023-03-03",
        "paths": files,
        "totalSize": MANY as u64 * one["size"].as_u64().unwrap(),
    });
    machine.file("many.manifest", manifest.to_string())
}

#[test]
fn a_saved_tree_that_is_damaged_before_or_during_a_mount_is_made_good() {
    Machine::mounting_from_directory(|machine| {
        let manifest = many(machine);
        let saved = || {
            let entries = fs::read_dir(machine.path("cache/attachfs/index"));
            let mut paths = entries
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().path());
            paths.find(|path| path.extension().is_some_and(|of| of == "tree"))
        };
        let shows_all = |dir: &Path| {
            let dirs = fs::read_dir(dir)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let files: usize = dirs.map(|dir| fs::read_dir(dir).unwrap().count()).sum();
            assert_eq!(files, MANY);
            assert_eq!(fs::read(dir.join("7/9957")).unwrap(), b"a of the input\n");
        };
        let mounted = machine.mount(args![&manifest], "mnt");
        shows_all(&mounted.dir);
        until("the tree is saved", || saved().is_some());
        machine.ok(args!["umount", &mounted.dir]);
        let saved = saved().unwrap();
        let sound = fs::read(&saved).unwrap();
        let damage = |from: usize| {
            let file = File::options().write(true).open(&saved).unwrap();
            let bytes = vec![0xff; sound.len() - from];
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, from as u64).unwrap();
        };
        let is_sound = || fs::read(&saved).unwrap() == sound;
        // Behind the header, which is looked at when it is opened.
        damage(4096);
        let mounted = machine.mount(args![&manifest], "mnt");
        shows_all(&mounted.dir);
        until("the damaged tree is replaced", is_sound);
        machine.ok(args!["umount", &mounted.dir]);

        let mounted = machine.mount(args![&manifest], "mnt");
        damage(0);
        shows_all(&mounted.dir);
        until("the damaged tree is replaced", is_sound);
        machine.ok(args!["umount", &mounted.dir]);
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    });
}
