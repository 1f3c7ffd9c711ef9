//! Ending writing while programs go on.

use super::world::{Given, READ, READ_WRITE, World, bytes, tempdir};
use crate::FsErrorKind;

#[test]
fn nothing_changes_after_the_end_and_everything_can_be_read() {
    let world = World::new(&[("input", Given::File(bytes(100))), ("d", Given::Dir)]);
    let dir = tempdir();
    let kernel = world.create(dir.path());
    let handle = kernel.create("new").unwrap();
    kernel.write(handle, 0, b"kept").unwrap();
    kernel.vfs.end_writing();
    let before = kernel.dump();
    let ended = FsErrorKind::Ended;
    assert_eq!(kernel.write(handle, 0, b"lost"), Err(ended));
    assert_eq!(kernel.open("input", READ_WRITE, false), Err(ended));
    assert_eq!(kernel.open("input", READ, true), Err(ended));
    assert_eq!(kernel.create("other"), Err(ended));
    assert_eq!(kernel.truncate("new", 0).map(drop), Err(ended));
    assert_eq!(kernel.chmod("input", 0o600).map(drop), Err(ended));
    assert_eq!(kernel.mkdir("e"), Err(ended));
    assert_eq!(kernel.rmdir("d"), Err(ended));
    assert_eq!(kernel.unlink("new"), Err(ended));
    assert_eq!(kernel.rename("new", "newer"), Err(ended));
    assert_eq!(kernel.link("new", "newer"), Err(ended));
    assert_eq!(kernel.symlink("link", "new"), Err(ended));
    kernel.close(handle);
    assert_eq!(kernel.dump(), before);
    assert_eq!(kernel.cat("new"), b"kept");
    assert_eq!(kernel.cat("input"), bytes(100));
}

#[test]
fn writes_that_returned_success_are_there_when_writing_has_ended() {
    let world = World::new(&[]);
    let dir = tempdir();
    let kernel = world.create(dir.path());
    let handle = kernel.create("new").unwrap();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (succeeded, size) = std::thread::scope(|scope| {
        let vfs = &kernel.vfs;
        let writer = scope.spawn(move || {
            let mut written = 0;
            while vfs.write(handle, written, b"line").is_ok() {
                written += 4;
                let _ = begun.send(());
            }
            written
        });
        has_begun.recv().unwrap();
        vfs.end_writing();
        let size = kernel.stat("new").unwrap().size;
        (writer.join().unwrap(), size)
    });
    assert_eq!(succeeded, size);
}
