//! A session's disk: what is on it after the power was lost, what is read of it when it is damaged, and what still works when it is full;
//! and files that were open when the process of their session was killed.
//!
//! The power is lost by copying the image of a loop device at that moment: it has what had reached the disk.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{
    FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;

use crate::machine::{Machine, Mount, args, detach, skipped, until};
use crate::process::{Running, Said, kill_and_wait, said};

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
fn the_journal_of_a_mount_becomes_short_again_and_says_the_same_after_a_kill() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let journal = mount.session_dir.join("journal");
        let len = || fs::metadata(&journal).unwrap().len();
        fs::write(mount.dir.join("kept"), "kept").unwrap();
        let link = mount.dir.join("link");
        while len() < 5 << 20 {
            std::os::unix::fs::symlink("x".repeat(4000), &link).unwrap();
            fs::remove_file(&link).unwrap();
        }
        until("the journal is short", || len() < 100_000);
        fs::write(mount.dir.join("later"), "later").unwrap();
        fs::remove_file(mount.dir.join("a")).unwrap();
        until("they are closed", || open(machine, &mount).is_empty());
        kill_and_wait(mount.pid);
        detach(&mount.dir);
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        let read = |name: &str| fs::read_to_string(mount.dir.join(name));
        assert_eq!(read("kept").unwrap(), "kept");
        assert_eq!(read("later").unwrap(), "later");
        assert_eq!(read("big").unwrap().len(), 300_000);
        read("a").unwrap_err();
        machine
            .ok(args!["commit", &mount.session])
            .printing("2 added");
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

/// What a session's files have, but for the log.
pub(crate) fn contents(session_dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![session_dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
                found.insert(path, Vec::new());
            } else if path.is_file() && !path.ends_with("log") {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// The files that are open for writing.
fn open(machine: &Machine, mount: &Mount) -> Vec<String> {
    named(machine, &mount.session, "open")
}

pub(crate) fn named(machine: &Machine, session: &str, list: &str) -> Vec<String> {
    let status = machine.json(args!["status", session]);
    let names = status[list].as_array().unwrap();
    names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// A session with two files, one of them deleted, whose process was killed.
pub(crate) fn killed(machine: &Machine) -> Mount {
    let mount = machine.mount(args![base(machine)], "mnt");
    fs::write(mount.dir.join("f"), "f").unwrap();
    fs::write(mount.dir.join("gone"), "gone").unwrap();
    fs::remove_file(mount.dir.join("gone")).unwrap();
    until("they are closed", || open(machine, &mount).is_empty());
    kill_and_wait(mount.pid);
    detach(&mount.dir);
    mount
}

#[test]
fn verbs_that_only_look_at_a_killed_session_change_nothing_in_it() {
    Machine::mounting_from_directory(|machine| {
        let mount = killed(machine);
        let dir = &mount.session_dir;
        let unknown = dir.join("scratch/40000000000000ff");
        fs::write(&unknown, "whose?").unwrap();
        let mut journal = OpenOptions::new()
            .append(true)
            .open(dir.join("journal"))
            .unwrap();
        journal.write_all(b"torn").unwrap();
        let before = contents(dir);
        for verb in [
            &["status"][..],
            &["diff"],
            &["commit", "--dry-run"],
            &["list"],
        ] {
            let mut command = machine.attachfs(args![]);
            command.args(verb);
            if verb != ["list"] {
                command.arg(&mount.session);
            }
            said(&mut command).with_code(0);
            assert_eq!(contents(dir), before, "{verb:?}");
        }
        machine.ok(args!["commit", &mount.session]);
        let aside = dir.join("scratch/aside");
        assert_eq!(fs::read(aside.join("40000000000000ff")).unwrap(), b"whose?");
        let status = machine.json(args!["status", &mount.session]);
        assert_eq!(status["set_aside"], 1);
        assert_eq!(status["set_aside_in"], aside.to_str().unwrap());
    });
}

#[test]
fn a_damaged_journal_is_named_by_every_verb_and_nothing_is_deleted() {
    Machine::mounting_from_directory(|machine| {
        let mount = killed(machine);
        let dir = &mount.session_dir;
        let journal = dir.join("journal");
        let sound = fs::read(&journal).unwrap();
        let mut flipped = sound.clone();
        *flipped.last_mut().unwrap() ^= 4;
        let damaged = [&sound[..0], &sound[..5], &sound[..18], &flipped];
        for bytes in damaged {
            fs::write(&journal, bytes).unwrap();
            let before = contents(dir);
            for verb in ["status", "diff", "commit"] {
                let refused = machine.says(args![verb, &mount.session]).with_code(12);
                refused.saying(journal.to_str().unwrap());
                assert_eq!(contents(dir), before, "{verb}");
            }
        }
        fs::write(&journal, sound).unwrap();
        machine
            .ok(args!["commit", &mount.session])
            .printing("1 added");
    });
}

/// Writes half of a file and keeps it open, until it is killed.
fn half_written(machine: &Machine, dir: &Path) -> Running {
    let mut writer = machine.command("sh");
    writer
        .args([
            "-c",
            "exec 3> half; echo one >&3; echo ready; exec sleep 1000",
        ])
        .current_dir(dir);
    let mut writer = machine.start(writer);
    writer.wait_for_output("ready\n");
    writer
}

#[test]
fn a_file_that_was_open_at_a_kill_stops_the_commit_until_it_is_accepted() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        fs::write(mount.dir.join("whole"), "whole").unwrap();
        let writer = half_written(machine, &mount.dir);
        until("one file is open", || open(machine, &mount) == ["half"]);
        kill_and_wait(mount.pid);
        writer.signal(Signal::KILL);
        writer.wait();
        detach(&mount.dir);

        assert_eq!(named(machine, &mount.session, "left_open"), ["half"]);
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("\"half\"").saying("--accept-open");
        let skipped = machine.json(args!["commit", "--skip-open", &mount.session]);
        assert_eq!(skipped["account"]["added"], 1);
        assert_eq!(skipped["account"]["open"][0], "half");

        // Mounted again it still is one of which nobody knows.
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("\"half\"");
        let accepted = machine.json(args!["commit", "--accept-open", &mount.session]);
        assert_eq!(accepted["account"]["added"], 1);
        assert_eq!(accepted["account"]["accepted"][0], "half");
        machine.ok(args!["commit", &mount.session]);
        assert!(named(machine, &mount.session, "left_open").is_empty());
    });
}

