//! A full disk: the writer is told, everything before is sound, and deleting works.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use attachfs_session::Session;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::world::{Given, READ_WRITE, World, bytes};
use super::writing::scratch_files;
use crate::{FsErrorKind, Vfs};

/// A disk of a few MiB, unmounted when it is dropped. Needs root.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(options: &std::ffi::CStr) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        match mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), options) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                println!("skipped: a small disk cannot be mounted here: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.path(), UnmountFlags::DETACH) {
            println!("{} stays mounted: {error}", self.path().display());
        }
    }
}

fn world() -> World {
    World::new(&[("a", Given::File(bytes(2500)))])
}

/// Writes until there is no room.
fn fill(kernel: &super::world::Kernel, at: &str) -> u64 {
    let handle = kernel.create(at).unwrap();
    let mut len = 0;
    let error = loop {
        match kernel.write(handle, len, &[1; 4 << 10]) {
            Ok(written) => len += written as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error, FsErrorKind::NoSpace);
    kernel.close(handle);
    len
}

#[test]
fn a_full_disk_is_told_to_the_writer_and_harms_nothing() {
    let Some(disk) = SmallDisk::new(c"size=8m") else {
        return;
    };
    let world = world();
    let dir = disk.path().join("session");
    let kernel = world.create(&dir);
    kernel.put("before", b"sound");
    kernel.patch("a", 100, b"sound");
    let len = fill(&kernel, "large");
    assert_eq!(kernel.stat("large").unwrap().size, len);
    let before = kernel.dump();
    let (_copy, recovered) = world.after_kill(&dir);
    assert_eq!(recovered.dump(), before);
    drop(recovered);

    // Space for records is reserved, so operations without bytes still work.
    for number in 0..1000 {
        kernel.mkdir(&format!("d{number}")).unwrap();
    }
    kernel.rename("before", "d1/after").unwrap();
    kernel.unlink("large").unwrap();
    kernel.vfs.seal().unwrap();
    let before = kernel.dump();
    drop(kernel);
    assert_eq!(scratch_files(&dir), 2, "the room is given back");
    let kernel = world.recover(&dir).unwrap();
    assert_eq!(kernel.dump(), before);
    kernel.put("again", &vec![2; 1 << 20]);
}

#[test]
fn the_room_of_what_was_deleted_is_there_for_who_asks_and_for_who_writes_next() {
    let Some(disk) = SmallDisk::new(c"size=16m") else {
        return;
    };
    let world = world();
    let kernel = world.create(&disk.path().join("session"));
    for round in 0..5 {
        let len = fill(&kernel, "large");
        kernel.unlink("large").unwrap();
        let available = kernel.vfs.space().unwrap().unwrap().available;
        assert!(available >= len, "{round}: {available}");

        let len = fill(&kernel, "large");
        kernel.unlink("large").unwrap();
        let next = kernel.create("next").unwrap();
        let part = vec![2; len as usize - (64 << 10)];
        assert_eq!(kernel.write(next, 0, &part).unwrap(), part.len());
        kernel.close(next);
        kernel.unlink("next").unwrap();
    }
}

#[test]
fn a_file_that_could_not_be_recorded_leaves_no_scratch_file() {
    let Some(disk) = SmallDisk::new(c"size=8m") else {
        return;
    };
    // The journal is on a small disk that gets full; the scratch files have room.
    let world = world();
    let elsewhere = super::world::tempdir();
    let mut meta = world.meta();
    meta.scratch_dir = Some(elsewhere.path().to_owned());
    let dir = disk.path().join("session");
    let session = Session::create(&dir, meta, &[world.manifest()]).unwrap();
    let settings = super::world::settings();
    let files = super::world::files(&session);
    let vfs = Vfs::create(files, world.tree.clone(), world.fetcher(), settings).unwrap();
    drop(session);
    let kernel = super::world::Kernel::new(vfs);
    let ballast = disk.path().join("ballast");
    let mut filled = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write(&mut filled, &[0; 4096]).is_ok() {}

    let long = "n".repeat(200);
    let mut made = 0;
    let error = loop {
        match kernel.create(&format!("{long}{made}")) {
            Ok(handle) => kernel.close(handle),
            Err(error) => break error,
        }
        made += 1;
    };
    assert_eq!(error, FsErrorKind::NoSpace);
    assert!(made > 1000, "space was reserved for {made}");
    // The shortest records fill the rest.
    while kernel.chmod("a", 0o600).is_ok() {}
    // The record of a copy-up is shorter, and may fit.
    let was_cut = match kernel.truncate("a", 10) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error, FsErrorKind::NoSpace);
            false
        }
    };
    let scratch = elsewhere.path().join(world.meta().id.as_str());
    let count = || std::fs::read_dir(&scratch).unwrap().count();
    let used = made + usize::from(was_cut);
    assert_eq!(count(), used, "no trace of what failed");

    drop(filled);
    std::fs::remove_file(ballast).unwrap();
    kernel.put("next", b"has the number of what failed");
    let open = kernel.open("a", READ_WRITE, false).unwrap();
    kernel.close(open);
    drop(kernel);
    assert_eq!(count(), made + 2);
    let kernel = world.recover(&dir).unwrap();
    assert_eq!(kernel.cat("next"), b"has the number of what failed");
    let len = if was_cut { 10 } else { 2500 };
    assert_eq!(kernel.cat("a"), bytes(2500)[..len]);
}

