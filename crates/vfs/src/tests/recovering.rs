//! What is found again after the process died, and what is refused rather than guessed.

use std::error::Error as _;
use std::fs;
use std::path::Path;

use attachfs_tree::Ino;

use super::writing::scratch_files;
use crate::overlay::{JournalError, RecoveryError};
use crate::testing::{Given, Kernel, READ_WRITE, World, bytes, copy_dir, tempdir};
use crate::{OpenError, SetAttr};

fn world() -> World {
    World::new(&[
        ("a", Given::File(bytes(2500))),
        ("d/b", Given::File(bytes(10))),
    ])
}

/// Operations that each append one record.
fn steps() -> Vec<fn(&Kernel)> {
    vec![
        |kernel| kernel.mkdir("new").unwrap(),
        |kernel| kernel.put("new/f", b"12345"),
        |kernel| {
            let handle = kernel.open("a", READ_WRITE, false).unwrap();
            kernel.close(handle);
        },
        |kernel| kernel.patch("a", 990, &[7; 20]),
        |kernel| kernel.truncate("a", 2000).map(drop).unwrap(),
        |kernel| kernel.truncate("a", 3000).map(drop).unwrap(),
        |kernel| kernel.symlink("new/l", "f").unwrap(),
        |kernel| kernel.rename("d", "new/d").unwrap(),
        |kernel| kernel.link("new/f", "second").unwrap(),
        |kernel| kernel.chmod("new/d/b", 0o755).map(drop).unwrap(),
        |kernel| kernel.unlink("new/f").unwrap(),
        |kernel| kernel.unlink("new/d/b").unwrap(),
        |kernel| kernel.rmdir("new/d").unwrap(),
    ]
}

#[test]
fn a_journal_cut_anywhere_is_a_prefix_of_the_operations() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let journal = dir.path().join("journal");
    let len = || fs::metadata(&journal).unwrap().len();
    let mut prefixes = vec![(len(), kernel.dump(), tempdir())];
    for step in steps() {
        step(&kernel);
        let scratch = tempdir();
        copy_dir(&dir.path().join("scratch"), scratch.path());
        prefixes.push((len(), kernel.dump(), scratch));
    }
    let ends: Vec<u64> = prefixes.iter().map(|prefix| prefix.0).collect();
    assert!(ends.is_sorted_by(|a, b| a < b), "one record each: {ends:?}");
    let whole = fs::read(&journal).unwrap();
    for cut in ends[0]..=whole.len() as u64 {
        if cut % 7 != 0 && !ends.contains(&cut) {
            continue;
        }
        let (_, dump, scratch) = prefixes.iter().rfind(|prefix| prefix.0 <= cut).unwrap();
        let copy = tempdir();
        copy_dir(dir.path(), copy.path());
        fs::write(copy.path().join("journal"), &whole[..cut as usize]).unwrap();
        // The bytes of later operations may have come to the disk, or not: those before have.
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
fn new_inodes_after_a_recovery_have_numbers_that_none_had() {
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
fn what_was_unlinked_and_open_goes_with_its_process() {
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

#[test]
fn scratch_files_that_no_record_speaks_of_are_removed_and_foreign_files_stay() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"x");
    drop(kernel);
    let scratch = dir.path().join("scratch");
    let unrecorded = scratch.join(format!("{:016x}", (1_u64 << 62) + 1));
    fs::write(&unrecorded, "died before its record").unwrap();
    for foreign in ["abc", "README", "00", "400000000000000A"] {
        fs::write(scratch.join(foreign), "mine").unwrap();
    }
    let kernel = world.recover(dir.path()).unwrap();
    assert!(!unrecorded.exists());
    assert_eq!(scratch_files(dir.path()), 1 + 4);
    assert_eq!(kernel.cat("f"), b"x");
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
                record: 2,
                offset: named,
                path,
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
        RecoveryError::Mutation { record: 2, .. } => {}
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
fn a_lost_journal_is_an_error_only_if_something_was_written() {
    let (world, dir) = (world(), tempdir());
    let journal = dir.path().join("journal");
    let kernel = world.create(dir.path());
    drop(kernel);
    for torn in ["", "attachfs jour"] {
        fs::write(&journal, torn).unwrap();
        let kernel = world.recover(dir.path()).unwrap();
        kernel.mkdir("x").unwrap();
        drop(kernel);
        assert!(world.recover(dir.path()).unwrap().stat("x").is_ok());
    }
    fs::remove_file(&journal).unwrap();
    let kernel = world.recover(dir.path()).unwrap();
    kernel.put("f", b"x");
    drop(kernel);
    fs::remove_file(&journal).unwrap();
    match refused(&world, dir.path()) {
        RecoveryError::MissingJournal { journal: named, .. } => assert_eq!(named, journal),
        other => panic!("{other:?}"),
    }
    assert!(!journal.exists());
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
fn cutting_a_file_short_loses_nothing_that_came_before_wherever_it_is_killed() {
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

    // Killed after the record, before the scratch file was cut: the rest does not come back.
    let copy = tempdir();
    copy_dir(dir.path(), copy.path());
    let scratch = copy
        .path()
        .join("scratch")
        .join(format!("{:016x}", ino.raw()));
    let file = fs::File::options().write(true).open(&scratch).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[9; 600], 2400).unwrap();
    let recovered = world.recover(copy.path()).unwrap();
    recovered.truncate("a", 3000).unwrap();
    assert_eq!(recovered.cat("a"), [&expected[..1000], &[0; 2000]].concat());
    drop(recovered);

    // Killed before the record: the scratch file is as it was, and so is the file.
    fs::write(copy.path().join("journal"), before).unwrap();
    assert_eq!(world.recover(copy.path()).unwrap().cat("a"), expected);
}

#[test]
fn a_removed_directory_that_is_still_open_is_gone_afterwards() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.mkdir("x").unwrap();
    let handle = kernel.vfs.opendir(kernel.stat("x").unwrap().ino).unwrap();
    kernel.rmdir("x").unwrap();
    kernel.vfs.releasedir(handle).unwrap();
    kernel.vfs.seal().unwrap();
    let (_copy, recovered) = world.after_kill(dir.path());
    assert!(recovered.stat("x").is_err());
    assert_eq!(recovered.vfs.getattr(Ino::ROOT).unwrap().nlink, 1);
}
