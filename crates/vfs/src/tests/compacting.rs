//! A compacted journal gives the same state, whatever happens meanwhile and wherever the compaction
//! stops.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use attachfs_durable::steps::{Recorder, Step, Taken};
use attachfs_manifest::{Content, ContentHash};
use attachfs_session::Session;
use attachfs_tree::Ino;

use super::world::{Given, Kernel, READ_WRITE, World, bytes, copy_dir, tempdir};
use crate::SetAttr;
use crate::overlay::compaction::CompactionError;
use crate::overlay::successor::{CopiedLast, LITTLE};
use crate::overlay::{CleanFile, CommitRecord, Disk, JournalError, RecoveryError};

fn world() -> World {
    World::new(&[
        ("a", Given::File(bytes(2500))),
        ("b", Given::File(bytes(10))),
        ("d/b", Given::File(bytes(10))),
    ])
}

fn disk(kernel: &Kernel) -> Arc<Disk> {
    kernel.vfs.overlay.as_ref().unwrap().disk.clone()
}

fn compact(kernel: &Kernel) {
    disk(kernel).compact().unwrap();
}

fn journal_len(session: &Path) -> u64 {
    session.join("journal").metadata().unwrap().len()
}

/// Some of each kind of change.
fn work(kernel: &Kernel) {
    kernel.put("f", b"old");
    kernel.put("tmp", b"new");
    kernel.rename("tmp", "f").unwrap();
    kernel.patch("a", 990, &[7; 20]);
    kernel.truncate("a", 1200).unwrap();
    kernel.mkdir("n").unwrap();
    kernel.rename("d", "n/d").unwrap();
    kernel.unlink("b").unwrap();
    kernel.link("f", "n/second").unwrap();
    kernel.symlink("l", "f").unwrap();
    kernel.chmod("n/d/b", 0o755).unwrap();
    kernel.mkdir("empty").unwrap();
}

/// Changes a file's times this often.
pub(super) fn change(kernel: &Kernel, at: &str, times: usize) {
    for mode in 0..times {
        let mode = if mode % 2 == 0 { 0o644 } else { 0o600 };
        kernel.chmod(at, mode).unwrap();
    }
}

#[test]
fn a_compacted_journal_is_short_and_gives_the_same_state() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    work(&kernel);
    for number in 0..500 {
        let at = format!("temporary.{number}");
        kernel.put(&at, b"x");
        kernel.unlink(&at).unwrap();
    }
    change(&kernel, "f", 500);
    let (before, expected) = (journal_len(dir.path()), kernel.dump());
    compact(&kernel);
    assert!(journal_len(dir.path()) < before / 20);
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(recovered.dump(), expected);
    // And the session continues from there.
    work_on(&kernel);
    let (copy, recovered) = world.after_kill(dir.path());
    assert_eq!(recovered.dump(), kernel.dump());
    compact(&recovered);
    work_on_again(&recovered);
    let (_copy, again) = world.after_kill(copy.path());
    assert_eq!(again.dump(), recovered.dump());
}

fn work_on(kernel: &Kernel) {
    kernel.patch("a", 100, &[8; 20]);
    kernel.rename("n/second", "f").unwrap();
    kernel.put("later", b"later");
    kernel.rmdir("empty").unwrap();
}

fn work_on_again(kernel: &Kernel) {
    kernel.patch("a", 1100, &[9; 200]);
    kernel.rename("later", "f").unwrap();
}

#[test]
fn only_a_journal_much_longer_than_its_state_is_compacted() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"x");
    change(&kernel, "f", 1000);
    let small = journal_len(dir.path());
    disk(&kernel).compact_if_large();
    assert_eq!(journal_len(dir.path()), small);
    for _ in 0..100 {
        if journal_len(dir.path()) < 4 << 20 {
            change(&kernel, "f", 10_000);
        }
    }
    disk(&kernel).compact_if_large();
    assert!(journal_len(dir.path()) < 10_000);
}

#[test]
fn nothing_that_is_to_be_synced_waits_for_a_compaction() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let disk = disk(&kernel);
    kernel.put("f", b"x");
    // A compaction that does not end before this is dropped.
    let compacting = disk.compacting.lock();
    lengthen(&kernel, dir.path(), 5 << 20, 10_000);
    // Removing a scratch file takes a sync.
    let deleted = |name: &str| {
        kernel.put(name, b"x");
        let scratch = disk.scratch.path(kernel.stat(name).unwrap().ino);
        kernel.unlink(name).unwrap();
        until(|| !scratch.exists());
    };
    for number in 0..3 {
        deleted(&number.to_string());
        kernel.vfs.fsyncdir().unwrap();
    }
    drop(compacting);
    until(|| journal_len(dir.path()) < 10_000);
    let expected = kernel.dump();
    drop(disk);
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(recovered.dump(), expected);
}

