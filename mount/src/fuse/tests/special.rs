//! FIFOs, sockets and devices.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::fs::{CWD, FileType, mknodat};
use rustix::io::Errno;

use crate::testing::{Fixture, file};

#[test]
fn processes_meet_at_fifos_and_sockets() {
    let Some(fixture) = Fixture::mounted([("d/input", file("x"))]) else {
        return;
    };
    let fifo = fixture.at("d/fifo");
    mknodat(CWD, &fifo, FileType::Fifo, 0o640.into(), 0).unwrap();
    let writer = std::thread::spawn({
        let fifo = fifo.clone();
        move || {
            File::create(fifo)
                .unwrap()
                .write_all(b"through a fifo")
                .unwrap();
        }
    });
    let mut read = String::new();
    File::open(&fifo)
        .unwrap()
        .read_to_string(&mut read)
        .unwrap();
    writer.join().unwrap();
    assert_eq!(read, "through a fifo");
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());

    let listener = UnixListener::bind(fixture.at("socket")).unwrap();
    fs::rename(fixture.at("socket"), fixture.at("d/socket")).unwrap();
    let mut client = UnixStream::connect(fixture.at("d/socket")).unwrap();
    client.write_all(b"through a socket").unwrap();
    drop(client);
    let mut read = String::new();
    listener
        .accept()
        .unwrap()
        .0
        .read_to_string(&mut read)
        .unwrap();
    assert_eq!(read, "through a socket");
    let kinds = |name: &str| {
        let listed = fs::read_dir(fixture.at("d")).unwrap();
        let mut entries = listed.map(Result::unwrap);
        let found = entries.find(|entry| entry.file_name() == name).unwrap();
        found.file_type().unwrap()
    };
    assert!(kinds("socket").is_socket() && kinds("fifo").is_fifo());
    fs::hard_link(&fifo, fixture.at("again")).unwrap();
    for name in ["again", "d/fifo", "d/socket"] {
        fs::remove_file(fixture.at(name)).unwrap();
    }
    drop(listener);
    fixture.unmount();
}

#[test]
fn a_mount_has_no_devices() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let devices = [
        (FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        // What overlayfs takes for a file that was deleted.
        (FileType::CharacterDevice, 0),
        (FileType::BlockDevice, rustix::fs::makedev(7, 0)),
    ];
    for (kind, number) in devices {
        let made = mknodat(CWD, fixture.at("device"), kind, 0o666.into(), number);
        assert_eq!(made, Err(Errno::PERM), "{kind:?} {number}");
    }
    assert!(!fixture.at("device").exists());
    mknodat(
        CWD,
        fixture.at("file"),
        FileType::RegularFile,
        0o644.into(),
        0,
    )
    .unwrap();
    assert_eq!(fs::read(fixture.at("file")).unwrap(), b"");
    fixture.unmount();
}
