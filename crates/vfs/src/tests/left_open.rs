//! Files that were open for writing when the process of their session ended.

use std::fs;

use attachfs_tree::Ino;

use super::serving::now;
use super::world::{Given, Kernel, READ, READ_WRITE, World, bytes, tempdir};
use crate::{Created, FileSystem, NewNode, OpenedFile};

fn world() -> World {
    World::new(&[
        ("a", Given::File(bytes(2500))),
        ("b", Given::File(bytes(10))),
    ])
}

/// The names of the files that were left open.
fn left(kernel: &Kernel) -> Vec<String> {
    let frozen = kernel.vfs.freeze().unwrap();
    let names = frozen.left_open().iter();
    let mut names: Vec<_> = names.map(|&ino| kernel.vfs.describe(ino)).collect();
    names.sort();
    names
}

#[test]
fn files_written_and_not_closed_are_known_after_a_kill() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("closed", b"1");
    kernel.put("again", b"1");
    kernel.put("twice", b"1");
    kernel.patch("b", 0, b"1");
    let half = kernel.create("half").unwrap();
    kernel.write(half, 0, b"half of").unwrap();
    kernel.create("empty").unwrap();
    let again = kernel.open("again", READ_WRITE, false).unwrap();
    kernel.write(again, 0, b"2").unwrap();
    kernel.open("closed", READ_WRITE, false).unwrap();
    let input = kernel.open("a", READ_WRITE, false).unwrap();
    kernel.write(input, 5, b"part").unwrap();
    let emptied = kernel.open("b", READ_WRITE, true).unwrap();
    // One of two handles is closed.
    let first = kernel.open("twice", READ_WRITE, false).unwrap();
    let second = kernel.open("twice", READ_WRITE, false).unwrap();
    kernel.write(first, 0, b"2").unwrap();
    kernel.close(first);
    let gone = kernel.create("gone").unwrap();
    kernel.unlink("gone").unwrap();
    let (_copy, recovered) = world.after_kill(dir.path());
    let open = ["a", "again", "b", "empty", "half", "twice"];
    assert_eq!(left(&recovered), open);
    for handle in [half, again, input, emptied, second, gone] {
        kernel.close(handle);
    }
    assert!(left(&kernel).is_empty());
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(left(&recovered), ["empty"]);
}

#[test]
fn what_may_be_written_late_is_recorded_as_open_before_it_is() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("again", b"1");
    kernel.attach_writing_late();
    let lookup = |name: &str| kernel.vfs.lookup(Ino::ROOT, name.as_bytes()).unwrap().ino;
    let open = |name: &str, access| {
        let node = lookup(name).into();
        let opened = now(|reply| FileSystem::open(&kernel.vfs, node, access, false, reply));
        let opened: OpenedFile = opened.unwrap();
        opened.handle
    };
    let new = NewNode {
        mode: 0o644,
        uid: 0,
        gid: 0,
    };
    let root = Ino::ROOT.into();
    let made = now(|reply| FileSystem::create(&kernel.vfs, root, b"made", new, READ_WRITE, reply));
    let made: Created = made.unwrap();
    let handles = [
        made.opened.handle,
        open("again", READ_WRITE),
        open("a", READ_WRITE),
        open("b", READ),
    ];
    // Nothing was written by now.
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(left(&recovered), ["a", "again", "made"]);
    recovered.attach_writing_late();
    let node = recovered.stat("again").unwrap().ino.into();
    let opened = now(|reply| FileSystem::open(&recovered.vfs, node, READ_WRITE, false, reply));
    let opened: OpenedFile = opened.unwrap();
    recovered.close(opened.handle);
    assert_eq!(
        left(&recovered),
        ["a", "again", "made"],
        "opened and closed"
    );
    for handle in handles {
        kernel.close(handle);
    }
    let (_copy, recovered) = world.after_kill(dir.path());
    assert!(left(&recovered).is_empty());
}

#[test]
fn a_file_stays_left_open_until_it_is_closed_again_deleted_or_accepted() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    for name in [
        "closed", "deleted", "accepted", "read", "replaced", "touched",
    ] {
        kernel.create(name).unwrap();
    }
    kernel.vfs.end_writing();
    kernel.vfs.close_all().unwrap();
    kernel.vfs.seal().unwrap();
    drop(kernel);
    let kernel = world.recover(dir.path()).unwrap();
    assert_eq!(left(&kernel).len(), 6, "those who wrote were cut off");
    let handle = kernel.open("closed", READ_WRITE, false).unwrap();
    kernel.write(handle, 0, b"whole").unwrap();
    assert_eq!(left(&kernel).len(), 6);
    kernel.close(handle);
    let handle = kernel.open("touched", READ_WRITE, false).unwrap();
    kernel.close(handle);
    let handle = kernel.open("read", READ, false).unwrap();
    kernel.close(handle);
    kernel.unlink("deleted").unwrap();
    kernel.put("new", b"whole");
    kernel.rename("new", "replaced").unwrap();
    kernel
        .vfs
        .accept(&[kernel.stat("accepted").unwrap().ino])
        .unwrap();
    drop(kernel);
    let kernel = world.recover(dir.path()).unwrap();
    assert_eq!(left(&kernel), ["read", "touched"]);
}

