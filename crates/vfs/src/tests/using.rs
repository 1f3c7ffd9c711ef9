//! What was used of the base, and what was looked up in vain.

use std::sync::Arc;

use attachfs_manifest::ContentHash;

use super::serving::{now, serve};
use super::world::{Given, Kernel, READ, READ_WRITE, World, bytes, settings, tempdir};
use crate::{Asker, FileSystem, InputAccount, NodeId, ReadInput, Vfs};

fn world() -> World {
    World::new(&[
        ("dir/long", Given::File(bytes(10_000))),
        ("dir/other", Given::File(bytes(500))),
        ("empty", Given::File(Vec::new())),
        ("short", Given::File(bytes(400))),
    ])
}

/// What was used of a file.
#[track_caller]
fn of<'a>(account: &'a InputAccount, path: &str) -> &'a ReadInput {
    let mut all = account.most_read.iter();
    let found = all.find(|file| file.path == path);
    found.unwrap_or_else(|| panic!("{path} is not in {account:#?}"))
}

fn unused(account: &InputAccount) -> Vec<(&str, u64)> {
    let all = account.longest_unused.iter();
    all.map(|file| (file.path.as_str(), file.size)).collect()
}

#[test]
fn files_that_were_read_are_told_with_their_ranges_and_the_others_are_told_too() {
    let world = world();
    let session = tempdir();
    let kernel = world.create(session.path());
    let long = kernel.open("dir/long", READ, false).unwrap();
    kernel.read(long, 0, 100).unwrap();
    kernel.read(long, 9_900, 1000).unwrap();
    kernel.read(long, 50, 100).unwrap();
    let again = kernel.open("dir/long", READ, false).unwrap();
    kernel.read(again, 150, 50).unwrap();
    kernel.close(again);
    let empty = kernel.open("empty", READ, false).unwrap();
    kernel.close(empty);
    // Of handles that are open, too, and twice the same.
    let first = kernel.vfs.input_account(10);
    let account = kernel.vfs.input_account(10);
    assert_eq!(first.most_read, account.most_read);
    let long_used = of(&account, "dir/long");
    assert_eq!(long_used.ranges, [0..200, 9_900..10_000]);
    assert_eq!((long_used.opens, long_used.asked), (2, 350));
    assert_eq!((long_used.size, long_used.is_rough), (10_000, false));
    assert_eq!(of(&account, "empty").opens, 1);
    assert_eq!((account.used, account.only_opened), (2, 1));
    assert_eq!((account.asked, account.covered), (350, 300));
    assert_eq!(unused(&account), [("dir/other", 500), ("short", 400)]);
    assert_eq!((account.unused.count, account.unused.bytes), (2, 900));
    assert_eq!((account.shown.count, account.shown.bytes), (4, 10_900));
    kernel.close(long);
    let closed = kernel.vfs.input_account(10);
    assert_eq!(of(&closed, "dir/long"), of(&account, "dir/long"));
}

#[test]
fn what_a_failed_read_asked_for_was_not_read() {
    let world = world();
    let session = tempdir();
    let kernel = world.create(session.path());
    assert!(world.memory.remove(ContentHash::of(&bytes(400))));
    let short = kernel.open("short", READ, false).unwrap();
    kernel.read(short, 0, 400).unwrap_err();
    kernel.close(short);
    let long = kernel.open("dir/long", READ, false).unwrap();
    kernel.read(long, 100, 50).unwrap();
    kernel.read(long, 500, 50).unwrap();
    let account = kernel.vfs.input_account(10);
    let failed = of(&account, "short");
    assert_eq!((failed.opens, failed.asked), (1, 400));
    assert_eq!(failed.ranges, []);
    assert_eq!(of(&account, "dir/long").ranges, [100..150, 500..550]);
    assert_eq!((account.asked, account.covered), (500, 100));
}

#[test]
fn objects_that_several_files_share_are_downloaded_once() {
    let same = Given::File(bytes(500));
    let world = World::new(&[("a", same.clone()), ("b", same)]);
    let session = tempdir();
    let kernel = world.create(session.path());
    let account = kernel.vfs.input_account(10);
    assert_eq!(account.shown.count, 2);
    assert_eq!((account.objects.count, account.objects.bytes), (1, 500));
}

