//! FIFOs and sockets.

use attachfs_tree::{Kind, Special};

use super::world::{Given, READ_WRITE, World, bytes, tempdir};
use crate::{FsErrorKind, SetAttr, SetTime};

#[test]
fn fifos_and_sockets_are_kept_without_content() {
    let world = World::new(&[("d/input", Given::File(bytes(10)))]);
    let dir = tempdir();
    let kernel = world.create(dir.path());
    kernel.make_special("d/fifo", Special::Fifo).unwrap();
    kernel.make_special("socket", Special::Socket).unwrap();
    let taken = kernel.make_special("d/input", Special::Fifo);
    assert_eq!(taken, Err(FsErrorKind::Exists));
    kernel.link("d/fifo", "again").unwrap();
    kernel.rename("socket", "d/socket").unwrap();
    kernel.chmod("again", 0o600).unwrap();
    let set = SetAttr {
        mtime: Some(SetTime::To(attachfs_tree::Timestamp {
            seconds: 7,
            nanoseconds: 8,
        })),
        ..SetAttr::default()
    };
    let fifo = kernel.stat("d/fifo").unwrap();
    kernel.vfs.setattr(fifo.ino, set).unwrap();
    let expected = |kernel: &super::world::Kernel| {
        let fifo = kernel.stat("d/fifo").unwrap();
        assert_eq!(fifo.kind, Kind::Special(Special::Fifo));
        assert_eq!((fifo.nlink, fifo.perm, fifo.size), (2, 0o600, 0));
        assert_eq!((fifo.mtime.seconds, fifo.mtime.nanoseconds), (7, 8));
        assert_eq!(kernel.stat("again").unwrap().ino, fifo.ino);
        let socket = kernel.stat("d/socket").unwrap();
        assert_eq!(socket.kind, Kind::Special(Special::Socket));
        assert_eq!(kernel.stat("socket"), Err(FsErrorKind::NotFound));
    };
    expected(&kernel);
    let opened = kernel.open("again", READ_WRITE, false);
    assert_eq!(
        opened,
        Err(FsErrorKind::Invalid),
        "its bytes never come here"
    );
    assert_eq!(kernel.truncate("again", 1), Err(FsErrorKind::Invalid));
    let (_copy, recovered) = world.after_kill(dir.path());
    expected(&recovered);
    // Windows replaces no file that is open.
    #[cfg(unix)]
    kernel.vfs.overlay.as_ref().unwrap().disk.compact().unwrap();
    let (_copy, recovered) = world.after_kill(dir.path());
    expected(&recovered);
    for name in ["again", "d/fifo", "d/socket"] {
        recovered.unlink(name).unwrap();
    }
    assert_eq!(recovered.dump().len(), 2);
}
