//! What a mount does with those who go on writing when it ends, and with a low limit of open files.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::base;
use crate::machine::{Machine, args, until};
use crate::process::{Running, has_ended, said};

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

#[test]
fn a_job_cannot_write_more_than_it_may_and_goes_on_once_there_is_room() {
    const MIB: usize = 1 << 20;
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args!["--max-scratch", "8M", base(machine)], "mnt");
        let write = |dir: &Path, name: &str, len: usize| fs::write(dir.join(name), vec![7; len]);
        let free = |dir: &Path| rustix::fs::statvfs(dir).unwrap().f_bavail * 4096;
        assert_eq!(free(&mount.dir), 8 << 20);
        write(&mount.dir, "first", 3 * MIB).unwrap();
        write(&mount.dir, "second", 4 * MIB).unwrap();
        let full = write(&mount.dir, "third", 2 * MIB).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        assert!(free(&mount.dir) <= 1 << 20);
        // What has its place on the disk can be written again: in own files, and in inputs once they have it.
        let open = |name: &str| {
            fs::OpenOptions::new()
                .write(true)
                .open(mount.dir.join(name))
        };
        open("second")
            .unwrap()
            .write_all_at(&vec![8; 4 * MIB], 0)
            .unwrap();
        let reserve = rustix::fs::fallocate(
            open("first").unwrap(),
            rustix::fs::FallocateFlags::empty(),
            3 << 20,
            2 << 20,
        );
        assert_eq!(reserve, Err(rustix::io::Errno::NOSPC));
        assert!(mount.log().contains("--max-scratch"), "{}", mount.log());
        mount.kill_when_all_is_closed(machine);

        let larger = ["--max-scratch", "12M"];
        let mount = machine.resume_with(&larger, &mount.session_dir, &mount.dir);
        write(&mount.dir, "within more", 3 * MIB).unwrap();
        fs::remove_file(mount.dir.join("within more")).unwrap();
        mount.kill_when_all_is_closed(machine);

        // Another size is that of one mount.
        let mount = machine.resume(&mount.session_dir, &mount.dir);
        write(&mount.dir, "fourth", 2 * MIB).unwrap_err();
        fs::remove_file(mount.dir.join("first")).unwrap();
        until("there is room", || {
            write(&mount.dir, "fourth", 2 * MIB).is_ok()
        });
        fs::File::options()
            .write(true)
            .open(mount.dir.join("second"))
            .unwrap()
            .set_len(0)
            .unwrap();
        write(&mount.dir, "fifth", 4 * MIB).unwrap();
        mount.until_all_is_closed(machine);
        let commit = machine.json(args!["commit", &mount.session]);
        assert_eq!(commit["account"]["added"], 4, "{commit:#}");
        machine.ok(args!["umount", &mount.dir]);
    });
}

/// Stores in each page of a new file through a mapping, whose descriptor is closed before, and tells nobody to write it.
const STORES: &str = "
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 20 << 20)
mapped = mmap.mmap(fd, 20 << 20)
os.close(fd)
for page in range(0, 20 << 20, 4096): mapped[page:page + 4] = b'DATA'
mapped.close()
";

#[test]
fn bytes_that_could_not_be_written_late_are_not_committed_unasked() {
    Machine::mounting_from_directory(|machine| {
        for late in [
            &["--max-scratch", "5M"][..],
            &["--max-scratch", "5M", "--writeback-cache"],
        ] {
            let at = format!("mnt{}", late.len());
            let arguments = late.iter().map(Into::into).chain([base(machine).into()]);
            let mount = machine.mount(arguments.collect::<Vec<_>>(), at);
            let mut stores = machine.command("python3");
            stores.args(["-c", STORES]).arg(mount.dir.join("mapped"));
            said(&mut stores);
            until("it is written back", || {
                mount.log().contains("could not be written")
            });
            mount.until_all_is_closed(machine);
            machine
                .ok(args!["status", &mount.session])
                .printing("left open  mapped");
            let commit = machine.says(args!["commit", &mount.session]).with_code(14);
            commit.saying("mapped").saying("lost on a full disk");
            // What is read is what is there.
            let shown = fs::read(mount.dir.join("mapped")).unwrap();
            let pages = shown.chunks(4096).filter(|page| page.starts_with(b"DATA"));
            assert!(pages.count() <= 5 << 8);
            mount.kill_when_all_is_closed(machine);
            let mount = machine.resume(&mount.session_dir, &mount.dir);
            machine.says(args!["commit", &mount.session]).with_code(14);
            machine.ok(args!["commit", "--accept-open", &mount.session]);
            machine.ok(args!["umount", &mount.dir]);
        }
    });
}