#[test]
fn only_as_many_files_are_named_as_are_wanted_and_they_are_the_largest() {
    let names: Vec<_> = (0..50).map(|number| format!("f{number:02}")).collect();
    let given = names.iter().enumerate();
    let given: Vec<_> = given
        .map(|(len, name)| (name.as_str(), Given::File(bytes(len))))
        .collect();
    let world = World::new(&given);
    let session = tempdir();
    let kernel = world.create(session.path());
    let account = kernel.vfs.input_account(2);
    assert_eq!(unused(&account), [("f49", 49), ("f48", 48)]);
    assert_eq!(account.unused.count, 50);
}

#[test]
fn what_the_job_wrote_is_no_use_of_an_input_and_what_is_left_of_it_is() {
    let world = world();
    let session = tempdir();
    let kernel = world.create(session.path());
    kernel.patch("dir/long", 100, b"written");
    let handle = kernel.open("dir/long", READ_WRITE, false).unwrap();
    kernel.read(handle, 0, 200).unwrap();
    kernel.close(handle);
    let overwritten = kernel.open("short", READ_WRITE, true).unwrap();
    kernel.close(overwritten);
    let account = kernel.vfs.input_account(10);
    assert_eq!(of(&account, "dir/long").ranges, [0..100, 107..200]);
    assert!(unused(&account).contains(&("short", 400)), "{account:#?}");
}

fn asker(name: &str) -> Asker {
    let name = name.to_owned();
    Asker { pid: 7, name }
}

#[test]
fn a_missing_name_is_told_with_who_looked_for_it_first_and_how_often() {
    let world = world();
    let vfs = Vfs::read_only(world.tree.clone(), world.fetcher(), settings());
    let vfs = Arc::new(vfs);
    let runtime = serve(&*vfs);
    let look = |parent: NodeId, name: &[u8], asker: Option<Asker>| {
        now(|reply| FileSystem::lookup(&*vfs, parent, name, || asker, reply)).unwrap()
    };
    let dir = look(NodeId::ROOT, b"dir", None).entry.unwrap().node;
    for who in ["render", "other", "third"] {
        look(dir, b"\xff<b>", Some(asker(who)));
    }
    look(NodeId::ROOT, b"lib.so", None);
    let missing = vfs.missing_names(10);
    let told = missing.names.iter();
    let told: Vec<_> = told
        .map(|name| (name.path.as_str(), name.lookups, name.asker.clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("dir/\\xff<b>", 3, Some(asker("render"))),
            ("lib.so", 1, None)
        ]
    );
    assert_eq!(missing.count, 2);
    assert_eq!(vfs.missing_names(1).names.len(), 1);
    drop(runtime);
}

/// Looks a name up in the root as the kernel does.
fn look_up(kernel: &Kernel, name: &str) {
    now(|reply| FileSystem::lookup(&kernel.vfs, NodeId::ROOT, name.as_bytes(), || None, reply))
        .unwrap();
}

#[test]
fn a_name_that_the_job_makes_is_not_missing_any_more() {
    let world = world();
    let session = tempdir();
    let kernel = world.create(session.path());
    for name in ["file", "renamed", "dir2", "link", "absent"] {
        look_up(&kernel, name);
    }
    assert_eq!(kernel.vfs.missing_names(10).count, 5);
    kernel.put("file", b"made");
    kernel.rename("file", "renamed").unwrap();
    kernel.mkdir("dir2").unwrap();
    kernel.symlink("link", "absent").unwrap();
    let missing = kernel.vfs.missing_names(10);
    let told: Vec<_> = missing.names.iter().map(|name| &name.path[..]).collect();
    assert_eq!(told, ["absent"]);
}

#[test]
fn names_beyond_a_bounded_number_are_counted_and_not_kept() {
    let world = world();
    let session = tempdir();
    let kernel = world.create(session.path());
    for number in 0..10_050 {
        look_up(&kernel, &format!("missing {number}"));
    }
    let missing = kernel.vfs.missing_names(100_000);
    assert_eq!((missing.count, missing.other_lookups), (10_000, 50));
    assert_eq!(missing.names.len(), 10_000);
}
