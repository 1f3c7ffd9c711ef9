//! Programs that write to files of a mount and of whose writes its process hears nothing: a mapping that outlives its descriptor,
//! and who outlived the process, or was cut off from the mount. A commit waits for them or stops, and has their last bytes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::machine::{Machine, Mount, args, detach, skipped, until};
use crate::process::{Running, kill_and_wait};

/// Maps the file `out/mapped` and closes it. Then writes through the mapping at each line that it is told, and says so. (Python's own
/// `mmap` keeps the file open.)
pub(crate) const MAPS: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
os.makedirs('out', exist_ok=True)
fd = os.open('out/mapped', os.O_RDWR | os.O_CREAT)
os.write(fd, b'begun' + bytes(8187))
at = libc.mmap(None, 8192, 3, 1, fd, 0)
os.close(fd)
print('mapped', flush=True)
for number, line in enumerate(sys.stdin):
    ctypes.memmove(at + 4096 * (number % 2), b'write %02d' % number, 8)
    print('written %d' % number, flush=True)
";

/// Writes the file `out/held` and keeps it open. Appends at each line that it is told.
const HOLDS: &str = "
import os, sys
os.makedirs('out', exist_ok=True)
f = open('out/held', 'wb', buffering=0)
f.write(b'begun\\n')
print('open', flush=True)
for line in sys.stdin:
    f.write(line.encode())
    print('written ' + line, end='', flush=True)
";

/// Starts a script of Python in a mount. What it is told it reads.
pub(crate) fn program(machine: &Machine, mount: &Mount, script: &str) -> Running {
    let mut python = machine.command("python3");
    python.args(["-c", script]).current_dir(&mount.dir);
    python.stdin(Stdio::piped());
    machine.start(python)
}

/// Does a test in a mount whose process gives scratch files to the kernel.
fn passing(test: impl FnOnce(&Machine, &Mount)) {
    Machine::mounting_from_directory(|machine| {
        if Command::new("python3").arg("--version").output().is_err() {
            skipped("there is no python3, which maps files");
            return;
        }
        machine.file("input/scene", "scene");
        let base = machine.snapshot(&machine.path("input"), "base.manifest");
        let mount = machine.mount(args![base], "mnt");
        fs::write(mount.dir.join("probe"), "probe").unwrap();
        if stats(machine, &mount)["passthrough"]["scratch_opens"] == 0 {
            skipped("the kernel takes no scratch files from a process of this user here");
            return;
        }
        test(machine, &mount);
    });
}

fn stats(machine: &Machine, mount: &Mount) -> Value {
    machine.json(args!["stats", &mount.dir])
}

/// What a path has in a new mount of all that the session committed.
pub(crate) fn committed(machine: &Machine, session: &str, path: &str) -> Vec<u8> {
    seen(machine, session, |dir| fs::read(dir.join(path)).unwrap())
}

/// What somebody sees in a new mount of `base.manifest` and all that the session committed.
pub(crate) fn seen<T>(machine: &Machine, session: &str, look: impl FnOnce(&Path) -> T) -> T {
    let mut manifests = vec![machine.path("base.manifest").into()];
    for (number, (_, diff)) in machine.published(session).iter().enumerate() {
        manifests.push(machine.file(format!("diff-{number}"), diff).into());
    }
    let mount = machine.mount(manifests, "seen");
    let seen = look(&mount.dir);
    machine.ok(args!["umount", &mount.dir]);
    seen
}

#[test]
fn who_writes_to_a_mapping_of_a_closed_file_stops_the_commit_until_it_ends() {
    passing(|machine, mount| {
        let mut mapper = program(machine, mount, MAPS);
        mapper.wait_for_output("mapped");
        mount.until_all_is_closed(machine);
        let refused = machine.says(args!["commit", &mount.dir]).with_code(14);
        let by = format!("\"out/mapped\" (by python3, process {})", mapper.pid());
        refused.saying("open for writing").saying(&by);
        mapper.type_keys("\n");
        mapper.wait_for_output("written 0");
        machine.says(args!["commit", &mount.dir]).with_code(14);
        let skipped = machine.json(args!["commit", "--skip-open", &mount.dir]);
        assert_eq!(skipped["account"]["open"][0], "out/mapped", "{skipped}");

        // One that waits goes on when it ends, and has what was written last.
        let mut waiting =
            machine.start(machine.attachfs(args!["commit", "--wait", "60", &mount.dir]));
        mapper.type_keys("\n\n");
        mapper.wait_for_output("written 2");
        assert!(waiting.is_running());
        mapper.signal(Signal::KILL);
        mapper.wait();
        waiting.wait().with_code(0);
        let bytes = committed(machine, &mount.session, "out/mapped");
        assert!(bytes.starts_with(b"write 02") && bytes[4096..].starts_with(b"write 01"));
    });
}

