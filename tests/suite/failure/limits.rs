//! What a mount does with those who go on writing when it ends, and with a low limit of open files.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use super::base;
use crate::machine::{Machine, args, until};
use crate::process::{Running, has_ended};

/// Writes numbered files for ever, and a line for each that returned success; stops at the first failure.
const WRITER: &str = "i=0; while echo $i > f$i; do echo $i; i=$((i+1)); done";

#[test]
fn what_returned_success_before_a_forced_unmount_is_committed_or_kept() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args!["--commit", base(machine)], "mnt");
        let mut writer = machine.command("sh");
        writer.args(["-c", WRITER]).current_dir(&mount.dir);
        let mut writer: Running = machine.start(writer);
        writer.wait_for_output("20\n");
        machine.ok(args!["umount", "--force", &mount.dir]);
        until("the process ends", || has_ended(mount.pid));
        writer.signal(Signal::KILL);
        let written = writer.wait().out.lines().count();
        if !machine.sessions().is_empty() {
            // A file was open in the last moment: the session has what is not in the manifest.
            machine.ok(args!["commit", "--accept-open", &mount.session]);
        }
        let diffs = machine
            .store_files()
            .join("Manifests/attachfs")
            .join(&mount.session);
        let mut listed = 0;
        for diff in fs::read_dir(diffs).unwrap() {
            let names = machine.ok(args!["ls", diff.unwrap().path()]).out;
            listed += names.lines().filter(|name| name.starts_with('f')).count();
        }
        assert!(
            listed >= written,
            "{written} files returned success, {listed} are committed"
        );
        assert!(written > 20);
    });
}

#[test]
fn many_outputs_are_committed_with_few_files_open() {
    Machine::mounting_from_directory(|machine| {
        base(machine);
        let mut run = machine.command("sh");
        let script = "ulimit -n 128 && exec \"$@\"";
        let program = crate::programs::program("attachfs");
        run.args(["-c", script, "sh"]).arg(program).args(args![
            "run",
            "--store",
            machine.store(),
            "--input",
            machine.path("input"),
            "--",
            "sh",
            "-c",
            "for i in $(seq 300); do echo $i > o$i; done"
        ]);
        let said = crate::process::said(&mut run).with_code(0);
        said.saying("300 added");
        assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
    });
}

#[test]
fn a_command_has_the_limits_of_whoever_started_the_run() {
    Machine::mounting_from_directory(|machine| {
        base(machine);
        let mut run = machine.command("sh");
        let program = crate::programs::program("attachfs");
        run.args(["-c", "ulimit -Sn 300 && exec \"$@\"", "sh"])
            .arg(program)
            .args(args![
                "run",
                "--store",
                machine.store(),
                "--input",
                machine.path("input"),
                "--",
                "sh",
                "-c",
                "ulimit -Sn"
            ]);
        let said = crate::process::said(&mut run).with_code(0);
        assert_eq!(said.out.trim(), "300");
    });
}
