//! The order in which things become durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_durable::steps::{Act, Recorder, Step};
use attachfs_manifest::{Change, Diff, Node};
use attachfs_session::Session;
use attachfs_tree::Ino;
use tempfile::TempDir;

use super::world::{Given, Kernel, READ_WRITE, World, bytes, path, tempdir};
use crate::overlay::{CommitRecord, Disk};
use crate::{FsErrorKind, Vfs};

/// That a device failed, and that a disk is full.
const EIO: i32 = if cfg!(windows) { 1117 } else { 5 };
const ENOSPC: i32 = if cfg!(windows) { 112 } else { 28 };

/// A session with two inputs, and a recorder of its steps.
struct Bench {
    kernel: Kernel,
    steps: Recorder,
    // Removed after the kernel: what holds it open keeps it there on Windows.
    dir: TempDir,
    world: World,
}

fn bench() -> Bench {
    let world = World::new(&[
        ("a", Given::File(bytes(2500))),
        ("b", Given::File(bytes(10))),
    ]);
    let dir = tempdir();
    let kernel = world.create(dir.path());
    let steps = Recorder::on(dir.path());
    Bench {
        kernel,
        steps,
        dir,
        world,
    }
}

type Seen = (Step, String);

fn about(step: Step, name: &str) -> Seen {
    (step, name.to_owned())
}

const NAMES: Step = Step::ScratchNames;
const SYNC: Step = Step::JournalSync;

/// All recorded steps, without repetitions in a row; random names as `staged`.
fn all(steps: &Recorder) -> Vec<Seen> {
    let mut order = steps.order();
    for (_, name) in &mut order {
        if name.starts_with(".staged-") {
            "staged".clone_into(name);
        }
    }
    order.dedup();
    order
}

/// As [`all`], without the writes of jobs and of the journal.
fn durable(steps: &Recorder) -> Vec<Seen> {
    let mut order = all(steps);
    order.retain(|(step, _)| step.act() != Act::Write || *step == Step::ScratchShorten);
    order.dedup();
    order
}

/// The position of the first occurrence of a step.
#[track_caller]
fn place(steps: &Recorder, step: Step, name: &str) -> usize {
    let all = all(steps);
    let wanted = about(step, name);
    let place = all.iter().position(|seen| *seen == wanted);
    place.unwrap_or_else(|| panic!("{wanted:?} is not in {all:?}"))
}

impl Bench {
    /// The name of a file's scratch file.
    fn scratch(&self, at: &str) -> String {
        scratch_name(&self.kernel, at)
    }

    fn disk(&self) -> Arc<Disk> {
        self.kernel.vfs.overlay.as_ref().unwrap().disk.clone()
    }

    fn place(&self, step: Step, name: &str) -> usize {
        place(&self.steps, step, name)
    }
}

fn scratch_name(kernel: &Kernel, at: &str) -> String {
    format!("{:016x}", kernel.stat(at).unwrap().ino.raw())
}

#[test]
fn a_replacing_file_is_durable_before_the_journal_and_the_old_one_is_removed_last() {
    let Bench {
        kernel,
        steps,
        dir: _dir,
        world: _world,
    } = bench();
    kernel.put("f", b"old");
    let old = scratch_name(&kernel, "f");
    kernel.put("tmp", b"new");
    let new = scratch_name(&kernel, "tmp");
    kernel.rename("tmp", "f").unwrap();
    drop(kernel);
    let expected = [
        about(Step::ScratchFirst, &new),
        about(NAMES, "scratch"),
        about(SYNC, "journal"),
        about(Step::OwnRemove, &old),
    ];
    assert_eq!(durable(&steps), expected);
}

#[test]
fn files_that_are_exchanged_are_durable_before_the_journal() {
    let bench = bench();
    let kernel = &bench.kernel;
    kernel.put("f", b"old");
    kernel.put("tmp", b"new");
    let both = ["f", "tmp"].map(|at| bench.scratch(at));
    kernel.vfs.fsyncdir().unwrap();
    bench.steps.clear();
    kernel.exchange("tmp", "f").unwrap();
    kernel.vfs.fsyncdir().unwrap();
    let synced = place(&bench.steps, SYNC, "journal");
    for scratch in &both {
        assert!(place(&bench.steps, Step::ScratchFirst, scratch) < synced);
    }
}

