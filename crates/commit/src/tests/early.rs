//! What is sent before a commit.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_durable::FileStamp;
use attachfs_manifest::ContentHash;
use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
use attachfs_store::record::RecordStore;
use attachfs_store::{CallKind, ChunkStore, MemoryStore};
use attachfs_tree::FileContent;
use tokio::runtime::Handle;

use crate::testing::{CHUNK, CUT, Fs, Given, World, bytes, committed, path, tempdir};
use crate::{Commit, CommitOptions, EarlyOptions, EarlyUpload, Patterns, uncommitted};

fn base() -> Vec<(&'static str, Given)> {
    vec![
        ("out/input", Given::File(bytes(1, 5 * CHUNK))),
        ("scene", Given::File(bytes(2, 10))),
    ]
}

fn outputs() -> CommitOptions {
    CommitOptions {
        output_dirs: vec![path("out")],
        patterns: Patterns::new::<&str>(&[], &["**/*.tmp"]).unwrap(),
        ..CommitOptions::default()
    }
}

fn start(world: &World, fs: &Fs) -> EarlyUpload {
    start_with(world, fs, None)
}

fn start_with(world: &World, fs: &Fs, max_rate: Option<NonZeroU64>) -> EarlyUpload {
    start_after(Duration::from_millis(30), world, fs, max_rate)
}

fn start_after(
    quiet: Duration,
    world: &World,
    fs: &Fs,
    max_rate: Option<NonZeroU64>,
) -> EarlyUpload {
    let options = EarlyOptions {
        commit: outputs(),
        max_rate,
        quiet,
        step: None,
    };
    let store: Arc<dyn ChunkStore> = world.store.clone();
    EarlyUpload::start(&fs.session, store, options, Handle::current()).unwrap()
}

