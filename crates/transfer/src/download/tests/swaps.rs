//! One thing takes the place of another: whatever happens between its first byte and its name.

use std::time::{Duration, SystemTime};

use attachfs_store::fault::Fault;

use super::*;
use crate::download::naming::Target;
use crate::download::report::Outcome;
use crate::download::states::{Partial, Proof, Verified};
use crate::download::step::Swap;

/// How many parts are whole and wait.
fn waiting(setup: &Setup) -> usize {
    let time = SystemTime::UNIX_EPOCH + Duration::from_micros(TIME as u64);
    let is_whole = |part: &&PathBuf| {
        let facts = fs::metadata(part);
        facts.is_ok_and(|facts| facts.modified().unwrap() == time)
    };
    setup.parts().iter().filter(is_whole).count()
}

/// Applies a diff until so many files wait, does something, and ends it there, since the store does not
/// give one object.
async fn killed(
    setup: &Setup,
    changes: &Diff,
    missing: ContentHash,
    files: usize,
    meanwhile: impl Future<Output = ()>,
) {
    setup.record.clear();
    setup.fails(Rule::on(CallKind::Get, Fault::Hang).of(missing));
    let until = async {
        while waiting(setup) < files {
            tokio::task::yield_now().await;
        }
        meanwhile.await;
    };
    tokio::select! {
        ended = setup.try_to(Wanted::Diff(changes)) => panic!("it ended: {ended:?}"),
        () = until => {}
    }
    setup.record.wait_idle(CallKind::Get).await;
    setup.ended().await;
    setup.fault.heal();
}

/// A directory that becomes a file, a file that becomes a directory with three files, and one more file.
fn replacing(setup: &Setup, last: &Node) -> Diff {
    setup.there("d/e", "e");
    setup.there("f", "f");
    diff([
        ("d", Change::DeleteDir),
        ("d", Change::Put(setup.chunks(&long(4000)))),
        ("d/e", Change::DeleteFile),
        ("f", Change::DeleteFile),
        ("f/g", Change::Put(setup.file("small"))),
        ("f/h/large", Change::Put(setup.file(long(5000)))),
        ("f/h/none", Change::Put(setup.file(""))),
        ("last", Change::Put(last.clone())),
    ])
}

/// What a kill leaves, each with what was done before it.
const STEPS: [fn(&Setup); 5] = [
    |_| {},
    |setup| fs::remove_file(setup.at("d/e")).unwrap(),
    |setup| {
        fs::remove_dir_all(setup.at("d")).unwrap();
        fs::remove_file(setup.at("f")).unwrap();
    },
    |setup| fs::create_dir_all(setup.at("f/h")).unwrap(),
    |setup| {
        for (name, bytes) in [("d", long(4000)), ("f/g", b"small".to_vec())] {
            let parts = setup.parts();
            let part = parts.iter().find(|part| fs::read(part).unwrap() == bytes);
            fs::rename(part.unwrap(), setup.at(name)).unwrap();
        }
    },
];

#[tokio::test]
async fn what_is_killed_while_one_thing_takes_the_place_of_another_ends_with_all_of_it_fetched_once()
 {
    for done in 0..STEPS.len() {
        let mut setup = Setup::new();
        setup.options.conflict = Conflict::Overwrite;
        let last = setup.file("last");
        let changes = replacing(&setup, &last);
        killed(&setup, &changes, hash_of(&last), 4, async {}).await;
        let again = setup.record.wait_in_flight(CallKind::Get, 1);
        killed(&setup, &changes, hash_of(&last), 4, again).await;
        assert_eq!(setup.gets(), 1, "the one that it did not get");
        for step in &STEPS[..=done] {
            step(&setup);
        }
        setup.record.clear();
        let report = setup.apply(&changes).await;
        assert!(report.summary.is_complete(), "{done}: {report:?}");
        assert_eq!(setup.gets(), 1, "{done}");
        assert_eq!(setup.parts(), [] as [PathBuf; 0], "{done}");
        assert_eq!(setup.names(), ["d", "f", "last"]);
        assert_eq!(fs::read(setup.at("d")).unwrap(), long(4000));
        assert_eq!(setup.text("f/g"), "small");
        assert_eq!(fs::read(setup.at("f/h/large")).unwrap(), long(5000));
        assert_eq!(setup.text("f/h/none"), "");
        let again = setup.apply(&changes).await;
        assert_eq!((counts(&again), again.deleted), ((5, 0, 5, 0), 0));
    }
}

