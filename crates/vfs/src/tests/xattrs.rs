//! Extended attributes that programs set.

use attachfs_tree::Ino;

use super::world::{Given, Kernel, READ_WRITE, World, bytes, tempdir};
use crate::FsErrorKind;

fn world() -> World {
    World::new(&[
        ("a", Given::File(bytes(2500))),
        ("d/b", Given::File(bytes(10))),
    ])
}

fn values(kernel: &Kernel, at: &str) -> Vec<(String, Vec<u8>)> {
    kernel.xattrs(at).unwrap()
}

fn pair(name: &str, value: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), value.to_vec())
}

#[test]
fn attributes_survive_the_process_and_compaction_and_go_with_their_file() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    for at in ["a", "d", "d/b"] {
        kernel.set_xattr(at, "user.one", b"1").unwrap();
        kernel.set_xattr(at, "user.two", &[0, 255, 7]).unwrap();
    }
    kernel.remove_xattr("d", "user.one").unwrap();
    let missing = kernel.remove_xattr("d", "user.one");
    assert_eq!(missing, Err(FsErrorKind::NoAttribute));
    // Written in place, moved, and linked: it stays the same file.
    kernel.patch("a", 100, b"patched");
    kernel.rename("a", "d/moved").unwrap();
    kernel.link("d/moved", "again").unwrap();
    kernel.put("new", b"new");
    kernel.set_xattr("new", "user.new", b"n").unwrap();
    kernel.rename("new", "d/b").unwrap();
    let both = [pair("user.one", b"1"), pair("user.two", &[0, 255, 7])];
    let check = |kernel: &Kernel| {
        assert_eq!(values(kernel, "again"), both);
        assert_eq!(values(kernel, "d"), both[1..]);
        assert_eq!(values(kernel, "d/b"), [pair("user.new", b"n")]);
    };
    check(&kernel);
    let (_copy, recovered) = world.after_kill(dir.path());
    check(&recovered);
    // Windows replaces no file that is open.
    #[cfg(unix)]
    kernel.vfs.overlay.as_ref().unwrap().disk.compact().unwrap();
    let (_copy, recovered) = world.after_kill(dir.path());
    check(&recovered);
    let ino = recovered.stat("again").unwrap().ino;
    recovered.unlink("again").unwrap();
    assert_eq!(values(&recovered, "d/moved"), both);
    recovered.unlink("d/moved").unwrap();
    assert_eq!(recovered.vfs.namespace.read().xattrs(ino).count(), 0);
}

#[test]
fn attributes_of_a_deleted_file_that_is_open_go_when_it_is_closed() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.set_xattr("a", "user.one", b"1").unwrap();
    let ino = kernel.stat("a").unwrap().ino;
    let handle = kernel.open("a", READ_WRITE, false).unwrap();
    kernel.unlink("a").unwrap();
    assert_eq!(kernel.vfs.namespace.read().xattrs(ino).count(), 1);
    kernel.close(handle);
    assert_eq!(kernel.vfs.namespace.read().xattrs(ino).count(), 0);
}

#[test]
fn what_one_file_has_is_bounded() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let half = vec![7; 60 << 10];
    let full = Err(FsErrorKind::NoSpace);
    kernel.set_xattr("a", "user.one", &half).unwrap();
    kernel.set_xattr("a", "user.two", &half).unwrap();
    assert_eq!(kernel.set_xattr("a", "user.three", &half), full);
    // In the place of another it fits.
    kernel.set_xattr("a", "user.two", &half[1..]).unwrap();
    let long = vec![7; (64 << 10) + 1];
    assert_eq!(kernel.set_xattr("d/b", "user.one", &long), full);
    let name = |number: usize| format!("user.{number:0250}");
    let fits = (64 << 10) / 256;
    for number in 0..fits {
        kernel.set_xattr("d/b", &name(number), b"").unwrap();
    }
    assert_eq!(kernel.set_xattr("d/b", &name(fits), b""), full);
    let ino = kernel.stat("d/b").unwrap().ino;
    let listed = kernel.vfs.list_xattrs(ino, true).unwrap();
    assert_eq!(listed.len(), 64 << 10);
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(values(&recovered, "d/b").len(), fits);
}

#[test]
fn trusted_attributes_are_listed_for_root_alone() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.set_xattr("a", "trusted.one", b"1").unwrap();
    kernel.set_xattr("a", "user.one", b"1").unwrap();
    let list = |all| {
        let ino: Ino = kernel.stat("a").unwrap().ino;
        String::from_utf8(kernel.vfs.list_xattrs(ino, all).unwrap()).unwrap()
    };
    assert_eq!(list(true), "trusted.one\0user.one\0");
    assert_eq!(list(false), "user.one\0");
    for name in [
        "system.posix_acl_access",
        "security.capability",
        "user.attachfs.hash",
        "x",
    ] {
        let set = kernel.set_xattr("a", name, b"1");
        assert_eq!(set, Err(FsErrorKind::NotSupported), "{name}");
    }
}
