//! Room that is reserved, ranges that become zeros, and the holes of files.

use std::ops::Range;

use attachfs_store::CallKind;

use super::world::{Given, Kernel, READ, READ_WRITE, World, bytes, tempdir};
use crate::{Allocation, FsErrorKind, HandleId, SeekTo};

const MIB: usize = 1 << 20;

fn world() -> World {
    World::in_chunks(8 * MIB as u64, &[("a", Given::File(bytes(3 * MIB)))])
}

fn allocate(kernel: &Kernel, handle: HandleId, how: Allocation, range: Range<usize>) {
    let range = range.start as u64..range.end as u64;
    kernel.vfs.allocate(handle, how, range).unwrap();
}

fn size(kernel: &Kernel, at: &str) -> usize {
    kernel.stat(at).unwrap().size as usize
}

#[test]
fn a_range_of_an_input_becomes_zeros_without_fetching_and_survives_a_kill() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let handle = kernel.open("a", READ_WRITE, false).unwrap();
    allocate(&kernel, handle, Allocation::Hole, 100..5000);
    // Up to the end of the file, and no further.
    allocate(&kernel, handle, Allocation::Hole, 3 * MIB - 10..4 * MIB);
    allocate(&kernel, handle, Allocation::Hole, 4 * MIB..5 * MIB);
    assert_eq!(size(&kernel, "a"), 3 * MIB);
    allocate(
        &kernel,
        handle,
        Allocation::Zeros { keeps_len: true },
        MIB..9 * MIB,
    );
    assert_eq!(size(&kernel, "a"), 3 * MIB);
    kernel.write(handle, 2 * MIB as u64, b"written").unwrap();
    let longer = 3 * MIB + 5;
    allocate(
        &kernel,
        handle,
        Allocation::Zeros { keeps_len: false },
        longer - 2..longer,
    );
    assert_eq!(world.record.count(CallKind::Get), 0, "nothing is fetched");
    let mut expected = bytes(3 * MIB);
    expected[100..5000].fill(0);
    expected[MIB..].fill(0);
    expected[2 * MIB..2 * MIB + 7].copy_from_slice(b"written");
    expected.resize(longer, 0);
    assert!(kernel.cat("a") == expected);
    let (_copy, recovered) = world.after_kill(dir.path());
    assert!(recovered.cat("a") == expected);
}

#[test]
fn room_changes_the_length_of_a_file_and_no_byte() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("own", b"own");
    for (at, len) in [("a", 3 * MIB), ("own", 3)] {
        let before = kernel.cat(at);
        let handle = kernel.open(at, READ_WRITE, false).unwrap();
        allocate(
            &kernel,
            handle,
            Allocation::Room { keeps_len: true },
            1..len + MIB,
        );
        assert_eq!(size(&kernel, at), len);
        allocate(&kernel, handle, Allocation::Room { keeps_len: false }, 1..2);
        assert_eq!(size(&kernel, at), len);
        allocate(
            &kernel,
            handle,
            Allocation::Room { keeps_len: false },
            1..len + 9,
        );
        assert_eq!(size(&kernel, at), len + 9);
        let bytes = kernel.cat(at);
        assert!(bytes[..len] == before && bytes[len..] == [0; 9], "{at}");
        kernel.close(handle);
        let (_copy, recovered) = world.after_kill(dir.path());
        assert_eq!(size(&recovered, at), len + 9);
    }
}

#[test]
fn what_cannot_be_allocated_is_an_error_and_changes_nothing() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let hole = |handle, range| {
        let done = kernel.vfs.allocate(handle, Allocation::Hole, range);
        done.map_err(|error| error.kind())
    };
    let reader = kernel.open("a", READ, false).unwrap();
    assert_eq!(hole(reader, 0..10), Err(FsErrorKind::BadHandle));
    let writer = kernel.open("a", READ_WRITE, false).unwrap();
    assert_eq!(hole(writer, 10..10), Err(FsErrorKind::Invalid));
    assert_eq!(hole(writer, 10..u64::MAX), Err(FsErrorKind::TooLarge));
    assert!(kernel.cat("a") == bytes(3 * MIB));
}

