//! Reading inputs: their bytes, and what a read meets in the store.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::io::Errno;

use super::errno;
use crate::testing::{CHUNK, Fixture, Given, file, pattern};

#[test]
fn inputs_are_read_as_they_are_in_the_store() {
    let large = pattern(3 * CHUNK as usize + 17);
    let inputs = [
        ("small", file("hello")),
        ("dir/large", file(large.clone())),
        ("none", file("")),
    ];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    assert_eq!(fs::read(fixture.at("small")).unwrap(), b"hello");
    assert_eq!(fs::read(fixture.at("none")).unwrap(), b"");
    assert_eq!(fs::read(fixture.at("dir/large")).unwrap(), large);
    let mut across = [0; 40];
    let opened = File::open(fixture.at("dir/large")).unwrap();
    opened.read_exact_at(&mut across, CHUNK - 20).unwrap();
    assert_eq!(across, large[CHUNK as usize - 20..CHUNK as usize + 20]);
    assert_eq!(opened.read_at(&mut across, large.len() as u64).unwrap(), 0);
    drop(opened);
    fixture.unmount();
}

#[test]
fn links_of_the_manifest_lead_from_where_they_are() {
    let inputs = [
        ("d/target", file("there")),
        ("d/e/link", Given::Link("d/target")),
    ];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    assert_eq!(
        fs::read_link(fixture.at("d/e/link")).unwrap(),
        Path::new("../target")
    );
    assert_eq!(fs::read(fixture.at("d/e/link")).unwrap(), b"there");
    std::os::unix::fs::symlink("../outside me", fixture.at("own")).unwrap();
    assert_eq!(
        fs::read_link(fixture.at("own")).unwrap(),
        Path::new("../outside me")
    );
    fixture.unmount();
}

#[test]
fn many_readers_of_the_same_files_get_the_same_bytes() {
    let large = pattern(20 * CHUNK as usize);
    let inputs = (0..4).map(|number| (format!("{number}"), file(large.clone())));
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    std::thread::scope(|scope| {
        for reader in 0..12 {
            let (fixture, large) = (&fixture, &large);
            scope.spawn(move || {
                let read = fs::read(fixture.at(&(reader % 4).to_string())).unwrap();
                assert!(read == *large);
            });
        }
    });
    fixture.unmount();
}

#[test]
fn an_object_that_the_store_does_not_have_is_an_io_error_and_the_mount_goes_on() {
    let Some(fixture) = Fixture::mounted([("lost", file("lost")), ("kept", file("kept"))]) else {
        return;
    };
    fixture
        .store
        .remove(attachfs_manifest::ContentHash::of(b"lost"));
    assert_eq!(errno(fs::read(fixture.at("lost"))), Some(Errno::IO));
    assert_eq!(fs::read(fixture.at("kept")).unwrap(), b"kept");
    fixture.unmount();
}
