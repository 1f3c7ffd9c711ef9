//! Recovery after the death of the process, and sessions that are refused because their state would
//! be a guess.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};

use attachfs_tree::Ino;

use super::world::{Given, Kernel, READ_WRITE, World, bytes, copy_dir, tempdir};
use super::writing::scratch_files;
use crate::overlay::{JournalError, RecoveryError};
use crate::{FsErrorKind, OpenError, SetAttr};

fn world() -> World {
    World::new(&[
        ("a", Given::File(bytes(2500))),
        ("d/b", Given::File(bytes(10))),
    ])
}

type Operation = fn(&Kernel);

/// Operations, each with the number of its record after which its effect is visible.
fn steps() -> Vec<(usize, Operation)> {
    vec![
        (1, |kernel| kernel.mkdir("new").unwrap()),
        (1, |kernel| kernel.put("new/f", b"12345")),
        (1, |kernel| {
            let handle = kernel.open("a", READ_WRITE, false).unwrap();
            kernel.close(handle);
        }),
        (2, |kernel| kernel.patch("a", 990, &[7; 20])),
        (1, |kernel| kernel.truncate("a", 2000).map(drop).unwrap()),
        (1, |kernel| kernel.truncate("a", 3000).map(drop).unwrap()),
        (1, |kernel| kernel.symlink("new/l", "f").unwrap()),
        (1, |kernel| kernel.rename("d", "new/d").unwrap()),
        (1, |kernel| kernel.link("new/f", "second").unwrap()),
        (1, |kernel| {
            kernel.chmod("new/d/b", 0o755).map(drop).unwrap();
        }),
        (1, |kernel| kernel.unlink("new/f").unwrap()),
        (1, |kernel| kernel.unlink("new/d/b").unwrap()),
        (1, |kernel| kernel.rmdir("new/d").unwrap()),
    ]
}

/// The end of a journal's first line and of each record.
pub(super) fn record_ends(journal: &[u8]) -> Vec<u64> {
    let first = journal.iter().position(|&byte| byte == b'\n').unwrap();
    let mut ends = vec![first + 1];
    while let Some(&at) = ends.last().filter(|&&at| at < journal.len()) {
        let len = u32::from_le_bytes(journal[at..at + 4].try_into().unwrap());
        ends.push(at + 28 + len as usize + 1);
    }
    ends.into_iter().map(|end| end as u64).collect()
}

#[test]
fn a_journal_cut_anywhere_is_a_prefix_of_the_operations() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let journal = dir.path().join("journal");
    let ends = || record_ends(&fs::read(&journal).unwrap());
    let mut prefixes = vec![(ends()[0], kernel.dump(), tempdir())];
    for (seen_by, step) in steps() {
        let before = ends().len();
        step(&kernel);
        let scratch = tempdir();
        copy_dir(&dir.path().join("scratch"), scratch.path());
        prefixes.push((ends()[before - 1 + seen_by], kernel.dump(), scratch));
    }
    let ends = ends();
    let whole = fs::read(&journal).unwrap();
    for cut in ends[0]..=whole.len() as u64 {
        if cut % 7 != 0 && !ends.contains(&cut) {
            continue;
        }
        let (_, dump, scratch) = prefixes.iter().rfind(|prefix| prefix.0 <= cut).unwrap();
        let copy = tempdir();
        copy_dir(dir.path(), copy.path());
        fs::write(copy.path().join("journal"), &whole[..cut as usize]).unwrap();
        // The bytes of later operations may or may not be on the disk; those of earlier ones are.
        for entry in fs::read_dir(scratch.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(
                entry.path(),
                copy.path().join("scratch").join(entry.file_name()),
            )
            .unwrap();
        }
        let recovered = world.recover(copy.path()).unwrap();
        assert_eq!(recovered.dump(), *dump, "cut at {cut}");
        recovered.put("goes-on", b"yes");
        drop(recovered);
        let again = world.recover(copy.path()).unwrap();
        assert_eq!(again.cat("goes-on"), b"yes");
    }
}

#[test]
fn new_inodes_after_a_recovery_have_new_numbers() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"old");
    kernel.put("g", b"");
    let last = kernel.stat("g").unwrap().ino;
    kernel.unlink("g").unwrap();
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(
        recovered.stat("f").unwrap().ino,
        kernel.stat("f").unwrap().ino
    );
    recovered.put("h", b"");
    assert!(recovered.stat("h").unwrap().ino > last);
}

