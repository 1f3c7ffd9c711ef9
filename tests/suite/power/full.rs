//! A disk that is full: what still works of the sessions on it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};

use super::base;
use crate::machine::{Machine, args, skipped};

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
