//! A disk that is full at each write of a piece of work in turn.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::writes::small_disk;
use crate::machine::{Machine, args};
use crate::tree::{Detail, Tree, copy};

/// What is written at a time: a page of the disk.
const PAGE: u64 = 4096;
/// The work is done without a failure before so many pages are left to it.
const MOST: u64 = 64;

/// The work in the directory of a number. Each can be done again after it failed in part; where it failed, only the path that it gives may be
/// otherwise than before.
type Act = (fn(&Path, u64) -> io::Result<()>, fn(u64) -> PathBuf);
const WORK: [Act; 12] = [
    (|root, n| made(&dir(root, n)), |n| dir(Path::new(""), n)),
    (
        |root, n| pages(&dir(root, n).join("new"), 0),
        |n| at(n, "new"),
    ),
    (
        |root, n| pages(&dir(root, n).join("new"), 3),
        |n| at(n, "new"),
    ),
    (
        |root, n| fs::rename(dir(root, n).join("new"), dir(root, n).join("frame")),
        |n| at(n, "frame"),
    ),
    // Parts of inputs, in their midst and behind their end.
    (
        |root, n| write(&root.join("big"), 2 * n * PAGE + 100, 3000, 1),
        |_| PathBuf::from("big"),
    ),
    (
        |root, n| write(&root.join("log"), n * 5000, 5000, 2),
        |_| PathBuf::from("log"),
    ),
    (
        |root, n| File::open(dir(root, n).join("frame"))?.sync_all(),
        |n| at(n, "frame"),
    ),
    (
        |root, n| linked(symlink("frame", dir(root, n).join("link"))),
        |n| at(n, "link"),
    ),
    (
        |root, n| {
            linked(fs::hard_link(
                dir(root, n).join("frame"),
                dir(root, n).join("hard"),
            ))
        },
        |n| at(n, "hard"),
    ),
    (
        |root, n| pages(&root.join("again"), 2 * n % 7),
        |_| PathBuf::from("again"),
    ),
    (
        |root, n| {
            let file = OpenOptions::new()
                .write(true)
                .open(dir(root, n).join("hard"))?;
            file.set_len(PAGE * 2 + 17)
        },
        |n| at(n, "hard"),
    ),
    (
        |root, n| write(&dir(root, n).join("last"), 0, 10, 3),
        |n| at(n, "last"),
    ),
];

fn dir(root: &Path, number: u64) -> PathBuf {
    root.join(format!("d{number}"))
}

fn at(number: u64, name: &str) -> PathBuf {
    dir(Path::new(""), number).join(name)
}

fn made(dir: &Path) -> io::Result<()> {
    linked(fs::create_dir(dir))
}

/// What is there already was done by the first attempt.
fn linked(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Three pages, each written by itself.
fn pages(path: &Path, first: u64) -> io::Result<()> {
    (first..first + 3).try_for_each(|page| write(path, page * PAGE, PAGE as usize, page as u8 + 1))
}

fn write(path: &Path, offset: u64, len: usize, fill: u8) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.write_all_at(&vec![fill; len], offset)
}

/// Leaves a disk so many pages; gives the file that takes the others.
fn leave(disk: &Path, pages: u64) -> PathBuf {
    let ballast = disk.join("ballast");
    let file = File::create(&ballast).unwrap();
    let stat = rustix::fs::statvfs(disk).unwrap();
    let free = stat.f_bavail * stat.f_frsize;
    let taken = free - (pages * PAGE).min(free);
    if taken > 0 {
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, taken).unwrap();
    }
    ballast
}

#[test]
fn a_disk_that_is_full_at_any_write_loses_nothing_that_returned_and_all_is_committed_once_there_is_room()
 {
    Machine::mounting_from_directory(|machine| {
        let Some(disk) = small_disk(machine, "disk") else {
            return;
        };
        machine.file("input/big", vec![b'b'; 700_000]);
        machine.file("input/log", "");
        let manifest = machine.snapshot(&machine.path("input"), "base.manifest");
        let plain = machine.path("plain");
        copy(&machine.path("input"), &plain);
        let mount = machine.mount(args!["--session", disk.join("session"), &manifest], "mnt");
        let mut failed = Vec::new();
        for number in 0..MOST {
            let ballast = leave(&disk, number);
            let mut failures = 0;
            for (act, about) in WORK {
                if let Err(error) = act(&mount.dir, number) {
                    failures += 1;
                    assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC), "{error}");
                    // All that returned success is there, while there is no room.
                    let about = about(number);
                    let read =
                        |root: &Path| Tree::read(root, Detail::Committed).without_path(&about);
                    read(&mount.dir).assert_is(&read(&plain));
                    fs::remove_file(&ballast).unwrap();
                    act(&mount.dir, number).unwrap();
                    act(&plain, number).unwrap();
                    leave(&disk, 0);
                } else {
                    act(&plain, number).unwrap();
                }
            }
            fs::remove_file(&ballast).unwrap();
            failed.push(failures);
            if failures == 0 {
                break;
            }
        }
        assert!(failed.len() > 5 && failed.last() == Some(&0), "{failed:?}");
        let expected = Tree::read(&plain, Detail::Committed);
        Tree::read(&mount.dir, Detail::Committed).assert_is(&expected);
        machine.ok(args!["umount", &mount.dir]);
        let commit = machine.json(args!["commit", &mount.session]);
        let diff = commit["manifest"]["address"].as_str().unwrap();
        let again = machine.mount(args!["--read-only", &manifest, diff], "again");
        Tree::read(&again.dir, Detail::Committed).assert_is(&expected);
    });
}