#[test]
fn a_file_replaced_before_a_kill_is_removed_after_the_new_one_is_durable() {
    let bench = bench();
    let kernel = &bench.kernel;
    // Keeps the old file, however slow this test is.
    let _pin = kernel.vfs.freeze();
    kernel.put("f", b"old");
    let old = bench.scratch("f");
    kernel.put("tmp", b"new");
    kernel.rename("tmp", "f").unwrap();
    kernel.patch("a", 0, b"new");
    let copy = tempdir();
    super::world::copy_dir(bench.dir.path(), copy.path());
    let steps = Recorder::on(copy.path());
    let _recovered = bench.world.recover(copy.path()).unwrap();
    let synced = place(&steps, SYNC, "journal");
    for at in ["f", "a"] {
        assert!(place(&steps, Step::ScratchFirst, &bench.scratch(at)) < synced);
    }
    assert!(synced < place(&steps, Step::OwnRemove, &old));
}

#[test]
fn a_file_that_cannot_be_opened_for_a_moment_is_synced_by_the_next_sync() {
    let bench = bench();
    let kernel = &bench.kernel;
    kernel.put("f", b"old");
    kernel.put("tmp", b"new");
    let new = bench.scratch("tmp");
    let scratch = bench.dir.path().join("scratch").join(&new);
    let away = bench.dir.path().join("away");
    std::fs::rename(&scratch, &away).unwrap();
    std::fs::create_dir(&scratch).unwrap();
    kernel.rename("tmp", "f").unwrap();
    kernel.vfs.fsyncdir().unwrap_err();
    std::fs::remove_dir(&scratch).unwrap();
    std::fs::rename(&away, &scratch).unwrap();
    kernel.vfs.fsyncdir().unwrap();
    assert!(bench.place(Step::ScratchFirst, &new) < bench.place(SYNC, "journal"));
}

#[test]
fn a_file_that_replaces_an_input_is_durable_before_the_journal() {
    let bench = bench();
    bench.kernel.put("tmp", b"new");
    let new = bench.scratch("tmp");
    bench.kernel.rename("tmp", "b").unwrap();
    // For any reason to sync.
    bench.kernel.vfs.fsyncdir().unwrap();
    assert!(bench.place(Step::ScratchFirst, &new) < bench.place(SYNC, "journal"));
}

#[test]
fn bytes_overwritten_in_an_input_are_durable_before_the_journal() {
    let bench = bench();
    bench.kernel.patch("a", 100, b"new");
    bench.kernel.vfs.fsyncdir().unwrap();
    let first = bench.place(Step::ScratchFirst, &bench.scratch("a"));
    assert!(first < bench.place(SYNC, "journal"));
}

#[test]
fn an_emptied_and_rewritten_file_is_durable_before_the_journal_once_closed() {
    let bench = bench();
    let kernel = &bench.kernel;
    for at in ["b", "f"] {
        if at == "f" {
            kernel.put("f", b"old");
        }
        let handle = kernel.open(at, READ_WRITE, true).unwrap();
        kernel.write(handle, 0, b"new").unwrap();
        kernel.close(handle);
        bench.steps.clear();
        kernel.vfs.fsyncdir().unwrap();
        let expected = [
            about(Step::ScratchFirst, &bench.scratch(at)),
            about(NAMES, "scratch"),
            about(SYNC, "journal"),
        ];
        assert_eq!(durable(&bench.steps), expected);
    }
}

#[test]
fn new_files_are_not_synced_by_the_sync_of_another() {
    let bench = bench();
    let kernel = &bench.kernel;
    kernel.put("f", b"new");
    kernel.put("g", b"new");
    kernel.rename("g", "h").unwrap();
    kernel.vfs.fsyncdir().unwrap();
    let expected = [about(NAMES, "scratch"), about(SYNC, "journal")];
    assert_eq!(durable(&bench.steps), expected);
    kernel.vfs.fsyncdir().unwrap();
    let again = durable(&bench.steps);
    assert_eq!(again, expected, "there was nothing new");
}

