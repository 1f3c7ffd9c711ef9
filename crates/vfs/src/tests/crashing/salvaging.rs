//! Repairs of damaged sessions: of whichever record is damaged, nothing goes that was written; and a repair that a kill or a power loss interrupts
//! ends the same when it is begun again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::steps::{Recorder, When};
use attachfs_manifest::ContentHash;
use attachfs_session::Session;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::base;
use super::disk::{Chance, Disk};
use crate::overlay::{Checked, CommitRecord, RecoveryError, Salvaged, check, salvage};
use crate::tests::recovering::record_ends;
use crate::tests::world::{World, copy_dir, files, tempdir};

/// How many possible disks are tried for each moment.
const DISKS: usize = 8;

/// The bytes of all files below a directory, by their paths in it.
fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}

/// The same without second copies of what was set aside: on this disk a power loss may leave a file that was moved in both directories.
fn without_twins(mut all: BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    let first = |path: &Path| all.get(&path.with_extension("")).cloned();
    let is_twin = |path: &&PathBuf| path.extension().is_some_and(|more| more == "1");
    let twins = all.keys().filter(is_twin);
    let twins: Vec<_> = twins
        .filter(|path| first(path).as_ref() == all.get(*path))
        .cloned()
        .collect();
    for twin in twins {
        all.remove(&twin);
    }
    all
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = tempdir();
    copy_dir(dir, copy.path());
    copy
}

/// Changes a bit of the payload of a record, counted from 0.
fn damage(dir: &Path, record: usize) {
    let journal = dir.join("journal");
    let mut bytes = fs::read(&journal).unwrap();
    let end = record_ends(&bytes)[record + 1] as usize;
    bytes[end - 2] ^= 4;
    fs::write(journal, bytes).unwrap();
}

fn records(dir: &Path) -> usize {
    record_ends(&fs::read(dir.join("journal")).unwrap()).len() - 1
}

fn checked(world: &World, dir: &Path) -> Checked {
    let session = Session::open(dir).unwrap();
    check(&files(&session), world.tree.clone()).unwrap()
}

fn repair(world: &World, dir: &Path) -> Result<Salvaged, RecoveryError> {
    let session = Session::open(dir).unwrap();
    let files = files(&session);
    let checked = check(&files, world.tree.clone()).unwrap();
    salvage(&files, &checked, &|_, _| true)
}

/// A session with written, replaced, renamed, deleted and partly written files and a commit, whose process has ended.
fn session(world: &World, is_compacted: bool) -> TempDir {
    let dir = tempdir();
    let kernel = world.create(dir.path());
    kernel.put("f", b"old");
    kernel.put("tmp", b"new");
    kernel.rename("tmp", "f").unwrap();
    kernel.patch("a", 990, &[7; 20]);
    kernel.mkdir("n").unwrap();
    for number in 0..6 {
        kernel.put(&format!("n/{number}"), format!("file {number}").as_bytes());
    }
    kernel.rename("b", "n/b").unwrap();
    kernel.patch("n/b", 3, b"part");
    kernel.unlink("n/0").unwrap();
    if is_compacted {
        let overlay = kernel.vfs.overlay.as_ref().unwrap();
        overlay.disk.compact().unwrap();
    }
    let intent = CommitRecord::Intent {
        generation: 1,
        key: "1.manifest".to_owned(),
        hash: ContentHash::of(b"1"),
        clean: Vec::new(),
    };
    kernel.vfs.record_commit(intent).unwrap();
    let published = CommitRecord::Published { generation: 1 };
    kernel.vfs.record_commit(published).unwrap();
    kernel.put("later", b"later");
    kernel.patch("a", 5, b"later");
    drop(kernel);
    dir
}

#[test]
fn no_written_byte_goes_whichever_record_is_damaged_and_a_commit_asks_about_all_files() {
    let world = base();
    for is_compacted in [false, true] {
        let whole = session(&world, is_compacted);
        let written: Vec<_> = contents(&whole.path().join("scratch"))
            .into_values()
            .collect();
        for record in 0..records(whole.path()) {
            let dir = copy_of(whole.path());
            damage(dir.path(), record);
            let damaged = fs::read(dir.path().join("journal")).unwrap();
            let done = repair(&world, dir.path()).unwrap();
            assert_eq!(fs::read(done.journal.unwrap()).unwrap(), damaged);
            let after = checked(&world, dir.path());
            assert!(after.is_sound(), "{record}: {after:?}");
            assert_eq!(after.left_open.len() as u64, after.written, "{record}");
            assert!(after.unknown.is_empty(), "{record}");

            // It is mounted and unmounted.
            let kernel = world.recover(dir.path()).unwrap();
            for path in &after.left_open {
                kernel.stat(path).unwrap();
            }
            drop(kernel.attach_silently());
            kernel.vfs.end_serving().unwrap();
            drop(kernel);
            let kept: Vec<_> = contents(&dir.path().join("scratch"))
                .into_values()
                .collect();
            for bytes in &written {
                let count = |all: &[Vec<u8>]| all.iter().filter(|one| *one == bytes).count();
                assert!(
                    count(&kept) >= count(&written),
                    "{:?} is gone: record {record}, compacted: {is_compacted}",
                    String::from_utf8_lossy(bytes)
                );
            }
        }
    }
}