/// Makes so many changes at a time until the journal is so long.
fn lengthen(kernel: &Kernel, dir: &Path, len: u64, changes: usize) {
    let mut before = journal_len(dir);
    while before < len {
        change(kernel, "f", changes);
        let now = journal_len(dir);
        assert!(now > before, "nothing is appended");
        before = now;
    }
}

/// Waits for what other threads do.
pub(super) fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_open_file_without_a_name_can_be_written_after_a_compaction() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let handle = kernel.open("a", READ_WRITE, false).unwrap();
    let ino = kernel.stat("a").unwrap().ino;
    kernel.unlink("a").unwrap();
    compact(&kernel);
    kernel.write(handle, 100, b"new").unwrap();
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    kernel.vfs.setattr(ino, set).unwrap();
    assert_eq!(kernel.read(handle, 100, 3).unwrap(), b"new");
    let (copy, recovered) = world.after_kill(dir.path());
    recovered.stat("a").unwrap_err();
    assert_eq!(
        fs::read_dir(copy.path().join("scratch")).unwrap().count(),
        0
    );
    kernel.close(handle);
    compact(&kernel);
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(recovered.dump(), kernel.dump());
}

#[test]
fn scratch_files_of_deleted_files_are_removed_and_not_set_aside_after_a_compaction() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    // No scratch file is removed as long as a commit reads.
    let pin = kernel.vfs.freeze();
    kernel.put("f", b"x");
    kernel.unlink("f").unwrap();
    compact(&kernel);
    let (copy, _recovered) = world.after_kill(dir.path());
    assert_eq!(
        fs::read_dir(copy.path().join("scratch")).unwrap().count(),
        0
    );
    drop(pin);
}

#[test]
fn files_open_at_a_kill_are_known_after_a_compaction() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("closed", b"x");
    let handle = kernel.create("open").unwrap();
    kernel.write(handle, 0, b"half").unwrap();
    compact(&kernel);
    let (_copy, recovered) = world.after_kill(dir.path());
    let frozen = recovered.vfs.freeze().unwrap();
    let left: Vec<Ino> = frozen.left_open().iter().copied().collect();
    assert_eq!(left, [recovered.stat("open").unwrap().ino]);
}

#[test]
fn commits_and_their_clean_files_survive_a_compaction() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"x");
    let ino = kernel.stat("f").unwrap().ino;
    let file = kernel.vfs.open_scratch(ino).unwrap().0;
    let stamp = attachfs_durable::FileStamp::of(&file).unwrap();
    let hash = ContentHash::of(b"x");
    let intent = |generation| CommitRecord::Intent {
        generation,
        key: format!("{generation}.manifest"),
        hash,
        clean: vec![CleanFile {
            ino,
            stamp: stamp.into(),
            changed: None,
            content: Content::Whole(hash),
        }],
    };
    for generation in 1..=3 {
        kernel.vfs.record_commit(intent(generation)).unwrap();
        if generation < 3 {
            let end = CommitRecord::Published { generation };
            kernel.vfs.record_commit(end).unwrap();
        }
    }
    compact(&kernel);
    let (_copy, recovered) = world.after_kill(dir.path());
    let mut expected = kernel.vfs.commits();
    let CommitRecord::Intent { clean, .. } = &mut expected[0] else {
        panic!("{expected:?}")
    };
    clean.clear();
    assert_eq!(recovered.vfs.commits(), expected);
}

#[test]
fn writers_lose_nothing_during_a_compaction() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    let (vfs, disk) = (&kernel.vfs, disk(&kernel));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|thread| {
                scope.spawn(move || {
                    for number in 0..150 {
                        let name = format!("{thread}.{number}");
                        let made =
                            vfs.create_file(Ino::ROOT, name.as_bytes(), 0o644, (0, 0), READ_WRITE);
                        let handle = made.unwrap().1.handle;
                        vfs.write(handle, 0, name.as_bytes()).unwrap();
                        if number % 10 == 0 {
                            vfs.fsync(handle, true).unwrap();
                        }
                        vfs.release(handle).unwrap();
                        if number % 3 == 0 {
                            vfs.unlink(Ino::ROOT, name.as_bytes()).unwrap();
                        }
                    }
                })
            })
            .collect();
        let compacting = scope.spawn(|| {
            let mut times = 0;
            while !done.load(Ordering::Relaxed) || times == 0 {
                disk.compact().unwrap();
                times += 1;
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        compacting.join().unwrap();
    });
    let expected = kernel.dump();
    assert_eq!(expected.len(), 3 * 100 + 4);
    drop((disk, kernel));
    assert_eq!(world.recover(dir.path()).unwrap().dump(), expected);
}