#[test]
fn a_scratch_file_is_shortened_after_the_record_that_says_so_is_durable() {
    let bench = bench();
    let kernel = &bench.kernel;
    kernel.patch("a", 2400, &[9; 600]);
    kernel.truncate("a", 1000).unwrap();
    let shortened = bench.place(Step::ScratchShorten, &bench.scratch("a"));
    assert!(bench.place(SYNC, "journal") < shortened);
    // Making a file longer waits for nothing.
    let before = durable(&bench.steps);
    kernel.truncate("a", 1500).unwrap();
    assert_eq!(durable(&bench.steps), before);
}

#[test]
fn unsynced_changes_are_synced_before_the_kernel_writes_them_by_itself() {
    let bench = bench();
    bench.kernel.mkdir("d").unwrap();
    let disk = bench.disk();
    let begun = Instant::now();
    while !disk.is_synced() {
        assert!(begun.elapsed() < Duration::from_mins(1), "never synced");
        std::thread::sleep(Duration::from_millis(5));
    }
    let expected = [about(NAMES, "scratch"), about(SYNC, "journal")];
    assert_eq!(durable(&bench.steps), expected);
}

#[test]
fn fsync_makes_the_bytes_durable_then_the_name_and_then_the_journal() {
    let bench = bench();
    let kernel = &bench.kernel;
    for data_only in [false, true] {
        let handle = kernel.create(&format!("f{data_only}")).unwrap();
        kernel.write(handle, 0, b"new").unwrap();
        bench.steps.clear();
        kernel.vfs.fsync(handle, data_only).unwrap();
        let expected = [
            about(Step::ScratchSync, &bench.scratch(&format!("f{data_only}"))),
            about(NAMES, "scratch"),
            about(SYNC, "journal"),
        ];
        assert_eq!(durable(&bench.steps), expected);
    }
}

#[test]
fn fsyncdir_and_sealing_make_the_journal_durable() {
    let bench = bench();
    let expected = [about(NAMES, "scratch"), about(SYNC, "journal")];
    bench.kernel.mkdir("d").unwrap();
    bench.kernel.vfs.fsyncdir().unwrap();
    assert_eq!(durable(&bench.steps), expected);
    bench.steps.clear();
    bench.kernel.vfs.seal().unwrap();
    assert_eq!(durable(&bench.steps), expected);
    assert_eq!(
        all(&bench.steps)[0],
        about(Step::JournalAppend, "journal"),
        "the record is under the sync"
    );
}

#[test]
fn a_step_of_a_commit_is_durable_before_it_counts_as_recorded() {
    let bench = bench();
    bench.kernel.put("f", b"old");
    let step = || CommitRecord::Published { generation: 1 };
    for failing in [NAMES, SYNC] {
        bench.steps.fail(failing, EIO);
        bench.kernel.vfs.record_commit(step()).unwrap_err();
        assert_eq!(bench.kernel.vfs.commits(), [], "{failing:?}");
    }
    let bench = self::bench();
    bench.kernel.vfs.record_commit(step()).unwrap();
    let expected = [
        about(Step::JournalAppend, "journal"),
        about(NAMES, "scratch"),
        about(SYNC, "journal"),
    ];
    assert_eq!(all(&bench.steps), expected);
}

#[test]
fn the_bytes_of_a_write_are_in_their_file_before_its_record() {
    let bench = bench();
    let kernel = &bench.kernel;
    let handle = kernel.open("a", READ_WRITE, false).unwrap();
    kernel.write(handle, 0, b"x").unwrap();
    bench.steps.clear();
    kernel.write(handle, 100, b"new").unwrap();
    let expected = [
        about(Step::ScratchWrite, &bench.scratch("a")),
        about(Step::JournalAppend, "journal"),
    ];
    assert_eq!(all(&bench.steps), expected);
    kernel.close(handle);
    assert_eq!(kernel.cat("a")[100..103], *b"new");
}