#[test]
fn commits_behind_a_damaged_record_stay_known_unless_a_layer_may_be_lost() {
    let world = base();
    let dir = session(&world, false);
    damage(dir.path(), 2);
    let with_layer = copy_of(dir.path());
    fs::write(with_layer.path().join("layers/1"), "a layer").unwrap();
    assert_eq!(repair(&world, dir.path()).unwrap().commits, 1);
    let [
        CommitRecord::Intent {
            generation: 1,
            hash,
            ..
        },
        CommitRecord::Published { generation: 1 },
    ] = checked(&world, dir.path()).commits[..]
    else {
        panic!("the commit is not known");
    };
    assert_eq!(hash, ContentHash::of(b"1"));
    assert_eq!(repair(&world, with_layer.path()).unwrap().commits, 0);
}

#[test]
fn what_a_job_wrote_into_an_attribute_does_not_end_a_commit_if_a_header_is_damaged() {
    let world = base();
    let dir = tempdir();
    let kernel = world.create(dir.path());
    let intent = CommitRecord::Intent {
        generation: 1,
        key: "1.manifest".to_owned(),
        hash: ContentHash::of(b"1"),
        clean: Vec::new(),
    };
    kernel.vfs.record_commit(intent).unwrap();
    // The record of another session has all that a job can know.
    let other = tempdir();
    let elsewhere = world.create(other.path());
    let journal = other.path().join("journal");
    let begin = fs::metadata(&journal).unwrap().len() as usize;
    for _ in 0..5 {
        let published = CommitRecord::Published { generation: 1 };
        elsewhere.vfs.record_commit(published).unwrap();
    }
    let forged = fs::read(&journal).unwrap().split_off(begin);
    let begin = records(dir.path());
    kernel.set_xattr("a", "user.x", &forged).unwrap();
    drop(kernel);

    let journal = dir.path().join("journal");
    let mut bytes = fs::read(&journal).unwrap();
    let header = record_ends(&bytes)[begin] as usize;
    bytes[header] ^= 4;
    fs::write(&journal, bytes).unwrap();
    repair(&world, dir.path()).unwrap();
    let commits = checked(&world, dir.path()).commits;
    assert!(
        matches!(commits[..], [CommitRecord::Intent { .. }]),
        "{commits:?}"
    );
}

/// A session with each kind of damage that is repaired.
fn damaged(world: &World) -> TempDir {
    let dir = session(world, false);
    let scratch = fs::read_dir(dir.path().join("scratch")).unwrap();
    let mut scratch = scratch.map(|entry| entry.unwrap().path());
    let lost = scratch.find(|path| fs::read(path).unwrap() == b"file 1");
    fs::remove_file(lost.unwrap()).unwrap();
    for record in (0..records(dir.path())).rev() {
        let damaged = copy_of(dir.path());
        damage(damaged.path(), record);
        let found = checked(world, damaged.path());
        if found.commits.is_empty() && found.unknown.len() == 2 {
            assert!(found.damage.is_some() && !found.missing.is_empty());
            return damaged;
        }
    }
    panic!("no record is the one between");
}

#[test]
fn a_repair_that_is_interrupted_at_any_step_ends_the_same_when_it_is_begun_again() {
    let world = base();
    let whole = damaged(&world);
    let expected = copy_of(whole.path());
    repair(&world, expected.path()).unwrap();
    let expected = contents(expected.path());

    let dir = copy_of(whole.path());
    let disk = Arc::new(Mutex::new(Disk::new(dir.path())));
    let moments = Arc::new(Mutex::new(Vec::new()));
    let steps = Recorder::on(dir.path());
    steps.watch({
        let (root, disk, moments) = (dir.path().to_owned(), disk.clone(), moments.clone());
        move |when, taken| {
            let mut disk = disk.lock();
            disk.step(when, taken);
            if when == When::Before {
                let moment = (taken.step, copy_of(&root), disk.image());
                moments.lock().push(moment);
            }
        }
    });
    repair(&world, dir.path()).unwrap();
    let taken = steps.taken().len();
    drop(steps);
    assert_eq!(contents(dir.path()), expected);
    let last = disk.lock().image();
    let moments = std::mem::take(&mut *moments.lock());
    assert!(moments.len() == taken && taken >= 10, "{taken}");
    for (step, killed, image) in &moments {
        repair(&world, killed.path()).unwrap();
        assert_eq!(contents(killed.path()), expected, "killed at {step:?}");
        let mut chance = Chance(taken as u64);
        for _ in 0..DISKS {
            let lost = image.lose_power(dir.path(), &mut chance);
            repair(&world, lost.dir.path()).unwrap();
            let after = without_twins(contents(lost.dir.path()));
            assert_eq!(after, expected, "at {step:?}");
        }
    }
    let lost = last.lose_power(dir.path(), &mut Chance(0));
    assert_eq!(contents(lost.dir.path()), expected, "it was durable");
    // The disk refuses a step and all after it.
    for left in 0..taken {
        let dir = copy_of(whole.path());
        let steps = Recorder::on(dir.path());
        steps.stop_after(left);
        repair(&world, dir.path()).unwrap_err();
        drop(steps);
        repair(&world, dir.path()).unwrap();
        assert_eq!(contents(dir.path()), expected, "step {left} failed");
    }
}
