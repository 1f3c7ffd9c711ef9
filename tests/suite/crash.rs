//! `kill -9` of the process that has a session, wherever it hurts: nothing that had returned success is missing afterwards, and the
//! commit ends in the same bytes under the same key as one that nobody disturbed.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use attachfs_test_s3::{Mishap, Request, Rule};
use rustix::process::Signal;

use crate::machine::{Machine, Mount, args, mounting_from_both_stores, until};
use crate::process::{Running, has_ended, kill_and_wait, said};
use crate::tree::{Detail, Tree, copy};

mounting_from_both_stores![
    what_had_returned_success_survives_a_kill_while_writing,
    a_commit_killed_at_any_step_ends_in_the_same_manifest,
    a_mount_killed_around_the_publishing_of_its_commit_publishes_once,
    a_commit_of_what_was_written_after_a_kill_finishes_the_first_one,
    a_run_that_is_killed_leaves_a_session_to_be_committed,
];

/// Fills `input` and takes a snapshot of it.
fn base(machine: &Machine) -> PathBuf {
    machine.file("input/a", "a of the input\n");
    machine.file("input/big", vec![b'b'; 2_500_000]);
    for name in [
        "gone",
        "moved",
        "changed",
        "overwritten",
        "runnable",
        "dir/x",
        "dir/y",
    ] {
        machine.file(
            Path::new("input").join(name),
            format!("{name} of the input\n"),
        );
    }
    machine.snapshot(&machine.path("input"), "base.manifest")
}

