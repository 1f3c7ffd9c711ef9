//! A session's disk: what is on it after the power was lost. `killed` has what is left of a session whose process was killed, whole or damaged, and
//! `full` what still works on a disk that is full.
//!
//! The power is lost by copying the image of a loop device at that moment: it has what had reached the disk.

mod full;
mod killed;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use crate::machine::{Machine, Mount, args, detach, skipped, until};
use crate::process::{Said, kill_and_wait, said};

use self::killed::open;
pub(crate) use self::killed::{contents, killed, named};

pub(crate) fn base(machine: &Machine) -> PathBuf {
    machine.file("input/a", "a of the input\n");
    machine.file("input/big", vec![b'b'; 300_000]);
    machine.snapshot(&machine.path("input"), "base.manifest")
}

/// An ext4 of its own, in a file of the machine. Takes root and loop devices.
struct Disk {
    image: PathBuf,
    dir: PathBuf,
}

impl Disk {
    fn new(machine: &Machine) -> Option<Self> {
        let disk = Self {
            image: machine.path("disk.image"),
            dir: machine.dir("disk"),
        };
        File::create(&disk.image)
            .unwrap()
            .set_len(64 << 20)
            .unwrap();
        let mut format = machine.command("mkfs.ext4");
        format.args(["-q", "-F"]).arg(&disk.image);
        let formatted = format.output().is_ok_and(|output| output.status.success());
        (formatted && disk.put_in(machine, &disk.image)).then_some(disk)
    }

    fn put_in(&self, machine: &Machine, image: &Path) -> bool {
        let mut mount = machine.command("mount");
        mount.args(["-o", "loop"]).arg(image).arg(&self.dir);
        let done = said(&mut mount);
        if done.code != 0 {
            skipped(&format!("no loop device can be mounted here: {}", done.err));
        }
        done.code == 0
    }

    /// A program in a mount namespace of its own, as another test starts one, has a copy of each mount until it ends, and with it the files
    /// that the kernel has open for a mount.
    fn take_out(&self) {
        until("the disk is unmounted", || {
            unmount(&self.dir, UnmountFlags::empty()).is_ok()
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Loses the power of the machine that has a session here: its process is gone, and the disk is what had reached it.
    fn lose_power(&self, machine: &Machine, mount: &Mount) {
        self.lose_power_with(machine, mount, ());
    }

    /// The same, while somebody has files of the mount open: what the kernel has of them is the disk's.
    fn lose_power_with<T>(&self, machine: &Machine, mount: &Mount, open: T) {
        let after = machine.path("after.image");
        fs::copy(&self.image, &after).unwrap();
        kill_and_wait(mount.pid);
        drop(open);
        detach(&mount.dir);
        self.take_out();
        assert!(self.put_in(machine, &after));
    }
}

/// Runs `attachfs` as it runs after another start of the machine.
fn after_boot(machine: &Machine, arguments: &[OsString]) -> Said {
    let id = machine.file("boot-id", "11111111-2222-3333-4444-555555555555\n");
    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let mut command = machine.command("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(id);
    let attachfs = machine.attachfs(arguments);
    command
        .arg(attachfs.get_program())
        .args(attachfs.get_args());
    said(&mut command)
}

fn scratch_files(session_dir: &Path) -> usize {
    fs::read_dir(session_dir.join("scratch")).unwrap().count()
}

fn mount_on(machine: &Machine, disk: &Disk) -> Mount {
    let session = disk.path("session");
    machine.mount(args!["--session", session, base(machine)], "mnt")
}

#[test]
fn a_file_that_was_replaced_has_its_new_content_after_a_power_loss() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = Disk::new(machine) else {
            return;
        };
        let mount = mount_on(machine, &disk);
        let (f, tmp) = (mount.dir.join("f"), mount.dir.join("tmp"));
        let mut old = File::create(&f).unwrap();
        old.write_all(b"old content").unwrap();
        old.sync_all().unwrap();
        drop(old);
        fs::write(&tmp, "new content").unwrap();
        fs::rename(&tmp, &f).unwrap();
        until("the old file's bytes are gone", || {
            scratch_files(&mount.session_dir) == 1
        });
        disk.lose_power(machine, &mount);
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        let shown = fs::read_to_string(mount.dir.join("f")).unwrap();
        assert_eq!(shown, "new content");
    });
}

#[test]
fn a_commit_after_another_start_of_the_machine_asks_about_what_it_may_have_lost() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = Disk::new(machine) else {
            return;
        };
        let mount = mount_on(machine, &disk);
        fs::write(mount.dir.join("frame"), "pixels").unwrap();
        fs::write(mount.dir.join("later"), "pixels").unwrap();
        mount.until_all_is_closed(machine);
        machine.ok(args!["commit", "--include", "frame", &mount.session]);
        disk.lose_power(machine, &mount);
        let session = args![&mount.session_dir];
        let commit = after_boot(machine, &[args!["commit"], session].concat()).with_code(14);
        // What the disk has of it, if anything, is not what was committed.
        commit
            .saying("written before the machine was started again")
            .saying("later");
        machine
            .ok(args!["status", &mount.session])
            .printing("left open  later");
        after_boot(
            machine,
            &args!["commit", "--accept-open", &mount.session_dir],
        )
        .with_code(0);
    });
}