#[test]
fn a_file_that_was_open_at_a_kill_is_whole_once_it_is_written_and_closed_again() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let writer = half_written(machine, &mount.dir);
        kill_and_wait(mount.pid);
        writer.signal(Signal::KILL);
        writer.wait();
        detach(&mount.dir);
        let mount = machine.resume(&mount.session_dir, &machine.dir("again"));
        fs::write(mount.dir.join("half"), "one\ntwo\n").unwrap();
        until("it is closed", || open(machine, &mount).is_empty());
        machine.ok(args!["commit", &mount.session]);
    });
}

#[test]
fn a_file_whose_writer_was_cut_off_by_a_forced_unmount_stops_the_commit() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let writer = half_written(machine, &mount.dir);
        machine.ok(args!["umount", "--force", &mount.dir]);
        writer.signal(Signal::KILL);
        writer.wait();
        let refused = machine.says(args!["commit", &mount.session]).with_code(14);
        refused.saying("\"half\"");
        machine.ok(args!["commit", "--accept-open", &mount.session]);
    });
}

/// A disk of so many bytes, for the session.
fn small_disk(machine: &Machine, size: &std::ffi::CStr) -> Option<PathBuf> {
    let dir = machine.dir("small");
    match mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), size) {
        Ok(()) => Some(dir),
        Err(error) => {
            skipped(&format!("a small disk cannot be mounted here: {error}"));
            None
        }
    }
}

/// Writes until the disk is full.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let block = vec![7; 64 << 10];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&[7; 512]).is_ok() {}
}

#[test]
fn a_session_whose_disk_the_job_filled_is_committed_and_discarded() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = small_disk(machine, c"size=16m") else {
            return;
        };
        let session = disk.join("session");
        let mount = machine.mount(args!["--session", &session, base(machine)], "mnt");
        for number in 0..500 {
            fs::write(mount.dir.join(format!("frame.{number}")), "x").unwrap();
        }
        fill(&mount.dir.join("large"));
        machine
            .ok(args!["commit", &mount.session])
            .printing("501 added");
        fill(&mount.dir.join("larger"));
        machine
            .ok(args!["commit", &mount.session])
            .printing("1 added");
        machine.ok(args!["umount", &mount.dir]);
        if session.exists() {
            machine.ok(args!["discard", "--yes", &mount.session]);
        }
        assert!(!session.exists());
    });
}

