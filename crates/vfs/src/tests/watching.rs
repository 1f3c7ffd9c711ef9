//! Which files are told to have changed.

use std::collections::BTreeSet;

use attachfs_tree::Ino;

use super::world::{Given, Kernel, READ, READ_WRITE, World, bytes, tempdir};
use crate::{SetAttr, SetTime};

/// What changed since this was asked last.
fn changed(kernel: &Kernel) -> BTreeSet<Ino> {
    kernel.vfs.take_changes().into_keys().collect()
}

fn inos<const N: usize>(kernel: &Kernel, paths: [&str; N]) -> BTreeSet<Ino> {
    let ino = |path| kernel.stat(path).unwrap().ino;
    paths.map(ino).into_iter().collect()
}

#[test]
fn what_is_closed_after_writing_shortened_or_renamed_is_told_once() {
    let (world, dir) = (World::new(&[("a", Given::File(bytes(2500)))]), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("before", b"1");
    kernel.vfs.watch_changes();
    assert_eq!(changed(&kernel), BTreeSet::new());

    let first = kernel.create("new").unwrap();
    let second = kernel.open("new", READ_WRITE, false).unwrap();
    kernel.write(first, 0, b"half").unwrap();
    kernel.close(first);
    assert_eq!(changed(&kernel), BTreeSet::new());
    kernel.close(second);
    let read = kernel.open("new", READ, false).unwrap();
    kernel.close(read);
    kernel.patch("a", 3, b"part");
    assert_eq!(changed(&kernel), inos(&kernel, ["new", "a"]));

    let new = kernel.stat("new").unwrap().ino;
    let size = SetAttr {
        size: Some(2),
        ..SetAttr::default()
    };
    kernel.vfs.setattr(new, size).unwrap();
    assert_eq!(changed(&kernel), inos(&kernel, ["new"]));
    let time = SetAttr {
        mtime: Some(SetTime::Now),
        ..SetAttr::default()
    };
    kernel.vfs.setattr(new, time).unwrap();
    assert_eq!(changed(&kernel), inos(&kernel, ["new"]));
    kernel.mkdir("d").unwrap();
    assert_eq!(changed(&kernel), BTreeSet::new());
    kernel.rename("new", "d/new").unwrap();
    assert_eq!(changed(&kernel), inos(&kernel, ["d/new"]));
    kernel.rename("d", "e").unwrap();
    assert_eq!(changed(&kernel), inos(&kernel, ["e"]));
    kernel.link("before", "e/link").unwrap();
    assert_eq!(changed(&kernel), inos(&kernel, ["before"]));
    kernel.unlink("e/new").unwrap();
    assert_eq!(changed(&kernel), BTreeSet::from([new]));
}
