//! Extended attributes, asked for as programs and the kernel do.

use attachfs_manifest::ContentHash;
use rustix::io::Errno;

use crate::testing::{CHUNK, Fixture, file, pattern};

const HASH: &str = "user.attachfs.hash";

fn asked(fixture: &Fixture, name: &str, attribute: &str, room: usize) -> Result<String, Errno> {
    let mut value = vec![0; room];
    let len = rustix::fs::getxattr(fixture.at(name), attribute, &mut value[..])?;
    value.truncate(len);
    Ok(String::from_utf8(value).unwrap())
}

#[test]
fn an_attribute_is_read_by_its_name_and_takes_as_much_room_as_it_says() {
    let bytes = pattern(CHUNK as usize + 9);
    let Some(fixture) = Fixture::mounted([("a", file("a")), ("b", file(bytes.clone()))]) else {
        return;
    };
    let hash = ContentHash::of(b"a");
    assert_eq!(asked(&fixture, "a", HASH, 32), Ok(hash.to_string()));
    assert_eq!(rustix::fs::getxattr_query(fixture.at("a"), HASH), Ok(32));
    assert_eq!(asked(&fixture, "a", HASH, 31), Err(Errno::RANGE));
    let (first, second) = bytes.split_at(CHUNK as usize);
    let hashes = [first, second].map(|chunk| ContentHash::of(chunk).to_string());
    assert_eq!(asked(&fixture, "b", HASH, 100), Ok(hashes.join("\n")));
    for (absent, error) in [
        ("user.other", Errno::NODATA),
        ("user.attachfs.other", Errno::NODATA),
        ("security.capability", Errno::OPNOTSUPP),
        ("system.posix_acl_access", Errno::OPNOTSUPP),
    ] {
        assert_eq!(asked(&fixture, "a", absent, 100), Err(error), "{absent}");
    }
    fixture.unmount();
}

#[test]
fn attributes_are_not_listed_and_cannot_be_set() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let at = fixture.at("a");
    let flags = rustix::fs::XattrFlags::empty();
    for name in [HASH, "user.mine", "trusted.mine"] {
        let set = rustix::fs::setxattr(&at, name, b"x", flags);
        assert_eq!(set, Err(Errno::OPNOTSUPP), "{name}");
    }
    assert_eq!(rustix::fs::removexattr(&at, HASH), Err(Errno::OPNOTSUPP));
    let listed = rustix::fs::listxattr(&at, &mut [0; 100][..]);
    assert_eq!(listed, Err(Errno::OPNOTSUPP));
    fixture.unmount();
}

#[test]
fn what_is_here_of_a_file_that_is_partly_written_is_counted() {
    let bytes = pattern(CHUNK as usize);
    let Some(fixture) = Fixture::mounted([("a", file(bytes)), ("b", file("b"))]) else {
        return;
    };
    let cached = |name| asked(&fixture, name, "user.attachfs.cached", 100);
    assert_eq!(cached("a"), Ok("none".to_owned()));
    fixture.sh("printf 123 | dd of=a conv=notrunc status=none; printf x > b");
    assert_eq!(cached("a"), Ok(format!("3/{CHUNK}")));
    assert_eq!(cached("b"), Ok("all".to_owned()));
    assert_eq!(asked(&fixture, "a", HASH, 100), Err(Errno::NODATA));
    assert_eq!(
        asked(&fixture, "a", "user.attachfs.layer", 100),
        Ok("local".to_owned())
    );
    fixture.unmount();
}

#[test]
fn a_file_that_was_opened_for_writing_and_not_written_to_is_as_its_manifest_says() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    fixture.sh(": >> a");
    let hash = ContentHash::of(b"a");
    assert_eq!(asked(&fixture, "a", HASH, 32), Ok(hash.to_string()));
    fixture.unmount();
}