#[test]
fn who_writes_to_a_mapping_keeps_a_mount_busy_and_can_be_cut_off_but_not_committed_half_written() {
    passing(|machine, mount| {
        let mut mapper = program(machine, mount, MAPS);
        mapper.wait_for_output("mapped");
        mount.until_all_is_closed(machine);
        machine.ok(args!["umount", "--force", &mount.dir]);
        mapper.type_keys("\n");
        mapper.wait_for_output("written 0");
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("out/mapped");
        mapper.type_keys("\n");
        mapper.wait_for_output("written 1");
        mapper.signal(Signal::KILL);
        mapper.wait();
        machine.ok(args!["commit", &mount.session]);
        let bytes = committed(machine, &mount.session, "out/mapped");
        assert!(bytes.starts_with(b"write 00") && bytes[4096..].starts_with(b"write 01"));
    });
}

#[test]
fn who_outlives_the_process_of_a_mount_goes_on_writing_and_is_not_committed_half_written() {
    passing(|machine, mount| {
        let (mut mapper, mut holder) = (
            program(machine, mount, MAPS),
            program(machine, mount, HOLDS),
        );
        mapper.wait_for_output("mapped");
        holder.wait_for_output("open");
        until("the mapped file is closed", || {
            stats(machine, mount)["open_file_count"] == 1
        });
        kill_and_wait(mount.pid);
        holder.type_keys("after the kill\n");
        holder.wait_for_output("written after");
        mapper.type_keys("\n");
        mapper.wait_for_output("written 0");

        // Without a mount: one was open, and both are being written to.
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("out/held");
        let accepting = args!["commit", "--accept-open", &mount.session];
        machine.says(&accepting).with_code(14);
        // With a new one.
        let again = machine.resume(&mount.session_dir, &machine.dir("again"));
        machine.says(&accepting).with_code(14);
        holder.type_keys("after the mount\n");
        holder.wait_for_output("written after the mount");
        let seen = fs::read_to_string(again.dir.join("out/held")).unwrap();
        assert_eq!(seen, "begun\nafter the kill\nafter the mount\n");

        holder.signal(Signal::KILL);
        holder.wait();
        let refused = machine.says(&accepting).with_code(14);
        refused.saying("out/mapped");
        mapper.type_keys("\n");
        mapper.wait_for_output("written 1");
        mapper.signal(Signal::KILL);
        mapper.wait();
        machine.ok(&accepting);
        let held = committed(machine, &mount.session, "out/held");
        assert_eq!(held, seen.as_bytes());
        let mapped = committed(machine, &mount.session, "out/mapped");
        assert!(mapped.starts_with(b"write 00") && mapped[4096..].starts_with(b"write 01"));
    });
}

#[test]
fn who_uses_a_mount_that_lost_its_name_goes_on_writing_and_is_not_committed_half_written() {
    passing(|machine, mount| {
        let mut mapper = program(machine, mount, MAPS);
        mapper.wait_for_output("mapped");
        mount.until_all_is_closed(machine);
        detach(&mount.dir);
        mapper.type_keys("\n");
        mapper.wait_for_output("written 0");
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("out/mapped");
        mapper.signal(Signal::KILL);
        mapper.wait();
        machine.ok(args!["commit", "--wait", "20", &mount.session]);
        let bytes = committed(machine, &mount.session, "out/mapped");
        assert!(bytes.starts_with(b"write 00"));
    });
}

#[test]
fn the_process_writes_all_if_it_is_told_to() {
    passing(|machine, mount| {
        let base = machine.path("base.manifest");
        let other = machine.mount(args!["--no-passthrough", base], "other");
        let write = |dir: &Path| fs::write(dir.join("out"), vec![7; 100_000]).unwrap();
        write(&mount.dir);
        write(&other.dir);
        assert_eq!(stats(machine, mount)["bytes"]["written"], 0);
        let told = stats(machine, &other);
        assert_eq!(told["bytes"]["written"], 100_000);
        assert_eq!(told["passthrough"]["scratch_opens"], 0);
    });
}
