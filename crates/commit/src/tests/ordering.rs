//! The durable steps that come before a commit is visible.

use std::error::Error;
use std::sync::{Arc, Mutex};

use attachfs_durable::steps::{Recorder, Step};
use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
use attachfs_store::{CallKind, MemoryStore};

use crate::testing::{CUT, Given, World, bytes, committed, tempdir, watched};
use crate::{CommitOptions, CommitStep};

const EIO: i32 = 5;

fn about(step: Step, name: &str) -> (Step, String) {
    (step, name.to_owned())
}

/// The durable steps of a commit's record.
fn recorded() -> [(Step, String); 3] {
    [
        about(Step::JournalAppend, "journal"),
        about(Step::ScratchNames, "scratch"),
        about(Step::JournalSync, "journal"),
    ]
}

/// The durable steps of a commit's file.
fn written(name: &str) -> [(Step, String); 3] {
    [
        about(Step::OwnContent, "staged"),
        about(Step::OwnRename, name),
        about(Step::OwnName, "commits"),
    ]
}

/// All recorded steps, without repetitions in a row; random names as `staged`.
fn order(steps: &Recorder) -> Vec<(Step, String)> {
    let mut order = steps.order();
    for (_, name) in &mut order {
        if name.starts_with(".staged-") {
            "staged".clone_into(name);
        }
    }
    order.dedup();
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_sent_when_its_total_its_bytes_and_then_its_intent_are_durable() {
    let (memory, dir) = (Arc::new(MemoryStore::new()), tempdir());
    let world = World::new(memory.clone(), CUT, &[("a", Given::File(bytes(1, 10)))]).await;
    let fs = world.create(dir.path());
    fs.write("new", 0, &bytes(9, 2500)).unwrap();
    fs.vfs.fsyncdir().unwrap();
    let steps = Recorder::on(dir.path());
    let (intended, sent) = (Mutex::default(), Mutex::default());
    let options = CommitOptions::default();
    let outcome = watched(&world, &fs, &options, |step| match step {
        CommitStep::Intended => {
            assert_eq!(memory.manifests(), []);
            *intended.lock().unwrap() = order(&steps);
            steps.clear();
        }
        CommitStep::Sent => {
            assert_eq!(memory.manifests().len(), 1);
            *sent.lock().unwrap() = order(&steps);
            steps.clear();
        }
        _ => {}
    });
    outcome.await.unwrap();
    let mut expected = written("1.total").to_vec();
    expected.extend(written("1.manifest"));
    expected.extend(recorded());
    let mut intended = intended.into_inner().unwrap();
    let begin = intended.iter().position(|seen| *seen == expected[0]);
    assert_eq!(intended.split_off(begin.unwrap()), expected);
    assert_eq!(sent.into_inner().unwrap(), []);
    assert_eq!(order(&steps), recorded(), "the end is durable, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_names_the_file_in_the_mount() {
    let (memory, dir) = (Arc::new(MemoryStore::new()), tempdir());
    let store = Arc::new(FaultStore::new(memory));
    store.add(Rule::on(CallKind::Put, Fault::Before(Failure::Denied)));
    let world = World::new(store, CUT, &[]).await;
    let fs = world.create(dir.path());
    fs.write("new", 0, &bytes(9, 100)).unwrap();
    let error = committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn Error), |&cause| cause.source());
    let told: Vec<String> = causes.map(ToString::to_string).collect();
    assert!(
        told.contains(&"cannot store \"new\"".to_owned()),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_if_the_steps_before_cannot_be_made_durable() {
    let failing = [
        Step::OwnContent,
        Step::OwnRename,
        Step::OwnName,
        Step::ScratchNames,
        Step::JournalSync,
    ];
    for step in failing {
        let (memory, dir) = (Arc::new(MemoryStore::new()), tempdir());
        let world = World::new(memory.clone(), CUT, &[]).await;
        let fs = world.create(dir.path());
        fs.write("new", 0, &bytes(9, 2500)).unwrap();
        let steps = Recorder::on(dir.path());
        steps.fail(step, EIO);
        let ended = committed(&world, &fs, &CommitOptions::default()).await;
        assert!(ended.is_err(), "{step:?}");
        assert_eq!(memory.manifests(), [], "{step:?}");
    }
}