#[test]
fn a_compaction_killed_at_any_step_leaves_a_journal_with_the_same_state() {
    let world = world();
    let mut stopped = 0;
    loop {
        let dir = tempdir();
        let kernel = world.create(dir.path());
        work(&kernel);
        kernel.vfs.fsyncdir().unwrap();
        let expected = kernel.dump();
        let steps = Recorder::on(dir.path());
        steps.stop_after(stopped);
        let compacted = disk(&kernel).compact();
        // Copied at this moment, because dropping cleans up.
        let copy = tempdir();
        copy_dir(dir.path(), copy.path());
        let recovered = world.recover(copy.path()).unwrap();
        assert_eq!(recovered.dump(), expected, "stopped after {stopped} steps");
        if compacted.is_ok() {
            break;
        }
        stopped += 1;
    }
    // Content, name, rest, and the name's directory; names of scratch files before the first and twice after it.
    assert!(stopped >= 4, "{stopped}");
}

#[test]
fn a_compacted_journal_is_durable_before_its_name_and_counts_after_it() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    work(&kernel);
    kernel.vfs.fsyncdir().unwrap();
    let steps = Recorder::on(dir.path());
    compact(&kernel);
    let mut order: Vec<Step> = steps.order().into_iter().map(|(step, _)| step).collect();
    order.dedup();
    let expected = [
        Step::CompactedContent,
        Step::ScratchNames,
        Step::CompactedContent,
        Step::StagedRename,
        Step::CompactedRest,
        Step::CompactedName,
    ];
    assert_eq!(order, expected);
    for failing in &expected[4..] {
        let dir = tempdir();
        let kernel = world.create(dir.path());
        work(&kernel);
        kernel.vfs.fsyncdir().unwrap();
        let steps = Recorder::on(dir.path());
        steps.fail(*failing, 5);
        disk(&kernel).compact().unwrap_err();
        kernel.mkdir("more").unwrap();
        kernel.vfs.fsyncdir().unwrap_err();
    }
}

#[test]
fn a_compaction_that_fails_before_its_name_leaves_the_journal_as_it_was() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    work(&kernel);
    for failing in [Step::CompactedContent, Step::StagedRename] {
        let steps = Recorder::on(dir.path());
        steps.fail(failing, 28);
        let before = fs::read(dir.path().join("journal")).unwrap();
        disk(&kernel).compact().unwrap_err();
        assert_eq!(fs::read(dir.path().join("journal")).unwrap(), before);
        let names = fs::read_dir(dir.path()).unwrap();
        let staged = names.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".staged-")
        });
        assert_eq!(staged.count(), 0, "{failing:?}");
        kernel.vfs.fsyncdir().unwrap();
    }
    compact(&kernel);
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(recovered.dump(), kernel.dump());
}

/// Overwrites the journal with zeros, from an offset to its end.
fn lose_from(session: &Path, at: u64) {
    let journal = fs::File::options()
        .write(true)
        .open(session.join("journal"));
    let mut journal = journal.unwrap();
    journal.seek(SeekFrom::Start(at)).unwrap();
    let lost = journal_len(session) - at;
    journal.write_all(&vec![0; lost as usize]).unwrap();
}

fn assert_damaged(compacted: Result<CopiedLast, CompactionError>) {
    match compacted {
        Err(CompactionError::Replay(RecoveryError::Journal(JournalError::Damaged { .. }))) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_journal_that_lost_records_while_it_was_open_is_not_replaced() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    work(&kernel);
    change(&kernel, "f", 100);
    kernel.vfs.fsyncdir().unwrap();
    // As what a power loss leaves of an append.
    lose_from(dir.path(), journal_len(dir.path()) / 2 / 512 * 512);
    let before = fs::read(dir.path().join("journal")).unwrap();
    assert_damaged(disk(&kernel).compact());
    assert_eq!(fs::read(dir.path().join("journal")).unwrap(), before);
}

#[test]
fn a_journal_that_lost_records_during_a_compaction_is_not_replaced() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    work(&kernel);
    kernel.vfs.fsyncdir().unwrap();
    let (disk, steps) = (disk(&kernel), Recorder::on(dir.path()));
    let paused = steps.pause(Step::CompactedContent);
    std::thread::scope(|scope| {
        let compacting = scope.spawn(|| disk.compact());
        paused.wait();
        let appended = journal_len(dir.path());
        change(&kernel, "f", 100);
        lose_from(dir.path(), appended);
        let before = fs::read(dir.path().join("journal")).unwrap();
        drop(paused);
        assert_damaged(compacting.join().unwrap());
        assert_eq!(fs::read(dir.path().join("journal")).unwrap(), before);
    });
}

