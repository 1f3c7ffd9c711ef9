//! Commits that were interrupted, and whose objects the store has lost since.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use attachfs_manifest::{ContentHash, Node, Snapshot};
use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
use attachfs_store::{CallKind, DirectoryStore, MemoryStore, data_key};

use super::interrupted::{base, faulty, manifests, work};
use crate::testing::{CUT, Fs, Given, World, committed, copy_dir, path, tempdir, watched};
use crate::{CommitError, CommitOptions, CommitStep, Links};

/// The objects of a snapshot.
fn objects(snapshot: &Snapshot) -> BTreeSet<ContentHash> {
    let files = snapshot.entries().filter_map(|(_, node)| match node {
        Node::File(file) => Some(file),
        _ => None,
    });
    let hashes = files.map(|file| file.content.hashes().to_vec());
    hashes.flatten().collect()
}

fn files_of(objects: &BTreeSet<ContentHash>, store: &Path) -> Vec<std::path::PathBuf> {
    let at = |&hash: &ContentHash| store.join(data_key(hash));
    objects.iter().map(at).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_the_store_lost_of_an_interrupted_commit_are_sent_again() {
    let dir = tempdir();
    let place = |what: &str| dir.path().join(what);
    let directory = |at: &str| Arc::new(DirectoryStore::create(&place(at)).unwrap());
    let world = World::new(directory("store"), CUT, &base()).await;
    let fs = world.create(&place("session"));
    // A new file of several chunks, one that is partly the input's, and what a link shows.
    work(&fs);
    std::fs::create_dir(place("outside")).unwrap();
    std::fs::write(place("outside/shown"), "behind a link").unwrap();
    fs.symlink("out", place("outside").to_str().unwrap())
        .unwrap();
    let options = CommitOptions {
        links: Links::Collapse,
        ..CommitOptions::default()
    };
    let outcome = watched(&world, &fs, &options, |step| {
        copy_dir(&place("session"), &place(&format!("session-{step:?}")));
        copy_dir(&place("store"), &place(&format!("store-{step:?}")));
    });
    let outcome = outcome.await.unwrap();
    let expected = manifests(&place("store"));
    let made = world.snapshot.apply(&world.diff(&World::key(1)).await);
    let made = made.unwrap();
    let written: BTreeSet<_> = &objects(&made) - &objects(&world.snapshot);
    assert_eq!(written.len(), 1 + 3 + 1);

    for (step, is_public) in [(CommitStep::Intended, false), (CommitStep::Sent, true)] {
        for only_resume in [false, true] {
            let store = format!("store-{step:?}-{only_resume}");
            copy_dir(&place(&format!("store-{step:?}")), &place(&store));
            let session = place(&format!("session-{step:?}-{only_resume}"));
            copy_dir(&place(&format!("session-{step:?}")), &session);
            assert_eq!(manifests(&place(&store)).len() == 1, is_public);
            for file in files_of(&written, &place(&store)) {
                std::fs::remove_file(file).unwrap();
            }
            let world = world.over(directory(&store));
            let fs = world.recover(&session);
            let options = CommitOptions {
                only_resume,
                ..options.clone()
            };
            let finished = committed(&world, &fs, &options).await.unwrap();
            let published = finished.published.unwrap();
            assert_eq!(
                published.committed.hash,
                outcome.published.as_ref().unwrap().committed.hash
            );
            assert_eq!(finished.account.added, outcome.account.added);
            assert_eq!(finished.account.changed, outcome.account.changed);
            assert_eq!(finished.account.deleted, outcome.account.deleted);
            assert_eq!(finished.account.uploaded_objects, written.len() as u64);
            assert_eq!(manifests(&place(&store)), expected);
            world.assert_readable(&made).await;
            // It is over: the next one goes on from there.
            fs.write("later", 0, b"x").unwrap();
            let options = CommitOptions {
                only_resume: false,
                ..options
            };
            let later = committed(&world, &fs, &options).await.unwrap();
            let later = later.published.unwrap();
            assert_eq!(later.committed.key, World::key(2));
        }
    }
}

/// A session whose commit was interrupted: its manifest is in the store, or not.
async fn interrupted(is_public: bool) -> (Arc<MemoryStore>, World, tempfile::TempDir, Fs) {
    let ((store, memory, world), dir) = (faulty().await, tempdir());
    let fs = world.create(dir.path());
    fs.write("new", 0, b"of the job").unwrap();
    fs.rename("d", "moved").unwrap();
    interrupt(&store, is_public);
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap_err();
    assert_eq!(memory.manifests().len(), usize::from(is_public));
    (memory, world, dir, fs)
}

/// The next manifest is not sent; or it is, and the store does not say so.
fn interrupt(store: &FaultStore, is_public: bool) {
    let fault = if is_public {
        Fault::After
    } else {
        Fault::Before
    };
    store.add(Rule::on(CallKind::PutManifest, fault(Failure::Other)).times(1));
    store.add(Rule::on(CallKind::GetManifest, Fault::Before(Failure::Other)).times(1));
}

#[track_caller]
fn lost(error: &CommitError) -> (Vec<String>, bool) {
    let CommitError::Lost {
        objects,
        key,
        may_be_public,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(*key, World::key(1));
    for lost in objects {
        assert!(error.to_string().contains(&lost.to_string()), "{error}");
    }
    let paths = objects.iter().map(|lost| lost.path.to_string());
    (paths.collect(), *may_be_public)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_commit_whose_objects_are_lost_for_good_is_begun_anew_unless_it_may_be_public()
 {
    for is_public in [false, true] {
        let (memory, world, _dir, fs) = interrupted(is_public).await;
        memory.remove(ContentHash::of(b"of the job"));
        fs.write("new", 0, b"OF").unwrap();
        let resume = CommitOptions {
            only_resume: true,
            ..CommitOptions::default()
        };
        let refused = committed(&world, &fs, &resume).await.unwrap_err();
        assert_eq!(lost(&refused), (vec!["new".to_owned()], is_public));
        let mut outcome = committed(&world, &fs, &CommitOptions::default()).await;
        if is_public {
            lost(&outcome.unwrap_err());
            assert_eq!(memory.manifests(), [World::key(1)]);
            // As the error says: once nobody can read it, it is begun anew.
            memory.remove_manifest(&World::key(1));
            outcome = committed(&world, &fs, &CommitOptions::default()).await;
        }
        let published = outcome.unwrap().published.unwrap();
        let shown = fs.show(CUT).await;
        let diff = world.diff(&published.committed.key).await;
        assert_eq!(world.snapshot.apply(&diff).unwrap(), shown);
        world.assert_readable(&shown).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_an_input_that_the_store_lost_is_named_and_the_commit_ends_once_it_is_back() {
    let (memory, world, dir, fs) = interrupted(true).await;
    let given = base().remove(1).1;
    let Given::File(bytes) = given else {
        panic!("{given:?}")
    };
    memory.remove(ContentHash::of(&bytes));
    memory.remove(ContentHash::of(b"of the job"));
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    assert_eq!(
        lost(&error.unwrap_err()),
        (vec!["moved/x".to_owned()], true)
    );
    // What the session has was sent all the same.
    assert!(memory.objects().contains(&ContentHash::of(b"of the job")));
    drop(fs);
    memory.insert(bytes);
    let fs = world.recover(dir.path());
    let finished = committed(&world, &fs, &CommitOptions::default()).await;
    assert!(finished.unwrap().published.is_some());
    assert_eq!(memory.manifests(), [World::key(1)]);
    world.assert_readable(&fs.show(CUT).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_to_is_not_taken_for_what_an_interrupted_commit_had() {
    let (memory, world, _dir, fs) = interrupted(true).await;
    memory.remove(ContentHash::of(b"of the job"));
    let handle = fs.open("new").unwrap();
    let busy = committed(&world, &fs, &CommitOptions::default()).await;
    let Err(CommitError::Busy(files)) = busy else {
        panic!("{busy:?}")
    };
    assert_eq!(files[0].path, path("new"));
    fs.vfs.release(handle).unwrap();
    let finished = committed(&world, &fs, &CommitOptions::default()).await;
    assert!(finished.unwrap().published.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_shows_the_same_file_does_not_hide_its_object_from_an_interrupted_commit() {
    let (memory, world, _dir, fs) = interrupted(false).await;
    let shown = fs.show(CUT).await;
    let entries = world.snapshot.entries();
    let entries = entries.map(|(path, node)| (path.to_owned(), node));
    let new = (path("new"), shown.get(&path("new")).unwrap());
    let added = Snapshot::new(CUT, None, entries.chain([new])).unwrap();
    fs.vfs
        .add_layer(&added.diff(&world.snapshot, None))
        .unwrap();
    memory.remove(ContentHash::of(b"of the job"));
    let finished = committed(&world, &fs, &CommitOptions::default()).await;
    let finished = finished.unwrap();
    assert_eq!(
        finished
            .published
            .or(finished.resumed)
            .unwrap()
            .committed
            .key,
        World::key(1)
    );
    assert!(memory.objects().contains(&ContentHash::of(b"of the job")));
}