const PAST: Result<usize, FsErrorKind> = Err(FsErrorKind::BeyondEnd);

#[test]
fn holes_are_found_in_files_of_each_kind() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("own", &vec![1; 3 * MIB]);
    let found = |handle, at: usize, to| {
        let found = kernel.vfs.seek(handle, at as u64, to);
        found.map(|at| at as usize).map_err(|error| error.kind())
    };
    let reader = kernel.open("a", READ, false).unwrap();
    assert_eq!(found(reader, 7, SeekTo::Data), Ok(7), "the base is data");
    assert_eq!(found(reader, 7, SeekTo::Hole), Ok(3 * MIB));
    assert_eq!(found(reader, 3 * MIB, SeekTo::Data), PAST);
    assert_eq!(found(reader, 3 * MIB, SeekTo::Hole), PAST);
    for at in ["a", "own"] {
        let handle = kernel.open(at, READ_WRITE, false).unwrap();
        allocate(&kernel, handle, Allocation::Hole, MIB..2 * MIB);
        kernel.truncate(at, 5 * MIB as u64).unwrap();
        assert_eq!(found(handle, 0, SeekTo::Data), Ok(0), "{at}");
        assert_eq!(found(handle, 0, SeekTo::Hole), Ok(MIB), "{at}");
        assert_eq!(found(handle, MIB, SeekTo::Hole), Ok(MIB), "{at}");
        assert_eq!(found(handle, MIB + 9, SeekTo::Data), Ok(2 * MIB), "{at}");
        assert_eq!(found(handle, 2 * MIB, SeekTo::Hole), Ok(3 * MIB), "{at}");
        assert_eq!(found(handle, 3 * MIB, SeekTo::Data), PAST, "{at}");
        assert_eq!(found(handle, 4 * MIB, SeekTo::Hole), Ok(4 * MIB), "{at}");
        assert_eq!(found(handle, 5 * MIB, SeekTo::Hole), PAST, "{at}");
        kernel.write(handle, 4 * MIB as u64, &[1; 9000]).unwrap();
        assert_eq!(found(handle, 3 * MIB, SeekTo::Data), Ok(4 * MIB), "{at}");
        // As long as a file can be: what has no bytes is passed over at once.
        kernel.truncate(at, 7 << 60).unwrap();
        assert_eq!(found(handle, 5 * MIB, SeekTo::Data), PAST, "{at}");
        let hole = found(handle, 6 << 60, SeekTo::Hole);
        assert_eq!(hole, Ok(6 << 60), "{at}");
    }
    assert_eq!(world.record.count(CallKind::Get), 0);
}

#[test]
fn the_times_of_an_input_change_with_each_allocation_as_on_a_disk() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let handle = kernel.open("a", READ_WRITE, false).unwrap();
    let behind = 4 * MIB..5 * MIB;
    let mut last = kernel.stat("a").unwrap();
    for (how, range) in [
        (Allocation::Room { keeps_len: false }, 0..MIB),
        (Allocation::Room { keeps_len: true }, 0..MIB),
        (Allocation::Room { keeps_len: true }, behind.clone()),
        (Allocation::Hole, behind.clone()),
        (Allocation::Zeros { keeps_len: true }, behind),
    ] {
        allocate(&kernel, handle, how, range.clone());
        let now = kernel.stat("a").unwrap();
        let is_later = now.mtime > last.mtime && now.ctime > last.ctime;
        assert!(is_later, "{how:?} {range:?}");
        assert_eq!(now.size, last.size);
        last = now;
    }
    assert_eq!(world.record.count(CallKind::Get), 0, "nothing is fetched");
    assert!(kernel.cat("a") == bytes(3 * MIB));
    let (_copy, recovered) = world.after_kill(dir.path());
    let recovered = recovered.stat("a").unwrap();
    assert_eq!((recovered.mtime, recovered.size), (last.mtime, last.size));
}
