//! What becomes of a session when its mount ends by a signal or by the kernel, and what is said of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::machine::{Machine, args, until};
use crate::process::{has_ended, kill};

/// The ways in which a mount ends without a request to unmount.
const ENDS: [&str; 5] = ["INT", "TERM", "HUP", "umount", "fusermount3"];

/// Ends a mount, and waits until nothing is there any more.
fn end(how: &str, pid: u32, dir: &Path) {
    match how {
        "INT" => kill(pid, Signal::INT),
        "TERM" => kill(pid, Signal::TERM),
        "HUP" => kill(pid, Signal::HUP),
        program => {
            let options = if program == "umount" {
                &[][..]
            } else {
                &["-u"]
            };
            until("it is not busy", || {
                let mut command = Command::new(program);
                command.args(options).arg(dir);
                command.output().unwrap().status.success()
            });
        }
    }
    until("the process has ended", || has_ended(pid));
}

fn may_run(how: &str) -> bool {
    how != "umount" || rustix::process::geteuid().is_root()
}

#[test]
fn a_session_in_which_nothing_is_ends_however_its_mount_ends() {
    Machine::mounting_from_directory(|machine| {
        machine.file("input/a", "of the input");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        for how in ENDS.into_iter().filter(|how| may_run(how)) {
            let mount = machine.mount(args!["--commit", &manifest], "mnt");
            assert_eq!(fs::read(mount.dir.join("a")).unwrap(), b"of the input");
            end(how, mount.pid, &mount.dir);
            let listed = machine.json(args!["list"]);
            assert_eq!(listed, serde_json::json!([]), "{how}");
            assert!(!mount.session_dir.exists(), "{how}");
        }
        // With anything in it, it is kept.
        for how in ENDS.into_iter().filter(|how| may_run(how)) {
            let mount = machine.mount(args![&manifest], "mnt");
            fs::write(mount.dir.join("new"), "by the job").unwrap();
            mount.until_all_is_closed(machine);
            let is_committed = how == "TERM";
            if is_committed {
                machine.ok(args!["commit", &mount.dir]);
            }
            end(how, mount.pid, &mount.dir);
            let status = machine.json(args!["status", &mount.session]);
            assert_eq!(status["uncommitted"], u64::from(!is_committed), "{how}");
            machine.ok(args!["discard", "--yes", &mount.session]);
        }
    });
}

#[test]
fn a_mount_in_the_foreground_says_what_became_of_its_session() {
    Machine::mounting_from_directory(|machine| {
        machine.file("input/a", "of the input");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        for how in ENDS.into_iter().filter(|how| may_run(how)) {
            for writes in [false, true] {
                let options = args!["-f", "--commit", "--store", machine.store(), &manifest];
                let at = machine.dir("mnt");
                let mut mounting = machine.attachfs(args!["mount"]);
                mounting.args(options).arg(&at);
                let mut mount = machine.start(mounting);
                mount.wait_for_output("session    ");
                if writes {
                    fs::write(at.join("new"), "by the job").unwrap();
                    until("all is closed", || {
                        let status = machine.json(args!["status", &at]);
                        status["open"].as_array().unwrap().is_empty()
                    });
                }
                end(how, mount.pid(), &at);
                let told = mount.wait().with_code(0);
                let told = told.printing("unmounted  ");
                if writes {
                    let listed = machine.json(args!["list"]);
                    let id = listed[0]["session"].as_str().unwrap();
                    let told =
                        told.printing(&format!("{id} is kept with 1 changed path not committed\n"));
                    told.printing("nothing was committed: `--commit` is for `attachfs umount`")
                        .printing(&format!("attachfs commit {}\n", &id[..8]));
                    machine.ok(args!["discard", "--yes", id]);
                } else {
                    told.printing("session    ended: nothing in it is needed any more\n");
                    assert_eq!(machine.json(args!["list"]), serde_json::json!([]), "{how}");
                }
            }
        }
    });
}