/// One of each change that there is; each has returned success when this returns.
fn change(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::write(at("new"), "new").unwrap();
    fs::create_dir_all(at("some/new/dirs")).unwrap();
    fs::write(at("some/new/file"), vec![7; 300_000]).unwrap();
    fs::remove_file(at("gone")).unwrap();
    fs::rename(at("moved"), at("some/moved")).unwrap();
    fs::rename(at("dir"), at("some/dir")).unwrap();
    fs::write(at("tmp"), "over").unwrap();
    fs::rename(at("tmp"), at("overwritten")).unwrap();
    fs::set_permissions(at("runnable"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("some/new", at("link")).unwrap();
    fs::hard_link(at("new"), at("some/hard")).unwrap();
    let append = OpenOptions::new().append(true).open(at("changed"));
    append.unwrap().write_all(b"and more\n").unwrap();
    let part = OpenOptions::new().write(true).open(at("big")).unwrap();
    part.write_all_at(b"PART", 1_234_567).unwrap();
    part.set_len(2_400_000).unwrap();
    let again = OpenOptions::new()
        .write(true)
        .open(at("some/dir/x"))
        .unwrap();
    again.set_len(0).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir(at("removed")).unwrap();
    fs::remove_dir(at("removed")).unwrap();
}

/// What three writers do until they are stopped: each counts what had returned success.
#[derive(Default)]
struct Writers {
    appended: AtomicUsize,
    overwritten: AtomicUsize,
    published: AtomicUsize,
    /// Who writes by the kernel does not notice that the process is gone.
    stopped: AtomicBool,
}

const RECORD: usize = 3000;

fn record(number: usize) -> Vec<u8> {
    format!("{number:08}").into_bytes().repeat(RECORD / 8)
}

/// Where the writer of parts writes next: all over the file.
fn place(number: usize) -> u64 {
    ((number * 7919) % 100 * RECORD) as u64
}

impl Writers {
    fn append(&self, root: &Path) -> std::io::Result<()> {
        let mut file = File::create(root.join("log"))?;
        for number in 0.. {
            if self.stopped.load(Ordering::SeqCst) {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            file.write_all(&record(number))?;
            self.appended.store(number + 1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn overwrite(&self, root: &Path) -> std::io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .open(root.join("some/file"))?;
        for number in 0.. {
            file.write_all_at(&record(number), place(number))?;
            self.overwritten.store(number + 1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn publish(&self, root: &Path) -> std::io::Result<()> {
        for number in 0.. {
            fs::write(root.join("frame.tmp"), record(number))?;
            fs::rename(root.join("frame.tmp"), root.join(format!("frame.{number}")))?;
            self.published.store(number + 1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Waits until each has done this much, kills, and waits for the ends of all.
    fn run(&self, mount: &Mount, much: usize) {
        std::thread::scope(|scope| {
            let writers = [
                scope.spawn(|| self.append(&mount.dir)),
                scope.spawn(|| self.overwrite(&mount.dir)),
                scope.spawn(|| self.publish(&mount.dir)),
            ];
            until("they write", || {
                assert!(
                    !writers
                        .iter()
                        .any(std::thread::ScopedJoinHandle::is_finished)
                );
                [&self.appended, &self.overwritten, &self.published]
                    .iter()
                    .all(|done| done.load(Ordering::SeqCst) >= much)
            });
            kill_and_wait(mount.pid);
            self.stopped.store(true, Ordering::SeqCst);
            for writer in writers {
                writer.join().unwrap().unwrap_err();
            }
        });
    }

    fn check(&self, root: &Path) {
        let log = fs::read(root.join("log")).unwrap();
        let appended = self.appended.load(Ordering::SeqCst);
        assert!(
            log.len() >= appended * RECORD,
            "{} of {appended}",
            log.len() / RECORD
        );
        // The one that was under way may be there in part.
        assert!(log.len() <= (appended + 1) * RECORD);
        for (number, written) in log.chunks_exact(RECORD).enumerate() {
            assert!(written == record(number), "record {number} of {appended}");
        }
        let file = fs::read(root.join("some/file")).unwrap();
        let overwritten = self.overwritten.load(Ordering::SeqCst);
        assert_eq!(file.len(), 300_000);
        for place_of in overwritten.saturating_sub(100)..overwritten {
            let at = place(place_of) as usize;
            let found = &file[at..at + RECORD];
            let under_way = place(overwritten) as usize == at;
            assert!(
                found == record(place_of) || under_way,
                "write {place_of} of {overwritten}"
            );
        }
        for number in 0..self.published.load(Ordering::SeqCst) {
            let frame = fs::read(root.join(format!("frame.{number}"))).unwrap();
            assert!(frame == record(number), "frame {number}");
        }
    }
}

fn what_had_returned_success_survives_a_kill_while_writing(machine: &Machine) {
    machine.file("input/some/file", vec![b'.'; 300_000]);
    let manifest = base(machine);
    let plain = machine.path("plain");
    copy(&machine.path("input"), &plain);
    let mount = machine.mount(args![&manifest], "mnt");
    change(&mount.dir);
    change(&plain);
    // Open, written to, and not closed.
    let open = File::create(mount.dir.join("open")).unwrap();
    open.write_all_at(b"open", 0).unwrap();
    fs::write(plain.join("open"), "open").unwrap();
    let unlinked = File::open(mount.dir.join("some/moved")).unwrap();
    for root in [&mount.dir, &plain] {
        fs::remove_file(root.join("some/moved")).unwrap();
    }
    let writers = Writers::default();
    writers.run(&mount, 200);
    drop((open, unlinked));
    let dead = fs::metadata(&mount.dir).unwrap_err();
    assert_eq!(dead.kind(), std::io::ErrorKind::NotConnected);

    // Taken up where it was, over the mount that is dead.
    let status = machine.json(args!["status", &mount.dir]);
    assert_eq!(status["mounted"], false);
    let again = machine.ok(args!["mount", "--session", &mount.session_dir, &mount.dir]);
    let again = again.saying("had died");
    assert_eq!(machine.mounts().len(), 1, "{again:#?}");
    writers.check(&mount.dir);
    let ours = |name: &str| name.starts_with("frame.") || name == "log";
    for entry in fs::read_dir(&mount.dir).unwrap() {
        let name = entry.unwrap().file_name();
        if ours(name.to_str().unwrap()) {
            fs::copy(mount.dir.join(&name), plain.join(&name)).unwrap();
        }
    }
    fs::copy(mount.dir.join("some/file"), plain.join("some/file")).unwrap();
    Tree::read(&mount.dir, Detail::Live).assert_is(&Tree::read(&plain, Detail::Live));

    // And it goes on.
    for root in [&mount.dir, &plain] {
        fs::write(root.join("later"), "later").unwrap();
        fs::remove_file(root.join("log")).unwrap();
    }
    machine.ok(args!["umount", &mount.dir]);
    let commit = machine.json(args!["commit", "--accept-open", &mount.session]);
    let diff = commit["manifest"]["address"].as_str().unwrap();
    let both = machine.mount(args!["--read-only", &manifest, diff], "both");
    Tree::read(&both.dir, Detail::Committed).assert_is(&Tree::read(&plain, Detail::Committed));
}

/// A session with outputs, as it was before anyone committed it; and what an undisturbed commit publishes.
struct Job {
    mount: Mount,
    saved: PathBuf,
    store: PathBuf,
    expected: Tree,
    undisturbed: Vec<u8>,
}

impl Job {
    fn new(machine: &Machine, more: impl FnOnce(&Path)) -> Self {
        let manifest = machine.path("base.manifest");
        base(machine);
        let input = machine.path("input");
        // Large objects, unlike in the other tests.
        machine.ok(args![
            "snapshot",
            input,
            "-o",
            &manifest,
            "--store",
            machine.store()
        ]);
        let mount = machine.mount(args![&manifest], "mnt");
        change(&mount.dir);
        more(&mount.dir);
        let expected = Tree::read(&mount.dir, Detail::Live);
        machine.ok(args!["umount", &mount.dir]);
        until("the process ends", || has_ended(mount.pid));
        let saved = machine.dir("saved");
        let store = machine.store_files();
        copy(&mount.session_dir, &saved.join("session"));
        copy(&store, &saved.join("store"));
        machine.ok(args!["commit", &mount.session]);
        let undisturbed = one_manifest(machine, &mount);
        Self {
            mount,
            saved,
            store,
            expected,
            undisturbed,
        }
    }

    /// Session and store as they were before the commit.
    fn restore(&self) {
        for (from, to) in [("session", &self.mount.session_dir), ("store", &self.store)] {
            if to.exists() {
                fs::remove_dir_all(to).unwrap();
            }
            copy(&self.saved.join(from), to);
        }
    }

    /// Commits it, and finds what an undisturbed commit would have made.
    fn commit(&self, machine: &Machine) {
        machine.ok(args!["commit", &self.mount.session]);
        assert!(one_manifest(machine, &self.mount) == self.undisturbed);
        machine
            .ok(args!["commit", &self.mount.session])
            .printing("nothing changed");
        assert!(one_manifest(machine, &self.mount) == self.undisturbed);
    }

    /// Takes it up, with the process stopping at this step of a commit.
    fn mount_halting_at(&self, machine: &Machine, step: &str) -> Mount {
        let arguments = args![
            "mount",
            "--json",
            "--session",
            &self.mount.session_dir,
            &self.mount.dir
        ];
        let mut command = machine.attachfs(arguments);
        Mount::of(&said(command.env("ATTACHFS_HALT_AT", step)).with_code(0))
    }
}

fn one_manifest(machine: &Machine, mount: &Mount) -> Vec<u8> {
    let published = machine.published(&mount.session);
    let names: Vec<_> = published.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["1.manifest"]);
    published.into_iter().next().unwrap().1
}

fn a_commit_killed_at_any_step_ends_in_the_same_manifest(machine: &Machine) {
    let job = Job::new(machine, |_| {});
    for step in [
        "Planned",
        "Hashed",
        "Uploaded",
        "Intended",
        "Sent",
        "Published",
    ] {
        job.restore();
        let mut commit = machine.attachfs(args!["commit", &job.mount.session]);
        commit.env("ATTACHFS_HALT_AT", step);
        let mut commit: Running = machine.start(commit);
        commit.wait_for_error(&format!("halted at {step}"));
        commit.signal(Signal::KILL);
        commit.wait().with_code(128 + 9);
        let sent = matches!(step, "Sent" | "Published");
        let published = machine.published(&job.mount.session).len();
        assert_eq!(published, usize::from(sent), "at {step}");
        let status = machine.json(args!["status", &job.mount.session]);
        let unfinished = matches!(step, "Intended" | "Sent");
        assert_eq!(status["commit_unfinished"], unfinished, "at {step}");
        job.commit(machine);
    }
}

fn a_mount_killed_around_the_publishing_of_its_commit_publishes_once(machine: &Machine) {
    let job = Job::new(machine, |_| {});
    for step in ["Intended", "Sent"] {
        job.restore();
        let mount = job.mount_halting_at(machine, step);
        let commit: Running = machine.start(machine.attachfs(args!["commit", &mount.dir]));
        let halted = format!("halted at {step}");
        until(&halted, || mount.log().contains(&halted));
        // The commit blocks nobody.
        fs::read(mount.dir.join("new")).unwrap();
        kill_and_wait(mount.pid);
        let commit = commit.wait().with_code(13);
        let commit = commit.saying("ended before it answered");
        assert_eq!(
            machine.published(&mount.session).len(),
            usize::from(step == "Sent"),
            "{commit:#?}"
        );

        machine.ok(args!["umount", &mount.dir]).printing("had died");
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
        let again = machine.resume(&mount.session_dir, &mount.dir);
        Tree::read(&again.dir, Detail::Live).assert_is(&job.expected);
        machine.ok(args!["commit", &again.dir]);
        assert!(
            one_manifest(machine, &job.mount) == job.undisturbed,
            "at {step}"
        );
        machine.ok(args!["umount", &again.dir]);
        until("the process ends", || has_ended(again.pid));
    }
}

fn a_commit_of_what_was_written_after_a_kill_finishes_the_first_one(machine: &Machine) {
    let job = Job::new(machine, |_| {});
    job.restore();
    let mount = job.mount_halting_at(machine, "Intended");
    let commit = machine.start(machine.attachfs(args!["commit", &mount.dir]));
    until("halted", || mount.log().contains("halted at Intended"));
    kill_and_wait(mount.pid);
    commit.wait().with_code(13);

    let again = machine.resume(&mount.session_dir, &mount.dir);
    fs::write(again.dir.join("new"), "newer").unwrap();
    fs::remove_file(again.dir.join("link")).unwrap();
    let expected = Tree::read(&again.dir, Detail::Committed);
    let commit = machine.json(args!["commit", &again.dir]);
    let account = &commit["account"];
    assert_eq!(
        (&account["changed"], &account["deleted"]),
        (&2.into(), &1.into()),
        "{commit}"
    );
    let published = machine.published(&mount.session);
    assert_eq!(published.len(), 2);
    assert!(published[0].1 == job.undisturbed);
    let address = |which: &str| commit[which]["address"].as_str().unwrap().to_owned();
    let manifest = machine.path("base.manifest");
    let layers = args![
        "--read-only",
        manifest,
        address("resumed"),
        address("manifest")
    ];
    let all = machine.mount(layers, "all");
    Tree::read(&all.dir, Detail::Committed).assert_is(&expected);
}

fn a_run_that_is_killed_leaves_a_session_to_be_committed(machine: &Machine) {
    machine.file("input/in", "in");
    let run = machine.attachfs(args![
        "run",
        "--input",
        machine.path("input"),
        "--store",
        machine.store(),
        "--",
        "sh",
        "-c",
        "echo half > half; echo $$; exec sleep 1000",
    ]);
    let mut run: Running = machine.start(run);
    run.wait_for_output("\n");
    let command = run.so_far().0.trim().parse().unwrap();
    run.signal(Signal::KILL);
    run.wait().with_code(128 + 9);
    let listed = machine.json(args!["list"]);
    assert_eq!(listed[0]["state"], "dead");
    let session = listed[0]["session"].as_str().unwrap();
    let commit = machine.json(args!["commit", "--accept-open", session]);
    assert_eq!(commit["account"]["added"], 1);
    // Its mount is dead, and goes with it.
    assert_eq!(machine.mounts().len(), 1);
    kill_and_wait(command);
    machine.ok(args!["discard", session, "--yes"]);
    assert_eq!(machine.mounts(), [] as [PathBuf; 0]);
    assert_eq!(machine.sessions(), [] as [PathBuf; 0]);
}

/// Whether a part of an upload has been asked for.
fn is_part(request: &Request, number: u32) -> bool {
    request.method == "PUT" && request.query.contains(&format!("partNumber={number}&"))
}

#[test]
fn a_mount_killed_while_a_large_output_is_uploading_commits_the_same_afterwards() {
    Machine::mounting_from_s3(|machine| {
        let large: Vec<u8> = (0..40_000_000_u32)
            .map(|i| (i >> 7) as u8 ^ i as u8)
            .collect();
        let job = Job::new(machine, |root| {
            fs::write(root.join("large"), large).unwrap();
        });
        job.restore();
        let before = machine.server().requests().len();
        machine
            .server()
            .add(Rule::on("PUT", Mishap::Silence).of("partNumber=4&"));
        let mount = job.mount_halting_at(machine, "never");
        let commit = machine.start(machine.attachfs(args!["commit", &mount.dir]));
        machine.server().wait_for("the fourth part", |requests| {
            requests[before..].iter().any(|request| is_part(request, 4))
        });
        kill_and_wait(mount.pid);
        commit.wait().with_code(13);
        machine.server().heal();
        assert_eq!(machine.published(&mount.session), []);
        // Nobody finds the half of it under the object's key.
        let found = Command::new("find")
            .arg(machine.store_files().join("Data"))
            .args(["-size", "+3M"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        let again = machine.resume(&mount.session_dir, &mount.dir);
        Tree::read(&again.dir, Detail::Live).assert_is(&job.expected);
        machine.ok(args!["umount", &again.dir]);
        job.commit(machine);
    });
}

#[test]
fn a_dead_mount_is_taken_away_by_umount_and_replaced_by_mount() {
    Machine::mounting_from_directory(|machine| {
        let manifest = base(machine);
        let mount = machine.mount(args![&manifest], "mnt");
        fs::write(mount.dir.join("new"), "new").unwrap();
        kill_and_wait(mount.pid);
        // Not over what may belong to someone else.
        let mut other = machine.attachfs(args!["mount", "--store", machine.store(), &manifest]);
        let other = said(other.arg(&mount.dir)).with_code(10);
        other.saying(&mount.session);
        assert_eq!(machine.sessions().len(), 1);
        let unmounted = machine.ok(args!["umount", &mount.dir]);
        let unmounted = unmounted.printing("nothing that had returned success is lost");
        unmounted.printing(&format!("attachfs commit {}", &mount.session[..8]));
        assert_eq!(fs::read_dir(&mount.dir).unwrap().count(), 0);
        // Once the next mount has ended, this path names the session that was left.
        let mut next = machine.attachfs(args!["mount", "--store", machine.store(), &manifest]);
        let next = said(next.arg(&mount.dir)).with_code(0);
        next.saying("an earlier mount left a session at this mount point")
            .saying(&mount.session);
        machine.ok(args!["umount", &mount.dir]);
        machine
            .says(args!["umount", &mount.dir])
            .with_code(2)
            .saying("is not mounted");

        // A read-only mount has nothing to lose.
        let read_only = machine.mount(args!["--read-only", &manifest], "other");
        kill_and_wait(read_only.pid);
        machine.ok(args!["umount", &read_only.dir]);
        assert_eq!(machine.mounts(), [] as [PathBuf; 0]);

        // Taken up elsewhere: the dead mount does not stay behind.
        let again = machine.resume(&mount.session_dir, &mount.dir);
        kill_and_wait(again.pid);
        let elsewhere = machine.resume(&mount.session_dir, &machine.dir("elsewhere"));
        assert_eq!(machine.mounts(), std::slice::from_ref(&elsewhere.dir));
        assert_eq!(fs::read(elsewhere.dir.join("new")).unwrap(), b"new");
    });
}
