//! Listings that a kernel may keep.

use attachfs_tree::Ino;

use super::world::{Given, Kernel, World, bytes, tempdir};

fn world() -> World {
    World::new(&[
        ("inputs/a", Given::File(bytes(10))),
        ("inputs/b", Given::File(bytes(10))),
    ])
}

fn dir(kernel: &Kernel, name: &str) -> Ino {
    kernel.vfs.lookup(Ino::ROOT, name.as_bytes()).unwrap().ino
}

/// The names from an offset on, as they are told to who reads on from there.
fn names(kernel: &Kernel, handle: crate::HandleId, offset: u64) -> Vec<String> {
    let view = kernel.vfs.dir_view_from(handle, offset).unwrap();
    let entries = (offset..).map_while(|at| view.entry(at));
    let names = entries.map(|entry| String::from_utf8_lossy(entry.name).into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn a_listing_is_kept_for_one_who_has_the_directory_open_alone() {
    let (world, temp) = (world(), tempdir());
    let kernel = world.create(temp.path());
    let inputs = dir(&kernel, "inputs");
    let open = || kernel.vfs.opendir(inputs).unwrap();
    // It may change while both are half-way.
    assert_eq!(
        [open(), open()].map(|opened| opened.may_be_kept),
        [true, false]
    );
    kernel.put("inputs/c", b"1");
    assert!(!open().may_be_kept);
    for handle in kernel.vfs.handles.all_dirs() {
        kernel.vfs.releasedir(handle).unwrap();
    }
    let alone = open();
    assert!(alone.may_be_kept);
    let second = open();
    assert!(!second.may_be_kept);
    kernel.unlink("inputs/a").unwrap();
    // The handle whose kept listing is dropped goes on in the old one; a handle that begins to read gets the present one.
    assert_eq!(names(&kernel, alone.handle, 2), ["a", "b", "c"]);
    assert_eq!(names(&kernel, second.handle, 0), ["b", "c"]);
    assert_eq!(names(&kernel, alone.handle, 0), ["b", "c"]);
    kernel.vfs.releasedir(alone.handle).unwrap();
    assert!(!open().may_be_kept);
}

#[test]
fn the_listing_of_a_long_directory_that_changes_is_not_kept() {
    let (world, temp) = (world(), tempdir());
    let kernel = world.create(temp.path());
    let inputs = dir(&kernel, "inputs");
    for number in 0..998 {
        kernel.put(&format!("inputs/new-{number}"), b"");
    }
    let opened = kernel.vfs.opendir(inputs).unwrap();
    assert!(opened.may_be_kept);
    kernel.vfs.releasedir(opened.handle).unwrap();
    kernel.put("inputs/one-too-many", b"");
    assert!(!kernel.vfs.opendir(inputs).unwrap().may_be_kept);
}
