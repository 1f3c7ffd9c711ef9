//! Set-group-id of directories.

use attachfs_tree::Ino;

use super::world::{Given, Kernel, READ_WRITE, World, bytes, tempdir};
use crate::{FileAttr, SetAttr};

fn set(kernel: &Kernel, at: &str, mode: u32, gid: u32) {
    let set = SetAttr {
        mode: Some(mode),
        gid: Some(gid),
        ..SetAttr::default()
    };
    let ino = kernel.stat(at).unwrap().ino;
    kernel.vfs.setattr(ino, set).unwrap();
}

fn shown(attr: FileAttr) -> (u32, u32, u32) {
    (attr.perm, attr.uid, attr.gid)
}

#[test]
fn new_entries_of_a_directory_with_set_group_id_get_its_group() {
    let world = World::new(&[("d/a", Given::File(bytes(10)))]);
    let dir = tempdir();
    let kernel = world.create(dir.path());
    set(&kernel, "d", 0o2775, 50);
    assert_eq!(shown(kernel.stat("d").unwrap()), (0o2775, 0, 50));
    let (vfs, d) = (&kernel.vfs, kernel.stat("d").unwrap().ino);
    let below = vfs.mkdir(d, b"below", 0o700, (7, 8)).unwrap();
    assert_eq!(shown(below), (0o2700, 7, 50));
    let file = vfs.create_file(d, b"file", 0o6755, (7, 8), READ_WRITE);
    assert_eq!(shown(file.unwrap().0), (0o755, 7, 50));
    let link = vfs.symlink(below.ino, b"link", b"file", (7, 8)).unwrap();
    assert_eq!(shown(link), (0o777, 7, 50));
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(shown(recovered.stat("d/below").unwrap()), (0o2700, 7, 50));
    assert_eq!(shown(recovered.stat("d").unwrap()), (0o2775, 0, 50));
    // Without the bit, the group of the caller counts.
    set(&kernel, "d", 0o775, 50);
    let own = vfs.mkdir(d, b"own", 0o6700, (7, 8)).unwrap();
    assert_eq!(shown(own), (0o2700, 7, 8));
    set(&kernel, "d/file", 0o6711, 50);
    assert_eq!(shown(kernel.stat("d/file").unwrap()), (0o711, 7, 50));
    let root = vfs.mkdir(Ino::ROOT, b"top", 0o755, (7, 8)).unwrap();
    assert_eq!(shown(root), (0o755, 7, 8));
}