#[test]
fn an_unlinked_open_file_is_removed_with_its_process() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    for at in ["f", "a"] {
        let handle = match at {
            "f" => kernel.create(at),
            _ => kernel.open(at, READ_WRITE, false),
        };
        kernel.unlink(at).unwrap();
        kernel.write(handle.unwrap(), 0, b"never seen").unwrap();
    }
    let (copy, recovered) = world.after_kill(dir.path());
    assert_eq!(recovered.dump().len(), 2, "d and d/b");
    assert_eq!(scratch_files(copy.path()), 0);
    assert_eq!(scratch_files(dir.path()), 2);
}

/// Everything in a directory, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
            found.insert(path, Vec::new());
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

#[test]
fn scratch_files_without_a_record_are_set_aside_and_foreign_files_stay() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"x");
    drop(kernel);
    let scratch = dir.path().join("scratch");
    let name = format!("{:016x}", (1_u64 << 62) + 1);
    for foreign in ["abc", "README", "00", "400000000000000A"] {
        fs::write(scratch.join(foreign), "mine").unwrap();
    }
    for (number, aside) in [(0, name.clone()), (1, format!("{name}.1"))] {
        fs::write(scratch.join(&name), "died before its record").unwrap();
        let kernel = world.recover(dir.path()).unwrap();
        assert!(!scratch.join(&name).exists());
        let aside = scratch.join("aside").join(aside);
        assert_eq!(fs::read(aside).unwrap(), b"died before its record");
        let told = kernel.vfs.set_aside().unwrap();
        assert_eq!(told, (number + 1, scratch.join("aside")));
        assert_eq!(kernel.cat("f"), b"x");
    }
    assert_eq!(scratch_files(dir.path()), 1 + 4 + 1);
}

#[test]
fn looking_at_a_session_changes_nothing() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"x");
    kernel.put("gone", b"y");
    kernel.patch("a", 10, b"z");
    let before = kernel.dump();
    let ino = kernel.stat("gone").unwrap().ino;
    kernel.unlink("gone").unwrap();
    drop(kernel);
    // Killed before the reaper ran, with an unrecorded file and a torn record.
    let scratch = dir.path().join("scratch");
    let left = [ino.raw(), (1 << 62) + 100].map(|ino| scratch.join(format!("{ino:016x}")));
    for path in &left {
        fs::write(path, "y").unwrap();
    }
    let journal = dir.path().join("journal");
    let mut torn = fs::read(&journal).unwrap();
    torn.extend([1; 7]);
    fs::write(&journal, torn).unwrap();
    let found = files(dir.path());

    let kernel = world.look(dir.path()).unwrap();
    let mut shown = kernel.dump();
    shown.insert("gone".to_owned(), before["gone"].clone());
    assert_eq!(shown, before);
    assert_eq!(kernel.mkdir("d2"), Err(FsErrorKind::Ended));
    drop(kernel);
    assert_eq!(files(dir.path()), found);

    drop(world.recover(dir.path()).unwrap());
    assert!(!left[0].exists(), "a record says that it was deleted");
    assert!(!left[1].exists() && scratch.join("aside").exists());

    fs::remove_dir_all(&scratch).unwrap();
    world.look(dir.path()).unwrap_err();
    assert!(!scratch.exists());
}

