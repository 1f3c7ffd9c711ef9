//! Reading and writing single files: what is fetched, what is kept, and which times files have.

use attachfs_store::fault::{Failure, Fault, Rule};
use attachfs_store::{Call, CallKind};
use attachfs_tree::{Ino, Timestamp};

use super::world::{CHUNK, Given, Kernel, READ, READ_WRITE, World, bytes, path, settings, tempdir};
use crate::{Access, Blame, FsErrorKind, SetAttr, SetTime, Vfs};

fn big() -> World {
    World::new(&[("d/big", Given::File(bytes(5 * CHUNK as usize)))])
}

#[test]
fn overwriting_a_part_of_a_large_input_asks_the_store_for_nothing() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    kernel.patch("d/big", 1500, b"new");
    kernel.truncate("d/big", 4200).unwrap();
    let end = kernel.open("d/big", READ_WRITE, false).unwrap();
    kernel.write(end, 6000, b"far").unwrap();
    kernel.vfs.fsync(end, false).unwrap();
    kernel.close(end);
    assert_eq!(world.record.calls(), []);

    let mut expected = bytes(4200);
    expected[1500..1503].copy_from_slice(b"new");
    expected.resize(6000, 0);
    expected.extend(b"far");
    assert_eq!(kernel.cat("d/big"), expected);
}

#[test]
fn emptying_an_input_asks_the_store_for_nothing() {
    for by_open in [true, false] {
        let (world, dir) = (big(), tempdir());
        let kernel = world.create(dir.path());
        if by_open {
            let handle = kernel.open("d/big", READ_WRITE, true).unwrap();
            kernel.write(handle, 0, b"all of it").unwrap();
            kernel.close(handle);
        } else {
            kernel.truncate("d/big", 0).unwrap();
            kernel.patch("d/big", 0, b"all of it");
        }
        assert_eq!(kernel.cat("d/big"), b"all of it");
        assert_eq!(world.record.calls(), []);
    }
}

#[test]
fn reading_a_part_fetches_only_the_chunks_it_lies_in() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    kernel.patch("d/big", 2000, &[9; 1000]);
    let handle = kernel.open("d/big", READ, false).unwrap();
    let read = kernel.read(handle, 1990, 1020).unwrap();
    kernel.close(handle);
    let original = bytes(5000);
    assert_eq!(
        read,
        [&original[1990..2000], &[9; 1000], &original[3000..3010]].concat()
    );
    let asked = world.record.calls().into_iter().map(|call| match call {
        Call::Get { chunk, .. } => chunk,
        other => panic!("{other:?}"),
    });
    let layout = world.tree.layout(base_ino(&world, "d/big")).unwrap();
    assert_eq!(
        asked.collect::<Vec<_>>(),
        [layout.hashes()[1], layout.hashes()[3]]
    );
    assert_eq!(kernel.vfs.counters().bytes_read, 20);
    assert_eq!(kernel.vfs.counters().files_read, 1);
}

fn base_ino(world: &World, text: &str) -> Ino {
    path(text)
        .components()
        .try_fold(Ino::ROOT, |dir, name| world.tree.child(dir, name))
        .unwrap()
}

#[test]
fn a_reader_of_an_input_sees_what_is_written_to_it() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    let reader = kernel.open("d/big", READ, false).unwrap();
    let read = |offset, len| kernel.read(reader, offset, len).unwrap();
    assert_eq!(read(990, 20), bytes(5000)[990..1010]);
    kernel.patch("d/big", 1000, b"new");
    assert_eq!(
        read(998, 7),
        [&bytes(5000)[998..1000], b"new", &bytes(5000)[1003..1005]].concat()
    );
    kernel.truncate("d/big", 1001).unwrap();
    assert_eq!(read(1000, 7), b"n");
    kernel.truncate("d/big", 0).unwrap();
    assert_eq!(read(0, 7), b"");
    kernel.patch("d/big", 0, b"again");
    kernel.unlink("d/big").unwrap();
    assert_eq!(read(0, 7), b"again");
    kernel.close(reader);
}