#[test]
fn a_full_disk_that_was_not_committed_is_unmounted_committed_and_discarded() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = small_disk(machine, c"size=16m") else {
            return;
        };
        let session = disk.join("session");
        let mount = machine.mount(args!["--session", &session, base(machine)], "mnt");
        fill(&mount.dir.join("large"));
        machine.ok(args!["umount", &mount.dir]);
        machine
            .ok(args!["commit", &mount.session])
            .printing("1 added");
        machine.ok(args!["discard", "--yes", &mount.session]);
        assert!(!session.exists());
    });
}

#[test]
fn a_session_on_a_full_disk_is_deleted_and_what_it_published_is_known() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = small_disk(machine, c"size=16m,mode=0700") else {
            return;
        };
        fs::create_dir_all(machine.path("state")).unwrap();
        std::os::unix::fs::symlink(&disk, machine.path("state/attachfs")).unwrap();
        let manifest = base(machine);
        let filled = || {
            let mount = machine.mount(args![&manifest], "mnt");
            fs::write(mount.dir.join("new"), "new").unwrap();
            machine.ok(args!["commit", &mount.dir]);
            fill(&mount.dir.join("large"));
            mount
        };
        let mount = filled();
        machine.ok(args!["discard", "--yes", &mount.dir]);
        assert!(!mount.session_dir.exists());
        machine
            .ok(args!["list", "--ended"])
            .printing(&mount.session);

        let mount = filled();
        machine.ok(args!["umount", &mount.dir]);
        machine.ok(args!["discard", "--yes", &mount.session]);
        assert!(!mount.session_dir.exists());
        machine
            .ok(args!["list", "--ended"])
            .printing(&mount.session);

        let mount = filled();
        machine.ok(args!["umount", "--commit", &mount.dir]);
        assert!(!mount.session_dir.exists());
        machine
            .ok(args!["list", "--ended"])
            .printing(&mount.session);
    });
}

#[test]
fn an_unmount_is_recorded_on_a_disk_that_is_full_although_its_reserve_is_gone() {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = small_disk(machine, c"size=8m") else {
            return;
        };
        let session = disk.join("session");
        let mount = machine.mount(args!["--session", &session, base(machine)], "mnt");
        let reserve = OpenOptions::new().write(true).open(session.join("reserve"));
        reserve.unwrap().set_len(0).unwrap();
        let small = mount.dir.join("small");
        fs::write(&small, "x").unwrap();
        fill(&mount.dir.join("large"));
        while fs::set_permissions(&small, fs::Permissions::from_mode(0o600)).is_ok() {}
        // That it is open for writing again is the shortest of records.
        let write = || {
            OpenOptions::new()
                .write(true)
                .open(&small)?
                .write_all_at(b"x", 0)
        };
        while write().is_ok() {}
        machine.ok(args!["umount", &mount.dir]);
        let mount = machine.resume(&session, &mount.dir);
        assert_eq!(fs::read(mount.dir.join("small")).unwrap(), b"x");
        // What is deleted gives room.
        fs::remove_file(mount.dir.join("large")).unwrap();
        machine.ok(args!["umount", "--commit", &mount.dir]);
    });
}

#[test]
fn set_group_id_of_a_directory_is_kept_and_passed_on() {
    Machine::mounting_from_directory(|machine| {
        let mount = machine.mount(args![base(machine)], "mnt");
        let shared = mount.dir.join("shared");
        fs::create_dir(&shared).unwrap();
        chown(&shared, None, Some(50)).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o2775)).unwrap();
        fs::create_dir(shared.join("below")).unwrap();
        fs::write(shared.join("below/f"), "f").unwrap();
        let shown = |path: &str| {
            let metadata = fs::metadata(mount.dir.join(path)).unwrap();
            (metadata.mode() & 0o7000, metadata.gid())
        };
        assert_eq!(shown("shared"), (0o2000, 50));
        assert_eq!(shown("shared/below"), (0o2000, 50));
        assert_eq!(shown("shared/below/f"), (0, 50));
        machine.ok(args!["commit", &mount.session]);
    });
}