#[tokio::test]
async fn what_waited_and_was_altered_since_is_fetched_again() {
    let mut setup = Setup::new();
    setup.options.conflict = Conflict::Overwrite;
    let last = setup.file("last");
    let changes = replacing(&setup, &last);
    killed(&setup, &changes, hash_of(&last), 4, async {}).await;
    for part in setup.parts() {
        let bytes: Vec<u8> = fs::read(&part)
            .unwrap()
            .iter()
            .map(|byte| byte ^ 1)
            .collect();
        fs::write(&part, bytes).unwrap();
    }
    assert_eq!(counts(&setup.apply(&changes).await), (5, 5, 0, 0));
    assert_eq!(fs::read(setup.at("d")).unwrap(), long(4000));
    assert_eq!(setup.text("f/g"), "small");
    assert_eq!(fs::read(setup.at("f/h/large")).unwrap(), long(5000));
    assert_eq!(setup.parts(), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn what_waits_is_left_alone_by_another_download() {
    let mut setup = Setup::new();
    setup.options.conflict = Conflict::Overwrite;
    let last = setup.file("last");
    let changes = replacing(&setup, &last);
    let other = snapshot([("other", setup.file("other"))]);
    let meanwhile = async {
        setup.place(&other).await;
        assert_eq!(waiting(&setup), 4);
    };
    killed(&setup, &changes, hash_of(&last), 4, Box::pin(meanwhile)).await;
    setup.record.clear();
    assert!(setup.apply(&changes).await.summary.is_complete());
    assert_eq!(setup.gets(), 1);
}

fn waits_for(setup: &Setup, name: &str) -> FileStep {
    FileStep {
        swap: Some(path("f")),
        ..setup.step(name, name)
    }
}

/// The file of a step in the root, fetched and without its name, and where it lies.
fn fetched(setup: &Setup, run: &Run, step: &FileStep, bytes: &str) -> (Verified, PathBuf) {
    let dir = run.shared.folder.dir.dir(b"").unwrap();
    let partial = Partial::create(dir, step.key(), step.file.size, false).unwrap();
    partial.write(bytes.as_bytes(), 0).unwrap();
    let at = setup.at(str::from_utf8(partial.name()).unwrap());
    let object = step.file.content.hashes()[0];
    let proof = Proof::of_bytes(object, bytes.as_bytes()).unwrap();
    (partial.verified(proof), at)
}

/// Fetches a file that waits for `f`; says where it lies.
fn put_by(setup: &Setup, run: &Run, name: &str) -> PathBuf {
    let step = waits_for(setup, name);
    let (verified, at) = fetched(setup, run, &step, name);
    let outcome = run.shared.finish(verified, &step, Target::Free, 0);
    assert!(matches!(outcome, Ok(Outcome::Waits)), "{outcome:?}");
    at
}

/// A file `f` that becomes a directory.
fn becomes_a_dir(setup: &Setup) -> (Run, Swap) {
    setup.there("f", "f");
    let folder = setup.folder();
    let stamp = folder.dir.look(b"f").unwrap().unwrap().stamp;
    let swap = Swap {
        deletions: vec![Deletion {
            path: path("f"),
            is_dir: false,
            stamp,
        }],
        dirs: vec![path("f")],
        links: Vec::new(),
    };
    (setup.run(folder), swap)
}

#[test]
fn nothing_is_cleared_away_for_what_is_gone_again() {
    let setup = Setup::new();
    let (run, swap) = becomes_a_dir(&setup);
    fs::remove_file(put_by(&setup, &run, "f/g")).unwrap();
    run.swaps().make_all(&[(path("f"), swap)].into()).unwrap();
    let report = run.report.lock();
    let counted = (report.deleted, report.summary.errors.len());
    assert_eq!(counted, (0, 2), "{report:?}");
    assert_eq!(setup.text("f"), "f");
}

#[test]
fn what_another_run_could_not_take_over_gets_its_place_from_this_one() {
    let setup = Setup::new();
    let (run, swap) = becomes_a_dir(&setup);
    let part = put_by(&setup, &run, "f/g");
    // As where the owner is not the one who made it.
    fs::hard_link(part, setup.at("second")).unwrap();
    run.swaps().make_all(&[(path("f"), swap)].into()).unwrap();
    let report = run.report.lock();
    assert_eq!(report.summary.errors, []);
    assert_eq!(setup.text("f/g"), "f/g");
}

#[test]
fn who_stops_after_the_deletion_still_places_what_can_be_placed() {
    let setup = Setup::new();
    let (run, swap) = becomes_a_dir(&setup);
    for name in ["f/a", "f/b"] {
        put_by(&setup, &run, name);
    }
    // It is looked at, and that ends when it is told to.
    fs::remove_file(setup.at("f")).unwrap();
    setup.there("f/a", "123");
    run.shared.meter.stop();
    run.swaps().make(&path("f"), &swap).unwrap_err();
    assert_eq!(setup.text("f/b"), "f/b");
    assert_eq!(run.report.lock().summary.processed.count, 1);
    assert_eq!(run.shared.waitlist.len(), 1, "the other still waits");
}

#[test]
fn permissions_that_cannot_be_given_are_told_before_anything_is_cleared_away() {
    as_anybody(async || {
        let mut setup = Setup::new();
        setup.options.permissions.group = Some(54_321);
        let (run, _) = becomes_a_dir(&setup);
        let step = waits_for(&setup, "f/g");
        let (verified, _) = fetched(&setup, &run, &step, "f/g");
        let ended = run.shared.finish(verified, &step, Target::Free, 0);
        ended.unwrap_err();
        assert_eq!(run.shared.waitlist.len(), 0);
    });
}