/// Compacts, and appends more than little when the compaction is at a step for the so-manieth time. Returns how much it
/// copied last, and how often it synced the successor.
fn append_much_at(step: Step, time: usize) -> (CopiedLast, usize) {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"x");
    kernel.vfs.fsyncdir().unwrap();
    let (disk, steps) = (disk(&kernel), Recorder::on(dir.path()));
    let mut paused = steps.pause(step);
    let copied = std::thread::scope(|scope| {
        let compacting = scope.spawn(|| disk.compact());
        paused.wait();
        for _ in 1..time {
            // The next one is there before this one goes on.
            paused = steps.pause(step);
            paused.wait();
        }
        let before = journal_len(dir.path());
        lengthen(&kernel, dir.path(), before + 2 * LITTLE, 1000);
        drop(paused);
        compacting.join().unwrap().unwrap()
    });
    let (_copy, recovered) = world.after_kill(dir.path());
    assert_eq!(recovered.dump(), kernel.dump());
    let is_sync = |taken: &Taken| taken.step == Step::CompactedContent;
    let syncs = steps.taken().into_iter().filter(is_sync).count();
    (copied, syncs)
}

#[test]
fn whatever_is_appended_during_a_compaction_others_wait_for_the_copying_of_little() {
    // While the state is synced; that is copied and synced before anybody waits.
    let (copied, syncs) = append_much_at(Step::CompactedContent, 1);
    assert!(copied.while_syncs_waited <= LITTLE, "{copied:?}");
    assert_eq!(syncs, 3);
    // While what the records need is synced.
    let (copied, _) = append_much_at(Step::ScratchNames, 1);
    assert!(copied.while_syncs_waited <= LITTLE, "{copied:?}");
    // While the rest is synced, and other syncs wait.
    let (copied, _) = append_much_at(Step::CompactedContent, 2);
    assert!(copied.while_all_waited <= LITTLE, "{copied:?}");
}

#[test]
fn files_of_a_killed_compaction_are_removed_when_the_session_is_taken_over() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    work(&kernel);
    let copy = tempdir();
    copy_dir(dir.path(), copy.path());
    let left = copy.path().join(".staged-abcdefghijkl");
    fs::write(&left, "half of a journal").unwrap();
    let recovered = world.recover(copy.path()).unwrap();
    assert!(!left.exists());
    assert_eq!(recovered.dump(), kernel.dump());
}

#[test]
fn an_overlay_whose_files_are_deleted_is_not_compacted_any_more() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    work(&kernel);
    kernel.vfs.abandon();
    let steps = Recorder::on(dir.path());
    let compacted = disk(&kernel).compact();
    assert!(matches!(compacted, Err(CompactionError::Stopped)));
    assert_eq!(steps.taken(), []);
}

#[test]
fn a_compaction_that_is_stopped_before_its_last_step_leaves_the_journal_as_it_was() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    work(&kernel);
    kernel.vfs.fsyncdir().unwrap();
    let before = fs::read(dir.path().join("journal")).unwrap();
    let (disk, steps) = (disk(&kernel), Recorder::on(dir.path()));
    let paused = steps.pause(Step::ScratchNames);
    std::thread::scope(|scope| {
        let compacting = scope.spawn(|| disk.compact());
        // It has its turn.
        paused.wait();
        let ending = scope.spawn(|| kernel.vfs.abandon());
        until(|| disk.stopped.load(Ordering::Relaxed));
        drop(paused);
        let compacted = compacting.join().unwrap();
        assert!(matches!(compacted, Err(CompactionError::Stopped)));
        ending.join().unwrap();
    });
    assert_eq!(fs::read(dir.path().join("journal")).unwrap(), before);
}

#[test]
fn a_session_is_locked_until_its_compaction_has_ended() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    work(&kernel);
    let disk = disk(&kernel);
    // A compaction that does not end before this is dropped.
    let compacting = disk.compacting.lock();
    let ending = std::thread::spawn(move || drop(kernel));
    until(|| disk.stopped.load(Ordering::Relaxed));
    assert!(Session::is_in_use(dir.path()).unwrap());
    drop(compacting);
    ending.join().unwrap();
    assert!(!Session::is_in_use(dir.path()).unwrap());
}
