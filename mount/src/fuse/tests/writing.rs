//! Writing: into inputs and new files, through handles and mappings, on full and read-only file systems.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::io::Errno;

use super::errno;
use crate::testing::{CHUNK, Fixture, file, pattern, run};

#[test]
fn an_input_opened_for_reading_and_writing_opens_at_the_first_try_and_keeps_its_bytes() {
    let large = pattern(2 * CHUNK as usize + 5);
    let Some(fixture) = Fixture::mounted([("large", file(large.clone()))]) else {
        return;
    };
    let before = fs::metadata(fixture.at("large")).unwrap();
    let mut opened = OpenOptions::new()
        .read(true)
        .write(true)
        .open(fixture.at("large"))
        .unwrap();
    let mut read = Vec::new();
    opened.read_to_end(&mut read).unwrap();
    assert_eq!(read, large);
    drop(opened);
    let after = fs::metadata(fixture.at("large")).unwrap();
    assert_eq!(
        (after.len(), after.mtime_nsec()),
        (before.len(), before.mtime_nsec())
    );
    fixture.unmount();
}

#[test]
fn part_of_an_input_is_overwritten_and_the_rest_stays() {
    let mut bytes = pattern(2 * CHUNK as usize + 5);
    let Some(fixture) = Fixture::mounted([("large", file(bytes.clone()))]) else {
        return;
    };
    let reader = File::open(fixture.at("large")).unwrap();
    let at = CHUNK as usize - 3;
    let writer = OpenOptions::new()
        .write(true)
        .open(fixture.at("large"))
        .unwrap();
    writer.write_all_at(b"changed", at as u64).unwrap();
    bytes[at..at + 7].copy_from_slice(b"changed");
    assert_eq!(fs::read(fixture.at("large")).unwrap(), bytes);
    let mut seen = vec![0; bytes.len()];
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen == bytes, "who had it open sees the new bytes");
    drop((reader, writer));
    assert_eq!(
        fs::metadata(fixture.at("large")).unwrap().len(),
        bytes.len() as u64
    );
    fixture.unmount();
}

#[test]
fn an_input_that_is_written_anew_is_not_asked_of_the_store() {
    let Some(fixture) = Fixture::mounted([("a", file("the old bytes"))]) else {
        return;
    };
    for object in fixture.store.objects() {
        fixture.store.remove(object);
    }
    fs::write(fixture.at("a"), b"new").unwrap();
    assert_eq!(fs::read(fixture.at("a")).unwrap(), b"new");
    assert_eq!(fixture.vfs.counters().files_read, 0);
    fixture.unmount();
}

#[test]
fn an_input_is_appended_to() {
    let Some(fixture) = Fixture::mounted([("log", file("one\n"))]) else {
        return;
    };
    for line in ["two\n", "three\n"] {
        let mut log = OpenOptions::new()
            .append(true)
            .open(fixture.at("log"))
            .unwrap();
        log.write_all(line.as_bytes()).unwrap();
    }
    assert_eq!(fs::read(fixture.at("log")).unwrap(), b"one\ntwo\nthree\n");
    fixture.unmount();
}

#[test]
fn truncating_by_name_and_by_handle_shows_in_size_and_bytes() {
    let bytes = pattern(CHUNK as usize + 100);
    let inputs = [("a", file(bytes.clone())), ("b", file(bytes.clone()))];
    let Some(fixture) = Fixture::mounted(inputs) else {
        return;
    };
    run(&fixture.root(), "truncate", &["-s", "50", "a"]);
    assert_eq!(fs::read(fixture.at("a")).unwrap(), bytes[..50]);
    let b = OpenOptions::new()
        .read(true)
        .write(true)
        .open(fixture.at("b"))
        .unwrap();
    b.set_len(60).unwrap();
    b.set_len(CHUNK + 200).unwrap();
    let mut expected = bytes[..60].to_vec();
    expected.resize(CHUNK as usize + 200, 0);
    assert_eq!(b.metadata().unwrap().len(), CHUNK + 200);
    drop(b);
    assert!(fs::read(fixture.at("b")).unwrap() == expected);
    fixture.unmount();
}