#[test]
fn what_is_kept_when_an_unmount_returns_is_there_after_a_power_loss() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = Disk::new(machine) else {
            return;
        };
        let mount = mount_on(machine, &disk);
        fs::write(mount.dir.join("frame"), "pixels".repeat(10_000)).unwrap();
        machine.ok(args!["umount", &mount.dir]).printing("is kept");
        let after = machine.path("after.image");
        fs::copy(&disk.image, &after).unwrap();
        disk.take_out();
        assert!(disk.put_in(machine, &after));
        let commit = after_boot(machine, &args!["commit", "--json", &mount.session_dir]);
        let commit = commit.with_code(0).json();
        assert_eq!(commit["account"]["bytes"], 60_000);
    });
}

#[test]
fn what_was_synced_is_there_after_a_power_loss() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = Disk::new(machine) else {
            return;
        };
        let mount = mount_on(machine, &disk);
        let dir = mount.dir.join("dir");
        fs::create_dir(&dir).unwrap();
        let new = File::create(dir.join("new")).unwrap();
        new.write_all_at(&vec![b'n'; 100_000], 0).unwrap();
        new.sync_all().unwrap();
        let big = OpenOptions::new().write(true).open(mount.dir.join("big"));
        let big = big.unwrap();
        big.write_all_at(b"changed", 1000).unwrap();
        big.sync_data().unwrap();
        fs::rename(mount.dir.join("a"), mount.dir.join("moved")).unwrap();
        File::open(&mount.dir).unwrap().sync_all().unwrap();
        disk.lose_power_with(machine, &mount, (new, big));
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        let new = fs::read(mount.dir.join("dir/new")).unwrap();
        assert!(new == vec![b'n'; 100_000], "{} bytes", new.len());
        let big = fs::read(mount.dir.join("big")).unwrap();
        assert_eq!(&big[999..1008], b"bchangedb");
        assert_eq!(big.len(), 300_000);
        let moved = fs::read_to_string(mount.dir.join("moved")).unwrap();
        assert_eq!(moved, "a of the input\n");
        assert!(!mount.dir.join("a").exists());
    });
}

#[test]
fn what_was_written_durably_is_there_after_a_power_loss() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = Disk::new(machine) else {
            return;
        };
        let mount = mount_on(machine, &disk);
        let sync = rustix::fs::OFlags::SYNC.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.write(true).create(true).custom_flags(sync);
        let mut new = options.open(mount.dir.join("new")).unwrap();
        new.write_all(b"made").unwrap();
        disk.lose_power_with(machine, &mount, new);
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        assert_eq!(fs::read(mount.dir.join("new")).unwrap(), b"made");
    });
}

#[test]
fn an_input_that_was_shortened_can_be_committed_after_a_power_loss() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = Disk::new(machine) else {
            return;
        };
        let mount = mount_on(machine, &disk);
        let big = OpenOptions::new()
            .write(true)
            .open(mount.dir.join("big"))
            .unwrap();
        big.write_all_at(&vec![b'n'; 200_000], 0).unwrap();
        big.sync_all().unwrap();
        big.set_len(1000).unwrap();
        drop(big);
        until("it is closed", || open(machine, &mount).is_empty());
        // Brings to the disk what was done to the files on it, but nothing that is in other files.
        File::create(disk.path("other"))
            .unwrap()
            .sync_all()
            .unwrap();
        disk.lose_power(machine, &mount);
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        let shown = fs::read(mount.dir.join("big")).unwrap();
        assert_eq!(&shown[..1000], [b'n'; 1000]);
        machine.ok(args!["commit", "--accept-open", &mount.session]);
    });
}
