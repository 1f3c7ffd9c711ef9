//! What is durable before what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_tree::Ino;
use tempfile::TempDir;

use crate::overlay::{Disk, Done};
use crate::testing::{Given, Kernel, World, bytes, tempdir};

fn kernel() -> (World, TempDir, Kernel) {
    let world = World::new(&[
        ("a", Given::File(bytes(2500))),
        ("b", Given::File(bytes(10))),
    ]);
    let dir = tempdir();
    let kernel = world.create(dir.path());
    (world, dir, kernel)
}

fn disk(kernel: &Kernel) -> Arc<Disk> {
    kernel.vfs.overlay.as_ref().unwrap().disk.clone()
}

fn ino(kernel: &Kernel, at: &str) -> Ino {
    kernel.stat(at).unwrap().ino
}

/// Where in the order something was done first.
#[track_caller]
fn place(disk: &Disk, done: Done) -> usize {
    let all = disk.done();
    let place = all.iter().position(|&step| step == done);
    place.unwrap_or_else(|| panic!("{done:?} is not in {all:?}"))
}

#[test]
fn what_takes_the_place_of_a_file_is_durable_before_the_journal_and_then_the_old_one_goes() {
    let (_world, _dir, kernel) = kernel();
    kernel.put("f", b"old");
    let old = ino(&kernel, "f");
    kernel.put("tmp", b"new");
    let new = ino(&kernel, "tmp");
    kernel.rename("tmp", "f").unwrap();
    let disk = disk(&kernel);
    drop(kernel);
    let done = [
        Done::Bytes(new),
        Done::Names,
        Done::Journal,
        Done::Remove(old),
    ];
    assert_eq!(disk.done(), done);
}

#[test]
fn what_took_the_place_of_a_file_before_a_kill_is_durable_before_the_old_one_goes() {
    let (world, dir, kernel) = kernel();
    // Keeps the old one, however slow this is.
    let _pin = kernel.vfs.freeze();
    kernel.put("f", b"old");
    let old = ino(&kernel, "f");
    kernel.put("tmp", b"new");
    kernel.rename("tmp", "f").unwrap();
    kernel.patch("a", 0, b"new");
    let (_copy, recovered) = world.after_kill(dir.path());
    let disk = disk(&recovered);
    for at in ["f", "a"] {
        assert!(place(&disk, Done::Bytes(ino(&kernel, at))) < place(&disk, Done::Journal));
    }
    assert!(place(&disk, Done::Journal) < place(&disk, Done::Remove(old)));
}

#[test]
fn a_file_that_cannot_be_opened_for_a_moment_is_synced_by_the_next_sync() {
    let (_world, dir, kernel) = kernel();
    kernel.put("f", b"old");
    kernel.put("tmp", b"new");
    let new = ino(&kernel, "tmp");
    let (scratch, away) = (disk(&kernel).scratch.path(new), dir.path().join("away"));
    std::fs::rename(&scratch, &away).unwrap();
    std::fs::create_dir(&scratch).unwrap();
    kernel.rename("tmp", "f").unwrap();
    kernel.vfs.fsyncdir().unwrap_err();
    std::fs::remove_dir(&scratch).unwrap();
    std::fs::rename(&away, &scratch).unwrap();
    kernel.vfs.fsyncdir().unwrap();
    assert!(place(&disk(&kernel), Done::Bytes(new)) < place(&disk(&kernel), Done::Journal));
}

#[test]
fn what_takes_the_place_of_an_input_is_durable_before_the_journal() {
    let (_world, _dir, kernel) = kernel();
    kernel.put("tmp", b"new");
    let new = ino(&kernel, "tmp");
    kernel.rename("tmp", "b").unwrap();
    // Whoever syncs, and whatever for.
    kernel.vfs.fsyncdir().unwrap();
    assert!(place(&disk(&kernel), Done::Bytes(new)) < place(&disk(&kernel), Done::Journal));
}

#[test]
fn what_is_overwritten_in_an_input_is_durable_before_the_journal() {
    let (_world, _dir, kernel) = kernel();
    kernel.patch("a", 100, b"new");
    kernel.vfs.fsyncdir().unwrap();
    let written = Done::Bytes(ino(&kernel, "a"));
    assert!(place(&disk(&kernel), written) < place(&disk(&kernel), Done::Journal));
}

#[test]
fn what_is_written_to_an_emptied_file_is_durable_before_the_journal_once_it_is_closed() {
    let (_world, _dir, kernel) = kernel();
    for at in ["b", "f"] {
        if at == "f" {
            kernel.put("f", b"old");
        }
        let handle = kernel.open(at, crate::testing::READ_WRITE, true).unwrap();
        kernel.write(handle, 0, b"new").unwrap();
        kernel.close(handle);
        kernel.vfs.fsyncdir().unwrap();
        let written = place(&disk(&kernel), Done::Bytes(ino(&kernel, at)));
        assert_eq!(
            disk(&kernel).done()[written + 1..],
            [Done::Names, Done::Journal]
        );
    }
}

#[test]
fn new_files_are_not_synced_by_whoever_syncs_another() {
    let (_world, _dir, kernel) = kernel();
    kernel.put("f", b"new");
    kernel.put("g", b"new");
    kernel.rename("g", "h").unwrap();
    kernel.vfs.fsyncdir().unwrap();
    assert_eq!(disk(&kernel).done(), [Done::Names, Done::Journal]);
    kernel.vfs.fsyncdir().unwrap();
    assert_eq!(disk(&kernel).done().len(), 2, "there was nothing new");
}

#[test]
fn a_scratch_file_is_shortened_after_the_record_that_says_so_is_durable() {
    let (_world, _dir, kernel) = kernel();
    kernel.patch("a", 2400, &[9; 600]);
    kernel.truncate("a", 1000).unwrap();
    let shortened = Done::Shorten(ino(&kernel, "a"));
    let disk = disk(&kernel);
    assert!(place(&disk, Done::Journal) < place(&disk, shortened));
    // Growing waits for nothing.
    let before = disk.done();
    kernel.truncate("a", 1500).unwrap();
    assert_eq!(disk.done(), before);
}

#[test]
fn what_nobody_syncs_is_synced_before_the_kernel_writes_it_by_itself() {
    let (_world, _dir, kernel) = kernel();
    kernel.mkdir("d").unwrap();
    let disk = disk(&kernel);
    let begun = Instant::now();
    while !disk.is_synced() {
        assert!(begun.elapsed() < Duration::from_mins(1), "never synced");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(disk.done(), [Done::Names, Done::Journal]);
}

#[test]
fn those_who_create_and_those_who_sync_do_not_wait_for_each_other_for_ever() {
    let (_world, _dir, kernel) = kernel();
    let vfs = &kernel.vfs;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in 0..200 {
                    let name = format!("{thread}.{number}");
                    let access = crate::testing::READ_WRITE;
                    let made = vfs.create_file(Ino::ROOT, name.as_bytes(), 0o644, (0, 0), access);
                    let handle = made.unwrap().1.handle;
                    vfs.write(handle, 0, b"x").unwrap();
                    if number % 10 == 0 {
                        vfs.fsync(handle, true).unwrap();
                    }
                    vfs.release(handle).unwrap();
                    let to = format!("{thread}");
                    vfs.rename(
                        (Ino::ROOT, name.as_bytes()),
                        (Ino::ROOT, to.as_bytes()),
                        false,
                    )
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(kernel.dump().len(), 4 + 2);
}
