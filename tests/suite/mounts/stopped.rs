//! Mounts whose process is stopped or never answers: what is asked of them, and of what lies in them, ends all the same.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::{NOTHING, base};
use crate::machine::{Machine, args, skipped, until};
use crate::process::{has_ended, kill, stop};

/// Mounts for a program that never answers; the mount is there until somebody removes it.
fn mount_without_answers(dir: &Path, source: &str, kind: &str, user: u32) -> File {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let device = device.unwrap();
    let options = format!(
        "fd={},rootmode=40000,user_id={user},group_id={user},allow_other",
        device.as_raw_fd()
    );
    let options = CString::new(options).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount(source, dir, kind, flags, &*options).unwrap();
    device
}

#[test]
fn a_mount_point_in_a_mount_of_a_program_that_does_not_answer_is_an_error() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can mount without a helper");
        return;
    }
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let other = machine.dir("other");
        let _device = mount_without_answers(&other, "other", "fuse.other", 0);
        let inside = other.join("dir");
        let refused = machine.says(args![
            "mount",
            "--store",
            machine.store(),
            &manifest,
            &inside
        ]);
        let refused = refused.with_code(14);
        refused.saying("whose process does not answer");
        assert_eq!(machine.mounts(), [other]);
    });
}

#[test]
fn a_mount_that_another_user_calls_by_the_id_of_a_session_is_not_taken_for_its_mount() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can mount in the name of another user");
        return;
    }
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let spoofed = machine.dir("spoofed");
        let source = format!("attachfs:{}", mount.session);
        let _device = mount_without_answers(&spoofed, &source, "fuse.attachfs", 65534);
        for verb in ["status", "commit", "umount"] {
            let refused = machine.says(args![verb, &spoofed]).with_code(2);
            refused.saying("not a mount of this user's sessions");
        }
        // Nor is its process, which does not answer, taken for that of the session.
        let inside = spoofed.join("dir");
        let refused = machine.says(args!["ls", &inside]).with_code(14);
        refused.saying("whose process does not answer");
        machine.ok(args!["umount", &mount.dir]);
        assert_eq!(machine.mounts(), [spoofed]);
    });
}

/// A process that is stopped, until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(pid: u32) -> Self {
        assert!(stop(pid));
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.0.cast_signed()) {
            // It may be gone.
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

#[test]
fn no_verb_waits_for_a_process_that_is_stopped() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args![&manifest], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        mount.until_all_is_closed(machine);
        let stopped = Stopped::new(mount.pid);
        let over = args!["mount", "--store", machine.store(), &manifest, &mount.dir];
        let inside = mount.dir.join("dir");
        let below = args!["mount", "--store", machine.store(), &manifest, &inside];
        let resume = args![
            "mount",
            "--session",
            &mount.session_dir,
            machine.dir("again")
        ];
        let (store, file) = (mount.dir.join("store"), mount.dir.join("a"));
        let map = OsString::from(format!("{}={}", manifest.display(), inside.display()));
        let free = machine.dir("free");
        let with_log = args!["mount", "--log", &file, &manifest, &free];
        let with_cache = args!["mount", "--cache-dir", &inside, &manifest, &free];
        let with_scratch = args!["mount", "--scratch-dir", &inside, &manifest, &free];
        let verbs: [(i32, &[OsString]); 20] = [
            (14, &args!["status", &mount.dir]),
            (14, &args!["status", &inside]),
            (14, &args!["diff", &mount.dir]),
            (14, &args!["commit", &mount.dir]),
            (14, &args!["umount", &mount.dir]),
            (14, &args!["discard", "--yes", &mount.dir]),
            (10, &over),
            (14, &below),
            (14, &resume),
            (
                14,
                &args![
                    "snapshot",
                    &mount.dir,
                    "--store",
                    machine.store(),
                    "--output",
                    "o"
                ],
            ),
            (
                14,
                &args!["snapshot", &free, "--store", &store, "--output", "o"],
            ),
            (14, &args!["ls", &file]),
            (14, &args!["download", &manifest, "--root", &inside]),
            (14, &args!["download", "--map", &map]),
            (14, &args!["manifest", "diff", &manifest, &file]),
            (14, &args!["store", "verify", &store]),
            (14, &with_log),
            (14, &with_cache),
            (14, &with_scratch),
            (0, &args!["list"]),
        ];
        let pid = mount.pid;
        std::thread::scope(|scope| {
            for (code, verb) in verbs {
                scope.spawn(move || {
                    let said = machine.says(verb).with_code(code);
                    if code == 14 {
                        said.saying(&format!("process {pid} ("))
                            .saying(", stopped)");
                    }
                });
            }
        });
        let advised = machine.says(args!["umount", &mount.dir]).with_code(14);
        advised.saying("attachfs umount --force");
        let mut elsewhere = machine.command(crate::programs::program("attachfs"));
        elsewhere.arg("list").env("XDG_STATE_HOME", &inside);
        let elsewhere = machine.start(elsewhere).wait().with_code(14);
        elsewhere.saying("does not answer");
        // Somebody waits for the mount all the time.
        let mut reader = machine.command("cat");
        reader.arg(mount.dir.join("a"));
        let reader = machine.start(reader);
        let forced = machine.json(args!["umount", "--force", &mount.dir]);
        assert_eq!(forced["process"], mount.pid);
        assert_eq!(forced["kept"], true);
        assert_eq!(machine.mounts(), NOTHING);
        let read = reader.wait();
        assert_ne!(read.code, 0, "{read:?}");
        let busy = machine.says(args!["commit", &mount.session]).with_code(14);
        busy.saying(&format!("process {pid} ("))
            .saying(", stopped)");
        drop(stopped);
        until("the process ends", || has_ended(mount.pid));
        let diff = machine.ok(args!["diff", &mount.session]);
        diff.printing("+ new  (3 B)");
    });
}

#[test]
fn a_verb_ends_whose_folder_is_in_a_mount_that_is_stopped_after_it_was_asked() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let list = machine.path("list");
        rustix::fs::mkfifoat(rustix::fs::CWD, &list, rustix::fs::Mode::RWXU).unwrap();
        let arguments = args![
            "snapshot",
            "--store",
            machine.store(),
            "-o",
            machine.path("of the mount"),
            "--cross-mounts",
            "--files-from",
            &list,
            &mount.dir
        ];
        let running = machine.start(machine.attachfs(arguments));
        // It has looked at the mount, and reads the list.
        let mut pipe = fs::OpenOptions::new().write(true).open(&list).unwrap();
        assert!(stop(mount.pid));
        std::io::Write::write_all(&mut pipe, b"a\n").unwrap();
        drop(pipe);
        let asked = std::time::Instant::now();
        let refused = running.wait().with_code(14);
        refused.saying("does not answer");
        assert!(asked.elapsed() < std::time::Duration::from_mins(1));
        kill(mount.pid, Signal::CONT);
        machine.ok(args!["umount", &mount.dir]);
    });
}