#[test]
fn the_length_that_a_job_sets_is_that_of_its_scratch_file() {
    let bench = bench();
    bench.kernel.put("f", b"longer");
    bench.steps.clear();
    bench.kernel.truncate("f", 3).unwrap();
    let expected = about(Step::ScratchLength, &bench.scratch("f"));
    assert!(all(&bench.steps).contains(&expected));
    assert_eq!(bench.kernel.cat("f"), b"lon");
}

#[test]
fn a_record_that_could_not_be_appended_is_cut_off_and_not_applied() {
    let bench = bench();
    bench.steps.fail(Step::JournalAppend, ENOSPC);
    assert_eq!(bench.kernel.mkdir("d"), Err(FsErrorKind::NoSpace));
    assert_eq!(
        all(&bench.steps),
        [about(Step::JournalUndo, "journal")],
        "the failed step is not in the list"
    );
    assert_eq!(bench.kernel.stat("d"), Err(FsErrorKind::NotFound));
    bench.kernel.mkdir("e").unwrap();
    let (_copy, recovered) = bench.world.after_kill(bench.dir.path());
    assert_eq!(recovered.dump(), bench.kernel.dump());
}

#[test]
fn after_bytes_that_could_not_be_synced_the_journal_never_counts_as_durable() {
    for failing in [Step::ScratchFirst, SYNC] {
        let Bench {
            kernel,
            steps,
            dir: _dir,
            world: _world,
        } = bench();
        kernel.put("f", b"old");
        kernel.put("tmp", b"new");
        kernel.rename("tmp", "f").unwrap();
        steps.fail(failing, EIO);
        kernel.vfs.fsyncdir().unwrap_err();
        kernel.vfs.fsyncdir().unwrap_err();
        drop(kernel);
        let done = durable(&steps);
        assert!(!done.contains(&about(SYNC, "journal")), "{done:?}");
        let removed = done.iter().any(|(step, _)| *step == Step::OwnRemove);
        assert!(!removed, "the old bytes stay: {done:?}");
    }
}

#[test]
fn names_that_could_not_be_synced_keep_the_journal_from_its_sync_until_they_are() {
    let bench = bench();
    bench.kernel.put("f", b"new");
    bench.steps.fail(NAMES, EIO);
    bench.kernel.vfs.fsyncdir().unwrap_err();
    assert_eq!(durable(&bench.steps), []);
    bench.kernel.vfs.fsyncdir().unwrap();
    let expected = [about(NAMES, "scratch"), about(SYNC, "journal")];
    assert_eq!(durable(&bench.steps), expected);
}

#[test]
fn a_new_session_is_durable_before_its_description_and_its_journal_after_that() {
    let world = World::new(&[]);
    let dir = tempdir();
    let steps = Recorder::on(dir.path());
    let place = dir.path().join("session");
    let above = dir.path().file_name().unwrap().to_str().unwrap();
    let session = Session::create(&place, world.meta(), &[world.manifest()]).unwrap();
    let written = |name, dir| {
        [
            about(Step::OwnContent, "staged"),
            about(Step::OwnRename, name),
            about(Step::OwnName, dir),
        ]
    };
    let mut expected = vec![
        about(Step::ClaimName, above),
        about(Step::OwnDirName, "session"),
    ];
    expected.extend(written("0", "base"));
    expected.push(about(Step::OwnDirName, "session"));
    expected.extend(written("session.json", "session"));
    // The mark that it is unfinished may come back after a power loss: it says nothing beside a description.
    expected.push(about(Step::OwnRemove, "unfinished"));
    assert_eq!(all(&steps), expected);
    steps.clear();
    let (tree, fetcher) = (world.tree.clone(), world.fetcher());
    let vfs = Vfs::create(
        super::world::files(&session),
        tree,
        fetcher,
        super::world::settings(),
    )
    .unwrap();
    let journal = [
        about(Step::StagedContent, "staged"),
        about(Step::StagedLink, "journal"),
        about(Step::StagedName, "session"),
    ];
    assert_eq!(all(&steps)[..3], journal);
    drop(vfs);
}