/// Waits until something is so that another thread does.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_sent(fs: &Fs, files: u64) {
    let sent = || {
        let counts = fs.session.early().counts();
        counts.files == files && counts.waiting == 0
    };
    until("files are sent", sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_early_is_neither_sent_nor_hashed_by_the_commit() {
    let (memory, dir) = (Arc::new(MemoryStore::new()), tempdir());
    let store = Arc::new(RecordStore::new(memory.clone()));
    let world = World::new(store.clone(), CUT, &base()).await;
    let fs = world.create(dir.path());
    // Before it is started: as of an earlier process.
    fs.write("out/first", 0, &bytes(3, 2 * CHUNK + 5)).unwrap();
    let before = store.count(CallKind::Put);
    let early = start(&world, &fs);
    fs.write("out/second", 0, b"second").unwrap();
    fs.write("out/no.tmp", 0, b"not chosen").unwrap();
    fs.write("elsewhere", 0, b"no output").unwrap();
    fs.write("out/input", 1500, b"partly of the base").unwrap();
    until_sent(&fs, 2).await;
    assert_eq!(store.count(CallKind::Put) - before, 4);
    let open = fs.create("out/open").unwrap();
    fs.vfs.write(open, 0, b"open").unwrap();
    fs.vfs.release(open).unwrap();
    until_sent(&fs, 3).await;
    let planned = Commit::plan(fs.session.clone(), &outputs()).await.unwrap();
    for file in &planned.state.files {
        let (scratch, _) = fs.vfs.open_scratch(file.ino).unwrap();
        let stamp = FileStamp::of(&scratch).unwrap();
        let is_mapped = matches!(file.content, FileContent::Mapped(_));
        assert_eq!(file.known(stamp.into()).is_none(), is_mapped, "{file:?}");
    }

    let shown = fs.show(CUT).await;
    let outcome = committed(&world, &fs, &outputs()).await.unwrap();
    // The touched chunk of the input, and nothing that was sent.
    assert_eq!(outcome.account.uploaded_objects, 1);
    assert_eq!(outcome.account.early_objects, 5);
    assert_eq!(outcome.account.early_bytes, 2 * CHUNK as u64 + 5 + 6 + 4);
    let diff = world.diff(&World::key(1)).await;
    let made = world.snapshot.apply(&diff).unwrap();
    for name in ["out/first", "out/second", "out/open", "out/input"] {
        assert_eq!(made.get(&path(name)), shown.get(&path(name)), "{name}");
    }
    // The commit remembers them from here on.
    assert_eq!(fs.session.early().files(), []);
    early.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_has_the_bytes_of_its_moment_whatever_was_sent_before() {
    let (memory, dir) = (Arc::new(MemoryStore::new()), tempdir());
    let world = World::new(memory.clone(), CUT, &base()).await;
    let fs = world.create(dir.path());
    let early = start(&world, &fs);
    for name in ["out/changed", "out/vanished", "out/kept"] {
        fs.write(name, 0, name.as_bytes()).unwrap();
    }
    until_sent(&fs, 3).await;
    // Else it would be sent once more before the commit, if that is slow to begin.
    early.stop().await;
    fs.write("out/changed", 0, b"OUT/CHANGED").unwrap();
    memory.remove(ContentHash::of(b"out/vanished"));
    let shown = fs.show(CUT).await;
    let outcome = committed(&world, &fs, &outputs()).await.unwrap();
    assert_eq!(outcome.account.uploaded_objects, 2);
    assert_eq!(outcome.account.early_objects, 1);
    let diff = world.diff(&World::key(1)).await;
    let made = world.snapshot.apply(&diff).unwrap();
    assert_eq!(made, shown);
    world.assert_readable(&made).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_as_it_was_is_committed_once_a_commit_has_looked() {
    let dir = tempdir();
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let fs = world.create(dir.path());
    fs.write("out/same", 0, b"bytes").unwrap();
    fs.set_modified("out/same", 1_000_000);
    committed(&world, &fs, &outputs()).await.unwrap();
    fs.write("out/same", 0, b"bytes").unwrap();
    fs.set_modified("out/same", 1_000_000);
    assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 1);
    let again = committed(&world, &fs, &outputs()).await.unwrap();
    assert_eq!(again.published, None);
    assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 0);
    // It is known by its stamp only.
    fs.write("out/same", 0, b"BYTES").unwrap();
    fs.set_modified("out/same", 1_000_000);
    let changed = committed(&world, &fs, &outputs()).await.unwrap();
    assert_eq!(changed.account.changed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_a_later_one_finished_knows_more_than_what_was_sent_before_it() {
    let dir = tempdir();
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let world = World::new(store.clone(), CUT, &base()).await;
    let fs = world.create(dir.path());
    let early = start(&world, &fs);
    fs.write("out/changed", 0, b"sent").unwrap();
    until_sent(&fs, 1).await;
    early.stop().await;
    fs.write("out/changed", 0, b"and changed").unwrap();
    let fault = Fault::Before(Failure::Unreachable);
    store.add(Rule::on(CallKind::PutManifest, fault).times(1));
    committed(&world, &fs, &outputs()).await.unwrap_err();
    committed(&world, &fs, &outputs()).await.unwrap();
    assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_sent_early_in_a_second_than_was_allowed() {
    let dir = tempdir();
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let fs = world.create(dir.path());
    for number in 0..5 {
        fs.write(&format!("out/{number}"), 0, &bytes(number, 1000))
            .unwrap();
    }
    let since = Instant::now();
    let early = start_with(&world, &fs, NonZeroU64::new(10_000));
    until_sent(&fs, 5).await;
    // A tenth of a second for each of those before the last.
    assert!(since.elapsed() >= Duration::from_millis(400), "{since:?}");
    early.stop().await;
}

/// Waits until so many files count as sent, and so many wait.
async fn until_counted(fs: &Fs, files: u64, waiting: u64) {
    let counted = || {
        let counts = fs.session.early().counts();
        (counts.files, counts.waiting) == (files, waiting)
    };
    until(&format!("{files} sent, {waiting} wait"), counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_counts_as_sent_or_waiting_and_only_where_a_commit_takes_it() {
    let dir = tempdir();
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let store = Arc::new(RecordStore::new(faults.clone()));
    let world = World::new(store.clone(), CUT, &base()).await;
    let fs = world.create(dir.path());
    fs.mkdir("out/sub").unwrap();
    let early = start(&world, &fs);
    for name in ["out/one", "out/sub/two"] {
        fs.write(name, 0, name.as_bytes()).unwrap();
    }
    until_counted(&fs, 2, 0).await;
    // One that was sent and is changed waits, for longer now, and does not count as sent meanwhile.
    faults.add(Rule::on(CallKind::Put, Fault::Hold).of(ContentHash::of(b"OUT/ONE")));
    fs.write("out/one", 0, b"OUT/ONE").unwrap();
    until_counted(&fs, 1, 1).await;
    faults.heal();
    until_counted(&fs, 2, 0).await;
    // What is renamed out of the output directories is no output, be it by a directory above it.
    fs.rename("out/one", "one").unwrap();
    until_counted(&fs, 1, 0).await;
    fs.rename("out/sub", "sub").unwrap();
    until_counted(&fs, 0, 0).await;
    let puts = store.count(CallKind::Put);
    fs.rename("one", "out/one").unwrap();
    fs.rename("sub", "out/sub").unwrap();
    until_counted(&fs, 2, 0).await;
    assert_eq!(store.count(CallKind::Put), puts, "they are in the store");
    committed(&world, &fs, &outputs()).await.unwrap();
    until_counted(&fs, 0, 0).await;
    // A file that is as it was is not committed.
    fs.write("out/again", 0, b"scene").unwrap();
    until_counted(&fs, 1, 0).await;
    fs.rename("out/again", "out/one").unwrap();
    committed(&world, &fs, &outputs()).await.unwrap();
    until_counted(&fs, 0, 0).await;
    early.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_keeps_neither_a_commit_nor_the_end_waiting() {
    let dir = tempdir();
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let world = World::new(store.clone(), CUT, &base()).await;
    let fs = world.create(dir.path());
    store.add(Rule::on(CallKind::Put, Fault::Hang).times(1));
    let early = start(&world, &fs);
    fs.write("out/frame", 0, b"frame").unwrap();
    until("it is being sent", || store.struck() == 1).await;
    let outcome = committed(&world, &fs, &outputs()).await.unwrap();
    assert_eq!(outcome.account.uploaded_objects, 1);
    // What hung was given up, else nothing would be sent any more.
    fs.write("out/next", 0, b"next").unwrap();
    until_sent(&fs, 1).await;
    early.stop().await;
    assert!(fs.session.early().rest().await, "it has ended");
    // Nothing more is sent.
    fs.write("out/last", 0, b"last").unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(fs.session.early().counts().files, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_store_refuses_is_sent_again_later_and_others_meanwhile() {
    const QUIET: Duration = Duration::from_millis(400);
    let dir = tempdir();
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let world = World::new(store.clone(), CUT, &base()).await;
    let fs = world.create(dir.path());
    let refused = Rule::on(CallKind::Put, Fault::Before(Failure::Denied));
    store.add(refused.of(ContentHash::of(b"refused")).times(1));
    // That one comes through once the other is refused: so the store has no trouble.
    let slow = Rule::on(CallKind::Put, Fault::Hold);
    store.add(slow.of(ContentHash::of(b"slow")));
    fs.write("out/slow", 0, b"slow").unwrap();
    fs.write("out/refused", 0, b"refused").unwrap();
    let since = Instant::now();
    let early = start_after(QUIET, &world, &fs, None);
    let counts = || fs.session.early().counts();
    until("it is refused", || counts().trouble.is_some()).await;
    store.heal();
    until("the other is sent", || counts().files == 1).await;
    // So the store is not left alone, as one is that takes nothing.
    assert!(counts().trouble.is_none());
    until_sent(&fs, 2).await;
    // After the first wait one that is four times as long.
    let waited = since.elapsed();
    assert!(waited >= 5 * QUIET, "{waited:?}");
    early.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_nothing_is_left_alone_for_some_time() {
    let dir = tempdir();
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let world = World::new(store.clone(), CUT, &base()).await;
    let fs = world.create(dir.path());
    store.add(Rule::on(CallKind::Put, Fault::Before(Failure::Denied)));
    for number in 0..100 {
        let name = format!("out/{number}");
        fs.write(&name, 0, name.as_bytes()).unwrap();
    }
    let early = start_after(Duration::from_millis(10), &world, &fs, None);
    let counts = || fs.session.early().counts();
    let since = Instant::now();
    until("it is refused", || counts().trouble.is_some()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // What was under way when the first one failed, each time that the store was tried.
    let asked = store.struck();
    let tried = 1 + since.elapsed().as_secs() as usize / 5;
    assert!((1..=40 * tried).contains(&asked), "{asked}");
    assert!(counts().waiting >= 60, "{:?}", counts());
    early.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_sent_early_while_a_commit_waits_for_one_that_is_open() {
    let dir = tempdir();
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let fs = world.create(dir.path());
    let early = start(&world, &fs);
    let open = fs.create("out/open").unwrap();
    let waiting = CommitOptions {
        wait: Duration::from_mins(1),
        ..outputs()
    };
    let job = async {
        // So that the commit is waiting.
        tokio::time::sleep(Duration::from_millis(300)).await;
        fs.write("out/other", 0, b"other").unwrap();
        until_sent(&fs, 1).await;
        fs.vfs.release(open).unwrap();
    };
    let (outcome, ()) = tokio::join!(committed(&world, &fs, &waiting), job);
    let account = outcome.unwrap().account;
    // Early upload or the commit sends the file that was open. Early upload may have to pause before it knows that it has.
    assert!(account.early_objects >= 1);
    assert_eq!(account.present_objects + account.uploaded_objects, 2);
    // It pauses again as long as the commit works, and goes on after it.
    fs.write("out/later", 0, b"later").unwrap();
    until_sent(&fs, 1).await;
    early.stop().await;
}
