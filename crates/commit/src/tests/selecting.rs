//! What is taken of the changes by patterns, what its parent has to be, and what is handed over in another format.

use std::sync::Arc;

use attachfs_manifest::wire::{Format, Manifest, decode};
use attachfs_manifest::{ContentHash, ManifestPath, Node};
use attachfs_store::{ManifestStore as _, MemoryStore};

use crate::testing::{CUT, Fs, Given, World, bytes, committed, path, tempdir, watched};
use crate::{CommitError, CommitOptions, CommitStep, HandedFormat, Outcome, Patterns, uncommitted};

async fn world() -> (Arc<MemoryStore>, World) {
    let memory = Arc::new(MemoryStore::new());
    let base = [
        ("in/a", Given::File(bytes(1, 100))),
        ("old/x", Given::File(bytes(2, 10))),
        ("old/keep/y", Given::File(bytes(3, 10))),
    ];
    let world = World::new(memory.clone(), CUT, &base).await;
    (memory, world)
}

fn choosing(include: &[&str], exclude: &[&str]) -> CommitOptions {
    CommitOptions {
        patterns: Patterns::new(include, exclude).unwrap(),
        ..CommitOptions::default()
    }
}

/// The changes of a commit's diff: what is put that readers did not have, and what is deleted.
async fn changes(world: &World, generation: u32) -> Vec<String> {
    let diff = world.diff(&World::key(generation)).await;
    let sign = |put: bool| if put { '+' } else { '-' };
    diff.changes()
        .filter(|(_, change)| change.as_put() != Some(&Node::Dir))
        .map(|(path, change)| format!("{}{path}", sign(change.as_put().is_some())))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_choose_what_is_committed_and_the_rest_stays() {
    let ((_, world), dir) = (world().await, tempdir());
    let fs = world.create(dir.path());
    fs.mkdir("out").unwrap();
    fs.mkdir("out/sub").unwrap();
    for file in [
        "out/1.exr",
        "out/sub/2.exr",
        "out/2.tmp",
        "log.txt",
        ".hidden",
    ] {
        fs.write(file, 0, file.as_bytes()).unwrap();
    }
    fs.write("in/a", 0, b"changed").unwrap();
    let options = choosing(&["out/**/*.exr", "out/*.exr"], &["**/2.*"]);
    let account = committed(&world, &fs, &options).await.unwrap().account;
    assert_eq!(changes(&world, 1).await, ["+out/1.exr"]);
    let left = [
        ".hidden",
        "in/a",
        "log.txt",
        "out/2.tmp",
        "out/sub",
        "out/sub/2.exr",
    ];
    let mut named = account.not_chosen.clone();
    named.sort();
    assert_eq!(named, left);
    assert!(account.is_partial() && account.left_out.is_empty());
    // Without --include names that begin with a dot are taken, too.
    let options = choosing(&[], &["**/*.tmp"]);
    committed(&world, &fs, &options).await.unwrap();
    let second = changes(&world, 2).await;
    assert_eq!(second, ["+.hidden", "+in/a", "+log.txt", "+out/sub/2.exr"]);
    assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 1);
    let all = committed(&world, &fs, &CommitOptions::default()).await;
    assert!(!all.unwrap().account.is_partial());
    assert_eq!(changes(&world, 3).await, ["+out/2.tmp"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_stays_in_which_a_deletion_is_left_out() {
    let ((_, world), dir) = (world().await, tempdir());
    let fs = world.create(dir.path());
    for file in ["old/keep/y", "old/x"] {
        fs.unlink(file).unwrap();
    }
    fs.rmdir("old/keep").unwrap();
    fs.rmdir("old").unwrap();
    // A file in the place of a directory would take everything in it away.
    fs.write("old", 0, b"a file").unwrap();
    committed(&world, &fs, &choosing(&[], &["old/keep/*"]))
        .await
        .unwrap();
    assert_eq!(changes(&world, 1).await, ["-old/x"]);
    let all = committed(&world, &fs, &CommitOptions::default()).await;
    all.unwrap();
    let diff = world.diff(&World::key(1)).await;
    let made = world.snapshot.apply(&diff).unwrap();
    let made = made.apply(&world.diff(&World::key(2)).await).unwrap();
    assert!(
        made.get(&path("old"))
            .is_some_and(|node| node.as_file().is_some())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_commit_made_stays_with_its_directory_if_its_deletion_is_left_out() {
    let ((_, world), dir) = (world().await, tempdir());
    let fs = world.create(dir.path());
    fs.mkdir("new").unwrap();
    fs.write("new/keep", 0, b"k").unwrap();
    fs.write("new/go", 0, b"g").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    for file in ["new/keep", "new/go"] {
        fs.unlink(file).unwrap();
    }
    fs.rmdir("new").unwrap();
    committed(&world, &fs, &choosing(&[], &["new/keep"]))
        .await
        .unwrap();
    assert_eq!(changes(&world, 2).await, ["-new/go"]);
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(changes(&world, 3).await, ["-new", "-new/keep"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_without_bytes_and_output_directories_that_are_not_there_are_named() {
    let ((_, world), dir) = (world().await, tempdir());
    let fs = world.create(dir.path());
    fs.mkdir("out").unwrap();
    fs.write("out/full", 0, b"x").unwrap();
    let empty = fs.open("out/empty").unwrap();
    fs.vfs.release(empty).unwrap();
    let options = CommitOptions {
        output_dirs: vec![path("out"), path("never/there")],
        ..CommitOptions::default()
    };
    let account = committed(&world, &fs, &options).await.unwrap().account;
    assert_eq!(account.empty, ["out/empty"]);
    assert_eq!(account.missing_dirs, ["never/there"]);
    assert!(!account.is_partial());
}

/// The hash of what the diff of a commit goes over.
async fn parent(world: &World, generation: u32) -> ContentHash {
    world.diff(&World::key(generation)).await.parent().unwrap()
}

fn expecting(parent: ContentHash) -> CommitOptions {
    CommitOptions {
        expect_parent: Some(parent),
        ..CommitOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_if_the_diff_would_go_over_something_else_than_was_expected() {
    let ((memory, world), dir) = (world().await, tempdir());
    let fs = world.create(dir.path());
    fs.write("one", 0, b"1").unwrap();
    let before = memory.objects().len();
    let other = ContentHash::of(b"other");
    let base = ContentHash::of(&world.manifest());
    match committed(&world, &fs, &expecting(other)).await {
        Err(CommitError::Parent { expected, found }) => {
            assert_eq!((expected, found), (other, base));
        }
        ended => panic!("{ended:?}"),
    }
    assert_eq!(memory.objects().len(), before);
    assert!(memory.manifests().is_empty());
    committed(&world, &fs, &expecting(base)).await.unwrap();
    assert_eq!(parent(&world, 1).await, base);
    // The second goes over the result of the first.
    fs.write("two", 0, b"2").unwrap();
    let Err(CommitError::Parent { found, .. }) = committed(&world, &fs, &expecting(base)).await
    else {
        panic!("it was committed")
    };
    committed(&world, &fs, &expecting(found)).await.unwrap();
    assert_eq!(parent(&world, 2).await, found);
}

/// Commits up to a step at which the process dies; gives the session as the next process finds it.
async fn interrupted(world: &World, at: CommitStep) -> (Fs, tempfile::TempDir) {
    let dir = tempdir();
    let (work, left) = (dir.path().join("work"), dir.path().join("left"));
    let fs = world.create(&work);
    fs.write("one", 0, b"1").unwrap();
    let options = CommitOptions::default();
    let ended = watched(world, &fs, &options, |step| {
        if step == at {
            crate::testing::copy_dir(&work, &left);
        }
    });
    ended.await.unwrap();
    (world.recover(&left), dir)
}

fn resuming() -> CommitOptions {
    CommitOptions {
        only_resume: true,
        ..CommitOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_resumes_finishes_what_was_interrupted_and_commits_nothing_else() {
    let (_, world) = world().await;
    let (fs, _dir) = interrupted(&world, CommitStep::Intended).await;
    fs.write("two", 0, b"2").unwrap();
    let resumed = committed(&world, &fs, &resuming()).await.unwrap();
    assert_eq!(resumed.published.unwrap().committed.generation, 1);
    // There is nothing to resume any more, which is no error.
    let Outcome {
        published, last, ..
    } = committed(&world, &fs, &resuming()).await.unwrap();
    assert_eq!((published, last.unwrap().generation), (None, 1));
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(changes(&world, 2).await, ["+two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_commit_with_another_parent_than_expected_is_not_finished() {
    let (memory, world) = world().await;
    let (fs, _dir) = interrupted(&world, CommitStep::Intended).await;
    let sent = memory.manifests();
    let other = expecting(ContentHash::of(b"other"));
    let refused = committed(&world, &fs, &other).await;
    assert!(
        matches!(refused, Err(CommitError::Parent { .. })),
        "{refused:?}"
    );
    assert_eq!(memory.manifests(), sent);
    // What was made since would go over something else, and stays.
    fs.write("two", 0, b"2").unwrap();
    let base = expecting(ContentHash::of(&world.manifest()));
    let finished = committed(&world, &fs, &base).await.unwrap();
    assert_eq!(finished.published.unwrap().committed.generation, 1);
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(changes(&world, 2).await, ["+two"]);
}

fn handing_over(key: &str) -> CommitOptions {
    CommitOptions {
        format: HandedFormat::Files,
        publish_as: Some(key.parse().unwrap()),
        ..CommitOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_and_changed_files_are_handed_over_as_2023_03_03_and_deletions_are_named() {
    let ((memory, world), dir) = (world().await, tempdir());
    let fs = world.create(dir.path());
    fs.mkdir("out").unwrap();
    fs.mkdir("empty").unwrap();
    fs.write("out/new", 0, b"new").unwrap();
    fs.write("in/a", 0, b"changed").unwrap();
    fs.unlink("old/x").unwrap();
    let ended = committed(&world, &fs, &handing_over("mine/out")).await;
    let account = ended.unwrap().account;
    assert_eq!(account.dropped, ["empty", "old/x"]);
    let stored = memory.get_manifest(&"mine/out".parse().unwrap()).await;
    let (format, manifest) = decode(&stored.unwrap().bytes).unwrap();
    assert_eq!(format, Format::V2023_03_03);
    let Manifest::Snapshot(files) = manifest else {
        panic!("2023-03-03 has only snapshots")
    };
    let paths: Vec<ManifestPath> = files
        .entries()
        .filter(|(_, node)| node.as_file().is_some())
        .map(|(path, _)| path.to_owned())
        .collect();
    assert_eq!(paths, ["in/a", "out/new"].map(path));
    // The session's own manifest has everything, so the next commit goes on from it.
    assert_eq!(changes(&world, 1).await, ["+in/a", "-old/x", "+out/new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_2023_03_03_cannot_hold_is_told_before_anything_is_sent() {
    type Work = fn(&Fs);
    let chunked: Work = |fs| fs.write("long", 0, &bytes(7, 5000)).unwrap();
    let link: Work = |fs| fs.symlink("l", "in/a").unwrap();
    let deleted: Work = |fs| fs.unlink("in/a").unwrap();
    for (work, named) in [
        (chunked, "\"long\""),
        (link, "links"),
        (deleted, "no file is new"),
    ] {
        let ((memory, world), dir) = (world().await, tempdir());
        let fs = world.create(dir.path());
        work(&fs);
        let before = memory.objects().len();
        let error = committed(&world, &fs, &handing_over("mine/out")).await;
        let error = error.unwrap_err();
        let text = attachfs_transfer::error_chain(&error);
        assert!(text.contains(named), "{text}");
        assert!(memory.manifests().is_empty());
        assert_eq!(memory.objects().len(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_is_told_whether_all_that_is_left_lies_outside_of_the_outputs() {
    let ((_, world), dir) = (world().await, tempdir());
    let fs = world.create(dir.path());
    let outputs = [path("out")];
    let look = async || {
        let found = uncommitted(&fs.session, &outputs).await.unwrap();
        (found.paths, found.all_outside)
    };
    assert_eq!(look().await, (0, false), "nothing is left");
    fs.mkdir("out").unwrap();
    fs.write("out/frame", 0, b"pixels").unwrap();
    fs.write("outer", 0, b"beside").unwrap();
    assert_eq!(look().await, (3, false));
    let options = CommitOptions {
        output_dirs: outputs.to_vec(),
        ..CommitOptions::default()
    };
    committed(&world, &fs, &options).await.unwrap();
    assert_eq!(look().await, (1, true));
    // A link that leads out is left, too, and by its name only.
    fs.symlink("outer-link", "/etc").unwrap();
    assert_eq!(look().await, (2, true));
    fs.symlink("out/link", "/etc").unwrap();
    assert_eq!(look().await, (3, false));
    // Without output directories everything is output.
    let all = uncommitted(&fs.session, &[]).await.unwrap();
    assert_eq!((all.paths, all.all_outside), (3, false));
}
