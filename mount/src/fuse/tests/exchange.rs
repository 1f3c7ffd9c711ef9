//! Two names that change places.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::testing::{Fixture, file};

fn exchange(fixture: &Fixture, one: &str, other: &str) -> Result<(), Errno> {
    let (one, other) = (fixture.at(one), fixture.at(other));
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
}

#[test]
fn names_are_exchanged_at_once() {
    let inputs = [
        ("a", file("input a")),
        ("b", file("input b")),
        ("d/e/x", file("below d")),
        ("other/y", file("below other")),
    ];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let read = |name: &str| fs::read_to_string(fixture.at(name)).unwrap();
    let ino = |name: &str| fs::metadata(fixture.at(name)).unwrap().ino();
    let (a, b) = (ino("a"), ino("b"));
    let mut opened = File::open(fixture.at("a")).unwrap();
    exchange(&fixture, "a", "b").unwrap();
    assert_eq!((ino("a"), ino("b")), (b, a), "inputs");
    assert_eq!((read("a"), read("b")), ("input b".into(), "input a".into()));
    let mut bytes = String::new();
    opened.read_to_string(&mut bytes).unwrap();
    assert_eq!(bytes, "input a", "who has one open has the same one");

    exchange(&fixture, "d/e", "other").unwrap();
    assert_eq!(read("d/e/y"), "below other", "directories");
    assert_eq!(read("other/x"), "below d");
    let parent = fs::canonicalize(fixture.at("d/e/..")).unwrap();
    assert_eq!(parent, fs::canonicalize(fixture.at("d")).unwrap());

    fs::write(fixture.at("new"), "new").unwrap();
    exchange(&fixture, "new", "other").unwrap();
    assert_eq!(
        (read("new/x"), read("other")),
        ("below d".into(), "new".into()),
        "both kinds"
    );

    assert_eq!(
        exchange(&fixture, "d", "d/e"),
        Err(Errno::INVAL),
        "below itself"
    );
    assert_eq!(exchange(&fixture, "d/e/y", "d"), Err(Errno::INVAL));
    assert_eq!(exchange(&fixture, "a", "missing"), Err(Errno::NOENT));
    exchange(&fixture, "a", "a").unwrap();
    drop(opened);
    fixture.unmount();
}

#[test]
fn a_rename_that_leaves_a_device_behind_is_refused() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    for flags in [
        RenameFlags::WHITEOUT,
        RenameFlags::WHITEOUT | RenameFlags::NOREPLACE,
        RenameFlags::EXCHANGE | RenameFlags::NOREPLACE,
    ] {
        let renamed = renameat_with(CWD, fixture.at("a"), CWD, fixture.at("b"), flags);
        assert_eq!(renamed, Err(Errno::INVAL), "{flags:?}");
    }
    assert!(fixture.at("a").exists() && !fixture.at("b").exists());
    fixture.unmount();
}
