//! fallocate(2) and lseek(2) through the kernel.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::testing::{CHUNK, Fixture, file, pattern};

const LEN: usize = 4 * CHUNK as usize;

fn open(fixture: &Fixture, name: &str) -> File {
    let mut options = File::options();
    options.read(true).write(true);
    options.open(fixture.at(name)).unwrap()
}

#[test]
fn room_holes_and_zeros_are_made_in_inputs_and_own_files() {
    let Some(fixture) = Fixture::mounted([("input", file(pattern(LEN)))]) else {
        return;
    };
    fs::write(fixture.at("own"), pattern(LEN)).unwrap();
    for name in ["input", "own"] {
        let opened = open(&fixture, name);
        let (chunk, len) = (CHUNK, LEN as u64);
        let do_it = |flags, offset, len| fallocate(&opened, flags, offset, len);
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        do_it(punch, chunk, chunk).unwrap();
        do_it(FallocateFlags::KEEP_SIZE, len, chunk).unwrap();
        assert_eq!(opened.metadata().unwrap().len(), len, "{name}");
        do_it(FallocateFlags::ZERO_RANGE, len - 1, 11).unwrap();
        assert_eq!(opened.metadata().unwrap().len(), len + 10, "{name}");
        do_it(FallocateFlags::empty(), len, 20).unwrap();
        assert_eq!(opened.metadata().unwrap().len(), len + 20, "{name}");
        let mut expected = pattern(LEN);
        expected[CHUNK as usize..2 * CHUNK as usize].fill(0);
        expected[LEN - 1] = 0;
        expected.resize(LEN + 20, 0);
        assert!(fs::read(fixture.at(name)).unwrap() == expected, "{name}");
        for refused in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
            assert_eq!(do_it(refused, 0, 4096), Err(Errno::OPNOTSUPP), "{name}");
        }
        // The kernel asks no less after an operation that is not supported.
        do_it(punch, 0, 10).unwrap();
        let mut start = [1; 11];
        opened.read_exact_at(&mut start, 0).unwrap();
        assert_eq!(
            (&start[..10], start[10]),
            (&[0; 10][..], expected[10]),
            "{name}"
        );
    }
    fixture.unmount();
}

#[test]
fn the_kernel_is_told_where_files_have_holes() {
    let Some(fixture) = Fixture::mounted([("input", file(pattern(LEN)))]) else {
        return;
    };
    let opened = open(&fixture, "input");
    opened.set_len(100 * CHUNK).unwrap();
    let data = |at| seek(&opened, SeekFrom::Data(at));
    let hole = |at| seek(&opened, SeekFrom::Hole(at));
    assert_eq!((data(9), hole(9)), (Ok(9), Ok(LEN as u64)));
    assert_eq!(data(LEN as u64), Err(Errno::NXIO));
    assert_eq!(hole(100 * CHUNK), Err(Errno::NXIO));
    opened.write_all_at(b"x", 64 * CHUNK).unwrap();
    assert_eq!(data(LEN as u64), Ok(64 * CHUNK));
    drop(opened);
    fixture.sh("cp --sparse=auto input copy && cmp input copy");
    let copy = fs::metadata(fixture.at("copy")).unwrap();
    assert!(
        copy.blocks() * 512 < 10 * CHUNK,
        "holes are copied as holes: {}",
        copy.blocks()
    );
    fixture.unmount();
}

#[test]
fn what_was_stored_through_a_mapping_is_no_hole() {
    let Some(fixture) = Fixture::mounted([("input", file("x"))]) else {
        return;
    };
    let script = "
import mmap, os
f = open('own', 'w+b')
f.truncate(1 << 20)
m = mmap.mmap(f.fileno(), 0)
m[500_000] = 7
assert os.lseek(f.fileno(), 0, os.SEEK_DATA) <= 500_000
";
    let ran = std::process::Command::new("python3")
        .args(["-c", script])
        .current_dir(fixture.root())
        .output();
    match ran {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => println!("skipped: no python3, which does the mapping"),
    }
    fixture.unmount();
}