#[test]
fn taking_over_a_session_cuts_off_a_torn_record_and_lengthens_shortened_files() {
    let bench = bench();
    bench.kernel.patch("a", 2400, &[9; 600]);
    let copy = tempdir();
    super::world::copy_dir(bench.dir.path(), copy.path());
    let journal = copy.path().join("journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes.extend([0; 40]);
    std::fs::write(&journal, &bytes).unwrap();
    let scratch = bench.scratch("a");
    let file = std::fs::File::options()
        .write(true)
        .open(copy.path().join("scratch").join(&scratch));
    file.unwrap().set_len(2500).unwrap();
    let steps = Recorder::on(copy.path());
    let recovered = bench.world.recover(copy.path()).unwrap();
    let expected = [
        about(Step::JournalCut, "journal"),
        // The next to take it over has to know, too, that the file lost something.
        about(Step::JournalAppend, "journal"),
        about(Step::JournalSync, "journal"),
        about(Step::ScratchLengthen, &scratch),
    ];
    assert_eq!(all(&steps)[..4], expected);
    assert_eq!(recovered.cat("a").len(), 3000);
    let journal = std::fs::read(journal).unwrap();
    assert!(journal.starts_with(&bytes[..bytes.len() - 40]));
}

/// A journal as versions wrote it that had no secret: 4 or 5.
fn of_version(version: u8, journal: &[u8]) -> Vec<u8> {
    let mut bytes = b"attachfs journal 5\n".to_vec();
    bytes[17] = b'0' + version;
    for ends in super::recovering::record_ends(journal).windows(2) {
        let mut record = journal[ends[0] as usize..ends[1] as usize].to_vec();
        let sum = xxhash_rust::xxh3::xxh3_64(&record[..20]);
        record[20..28].copy_from_slice(&sum.to_le_bytes());
        bytes.extend(record);
    }
    bytes
}

#[test]
fn a_journal_of_an_earlier_version_is_read_and_gets_the_number_5_before_anything_is_appended() {
    let bench = bench();
    let journal = std::fs::read(bench.dir.path().join("journal")).unwrap();
    let fifth = of_version(5, &journal);
    for version in [4, 5] {
        let copy = tempdir();
        super::world::copy_dir(bench.dir.path(), copy.path());
        let journal_path = copy.path().join("journal");
        let before = of_version(version, &journal);
        std::fs::write(&journal_path, &before).unwrap();
        let looked_at = bench.world.look(copy.path()).unwrap();
        assert_eq!(looked_at.dump(), bench.kernel.dump());
        assert!(
            std::fs::read(&journal_path).unwrap() == before,
            "looking changes nothing"
        );
        drop(looked_at);
        let steps = Recorder::on(copy.path());
        let recovered = bench.world.recover(copy.path()).unwrap();
        let renumbered = about(Step::JournalVersion, "journal");
        assert_eq!(all(&steps).contains(&renumbered), version == 4);
        assert!(version == 5 || all(&steps)[0] == renumbered);
        recovered.mkdir("more").unwrap();
        assert!(std::fs::read(&journal_path).unwrap().starts_with(&fifth));
        drop(steps);
        let dump = recovered.dump();
        drop(recovered);

        let recovered = bench.world.recover(copy.path()).unwrap();
        assert_eq!(recovered.dump(), dump, "it goes on as it began");
        // Windows replaces no file that is open.
        if cfg!(windows) {
            continue;
        }
        let overlay = recovered.vfs.overlay.as_ref().unwrap();
        overlay.disk.compact().unwrap();
        let bytes = std::fs::read(&journal_path).unwrap();
        assert!(bytes.starts_with(b"attachfs journal 6 "));
        recovered.mkdir("even more").unwrap();
        let dump = recovered.dump();
        drop(recovered);
        assert_eq!(bench.world.recover(copy.path()).unwrap().dump(), dump);
    }
}

#[test]
fn a_scratch_file_is_set_aside_durably_in_both_directories() {
    let bench = bench();
    let copy = tempdir();
    super::world::copy_dir(bench.dir.path(), copy.path());
    let unknown = format!("{:016x}", (1_u64 << 62) + 99);
    let at = copy.path().join("scratch").join(&unknown);
    std::fs::write(&at, "whose?").unwrap();
    let steps = Recorder::on(copy.path());
    let _recovered = bench.world.recover(copy.path()).unwrap();
    let expected = [
        about(Step::OwnDirName, "scratch"),
        about(Step::AsideRename, &unknown),
        about(Step::AsideName, attachfs_durable::OwnDir::ASIDE),
        about(Step::AsideGone, "scratch"),
    ];
    assert_eq!(durable(&steps)[..4], expected);
}

#[test]
fn discarding_a_session_removes_its_journal_first_and_its_description_and_lock_last() {
    let bench = bench();
    bench.kernel.put("f", b"new");
    let Bench {
        kernel, steps, dir, ..
    } = bench;
    drop(kernel);
    steps.clear();
    Session::open(dir.path()).unwrap().discard().unwrap();
    let mut order = durable(&steps);
    // That it is being deleted is durable before anything is missing.
    let place = |wanted: &dyn Fn(&(Step, String)) -> bool| order.iter().position(wanted);
    let marked = place(&|(step, about)| *step == Step::OwnRename && about == "ending");
    let removed = place(&|(step, _)| *step == Step::OwnRemove);
    assert!(marked.is_some() && marked < removed, "{order:?}");
    order.retain(|(step, _)| *step == Step::OwnRemove);
    assert_eq!(order[0], about(Step::OwnRemove, "journal"));
    let end = [
        about(Step::OwnRemove, "session.json"),
        about(Step::OwnRemove, "lock"),
        about(Step::OwnRemove, "ending"),
    ];
    assert_eq!(order[order.len() - 3..], end);
}

#[test]
fn creating_and_syncing_threads_do_not_deadlock() {
    let bench = bench();
    let kernel = &bench.kernel;
    let vfs = &kernel.vfs;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in 0..200 {
                    let name = format!("{thread}.{number}");
                    let access = READ_WRITE;
                    let made = vfs.create_file(Ino::ROOT, name.as_bytes(), 0o644, (0, 0), access);
                    let handle = made.unwrap().1.handle;
                    vfs.write(handle, 0, b"x").unwrap();
                    if number % 10 == 0 {
                        vfs.fsync(handle, true).unwrap();
                    }
                    vfs.release(handle).unwrap();
                    let to = format!("{thread}");
                    vfs.rename(
                        (Ino::ROOT, name.as_bytes()),
                        (Ino::ROOT, to.as_bytes()),
                        false,
                    )
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(kernel.dump().len(), 4 + 2);
}

#[test]
fn a_layer_is_durable_before_the_journal_names_it_and_that_before_it_is_added() {
    let bench = bench();
    let chunk_size = bench.world.tree.chunk_size();
    let changes = [(path("new"), Change::Put(Node::Dir))];
    let layer = Diff::new(chunk_size, None, changes).unwrap();
    // As in a session that an earlier version made.
    std::fs::remove_dir(bench.dir.path().join("layers")).unwrap();
    bench.kernel.vfs.add_layer(&layer).unwrap();
    let dir = bench.dir.path().file_name().unwrap().to_str().unwrap();
    let expected = [
        about(Step::DirName, dir),
        about(Step::OwnContent, "staged"),
        about(Step::OwnRename, "1"),
        about(Step::OwnName, "layers"),
        about(Step::JournalAppend, "journal"),
        about(NAMES, "scratch"),
        about(SYNC, "journal"),
    ];
    assert_eq!(all(&bench.steps), expected);
}

#[test]
fn an_input_that_could_not_be_cut_off_keeps_its_bytes() {
    for by_opening in [false, true] {
        let cut = |steps: usize| {
            let bench = bench();
            bench.steps.stop_after(steps);
            let done = if by_opening {
                bench.kernel.open("a", READ_WRITE, true).map(drop)
            } else {
                bench.kernel.truncate("a", 10)
            };
            if done.is_err() {
                assert_eq!(
                    bench.kernel.cat("a"),
                    bytes(2500),
                    "{steps} steps, {by_opening}"
                );
            }
            done.is_ok()
        };
        assert!(!cut(0));
        assert!((1..10).any(cut));
    }
}