#[test]
fn a_full_disk_has_room_for_a_commit_and_for_sealing() {
    let Some(disk) = SmallDisk::new(c"size=8m") else {
        return;
    };
    let world = world();
    let dir = disk.path().join("session");
    let kernel = world.create(&dir);
    fill(&kernel, "large");
    let write = |len: usize| fs::write(dir.join("commits/total"), vec![1; len]);
    assert_eq!(write(1).unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(kernel.vfs.release_reserve());
    write(1 << 20).unwrap();
    kernel.vfs.refill_reserve();
    fill(&kernel, "more");
    // Records use their reserve.
    while kernel.chmod("a", 0o600).is_ok() {}
    kernel.vfs.seal().unwrap();
}

/// Makes names until there is no room for more.
fn fill_with_names(make: impl Fn(&str) -> Result<(), FsErrorKind>) -> Vec<String> {
    let long = "n".repeat(200);
    let mut made = Vec::new();
    loop {
        let name = format!("{long}{}", made.len());
        match make(&name) {
            Ok(()) => made.push(name),
            Err(error) => {
                assert_eq!(error, FsErrorKind::NoSpace);
                return made;
            }
        }
    }
}

#[test]
fn what_filled_the_disk_with_names_can_be_deleted_and_the_session_ends() {
    let Some(disk) = SmallDisk::new(c"size=16m") else {
        return;
    };
    let world = world();
    for with_bytes in [true, false] {
        let dir = disk.path().join(format!("session-{with_bytes}"));
        let kernel = world.create(&dir);
        let names = fill_with_names(|name| {
            if !with_bytes {
                return kernel.mkdir(name).map(drop);
            }
            let handle = kernel.create(name)?;
            let written = kernel.write(handle, 0, b"x");
            kernel.close(handle);
            written.map(drop)
        });
        let least = if with_bytes { 1_000 } else { 5_000 };
        assert!(names.len() > least, "only {} fit", names.len());
        // A file that could not be written is there all the same.
        kernel.vfs.seal().unwrap();
        for name in &names {
            let removed = if with_bytes {
                kernel.unlink(name)
            } else {
                kernel.rmdir(name)
            };
            removed.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
        // Their room is given back a moment later, or now.
        kernel.vfs.seal().unwrap();
        kernel.put("again", &vec![2; 256 << 10]);
        kernel.vfs.seal().unwrap();
        let before = kernel.dump();
        drop(kernel);
        let kernel = world.recover(&dir).unwrap();
        assert_eq!(kernel.dump(), before);
        drop(kernel);
        fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_session_that_cannot_be_sealed_says_why() {
    let Some(disk) = SmallDisk::new(c"size=8m") else {
        return;
    };
    let world = world();
    let dir = disk.path().join("session");
    let kernel = world.create(&dir);
    kernel.vfs.release_reserve();
    kernel.put("small", b"x");
    fill(&kernel, "large");
    while kernel.chmod("a", 0o600).is_ok() {}
    // The record of an open for writing is the shortest.
    let write = || {
        let handle = kernel.open("small", READ_WRITE, false).unwrap();
        let written = kernel.write(handle, 0, b"x");
        kernel.close(handle);
        written
    };
    while write().is_ok() {}
    // It has room of its own, for some hundred times.
    kernel.vfs.seal().unwrap();
    let error = loop {
        if let Err(error) = kernel.vfs.seal() {
            break error;
        }
    };
    assert_eq!(error.kind(), FsErrorKind::NoSpace);
    let doing = format!("seal the journal {}", dir.join("journal").display());
    assert!(error.to_string().starts_with(&doing), "{error}");
}
