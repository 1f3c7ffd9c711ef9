//! Modes, times and sizes.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, SystemTime};

use attachfs_fixtures::{CREATED, MTIME};

use crate::testing::{Fixture, Given, file};

#[test]
fn stat_shows_what_the_manifest_says() {
    let inputs = [
        ("a", file("12345")),
        ("run", Given::Runnable(b"#!".to_vec())),
        ("d", Given::Dir),
    ];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let a = fs::metadata(fixture.at("a")).unwrap();
    assert_eq!((a.len(), a.blocks(), a.nlink()), (5, 1, 1));
    assert_eq!(a.permissions().mode(), 0o100_644);
    assert_eq!(a.mtime() * 1_000_000 + a.mtime_nsec() / 1000, MTIME.0);
    assert_eq!(a.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(
        fs::metadata(fixture.at("run"))
            .unwrap()
            .permissions()
            .mode(),
        0o100_755
    );
    let d = fs::metadata(fixture.at("d")).unwrap();
    assert_eq!(
        (d.permissions().mode(), d.mtime()),
        (0o040_755, CREATED.seconds)
    );
    assert_ne!(a.ino(), d.ino());
    fixture.unmount();
}

#[test]
fn a_directory_has_a_link_for_each_directory_in_it() {
    let inputs = [
        ("d/a/x", file("x")),
        ("d/b/c/y", file("y")),
        ("d/f", file("f")),
        ("e", Given::Dir),
    ];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let links = |name: &str| fs::metadata(fixture.at(name)).unwrap().nlink();
    let all = || ["", "d", "d/b", "e"].map(links);
    assert_eq!(all(), [4, 4, 3, 2]);
    fixture.sh("mkdir e/new; mkdir e/new/below; touch e/file; ln -s new e/link");
    assert_eq!(all(), [4, 4, 3, 3]);
    fixture.sh("mv e/new d/; mv d/b/c e/c");
    assert_eq!(all(), [4, 5, 2, 3]);
    fixture.sh("rmdir d/new/below; rmdir d/new; mv d/a d/b/");
    assert_eq!(all(), [4, 3, 3, 3]);
    let (one, other) = (fixture.at("d/b"), fixture.at("e/file"));
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, exchange).unwrap();
    assert_eq!(["d", "e", "e/file"].map(links), [2, 4, 3]);
    fixture.unmount();
}

#[test]
fn the_mode_of_what_is_created_obeys_the_umask() {
    let Some(fixture) = Fixture::mounted([("a", file("a"))]) else {
        return;
    };
    fixture.sh("umask 027; touch f; mkdir d; : > g; chmod 4711 g");
    let mode = |name| fs::metadata(fixture.at(name)).unwrap().permissions().mode();
    assert_eq!((mode("f"), mode("d")), (0o100_640, 0o040_750));
    assert_eq!(mode("g"), 0o100_711, "set-user-id is dropped");
    fixture.unmount();
}

#[test]
fn modes_and_times_are_changed_in_place() {
    let Some(fixture) = Fixture::mounted([("input", file("x")), ("d", Given::Dir)]) else {
        return;
    };
    fs::write(fixture.at("own"), b"x").unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    for name in ["input", "own", "d"] {
        let before = fs::metadata(fixture.at(name)).unwrap();
        fs::set_permissions(fixture.at(name), fs::Permissions::from_mode(0o750)).unwrap();
        let opened = File::open(fixture.at(name)).unwrap();
        opened
            .set_times(fs::FileTimes::new().set_modified(time))
            .unwrap();
        let after = fs::metadata(fixture.at(name)).unwrap();
        assert_eq!(after.permissions().mode() & 0o7777, 0o750, "{name}");
        assert_eq!(after.modified().unwrap(), time, "{name}");
        assert_eq!(after.ino(), before.ino(), "{name}");
    }
    fixture.unmount();
}

#[test]
fn a_time_before_1970_is_kept_to_the_nanosecond() {
    let Some(fixture) = Fixture::mounted([("a", file("x"))]) else {
        return;
    };
    let time = SystemTime::UNIX_EPOCH - Duration::new(1_000, 250_000_000);
    let opened = File::open(fixture.at("a")).unwrap();
    opened
        .set_times(fs::FileTimes::new().set_modified(time))
        .unwrap();
    assert_eq!(opened.metadata().unwrap().modified().unwrap(), time);
    drop(opened);
    fixture.unmount();
}

#[test]
fn a_listing_shows_the_sizes_of_files_changed_since_it_began() {
    let inputs = (0..200).map(|number| (format!("{number:03}"), file("input")));
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let mut entries = fs::read_dir(fixture.root()).unwrap();
    let first = entries.next().unwrap().unwrap().file_name();
    fs::write(fixture.at("199"), b"much longer than before").unwrap();
    let rest: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(rest.len() + 1, 200, "after {}", first.display());
    assert_eq!(fs::metadata(fixture.at("199")).unwrap().len(), 23);
    let listed = fixture.sh("ls -l | awk '$9 == \"199\" { print $5 }'");
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "23");
    fixture.unmount();
}