#[test]
fn bytes_written_through_a_mapping_are_there_afterwards() {
    let bytes = pattern(CHUNK as usize + 4096);
    let Some(fixture) = Fixture::mounted([("input", file(bytes.clone()))]) else {
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
    let script = "
import mmap
with open('input', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
    m[4094:4098] = b'MMAP'
    m[-2:] = b'ZZ'
";
    run(&fixture.root(), "python3", &["-c", script]);
    let mut expected = bytes;
    expected[4094..4098].copy_from_slice(b"MMAP");
    let end = expected.len() - 2;
    expected[end..].copy_from_slice(b"ZZ");
    assert!(fs::read(fixture.at("input")).unwrap() == expected);
    fixture.unmount();
}

#[test]
fn reading_through_a_handle_that_only_writes_works_for_the_kernel() {
    let bytes = pattern(CHUNK as usize + 10_000);
    let Some(fixture) = Fixture::mounted([("a", file(bytes.clone()))]) else {
        return;
    };
    // Less than a page in the middle of one: the kernel reads the page first.
    let writer = OpenOptions::new()
        .write(true)
        .open(fixture.at("a"))
        .unwrap();
    writer.write_all_at(b"!", 5000).unwrap();
    drop(writer);
    let mut expected = bytes;
    expected[5000] = b'!';
    assert!(fs::read(fixture.at("a")).unwrap() == expected);
    fixture.unmount();
}

#[test]
fn fsync_of_files_and_directories_succeeds() {
    let Some(fixture) = Fixture::mounted([("d/a", file("a"))]) else {
        return;
    };
    let mut own = File::create(fixture.at("d/own")).unwrap();
    own.write_all(b"x").unwrap();
    own.sync_all().unwrap();
    own.sync_data().unwrap();
    File::open(fixture.at("d")).unwrap().sync_all().unwrap();
    File::open(fixture.at("d/a")).unwrap().sync_all().unwrap();
    drop(own);
    fixture.unmount();
}

#[test]
fn a_full_scratch_file_system_says_so_and_what_was_written_before_is_sound() {
    if !crate::testing::can_mount() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let size = c"size=2m";
    let flags = rustix::mount::MountFlags::empty();
    if let Err(error) = rustix::mount::mount("tmpfs", scratch.path(), "tmpfs", flags, size) {
        println!("skipped: cannot mount a tmpfs: {error}");
        return;
    }
    let inputs = [("input", file("input"))];
    let mut fixture = Fixture::with(inputs, Some(scratch.path().to_owned()), true).unwrap();
    fixture.mount().unwrap();
    fs::write(fixture.at("before"), pattern(100_000)).unwrap();
    let mut full = File::create(fixture.at("full")).unwrap();
    let error = full.write_all(&pattern(4 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    drop(full);
    assert!(fs::read(fixture.at("before")).unwrap() == pattern(100_000));
    let free = rustix::fs::statvfs(fixture.root()).unwrap();
    assert_eq!(free.f_bavail, 0);
    fs::remove_file(fixture.at("full")).unwrap();
    fixture.unmount();
    drop(fixture);
    rustix::mount::unmount(scratch.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn nothing_can_be_written_to_a_read_only_mount() {
    let Some(mut fixture) = Fixture::with([("a", file("a"))], None, false) else {
        return;
    };
    fixture.mount().unwrap();
    assert_eq!(fs::read(fixture.at("a")).unwrap(), b"a");
    assert_eq!(errno(File::create(fixture.at("b"))), Some(Errno::ROFS));
    assert_eq!(
        errno(OpenOptions::new().write(true).open(fixture.at("a"))),
        Some(Errno::ROFS)
    );
    assert_eq!(errno(fs::remove_file(fixture.at("a"))), Some(Errno::ROFS));
    assert_eq!(rustix::fs::statvfs(fixture.root()).unwrap().f_bavail, 0);
    fixture.unmount();
}