#[test]
fn an_input_keeps_its_number_when_it_is_written_or_cut() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    let ino = kernel.stat("d/big").unwrap().ino;
    let same = |kernel: &Kernel| {
        let attr = kernel.stat("d/big").unwrap();
        assert_eq!((attr.ino, attr.nlink), (ino, 1));
        attr
    };
    let before = same(&kernel);
    let handle = kernel.open("d/big", READ_WRITE, false).unwrap();
    assert_eq!(same(&kernel), before, "who opens it changes nothing");
    kernel.write(handle, 0, b"x").unwrap();
    kernel.close(handle);
    assert!(same(&kernel).mtime > before.mtime);
    kernel.truncate("d/big", 7).unwrap();
    assert_eq!(same(&kernel).size, 7);
    let emptied = kernel.open("d/big", READ_WRITE, true).unwrap();
    kernel.close(emptied);
    let mode = SetAttr {
        mode: Some(0o700),
        mtime: Some(SetTime::To(time(5))),
        ..SetAttr::default()
    };
    kernel.vfs.setattr(ino, mode).unwrap();
    let attr = same(&kernel);
    assert_eq!((attr.size, attr.perm, attr.mtime), (0, 0o700, time(5)));
    kernel.rename("d/big", "elsewhere").unwrap();
    kernel.rename("elsewhere", "d/big").unwrap();
    drop(kernel);
    same(&world.recover(dir.path()).unwrap());
}

#[test]
fn a_written_input_that_was_deleted_leaves_nothing() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    kernel.patch("d/big", 0, b"x");
    let ino = kernel.stat("d/big").unwrap().ino;
    kernel.unlink("d/big").unwrap();
    let gone = kernel.vfs.getattr(ino).unwrap_err();
    assert_eq!(gone.kind(), FsErrorKind::NotFound);
    let open = kernel.vfs.open(ino, READ, false).unwrap_err();
    assert_eq!(open.kind(), FsErrorKind::NotFound);
    drop(kernel);
    let kernel = world.recover(dir.path()).unwrap();
    assert_eq!(kernel.stat("d/big"), Err(FsErrorKind::NotFound));
    assert_eq!(scratch_files(dir.path()), 0);
}

fn time(seconds: i64) -> Timestamp {
    Timestamp {
        seconds,
        // Windows counts in 100 of them.
        nanoseconds: 123_456_700,
    }
}

#[test]
fn an_unlinked_file_lives_until_its_last_handle_is_closed() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    for at in ["new", "d/big"] {
        if at == "new" {
            kernel.put(at, b"12345");
        }
        let first = kernel.open(at, READ_WRITE, false).unwrap();
        let second = kernel.open(at, READ, false).unwrap();
        let ino = kernel.stat(at).unwrap().ino;
        kernel.unlink(at).unwrap();
        assert_eq!(kernel.stat(at), Err(FsErrorKind::NotFound));
        kernel.write(first, 1, b"xy").unwrap();
        kernel.close(first);
        assert_eq!(kernel.vfs.getattr(ino).unwrap().nlink, 0);
        assert_eq!(kernel.read(second, 1, 2).unwrap(), b"xy");
        let link = kernel.vfs.link(ino, Ino::ROOT, b"back").unwrap_err();
        assert_eq!(link.kind(), FsErrorKind::NotFound);
        kernel.close(second);
        let gone = kernel.vfs.getattr(ino).unwrap_err();
        assert_eq!(gone.kind(), FsErrorKind::NotFound);
    }
}

#[test]
fn an_unlinked_open_input_can_be_written_and_is_dropped_with_its_last_handle() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    let reader = kernel.open("d/big", READ, false).unwrap();
    let ino = kernel.stat("d/big").unwrap().ino;
    kernel.unlink("d/big").unwrap();
    // Like opening through /proc/self/fd.
    let writer = kernel.vfs.open(ino, READ_WRITE, false).unwrap().handle;
    kernel.write(writer, 0, b"x").unwrap();
    assert_eq!(kernel.read(reader, 0, 5).unwrap()[..2], [b'x', bytes(5)[1]]);
    kernel.close(writer);
    kernel.close(reader);
    drop(kernel);
    assert_eq!(scratch_files(dir.path()), 0);
}

pub(super) fn scratch_files(session: &std::path::Path) -> usize {
    std::fs::read_dir(session.join("scratch")).unwrap().count()
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Windows removes a file that is open at once, Wine does not"
)]
fn scratch_files_of_deleted_files_stay_while_a_commit_may_read_them() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("a", b"1");
    kernel.put("b", b"2");
    let ino = kernel.stat("a").unwrap().ino;
    let frozen = kernel.vfs.freeze().unwrap();
    kernel.unlink("a").unwrap();
    assert_eq!(scratch_files(dir.path()), 2);
    let (file, _) = kernel.vfs.open_scratch(ino).unwrap();
    drop(frozen);
    drop(kernel);
    assert_eq!(scratch_files(dir.path()), 1, "ending waits for it");
    assert_eq!(file.metadata().unwrap().len(), 1);
}

