//! Extended attributes, asked for as programs and the kernel do.

use attachfs_manifest::ContentHash;
use rustix::fs::{XattrFlags, listxattr, removexattr, setxattr};
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

fn set(fixture: &Fixture, name: &str, attribute: &str, value: &[u8]) -> Result<(), Errno> {
    setxattr(fixture.at(name), attribute, value, XattrFlags::empty())
}

fn listed(fixture: &Fixture, name: &str) -> Vec<String> {
    let mut names = vec![0; 1 << 16];
    let len = listxattr(fixture.at(name), &mut names[..]).unwrap();
    let names = names[..len].split(|&byte| byte == 0);
    let names = names.map(|name| String::from_utf8(name.to_vec()).unwrap());
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn attributes_are_not_listed_and_cannot_be_set() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    let at = fixture.at("a");
    for name in [HASH, "user.attachfs.mine"] {
        assert_eq!(
            set(&fixture, "a", name, b"x"),
            Err(Errno::OPNOTSUPP),
            "{name}"
        );
        assert_eq!(removexattr(&at, name), Err(Errno::OPNOTSUPP), "{name}");
    }
    assert_eq!(listed(&fixture, "a"), [""; 0]);
    fixture.unmount();
}

#[test]
fn programs_set_list_and_remove_attributes_of_inputs_and_own_files() {
    let inputs = [("input", file("x")), ("d/below", file("y"))];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    std::fs::write(fixture.at("own"), "own").unwrap();
    for name in ["input", "own", "d"] {
        assert_eq!(asked(&fixture, name, "user.mine", 9), Err(Errno::NODATA));
        set(&fixture, name, "user.mine", b"one").unwrap();
        set(&fixture, name, "user.mine", b"two").unwrap();
        set(&fixture, name, "user.empty", b"").unwrap();
        assert_eq!(
            asked(&fixture, name, "user.mine", 9),
            Ok("two".into()),
            "{name}"
        );
        assert_eq!(asked(&fixture, name, "user.mine", 2), Err(Errno::RANGE));
        assert_eq!(asked(&fixture, name, "user.empty", 9), Ok(String::new()));
        assert_eq!(
            listed(&fixture, name),
            ["user.empty", "user.mine"],
            "{name}"
        );
        let flags = |attribute, flags| setxattr(fixture.at(name), attribute, b"3", flags);
        assert_eq!(flags("user.mine", XattrFlags::CREATE), Err(Errno::EXIST));
        assert_eq!(flags("user.other", XattrFlags::REPLACE), Err(Errno::NODATA));
        flags("user.other", XattrFlags::CREATE).unwrap();
        flags("user.mine", XattrFlags::REPLACE).unwrap();
        removexattr(fixture.at(name), "user.empty").unwrap();
        let again = removexattr(fixture.at(name), "user.empty");
        assert_eq!(again, Err(Errno::NODATA), "{name}");
        assert_eq!(
            listed(&fixture, name),
            ["user.mine", "user.other"],
            "{name}"
        );
    }
    // They are the file's, whatever its name is and wherever its bytes are.
    fixture.sh("mv input d/moved; ln d/moved again; echo more >> again; mv d e");
    for name in ["e/moved", "again", "e"] {
        assert_eq!(
            asked(&fixture, name, "user.mine", 9),
            Ok("3".into()),
            "{name}"
        );
    }
    fixture.sh("rm own; echo new > own");
    assert_eq!(
        listed(&fixture, "own"),
        [""; 0],
        "another file of the same name"
    );
    fixture.unmount();
}

#[test]
fn root_sets_attributes_of_other_name_spaces_but_not_those_of_the_kernel() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    if rustix::process::geteuid().is_root() {
        for name in ["trusted.mine", "security.mine"] {
            set(&fixture, "a", name, b"x").unwrap();
            assert_eq!(asked(&fixture, "a", name, 9), Ok("x".into()), "{name}");
        }
        assert_eq!(listed(&fixture, "a"), ["security.mine", "trusted.mine"]);
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let set = set(&fixture, "a", "security.capability", &capability);
        assert_eq!(set, Err(Errno::OPNOTSUPP));
    }
    let acl = set(&fixture, "a", "system.posix_acl_access", &[2, 0, 0, 0]);
    assert_eq!(acl, Err(Errno::OPNOTSUPP));
    assert_eq!(
        set(&fixture, "a", "other.name", b"x"),
        Err(Errno::OPNOTSUPP)
    );
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
