//! Details of POSIX on which kernel and file system have to agree.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_OMIT};

use super::names;
use crate::testing::{Fixture, Given, PATIENCE, file, run};

/// Opens a path with O_PATH: a reference without any access.
fn refer_to(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::PATH.bits() as i32)
        .open(path)
        .unwrap()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let late = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < late, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn rewinding_a_directory_shows_its_present_entries() {
    let inputs = [("d/a", file("a")), ("d/b", file("b"))];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    let opened = File::open(fixture.at("d")).unwrap();
    let mut dir = rustix::fs::Dir::read_from(&opened).unwrap();
    let mut read = |rewind: bool| {
        if rewind {
            dir.rewind();
        }
        let mut names = Vec::new();
        while let Some(entry) = dir.read() {
            names.push(entry.unwrap().file_name().to_str().unwrap().to_owned());
        }
        names.sort();
        names
    };
    assert_eq!(read(false), [".", "..", "a", "b"]);
    fs::write(fixture.at("d/new"), b"new").unwrap();
    fs::remove_file(fixture.at("d/a")).unwrap();
    assert_eq!(read(false), [""; 0], "the end stays the end");
    assert_eq!(read(true), [".", "..", "b", "new"]);
    fs::remove_file(fixture.at("d/b")).unwrap();
    assert_eq!(read(true), [".", "..", "new"]);
    drop(dir);
    drop(opened);
    fixture.unmount();
}

#[test]
fn a_removed_or_replaced_directory_that_is_open_has_attributes() {
    let inputs = [("input", Given::Dir), ("other", Given::Dir)];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    for name in ["own", "replaced", "new"] {
        fs::create_dir(fixture.at(name)).unwrap();
    }
    let open = |name| {
        let opened = File::open(fixture.at(name)).unwrap();
        let ino = opened.metadata().unwrap().ino();
        (name, opened, ino)
    };
    let opened = ["input", "own", "replaced", "other"].map(open);
    fs::remove_dir(fixture.at("input")).unwrap();
    fs::remove_dir(fixture.at("own")).unwrap();
    fs::rename(fixture.at("new"), fixture.at("replaced")).unwrap();
    fs::create_dir(fixture.at("newer")).unwrap();
    fs::rename(fixture.at("newer"), fixture.at("other")).unwrap();
    for (name, opened, ino) in opened {
        let metadata = opened.metadata().unwrap();
        assert!(metadata.is_dir(), "{name}");
        assert_eq!((metadata.ino(), metadata.nlink()), (ino, 0), "{name}");
    }
    fixture.unmount();
}

#[test]
fn an_unlinked_file_that_is_only_referred_to_has_attributes_and_its_bytes() {
    let Some(fixture) = Fixture::mounted([("input", file("input"))]) else {
        return;
    };
    fs::write(fixture.at("own"), b"own").unwrap();
    fs::write(fixture.at("replaced"), b"old").unwrap();
    fs::write(fixture.at("new"), b"new bytes").unwrap();
    let held = [("input", 5), ("own", 3), ("replaced", 3)]
        .map(|(name, len)| (name, len, refer_to(&fixture.at(name))));
    fs::remove_file(fixture.at("input")).unwrap();
    fs::remove_file(fixture.at("own")).unwrap();
    fs::rename(fixture.at("new"), fixture.at("replaced")).unwrap();
    for (name, len, held) in &held {
        let metadata = held.metadata().unwrap();
        assert_eq!((metadata.len(), metadata.nlink()), (*len, 0), "{name}");
        let number = std::os::fd::AsRawFd::as_raw_fd(held);
        let mut bytes = Vec::new();
        let mut opened = File::open(format!("/proc/self/fd/{number}")).unwrap();
        opened.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, *len, "{name}");
    }
    drop(held);
    fixture.unmount();
}

#[test]
fn the_bytes_of_an_unlinked_file_are_removed_with_its_last_reference() {
    let Some(fixture) = Fixture::mounted([("input", file("input"))]) else {
        return;
    };
    let scratch = fixture.session().dir().join("scratch");
    let kept = || fs::read_dir(&scratch).unwrap().count();
    let empty = kept();
    fs::write(fixture.at("own"), b"own").unwrap();
    let links = [fixture.at("own"), fixture.at("second")];
    fs::hard_link(&links[0], &links[1]).unwrap();
    fs::remove_file(&links[0]).unwrap();
    let held = refer_to(&links[1]);
    fs::remove_file(&links[1]).unwrap();
    fs::write(fixture.at("other"), b"x").unwrap();
    fs::remove_file(fixture.at("other")).unwrap();
    until("one file is left", || kept() == empty + 1);
    assert_eq!(held.metadata().unwrap().len(), 3);
    drop(held);
    until("none is left", || kept() == empty);
    fixture.unmount();
}

#[test]
fn a_time_set_after_a_write_to_a_mapping_stays() {
    let Some(fixture) = Fixture::mounted([("input", file(vec![b'.'; 10_000]))]) else {
        return;
    };
    if std::process::Command::new("python3")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("skipped: no python3, which does the mapping");
        return;
    }
    fs::write(fixture.at("own"), [b'.'; 10_000]).unwrap();
    let script = "
import mmap, os, sys
for name in ('input', 'own'):
    f = open(name, 'r+b')
    m = mmap.mmap(f.fileno(), 0)
    m[0:4] = b'MMAP'
    os.utime(f.fileno(), ns=(5_000_000_000, 1_000_000_000_123_456_789))
    m.close()
    f.close()
    assert os.stat(name).st_mtime_ns == 1_000_000_000_123_456_789, (name, os.stat(name))
    # What is stored after the time was set is a change again.
    f = open(name, 'r+b')
    m = mmap.mmap(f.fileno(), 0)
    os.utime(name, ns=(5_000_000_000, 1_000_000_000_123_456_789))
    m[-4:] = b'LAST'
    m.flush()
    assert os.stat(name).st_mtime_ns > 1_000_000_000_123_456_789, (name, os.stat(name))
    m.close()
    f.close()
";
    run(&fixture.root(), "python3", &["-c", script]);
    for name in ["input", "own"] {
        let bytes = fs::read(fixture.at(name)).unwrap();
        assert_eq!(
            (&bytes[..5], &bytes[9995..]),
            (&b"MMAP."[..], &b".LAST"[..])
        );
    }
    fixture.unmount();
}

#[test]
fn setting_the_access_time_changes_the_change_time_only() {
    let inputs = [("input", file("x")), ("d", Given::Dir)];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    fs::write(fixture.at("own"), b"own").unwrap();
    for name in ["input", "d", "own"] {
        let opened = File::open(fixture.at(name)).unwrap();
        let before = opened.metadata().unwrap();
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 1_000_000_000,
                tv_nsec: 0,
            },
            last_modification: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
        };
        let since = SystemTime::now() - Duration::from_mins(1);
        rustix::fs::futimens(&opened, &times).unwrap();
        let after = opened.metadata().unwrap();
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        assert_eq!(
            (before.atime(), after.atime()),
            (before.mtime(), 1_000_000_000)
        );
        let changed = |metadata: &fs::Metadata| (metadata.ctime(), metadata.ctime_nsec());
        assert!(changed(&after) > changed(&before), "{name}");
        let recent = since.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert!(after.ctime() > recent.as_secs() as i64, "{name}");
    }
    assert_eq!(names(&fixture.root()), ["d", "input", "own"]);
    fixture.unmount();
}