#[test]
fn a_write_handle_is_a_writer_until_it_is_released() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    let first = kernel.create("f").unwrap();
    let ino = kernel.stat("f").unwrap().ino;
    let second = kernel.open("f", READ_WRITE, false).unwrap();
    let reader = kernel.open("f", READ, false).unwrap();
    kernel.close(first);
    assert!(kernel.vfs.has_writer(ino));
    assert!(kernel.vfs.freeze().unwrap().writers().contains(&ino));
    kernel.close(second);
    assert!(!kernel.vfs.has_writer(ino));
    assert!(kernel.vfs.freeze().unwrap().writers().is_empty());
    kernel.close(reader);
    let error = kernel.vfs.release(reader).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::BadHandle);
}

#[test]
fn a_read_handle_does_not_write() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"x");
    let handle = kernel.open("f", READ, false).unwrap();
    assert_eq!(kernel.write(handle, 0, b"y"), Err(FsErrorKind::BadHandle));
}

#[test]
fn times_are_the_manifests_then_the_calls_then_what_was_asked_for() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    let base = Timestamp::from(attachfs_fixtures::MTIME);
    assert_eq!(kernel.stat("d/big").unwrap().mtime, base);
    assert_eq!(kernel.stat("d").unwrap().mtime, settings().created);
    kernel.chmod("d/big", 0o600).unwrap();
    let attr = kernel.stat("d/big").unwrap();
    assert_eq!(attr.mtime, base);
    assert!(attr.ctime > base);

    let handle = kernel.open("d/big", READ_WRITE, false).unwrap();
    assert_eq!(kernel.stat("d/big").unwrap().mtime, base, "opened only");
    kernel.write(handle, 0, b"x").unwrap();
    kernel.close(handle);
    assert!(kernel.stat("d/big").unwrap().mtime > base);
    kernel.put("new", b"x");
    assert!(kernel.stat("new").unwrap().mtime > base);

    let set = SetAttr {
        mtime: Some(SetTime::To(time(-5))),
        ..SetAttr::default()
    };
    for at in ["d/big", "new", "d"] {
        let ino = kernel.stat(at).unwrap().ino;
        assert_eq!(kernel.vfs.setattr(ino, set).unwrap().mtime, time(-5));
    }
    let (_copy, recovered) = world.after_kill(dir.path());
    for at in ["d/big", "new", "d"] {
        assert_eq!(recovered.stat(at).unwrap().mtime, time(-5), "{at}");
    }
}

#[test]
fn a_view_of_a_directory_stays_while_everything_in_it_goes() {
    let files: Vec<String> = (0..500).map(|number| format!("d/{number}")).collect();
    let base: Vec<_> = files
        .iter()
        .map(|at| (at.as_str(), Given::File(Vec::new())))
        .collect();
    let (world, dir) = (World::new(&base), tempdir());
    let kernel = world.create(dir.path());
    let opened = kernel.vfs.opendir(kernel.stat("d").unwrap().ino);
    let handle = opened.unwrap().handle;
    let view = kernel.vfs.dir_view(handle).unwrap();
    kernel.put("d/new", b"");
    let mut met = Vec::new();
    for offset in 2.. {
        let Some(entry) = view.entry(offset) else {
            break;
        };
        let at = format!("d/{}", std::str::from_utf8(entry.name).unwrap());
        kernel.unlink(&at).unwrap();
        assert!(kernel.vfs.entry_attr(&view, &entry).is_none());
        met.push(at);
    }
    met.sort();
    let mut expected = files;
    expected.sort();
    assert_eq!(met, expected);
    assert_eq!(kernel.dump().keys().collect::<Vec<_>>(), ["d", "d/new"]);
    assert_eq!(view.entry(0).unwrap().name, b".");
    assert_eq!(view.entry(1).unwrap().ino, Ino::ROOT);
    assert!(view.entry(u64::MAX).is_none());
}

#[test]
fn a_failing_store_fails_the_read_and_names_the_file() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    world
        .fault
        .add(Rule::on(CallKind::Get, Fault::Before(Failure::Unreachable)));
    let handle = kernel.open("d/big", READ, false).unwrap();
    let error = kernel.read(handle, 0, 10).unwrap_err();
    assert_eq!(error.kind(), FsErrorKind::Io);
    assert_eq!(error.to_string(), "read \"d/big\"");
    assert!(error.has_cause());
    let counters = kernel.vfs.counters();
    assert_eq!(counters.reads_failed, 1);
    assert_eq!((counters.files_read, counters.bytes_read), (0, 0));
    let last = kernel.vfs.last_failed_read().unwrap();
    assert_eq!(
        (last.path.as_str(), last.error.blame()),
        ("d/big", Some(&Blame::Store))
    );
    world.fault.heal();
    assert_eq!(kernel.read(handle, 0, 10).unwrap(), bytes(10));
    let counters = kernel.vfs.counters();
    assert_eq!((counters.files_read, counters.bytes_read), (1, 10));
    world.memory.remove(world.memory.objects()[0]);
}