fn refused(world: &World, dir: &Path) -> RecoveryError {
    let before = scratch_files(dir);
    let error = match world.recover(dir) {
        Err(OpenError::Recovery(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(scratch_files(dir), before, "nothing is deleted");
    error
}

#[test]
fn a_damaged_record_is_named_and_nothing_is_deleted() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let journal = dir.path().join("journal");
    kernel.put("f", b"x");
    let at = fs::metadata(&journal).unwrap().len();
    kernel.put("g", b"y");
    kernel.put("h", b"z");
    drop(kernel);
    let sound = fs::read(&journal).unwrap();
    for offset in at..at + 40 {
        let mut bytes = sound.clone();
        bytes[offset as usize] ^= 0x10;
        fs::write(&journal, bytes).unwrap();
        match refused(&world, dir.path()) {
            RecoveryError::Journal(JournalError::Damaged {
                record: 4,
                offset: named,
                path,
                ..
            }) => assert_eq!((named, path), (at, journal.clone())),
            other => panic!("{other:?}"),
        }
    }
    fs::write(&journal, sound).unwrap();
    assert_eq!(world.recover(dir.path()).unwrap().cat("h"), b"z");
}

#[test]
fn a_record_that_does_not_apply_is_named_and_nothing_is_deleted() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"x");
    kernel.rename("d/b", "b").unwrap();
    kernel.put("g", b"y");
    drop(kernel);
    let other = World::new(&[("a", Given::File(bytes(2500)))]);
    match refused(&other, dir.path()) {
        RecoveryError::Mutation { record: 4, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_scratch_file_is_named_with_the_file_it_belongs_to() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.mkdir("new").unwrap();
    kernel.put("new/f", b"x");
    kernel.put("g", b"x");
    let ino = kernel.stat("new/f").unwrap().ino;
    drop(kernel);
    fs::remove_file(
        dir.path()
            .join("scratch")
            .join(format!("{:016x}", ino.raw())),
    )
    .unwrap();
    let error = refused(&world, dir.path());
    assert!(
        error.to_string().ends_with("of \"new/f\" is missing"),
        "{error}"
    );
}

#[test]
fn a_lost_journal_is_an_error_once_the_session_had_one() {
    let (world, dir) = (world(), tempdir());
    let journal = dir.path().join("journal");
    let lost = || match refused(&world, dir.path()) {
        RecoveryError::MissingJournal { journal: named, .. } => assert_eq!(named, journal),
        other => panic!("{other:?}"),
    };
    // A deletion leaves no scratch file.
    drop(world.create(dir.path()));
    fs::remove_file(&journal).unwrap();
    lost();
    // The process died before it created a journal.
    fs::remove_file(dir.path().join("reserve")).unwrap();
    let kernel = world.recover(dir.path()).unwrap();
    kernel.put("f", b"x");
    drop(kernel);
    fs::remove_file(&journal).unwrap();
    fs::remove_file(dir.path().join("reserve")).unwrap();
    lost();
    assert!(!journal.exists());
}

#[test]
fn a_journal_that_was_cut_off_is_refused_and_nothing_is_deleted() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.mkdir("x").unwrap();
    for scratch in [0, 1] {
        for len in [0, 5, 18] {
            let copy = tempdir();
            copy_dir(dir.path(), copy.path());
            let journal = copy.path().join("journal");
            let whole = fs::read(&journal).unwrap();
            fs::write(&journal, &whole[..len]).unwrap();
            assert_eq!(scratch_files(copy.path()), scratch);
            match refused(&world, copy.path()) {
                RecoveryError::Journal(JournalError::CutOff { path, len: said }) => {
                    assert_eq!((path, said), (journal.clone(), len));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(fs::read(&journal).unwrap(), whole[..len]);
        }
        if scratch == 0 {
            kernel.put("f", b"x");
        }
    }
}

#[test]
fn another_file_in_the_place_of_the_journal_is_refused() {
    let (world, dir) = (world(), tempdir());
    drop(world.create(dir.path()));
    fs::write(dir.path().join("journal"), "something else entirely").unwrap();
    let error = refused(&world, dir.path());
    assert!(matches!(
        error,
        RecoveryError::Journal(JournalError::NotAJournal(_))
    ));
    assert!(error.source().is_none(), "it says all there is to say");
}

#[test]
fn shortening_a_file_loses_nothing_that_came_before_wherever_it_is_killed() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.patch("a", 2400, &[9; 600]);
    let before = fs::read(dir.path().join("journal")).unwrap();
    let ino = kernel.stat("a").unwrap().ino;
    let cut = SetAttr {
        size: Some(1000),
        ..SetAttr::default()
    };
    kernel.vfs.setattr(ino, cut).unwrap();
    let mut expected = bytes(2400);
    expected.extend([9; 600]);

    // Killed after the record and before the scratch file was cut: the rest does not come back.
    let copy = tempdir();
    copy_dir(dir.path(), copy.path());
    let scratch = copy
        .path()
        .join("scratch")
        .join(format!("{:016x}", ino.raw()));
    let file = fs::File::options().write(true).open(&scratch).unwrap();
    attachfs_durable::write_all_at(&file, &[9; 600], 2400).unwrap();
    let recovered = world.recover(copy.path()).unwrap();
    recovered.truncate("a", 3000).unwrap();
    assert_eq!(recovered.cat("a"), [&expected[..1000], &[0; 2000]].concat());
    drop(recovered);

    // Killed before the record: scratch file and file are unchanged.
    fs::write(copy.path().join("journal"), before).unwrap();
    assert_eq!(world.recover(copy.path()).unwrap().cat("a"), expected);
}

#[test]
fn a_removed_directory_that_is_still_open_is_gone_afterwards() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.mkdir("x").unwrap();
    let opened = kernel.vfs.opendir(kernel.stat("x").unwrap().ino);
    let handle = opened.unwrap().handle;
    kernel.rmdir("x").unwrap();
    kernel.vfs.releasedir(handle).unwrap();
    kernel.vfs.seal().unwrap();
    let (_copy, recovered) = world.after_kill(dir.path());
    assert!(recovered.stat("x").is_err());
    assert_eq!(recovered.vfs.getattr(Ino::ROOT).unwrap().nlink, 3);
}
