//! Which files go into a commit and which stay: open files, links that lead out, output directories.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attachfs_manifest::{LinkTarget, Node};
use attachfs_store::MemoryStore;
use attachfs_transfer::{Progress, ProgressEvent, UploadOptions};
use tempfile::TempDir;

use crate::testing::{CUT, Fs, Given, World, bytes, committed, copy_dir, path, tempdir, watched};
use crate::{
    CommitError, CommitOptions, CommitStep, Links, Observer, OpenFile, OutgoingLink, Patterns,
    commit, preview, touched, uncommitted,
};

async fn world() -> (Arc<MemoryStore>, World) {
    let memory = Arc::new(MemoryStore::new());
    let base = [
        ("in/a", Given::File(bytes(1, 3000))),
        ("in/b", Given::File(bytes(2, 10))),
        ("out/old", Given::File(bytes(3, 10))),
    ];
    let world = World::new(memory.clone(), CUT, &base).await;
    (memory, world)
}

/// The world, and a new session in it.
async fn session() -> (Arc<MemoryStore>, World, tempfile::TempDir, Fs) {
    let ((memory, world), dir) = (world().await, tempdir());
    let fs = world.create(dir.path());
    (memory, world, dir, fs)
}

fn skipping() -> CommitOptions {
    CommitOptions {
        skip_open: true,
        ..CommitOptions::default()
    }
}

fn only(dirs: &[&str]) -> CommitOptions {
    CommitOptions {
        output_dirs: dirs.iter().map(|dir| path(dir)).collect(),
        ..CommitOptions::default()
    }
}