#[test]
fn what_was_written_before_another_start_of_the_machine_and_not_saved_counts_as_left_open() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("saved", b"1");
    kernel.vfs.save().unwrap();
    drop(kernel);
    let kernel = world.recover(dir.path()).unwrap();
    kernel.put("later", b"2");
    kernel.put("again", b"2");
    // Of an input the bytes are durable before the journal says anything of them.
    kernel.patch("a", 5, b"part");
    kernel.patch("saved", 0, b"2");
    drop(kernel);
    assert!(left(&world.recover(dir.path()).unwrap()).is_empty());

    let kernel = world.recover_after_boot(dir.path(), "the second");
    assert_eq!(left(&kernel), ["again", "later", "saved"]);
    kernel.patch("again", 0, b"3");
    drop(kernel);
    let kernel = world.recover_after_boot(dir.path(), "the second");
    assert_eq!(left(&kernel), ["later", "saved"], "no start came since");
    let inos = ["later", "saved"].map(|name| kernel.stat(name).unwrap().ino);
    kernel.vfs.accept(&inos).unwrap();
    // Where an open file can be replaced.
    #[cfg(unix)]
    {
        let overlay = kernel.vfs.overlay.as_ref().unwrap();
        overlay.disk.compact().unwrap();
    }
    drop(kernel);
    let kernel = world.recover_after_boot(dir.path(), "the third");
    assert_eq!(left(&kernel), ["again", "later", "saved"]);
    let inos = ["again", "later", "saved"].map(|name| kernel.stat(name).unwrap().ino);
    kernel.vfs.accept(&inos).unwrap();
    kernel.vfs.save().unwrap();
    drop(kernel);
    assert!(left(&world.recover_after_boot(dir.path(), "the fourth")).is_empty());
}

#[test]
fn files_still_open_when_a_mount_ends_in_order_count_as_complete() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let handle = kernel.create("f").unwrap();
    kernel.write(handle, 0, b"whole").unwrap();
    kernel.vfs.close_all().unwrap();
    kernel.vfs.seal().unwrap();
    drop(kernel);
    assert!(left(&world.recover(dir.path()).unwrap()).is_empty());
}

#[test]
fn an_input_that_lost_its_last_bytes_in_a_power_loss_counts_as_left_open() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.patch("a", 2000, &[7; 600]);
    let ino: Ino = kernel.stat("a").unwrap().ino;
    drop(kernel);
    let scratch = dir.path().join(format!("scratch/{:016x}", ino.raw()));
    let file = fs::File::options().write(true).open(&scratch).unwrap();
    file.set_len(2100).unwrap();
    assert_eq!(left(&world.look(dir.path()).unwrap()), ["a"]);
    assert_eq!(file.metadata().unwrap().len(), 2100);
    let kernel = world.recover(dir.path()).unwrap();
    assert_eq!(left(&kernel), ["a"]);
    let mut expected = bytes(2000);
    expected.extend([7; 100]);
    expected.extend([0; 500]);
    assert_eq!(kernel.cat("a"), expected);
}

#[test]
fn a_file_that_is_written_again_is_not_closed_by_accepting_it() {
    let (world, dir) = (World::new(&[]), tempdir());
    let kernel = world.create(dir.path());
    kernel.create("a").unwrap();
    let (first, kernel) = world.after_kill(dir.path());
    assert_eq!(left(&kernel), ["a"]);
    let ino = kernel.stat("a").unwrap().ino;
    let again = kernel.open("a", READ_WRITE, false).unwrap();
    assert_eq!(kernel.write(again, 0, b"half"), Ok(4));
    kernel.vfs.accept(&[ino]).unwrap();
    let (_second, kernel) = world.after_kill(first.path());
    assert_eq!(left(&kernel), ["a"]);
}

#[test]
fn a_file_that_lost_its_end_is_left_open_until_somebody_says_otherwise() {
    let (world, dir) = (
        World::new(&[("input", Given::File(bytes(2500)))]),
        tempdir(),
    );
    let kernel = world.create(dir.path());
    kernel.patch("input", 2000, b"written at the end");
    let ino = kernel.stat("input").unwrap().ino;
    let scratch = kernel.vfs.writable().unwrap().disk.scratch.path(ino);
    drop(kernel);
    std::fs::File::options()
        .write(true)
        .open(scratch)
        .unwrap()
        .set_len(1000)
        .unwrap();
    for _ in 0..2 {
        let kernel = world.recover(dir.path()).unwrap();
        assert_eq!(left(&kernel), ["input"]);
    }
}
