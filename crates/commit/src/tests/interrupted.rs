//! Commits that are killed or fail, and are run again: the same bytes under the same key, once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use attachfs_manifest::ContentHash;
use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
use attachfs_store::{
    CallKind, DirectoryStore, ManifestStore as _, MemoryStore, Metadata, PutOutcome, Store,
};
use attachfs_transfer::PublishError;
use attachfs_vfs::overlay::CommitRecord;

use crate::testing::{CUT, Fs, Given, World, bytes, committed, copy_dir, tempdir, watched};
use crate::{CommitError, CommitOptions, CommitStep, Patterns};

pub(super) fn base() -> Vec<(&'static str, Given)> {
    vec![
        ("big", Given::File(bytes(1, 3500))),
        ("d/x", Given::File(bytes(2, 10))),
    ]
}

pub(super) fn work(fs: &Fs) {
    fs.write("big", 1500, b"patched").unwrap();
    fs.write("new", 0, &bytes(9, 2500)).unwrap();
    fs.rename("d", "moved").unwrap();
}

/// Every manifest in a store directory.
pub(super) fn manifests(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![store.join("Manifests")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(store).unwrap();
                let bytes = std::fs::read(&path).unwrap();
                found.insert(name.display().to_string(), bytes);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_killed_at_any_step_is_finished_by_the_next_one() {
    let dir = tempdir();
    let place = |what: &str| dir.path().join(what);
    let directory = |at: &str| Arc::new(DirectoryStore::create(&place(at)).unwrap());
    let world = World::new(directory("store"), CUT, &base()).await;
    let fs = world.create(&place("session"));
    work(&fs);
    // Session and store as a process leaves them that is killed at this step.
    let options = CommitOptions::default();
    let outcome = watched(&world, &fs, &options, |step| {
        copy_dir(&place("session"), &place(&format!("session-{step:?}")));
        copy_dir(&place("store"), &place(&format!("store-{step:?}")));
    });
    let outcome = outcome.await.unwrap();
    let expected = manifests(&place("store"));
    assert_eq!(expected.len(), 1);
    let hash = outcome.published.unwrap().committed.hash;

    for step in [
        CommitStep::Planned,
        CommitStep::Hashed,
        CommitStep::Uploaded,
        CommitStep::Intended,
        CommitStep::Sent,
        CommitStep::Published,
    ] {
        let store = place(&format!("store-{step:?}"));
        let sent = manifests(&store).len();
        assert_eq!(
            sent == 1,
            matches!(step, CommitStep::Sent | CommitStep::Published)
        );
        let world = world.over(directory(&format!("store-{step:?}")));
        let fs = world.recover(&place(&format!("session-{step:?}")));
        let again = committed(&world, &fs, &CommitOptions::default()).await;
        let again = again.unwrap();
        assert_eq!(manifests(&store), expected, "{step:?}");
        match step {
            CommitStep::Published => assert_eq!(again.published, None),
            _ => {
                let published = again.published.unwrap();
                assert_eq!(published.committed.hash, hash, "{step:?}");
                assert_eq!(published.account.added, outcome.account.added);
                assert_eq!(published.account.changed, outcome.account.changed);
                assert_eq!(published.account.deleted, outcome.account.deleted);
            }
        }
        let diff = world.diff(&World::key(1)).await;
        let made = world.snapshot.apply(&diff).unwrap();
        world.assert_readable(&made).await;
        // And the session continues from there.
        fs.write("later", 0, b"x").unwrap();
        let later = committed(&world, &fs, &CommitOptions::default()).await;
        assert_eq!(
            later.unwrap().published.unwrap().committed.key,
            World::key(2)
        );
        assert_eq!(manifests(&store).len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_after_the_intent_go_into_the_next_commit() {
    let dir = tempdir();
    let place = |what: &str| dir.path().join(what);
    let memory = Arc::new(MemoryStore::new());
    let world = World::new(memory.clone(), CUT, &base()).await;
    let fs = world.create(&place("session"));
    work(&fs);
    let options = CommitOptions::default();
    let expected = watched(&world, &fs, &options, |step| {
        if step == CommitStep::Intended {
            copy_dir(&place("session"), &place("killed"));
        }
    });
    let expected = expected.await.unwrap().published.unwrap();

    let fs = world.recover(&place("killed"));
    fs.write("new", 0, b"written after it was intended")
        .unwrap();
    let outcome = committed(&world, &fs, &CommitOptions::default()).await;
    let outcome = outcome.unwrap();
    let resumed = outcome.resumed.unwrap();
    assert_eq!(resumed.committed, expected.committed);
    assert_eq!(outcome.published.unwrap().committed.key, World::key(2));
    assert_eq!(outcome.account.changed, 1);
}

pub(super) async fn faulty() -> (Arc<FaultStore>, Arc<MemoryStore>, World) {
    let memory = Arc::new(MemoryStore::new());
    let world = World::new(memory.clone(), CUT, &base()).await;
    let store = Arc::new(FaultStore::new(memory.clone()));
    let faulty: Arc<dyn Store> = store.clone();
    (store, memory, world.over(faulty))
}

/// The result of an undisturbed commit of a copy of the session.
async fn undisturbed(world: &World, session: &Path) -> Vec<u8> {
    let copy = tempdir();
    copy_dir(session, copy.path());
    let other = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    assert_eq!(other.snapshot, world.snapshot);
    let fs = other.recover(copy.path());
    committed(&other, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let stored = other.store.get_manifest(&World::key(1)).await;
    stored.unwrap().bytes.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_sending_failed_is_sent_again_and_one_that_arrived_is_found() {
    for (fault, arrived) in [
        (Fault::Before(Failure::Unreachable), false),
        (Fault::After(Failure::Unreachable), true),
    ] {
        let ((store, memory, world), dir) = (faulty().await, tempdir());
        let fs = world.create(dir.path());
        work(&fs);
        let expected = undisturbed(&world, dir.path()).await;
        store.add(Rule::on(CallKind::PutManifest, fault).times(1));
        let first = committed(&world, &fs, &CommitOptions::default()).await;
        assert_eq!(store.struck(), 1);
        if arrived {
            assert!(first.unwrap().published.is_some());
        } else {
            let Err(CommitError::Publish(PublishError::Store { key, .. })) = first else {
                panic!("{first:?}")
            };
            assert_eq!(key, World::key(1));
            assert!(matches!(
                fs.vfs.commits()[..],
                [CommitRecord::Intent { generation: 1, .. }]
            ));
            let again = committed(&world, &fs, &CommitOptions::default()).await;
            assert!(again.unwrap().published.is_some());
        }
        assert_eq!(memory.manifests(), [World::key(1)]);
        let stored = memory.get_manifest(&World::key(1)).await.unwrap();
        assert_eq!(stored.bytes, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_only_finished_an_interrupted_one_tells_what_it_left_out() {
    let ((store, _, world), dir) = (faulty().await, tempdir());
    let fs = world.create(dir.path());
    fs.write("out", 0, b"output").unwrap();
    fs.write("x.tmp", 0, b"left out").unwrap();
    let options = CommitOptions {
        patterns: Patterns::new::<&str>(&[], &["*.tmp"]).unwrap(),
        ..CommitOptions::default()
    };
    let fault = Fault::Before(Failure::Unreachable);
    store.add(Rule::on(CallKind::PutManifest, fault).times(1));
    committed(&world, &fs, &options).await.unwrap_err();
    let outcome = committed(&world, &fs, &options).await.unwrap();
    assert!(outcome.published.is_some());
    assert_eq!(outcome.account.added, 1);
    assert_eq!(outcome.account.left(), 1, "{:?}", outcome.account);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_commit_looks_for_a_manifest_of_unknown_state() {
    let ((store, memory, world), dir) = (faulty().await, tempdir());
    let fs = world.create(dir.path());
    work(&fs);
    let expected = undisturbed(&world, dir.path()).await;
    store.add(Rule::on(CallKind::PutManifest, Fault::After(Failure::Other)).times(1));
    store.add(Rule::on(CallKind::GetManifest, Fault::Before(Failure::Other)).times(1));
    let first = committed(&world, &fs, &CommitOptions::default()).await;
    assert!(
        matches!(first, Err(CommitError::Publish(PublishError::Store { .. }))),
        "{first:?}"
    );
    assert_eq!(memory.manifests().len(), 1);
    drop(fs);
    let fs = world.recover(dir.path());
    let again = committed(&world, &fs, &CommitOptions::default()).await;
    assert_eq!(
        again.unwrap().published.unwrap().committed.key,
        World::key(1)
    );
    assert_eq!(memory.manifests().len(), 1);
    let stored = memory.get_manifest(&World::key(1)).await.unwrap();
    assert_eq!(stored.bytes, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_anywhere_publishes_nothing_and_is_resumed() {
    let dir = tempdir();
    let (_, _, world) = faulty().await;
    work(&world.create(dir.path()));
    let expected = undisturbed(&world, dir.path()).await;
    let mut failed = 0;
    for kind in [CallKind::Get, CallKind::Head, CallKind::Put] {
        for number in 0.. {
            let ((store, memory, world), copy) = (faulty().await, tempdir());
            copy_dir(dir.path(), copy.path());
            let fs = world.recover(copy.path());
            let fault = Fault::Before(Failure::Unreachable);
            store.add(Rule::on(kind, fault).after(number).times(1));
            let ended = committed(&world, &fs, &CommitOptions::default()).await;
            if store.struck() == 0 {
                // There are fewer calls of this kind.
                ended.unwrap();
                break;
            }
            failed += 1;
            ended.unwrap_err();
            assert!(memory.manifests().is_empty(), "{kind:?} {number}");
            assert!(fs.vfs.commits().is_empty());
            committed(&world, &fs, &CommitOptions::default())
                .await
                .unwrap();
            assert_eq!(memory.manifests(), [World::key(1)]);
            let stored = memory.get_manifest(&World::key(1)).await.unwrap();
            assert_eq!(stored.bytes, expected);
        }
    }
    // One chunk is fetched, four are sent, and four others are confirmed.
    assert_eq!(failed, 1 + 8 + 4);
}

/// Puts something else under the key of the first commit.
async fn take_key(memory: &MemoryStore) -> bytes::Bytes {
    let theirs = bytes::Bytes::from_static(b"someone else's");
    let put = memory
        .put_manifest_if_absent(&World::key(1), theirs.clone(), &Metadata::new())
        .await;
    assert_eq!(put.unwrap(), PutOutcome::Created);
    theirs
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manifest_under_the_key_is_never_overwritten_and_the_commit_gets_the_next_number() {
    let ((_, memory, world), dir) = (faulty().await, tempdir());
    let fs = world.create(dir.path());
    work(&fs);
    let theirs = take_key(&memory).await;
    let options = CommitOptions::default();
    let outcome = committed(&world, &fs, &options).await.unwrap();
    assert_eq!(outcome.published.unwrap().committed.key, World::key(2));
    assert_eq!(outcome.resumed, None);
    let diff = world.diff(&World::key(2)).await;
    let after = world.snapshot.apply(&diff).unwrap();
    assert_eq!(after, fs.show(CUT).await);
    let again = committed(&world, &fs, &options).await.unwrap();
    assert_eq!(again.published, None);

    // The next one goes on from it, in this process and in another one.
    drop(fs);
    let fs = world.recover(dir.path());
    fs.write("later", 0, b"later").unwrap();
    let outcome = committed(&world, &fs, &options).await.unwrap();
    assert_eq!(outcome.published.unwrap().committed.key, World::key(3));
    assert_eq!((outcome.account.added, outcome.account.changed), (1, 0));
    let after = after.apply(&world.diff(&World::key(3)).await).unwrap();
    assert_eq!(after, fs.show(CUT).await);
    let stored = memory.get_manifest(&World::key(1)).await.unwrap();
    assert_eq!(stored.bytes, theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_commit_whose_key_another_manifest_has_is_dropped() {
    let ((store, memory, world), dir) = (faulty().await, tempdir());
    let fs = world.create(dir.path());
    work(&fs);
    let fault = Fault::Before(Failure::Unreachable);
    store.add(Rule::on(CallKind::PutManifest, fault).times(1));
    let options = CommitOptions::default();
    committed(&world, &fs, &options).await.unwrap_err();
    let theirs = take_key(&memory).await;
    let only_resume = CommitOptions {
        only_resume: true,
        ..CommitOptions::default()
    };
    match committed(&world, &fs, &only_resume).await {
        Err(CommitError::Publish(PublishError::Conflict { key, found, .. })) => {
            assert_eq!(key, World::key(1));
            assert_eq!(found, ContentHash::of(&theirs));
        }
        other => panic!("{other:?}"),
    }
    let kept = std::fs::read(dir.path().join("commits/1.manifest")).unwrap();
    fs.write("later", 0, b"later").unwrap();
    let outcome = committed(&world, &fs, &options).await.unwrap();
    assert_eq!(outcome.resumed, None);
    assert_eq!(outcome.published.unwrap().committed.key, World::key(2));
    let diff = world.diff(&World::key(2)).await;
    assert_eq!(world.snapshot.apply(&diff).unwrap(), fs.show(CUT).await);
    drop(fs);
    let fs = world.recover(dir.path());
    let again = committed(&world, &fs, &options).await.unwrap();
    assert_eq!((again.published, again.resumed), (None, None));
    let stored = memory.get_manifest(&World::key(1)).await.unwrap();
    assert_eq!(stored.bytes, theirs);
    assert_eq!(
        std::fs::read(dir.path().join("commits/1.manifest")).unwrap(),
        kept
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_is_not_sent() {
    let ((store, memory, world), dir) = (faulty().await, tempdir());
    let fs = world.create(dir.path());
    work(&fs);
    let fault = Fault::Before(Failure::Unreachable);
    store.add(Rule::on(CallKind::PutManifest, fault).times(1));
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap_err();
    let kept = dir.path().join("commits/1.manifest");
    let sound = std::fs::read(&kept).unwrap();
    std::fs::write(&kept, b"damaged").unwrap();
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, CommitError::Session(_)), "{error:?}");
    assert!(memory.manifests().is_empty());
    std::fs::write(&kept, sound).unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_dropped_in_the_middle_leaves_the_session_as_it_was() {
    let ((store, memory, world), dir) = (faulty().await, tempdir());
    let fs = world.create(dir.path());
    work(&fs);
    let shown = fs.show(CUT).await;
    store.add(Rule::on(CallKind::Put, Fault::Hang));
    let options = CommitOptions::default();
    tokio::select! {
        ended = committed(&world, &fs, &options) => panic!("{ended:?}"),
        () = async { while store.struck() == 0 { tokio::task::yield_now().await } } => {}
    }
    store.heal();
    assert!(memory.manifests().is_empty());
    let work_dir = dir.path().join("commits/work");
    assert_eq!(std::fs::read_dir(work_dir).unwrap().count(), 0);
    committed(&world, &fs, &options).await.unwrap();
    let diff = world.diff(&World::key(1)).await;
    assert_eq!(world.snapshot.apply(&diff).unwrap(), shown);
}