/// The changes in the diff of a commit, without directories that the base has.
async fn changes(world: &World, generation: u32) -> Vec<String> {
    let diff = world.diff(&World::key(generation)).await;
    diff.changes()
        .filter(|(path, change)| {
            change.as_put() != Some(&Node::Dir) || world.snapshot.get(*path) != Some(Node::Dir)
        })
        .map(|(path, change)| {
            let sign = if change.as_put().is_some() { '+' } else { '-' };
            format!("{sign}{path}")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_open_for_writing_stops_the_commit_and_is_named() {
    let (memory, world, _dir, fs) = session().await;
    fs.write("done", 0, b"x").unwrap();
    let writers = [fs.open("new").unwrap(), fs.open("in/a").unwrap()];
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    let Err(CommitError::Busy(open)) = error else {
        panic!("{error:?}")
    };
    let named = ["in/a", "new"].map(|at| OpenFile::from(path(at)));
    assert_eq!(open, named);
    assert!(memory.manifests().is_empty());
    for writer in writers {
        fs.vfs.release(writer).unwrap();
    }
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(changes(&world, 1).await, ["+done", "+new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_the_last_close_and_then_has_all_of_it() {
    let (_, world, _dir, fs) = session().await;
    let writer = fs.open("new").unwrap();
    let options = CommitOptions {
        wait: Duration::MAX,
        ..CommitOptions::default()
    };
    let committing = tokio::spawn({
        let (world, fs) = (world.clone(), fs.clone());
        async move { committed(&world, &fs, &options).await }
    });
    tokio::task::yield_now().await;
    fs.vfs.write(writer, 0, b"all of it").unwrap();
    fs.vfs.release(writer).unwrap();
    committing.await.unwrap().unwrap();
    let shown = fs.show(CUT).await;
    let diff = world.diff(&World::key(1)).await;
    assert_eq!(world.snapshot.apply(&diff).unwrap(), shown);
}

/// Somebody who wants a commit to stop.
struct Gone;

impl Progress for Gone {
    fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

impl Observer for Gone {
    fn step(&self, _: CommitStep) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waits_ends_when_nobody_wants_it_any_more() {
    let (_, world, _dir, fs) = session().await;
    let writer = fs.open("new").unwrap();
    let options = CommitOptions {
        wait: Duration::MAX,
        ..CommitOptions::default()
    };
    let waiting = async |options: &CommitOptions| {
        let upload = UploadOptions::default();
        let ended = commit(&fs.session, &world.store, options, upload, &Gone);
        tokio::time::timeout(Duration::from_secs(20), ended)
            .await
            .expect("it waits on")
            .unwrap_err()
    };
    // For a file that is open, and for another commit.
    waiting(&options).await;
    let turn = fs.vfs.commit_turn().await.unwrap();
    let now = CommitOptions::default();
    waiting(&now).await;
    let looked = preview(&fs.session, &now, &Gone);
    let looked = tokio::time::timeout(Duration::from_secs(20), looked).await;
    looked.expect("it waits on").unwrap_err();
    drop(turn);
    fs.vfs.release(writer).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files_can_be_left_out_and_come_with_the_next_commit() {
    let (_, world, _dir, fs) = session().await;
    fs.write("done", 0, b"x").unwrap();
    let writer = fs.open("new").unwrap();
    let account = committed(&world, &fs, &skipping()).await.unwrap().account;
    assert_eq!(account.open, ["new"]);
    assert!(account.is_partial());
    assert_eq!(changes(&world, 1).await, ["+done"]);
    fs.vfs.release(writer).unwrap();
    let account = committed(&world, &fs, &skipping()).await.unwrap().account;
    assert!(!account.is_partial());
    assert_eq!(changes(&world, 2).await, ["+new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_left_out_open_file_stays_as_the_last_commit_left_it() {
    let (_, world, _dir, fs) = session().await;
    fs.write("new", 0, b"first").unwrap();
    committed(&world, &fs, &skipping()).await.unwrap();
    let writer = fs.open("new").unwrap();
    fs.vfs.write(writer, 0, b"second").unwrap();
    fs.write("other", 0, b"x").unwrap();
    committed(&world, &fs, &skipping()).await.unwrap();
    assert_eq!(changes(&world, 2).await, ["+other"]);
    fs.vfs.release(writer).unwrap();
    committed(&world, &fs, &skipping()).await.unwrap();
    assert_eq!(changes(&world, 3).await, ["+new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_lead_out_stop_the_commit_with_a_list_or_are_left_out() {
    let (memory, world, _dir, fs) = session().await;
    fs.symlink("in/up", "../../secret").unwrap();
    fs.symlink("absolute", "/etc/passwd").unwrap();
    fs.symlink("beside", "/mnt/scene2/x").unwrap();
    fs.symlink("inside", "in/a").unwrap();
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    let Err(CommitError::OutgoingLinks(links)) = error else {
        panic!("{error:?}")
    };
    let out = |at: &str, text: &str| OutgoingLink {
        path: path(at),
        text: text.into(),
    };
    assert_eq!(
        links,
        [
            out("absolute", "/etc/passwd"),
            out("beside", "/mnt/scene2/x"),
            out("in/up", "../../secret"),
        ]
    );
    assert!(memory.manifests().is_empty());
    let options = CommitOptions {
        links: Links::Skip,
        mount_point: Some("/mnt/scene".into()),
        ..CommitOptions::default()
    };
    let account = committed(&world, &fs, &options).await.unwrap().account;
    assert_eq!(account.links, ["absolute", "beside", "in/up"]);
    assert_eq!(changes(&world, 1).await, ["+inside"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_link_into_the_mount_is_one_below_the_root() {
    let (_, world, _dir, fs) = session().await;
    fs.symlink("in/deep", "/mnt/scene/out/old").unwrap();
    fs.symlink("in/root", "/mnt/scene").unwrap();
    fs.symlink("in/root2", "/mnt/scene/").unwrap();
    let options = CommitOptions {
        mount_point: Some("/mnt/scene".into()),
        ..CommitOptions::default()
    };
    committed(&world, &fs, &options).await.unwrap();
    let diff = world.diff(&World::key(1)).await;
    let target = |at: &str| {
        let found = diff.changes().find(|(found, _)| *found == path(at));
        match found.unwrap().1.as_put() {
            Some(Node::Symlink(target)) => target.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(target("in/deep"), LinkTarget::Below(path("out/old")));
    assert_eq!(target("in/root"), LinkTarget::Root);
    assert_eq!(target("in/root2"), LinkTarget::Root);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_in_the_output_directories_is_committed() {
    let (_, world, _dir, fs) = session().await;
    fs.write("out/frame", 0, b"x").unwrap();
    fs.unlink("out/old").unwrap();
    fs.write("in/a", 0, b"x").unwrap();
    fs.unlink("in/b").unwrap();
    fs.write("outside", 0, b"x").unwrap();
    let account = committed(&world, &fs, &only(&["out"])).await;
    let account = account.unwrap().account;
    assert_eq!(account.left_out, ["in/a", "in/b", "outside"]);
    assert_eq!(changes(&world, 1).await, ["+out/frame", "-out/old"]);
    // The next commit is of everything.
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(changes(&world, 2).await, ["+in/a", "-in/b", "+outside"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_above_an_output_directory_are_committed_with_it() {
    let (_, world, _dir, fs) = session().await;
    fs.unlink("in/b").unwrap();
    fs.mkdir("in/b").unwrap();
    fs.mkdir("in/b/renders").unwrap();
    fs.write("in/b/renders/frame", 0, b"x").unwrap();
    fs.write("in/b/notes", 0, b"x").unwrap();
    let account = committed(&world, &fs, &only(&["in/b/renders", "never"])).await;
    assert_eq!(account.unwrap().account.left_out, ["in/b/notes"]);
    let diff = world.diff(&World::key(1)).await;
    let made = world.snapshot.apply(&diff).unwrap();
    assert!(made.get(&path("in/b/renders/frame")).is_some());
    assert!(made.get(&path("in/b/notes")).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_changes_stay_when_they_are_left_out_later() {
    let (_, world, _dir, fs) = session().await;
    fs.write("in/new", 0, b"x").unwrap();
    fs.write("in/b", 0, b"changed").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    // As in the base, so that the file itself shows no change.
    fs.unlink("in/new").unwrap();
    fs.unlink("in/b").unwrap();
    fs.write("out/frame", 0, b"x").unwrap();
    committed(&world, &fs, &only(&["out"])).await.unwrap();
    assert_eq!(changes(&world, 2).await, ["+out/frame"]);
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(changes(&world, 3).await, ["-in/b", "-in/new"]);
}

/// Writes at a step, and returns the result of the commit.
async fn written_at(
    step: CommitStep,
    at: &'static str,
    keep_open: bool,
) -> (CommitError, Fs, World, TempDir) {
    let (memory, world, dir, fs) = session().await;
    fs.write("new", 0, &bytes(5, 2500)).unwrap();
    fs.write("in/a", 10, b"patched").unwrap();
    let options = CommitOptions::default();
    let ended = watched(&world, &fs, &options, |now| {
        if now == step {
            let handle = fs.open(at).unwrap();
            fs.vfs.write(handle, 2000, b"late").unwrap();
            if !keep_open {
                fs.vfs.release(handle).unwrap();
            }
        }
    });
    let error = ended.await.unwrap_err();
    assert!(memory.manifests().is_empty());
    assert!(fs.vfs.commits().is_empty());
    (error, fs, world, dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_opened_again_during_the_commit_stops_it() {
    for step in [CommitStep::Planned, CommitStep::Hashed] {
        let (error, ..) = written_at(step, "new", true).await;
        let CommitError::Busy(open) = &error else {
            panic!("{step:?}: {error:?}")
        };
        assert_eq!(*open, [OpenFile::from(path("new"))], "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_after_it_was_hashed_stops_the_commit() {
    let (error, fs, world, _dir) = written_at(CommitStep::Hashed, "new", false).await;
    let CommitError::Busy(open) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*open, [OpenFile::from(path("new"))]);
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let diff = world.diff(&World::key(1)).await;
    let made = world.snapshot.apply(&diff).unwrap();
    assert_eq!(made, fs.show(CUT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partly_written_file_is_not_committed_with_half_of_a_later_write() {
    let (error, ..) = written_at(CommitStep::Planned, "in/a", false).await;
    let CommitError::Busy(open) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*open, [OpenFile::from(path("in/a"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_to_during_the_commit_is_left_out_if_open_files_are() {
    let late = [
        (CommitStep::Planned, "new", true),
        (CommitStep::Planned, "in/a", false),
        (CommitStep::Hashed, "new", true),
        (CommitStep::Hashed, "new", false),
    ];
    for (step, at, keep_open) in late {
        let ((_, world), dir) = (world().await, tempdir());
        let fs = world.create(dir.path());
        fs.write("done", 0, b"x").unwrap();
        fs.write("new", 0, &bytes(5, 2500)).unwrap();
        fs.write("in/a", 10, b"patched").unwrap();
        let open = Mutex::new(None);
        let options = skipping();
        let ended = watched(&world, &fs, &options, |now| {
            if now == step {
                let handle = fs.open(at).unwrap();
                fs.vfs.write(handle, 2000, b"late").unwrap();
                *open.lock().unwrap() = Some(handle);
                if !keep_open {
                    fs.vfs.release(handle).unwrap();
                }
            }
        });
        let account = ended.await.unwrap().account;
        assert_eq!(account.open, [at], "{step:?} {at}");
        let all = ["+done", "+in/a", "+new"];
        let rest = all.into_iter().filter(|change| change[1..] != *at);
        assert_eq!(
            changes(&world, 1).await,
            rest.collect::<Vec<_>>(),
            "{step:?}"
        );
        let handle = open.lock().unwrap().take().unwrap();
        if keep_open {
            fs.vfs.release(handle).unwrap();
        }
        committed(&world, &fs, &skipping()).await.unwrap();
        assert_eq!(changes(&world, 2).await, [format!("+{at}")], "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waits_is_planned_again_when_a_file_changes_under_it() {
    for step in [CommitStep::Planned, CommitStep::Hashed] {
        let ((_, world), dir) = (world().await, tempdir());
        let fs = world.create(dir.path());
        fs.write("new", 0, &bytes(5, 2500)).unwrap();
        fs.write("in/a", 10, b"patched").unwrap();
        let options = CommitOptions {
            wait: Duration::MAX,
            skip_open: true,
            ..CommitOptions::default()
        };
        // In the first round a file is opened, and closed after the round.
        let writer = Mutex::new(None);
        let rounds = AtomicU32::new(0);
        let ended = watched(&world, &fs, &options, |now| {
            if now == step && rounds.fetch_add(1, Ordering::Relaxed) == 0 {
                let handle = fs.open("new").unwrap();
                fs.vfs.write(handle, 2000, b"late").unwrap();
                let fs = fs.clone();
                *writer.lock().unwrap() = Some(tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    fs.vfs.write(handle, 2400, b"later").unwrap();
                    fs.vfs.release(handle).unwrap();
                }));
            }
        });
        let account = ended.await.unwrap().account;
        assert!(account.open.is_empty(), "{step:?}");
        let writer = writer.lock().unwrap().take().unwrap();
        writer.await.unwrap();
        let diff = world.diff(&World::key(1)).await;
        assert_eq!(
            world.snapshot.apply(&diff).unwrap(),
            fs.show(CUT).await,
            "{step:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_open_at_a_kill_stops_the_commit_at_once_and_is_named() {
    let (_, world, dir, fs) = session().await;
    fs.write("out/done", 0, b"x").unwrap();
    fs.write("in/half", 0, b"x").unwrap();
    for at in ["in/half", "in/a"] {
        let handle = fs.open(at).unwrap();
        fs.vfs.write(handle, 0, b"half").unwrap();
    }
    let copy = tempdir();
    copy_dir(dir.path(), copy.path());
    let fs = world.recover(copy.path());
    // No process has the file open, so waiting would never end.
    let waiting = CommitOptions {
        wait: Duration::MAX,
        ..CommitOptions::default()
    };
    match committed(&world, &fs, &waiting).await {
        Err(CommitError::LeftOpen(left)) => {
            let paths: Vec<_> = left.into_iter().map(|file| file.path).collect();
            assert_eq!(paths, [path("in/a"), path("in/half")]);
        }
        other => panic!("{other:?}"),
    }
    committed(&world, &fs, &only(&["out"])).await.unwrap();
    assert_eq!(changes(&world, 1).await, ["+out/done"]);
    let left_out = committed(&world, &fs, &skipping()).await.unwrap();
    assert_eq!(left_out.account.open, ["in/a", "in/half"]);
    assert_eq!(left_out.published, None);
    let accepting = CommitOptions {
        accept_open: true,
        ..CommitOptions::default()
    };
    let accepted = committed(&world, &fs, &accepting).await.unwrap();
    assert_eq!(accepted.account.accepted, ["in/a", "in/half"]);
    assert_eq!(changes(&world, 2).await, ["+in/a", "+in/half"]);
    // The accepted files count as closed, in the next process too.
    drop(fs);
    let fs = world.recover(copy.path());
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let handle = fs.open("in/half").unwrap();
    let error = committed(&world, &fs, &accepting).await.unwrap_err();
    assert!(matches!(error, CommitError::Busy(_)), "{error}");
    fs.vfs.release(handle).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_no_manifest_can_hold_stops_a_commit_and_hides_nothing_from_who_looks() {
    let (_, world, _dir, fs) = session().await;
    let mut above = "deep".to_owned();
    fs.mkdir(&above).unwrap();
    for _ in 0..17 {
        above += &format!("/{}", "n".repeat(250));
        fs.mkdir(&above).unwrap();
    }
    fs.write("in/a", 0, b"a").unwrap();
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    let error = error.unwrap_err();
    let CommitError::TooLong(paths) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*paths, [above.as_bytes()]);
    assert!(error.to_string().contains(&above), "{error}");
    // Who looks sees all else, and how much there is.
    let looking = CommitOptions {
        skip_long: true,
        ..CommitOptions::default()
    };
    let seen = touched(&fs.session, &looking).await.unwrap();
    let paths: Vec<_> = seen
        .changes
        .iter()
        .map(|changed| changed.path.to_string())
        .collect();
    assert!(
        paths.contains(&"in/a".to_owned()) && paths.contains(&"deep".to_owned()),
        "{paths:?}"
    );
    assert_eq!(seen.account.too_long.len(), 1);
    let left = uncommitted(&fs.session, &[]).await.unwrap().paths;
    assert_eq!(left, paths.len() as u64 + 1);
    // What lies outside of the output directories is left there.
    let outcome = committed(&world, &fs, &only(&["in"])).await.unwrap();
    assert_eq!(changes(&world, 1).await, ["+in/a"]);
    assert!(outcome.account.left_out.contains(&seen.account.too_long[0]));
    // Shortened, everything can be committed.
    fs.rename(&above[..4 + 251], "short").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_too_large_is_named_before_anything_is_hashed_and_the_others_are_committed_without_it()
 {
    let (_, world, _dir, fs) = session().await;
    fs.write("in/a", 0, b"a").unwrap();
    fs.write("huge", 0, b"a few bytes").unwrap();
    let size: u64 = 5_000_000_000;
    fs.truncate("huge", size).unwrap();
    // One of the base, of which a few bytes were written.
    fs.truncate("in/b", size).unwrap();
    for dry in [true, false] {
        let options = CommitOptions::default();
        let error = if dry {
            let shown = preview(&fs.session, &options, &crate::testing::At(|_| {})).await;
            shown.map(drop)
        } else {
            committed(&world, &fs, &options).await.map(drop)
        };
        let error = error.unwrap_err();
        let CommitError::TooLarge { files, .. } = &error else {
            panic!("{error:?}");
        };
        let mut names: Vec<_> = files.iter().map(|file| file.path.to_string()).collect();
        names.sort();
        assert_eq!(names, ["huge", "in/b"]);
        for said in ["\"huge\"", &size.to_string(), "--exclude"] {
            assert!(error.to_string().contains(said), "{error}");
        }
    }
    let without = CommitOptions {
        patterns: Patterns::new::<&str>(&[], &["huge", "in/b"]).unwrap(),
        ..CommitOptions::default()
    };
    committed(&world, &fs, &without).await.unwrap();
    assert_eq!(changes(&world, 1).await, ["+in/a"]);
    let seen = uncommitted(&fs.session, &[]).await.unwrap().paths;
    assert_eq!(seen, 2, "who looks sees them");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_links_that_lead_deep_into_the_same_directories_are_counted_soon() {
    let (_, _, _dir, fs) = session().await;
    let target = "n/".repeat(1900);
    for number in 0..3000 {
        let name = format!("in/link-{number}");
        fs.symlink(&name, &format!("{target}{number}")).unwrap();
    }
    let since = std::time::Instant::now();
    // The links, and the directories above what they lead to, which every reader makes.
    assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 4900);
    // Six million directories above them take much longer.
    assert!(since.elapsed() < Duration::from_secs(10), "{since:?}");
}