#[test]
fn invalid_names_and_link_texts_are_refused() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    let long = "n".repeat(256);
    for answer in [
        kernel.mkdir(&long),
        kernel.create(&long).map(drop),
        kernel.stat(&long).map(drop),
        kernel.rename("d", &long),
        kernel.symlink("l", &"t".repeat(4096)),
    ] {
        assert_eq!(answer, Err(FsErrorKind::NameTooLong));
    }
    for answer in [
        kernel.mkdir(".."),
        kernel.mkdir("."),
        kernel.symlink("l", ""),
        kernel.symlink("l", "a\0b"),
    ] {
        assert_eq!(answer, Err(FsErrorKind::Invalid));
    }
    kernel.mkdir(&"n".repeat(255)).unwrap();
    let there = kernel
        .vfs
        .rename((Ino::ROOT, b"d"), (Ino::ROOT, &long.as_bytes()[1..]), true);
    assert_eq!(there.unwrap_err().kind(), FsErrorKind::Exists);
}

#[test]
fn unknown_inodes_and_handles_are_errors() {
    let (world, dir) = (big(), tempdir());
    let kernel = world.create(dir.path());
    let vfs = &kernel.vfs;
    for raw in [0, 99, 1 << 62, u64::MAX] {
        let ino = Ino::from_raw(raw);
        let set = SetAttr {
            mode: Some(0o600),
            ..SetAttr::default()
        };
        for error in [
            vfs.getattr(ino).unwrap_err(),
            vfs.lookup(ino, b"x").unwrap_err(),
            vfs.setattr(ino, set).unwrap_err(),
            vfs.open(ino, READ, false).unwrap_err(),
            vfs.open(ino, READ_WRITE, true).unwrap_err(),
            vfs.opendir(ino).unwrap_err(),
            vfs.mkdir(ino, b"x", 0o755, (0, 0)).unwrap_err(),
            vfs.link(ino, Ino::ROOT, b"x").unwrap_err(),
            vfs.unlink(ino, b"x").unwrap_err(),
        ] {
            assert_eq!(error.kind(), FsErrorKind::NotFound, "{raw}");
        }
    }
    let nothing = crate::HandleId(12345);
    assert_eq!(kernel.write(nothing, 0, b""), Err(FsErrorKind::BadHandle));
    for error in [
        vfs.read(nothing, 0, 1).unwrap_err(),
        vfs.fsync(nothing, true).unwrap_err(),
        vfs.release(nothing).unwrap_err(),
        vfs.releasedir(nothing).unwrap_err(),
    ] {
        assert_eq!(error.kind(), FsErrorKind::BadHandle);
    }
}

#[test]
fn a_read_only_file_system_changes_nothing_and_keeps_no_files() {
    let world = big();
    let vfs = Vfs::read_only(world.tree.clone(), world.fetcher(), settings());
    let big = base_ino(&world, "d/big");
    let write = Access {
        read: false,
        write: true,
        sync: false,
    };
    for error in [
        vfs.mkdir(Ino::ROOT, b"x", 0o755, (0, 0)).unwrap_err(),
        vfs.open(big, write, false).unwrap_err(),
        vfs.open(big, READ, true).unwrap_err(),
        vfs.setattr(big, SetAttr::default()).unwrap_err(),
        vfs.unlink(Ino::ROOT, b"d").unwrap_err(),
    ] {
        assert_eq!(error.kind(), FsErrorKind::ReadOnly);
    }
    let handle = vfs.open(big, READ, false).unwrap();
    vfs.release(handle.handle).unwrap();
    assert!(vfs.freeze().is_none() && vfs.space().unwrap().is_none());
    vfs.seal().unwrap();
}

#[test]
fn deletions_do_not_each_ask_the_disk_for_its_room() {
    let (world, dir) = (World::new(&[]), tempdir());
    let kernel = world.create(dir.path());
    for number in 0..200 {
        kernel.put(&format!("{number}"), b"1");
    }
    let scratch = &kernel.vfs.writable().unwrap().disk.scratch;
    let asked = || {
        let asked = &scratch.asked_for_room;
        asked.load(std::sync::atomic::Ordering::Relaxed)
    };
    let before = asked();
    for number in 0..200 {
        kernel.unlink(&format!("{number}")).unwrap();
    }
    // The thread that removes the files asks, once for all that it collects in half a second.
    assert!(asked() - before <= 20, "{}", asked() - before);
}
