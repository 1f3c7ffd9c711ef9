//! What the hash caches know of what is there, and what they are told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attachfs_durable::FileStamp;
use attachfs_scan::cache::{Day, HashCacheOptions, HashCaches, SETTLED};
use attachfs_scan::{Ground, ScannedFile};

use super::*;
use crate::download::naming::Target;
use crate::download::states::{Partial, Proof};

/// How manifests of these tests cut files.
fn cut() -> ChunkSize {
    ChunkSize::Bytes(1500.try_into().unwrap())
}

/// A download with a hash cache below `home`, how to open that again, and the cache.
fn cached(home: &TempDir) -> (Setup, HashCacheOptions, Arc<HashCaches>) {
    let mut setup = Setup::new();
    let own = HashCacheOptions::new(home.path().join("hashes"), "here".into(), Day(20_000));
    let caches = Arc::new(HashCaches::open(Some(&own), None));
    setup.options.caches = Some(Arc::clone(&caches));
    (setup, own, caches)
}

/// Makes a file that is there before, with the time of the manifest.
fn there_in_time(setup: &Setup, name: &str, bytes: &str) {
    setup.there(name, bytes);
    let file = fs::File::options().write(true).open(setup.at(name));
    attachfs_durable::set_modified(&file.unwrap(), TIME / 1_000_000, 123_456_000).unwrap();
}

fn stamp_of(setup: &Setup, name: &str) -> FileStamp {
    FileStamp::of(&fs::File::open(setup.at(name)).unwrap()).unwrap()
}

/// A file as it is, in the way in which the caches are asked about it.
fn scanned(setup: &Setup, name: &str) -> ScannedFile {
    let ground = Ground::open(setup.root().canonicalize().unwrap()).unwrap();
    ground.file(path(name).borrowed(), stamp_of(setup, name), false)
}

#[tokio::test]
async fn what_was_read_is_remembered_while_the_download_goes_on() {
    let home = TempDir::new().unwrap();
    let (setup, own, _) = cached(&home);
    there_in_time(&setup, "a", "small");
    let wanted = snapshot([("a", setup.file("small")), ("b", setup.file("b"))]);
    // What was changed just now is not remembered at all.
    let settled = SystemTime::now() + SETTLED;
    while SystemTime::now() < settled {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _hold = setup.record.hold(CallKind::Get);
    let another = HashCaches::open(Some(&own), None);
    let scanned = scanned(&setup, "a");
    let known = async {
        let is_known = || another.look_up(&[&scanned], cut(), SystemTime::now()) != [None];
        while !is_known() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        placed = setup.place(&wanted) => panic!("{placed:?}"),
        known = tokio::time::timeout(Duration::from_mins(1), known) => known.unwrap(),
    }
}

#[tokio::test]
async fn what_was_read_is_known_after_its_time_was_set_too() {
    let home = TempDir::new().unwrap();
    let (setup, _, caches) = cached(&home);
    setup.there("a", "small");
    let wanted = snapshot([("a", setup.file("small")), ("b", setup.file("b"))]);
    let hold = setup.record.hold(CallKind::Get);
    let meanwhile = async {
        setup.record.wait_in_flight(CallKind::Get, 1).await;
        // What was changed just now is not remembered at all.
        let is_settled = || {
            let stamp = stamp_of(&setup, "a");
            let set = stamp.mtime_ns == i128::from(TIME) * 1000;
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let age = now.unwrap().as_nanos() as i128 - stamp.ctime_ns;
            set && age > SETTLED.as_nanos() as i128
        };
        while !is_settled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(hold);
    };
    let (report, ()) = tokio::join!(setup.place(&wanted), meanwhile);
    assert_eq!(counts(&report), (2, 1, 1, 0));
    let scanned = scanned(&setup, "a");
    let known = caches.look_up(&[&scanned], cut(), SystemTime::now());
    assert_ne!(known, [None]);
}

#[tokio::test]
async fn a_hash_that_is_known_is_believed_unless_all_is_to_be_read() {
    let home = TempDir::new().unwrap();
    let (mut setup, _, caches) = cached(&home);
    there_in_time(&setup, "a", "SMALL");
    // As a run of long ago would have it.
    let later = SystemTime::now() + Duration::from_hours(1);
    let hashes = [ContentHash::of(b"small")];
    caches.remember(&scanned(&setup, "a"), cut(), &hashes, later);
    caches.flush();
    let wanted = snapshot([("a", setup.file("small"))]);
    assert_eq!(counts(&setup.place(&wanted).await), (1, 0, 1, 0));
    setup.options.force_rehash = true;
    assert_eq!(counts(&setup.place(&wanted).await), (1, 1, 0, 0));
    assert_eq!(setup.text("a (1)"), "small");
}

#[test]
fn a_new_file_that_was_changed_at_once_is_not_remembered() {
    let mut setup = Setup::new();
    fs::create_dir(setup.root()).unwrap();
    setup.options.caches = Some(Arc::new(HashCaches::open(None, None)));
    let folder = setup.folder();
    let step = setup.step("f", "abc");
    let dir = folder.dir.dir(b"").unwrap();
    let partial = Partial::create(dir, step.key(), 3, false).unwrap();
    partial.write(b"abc", 0).unwrap();
    let object = step.file.content.hashes()[0];
    let verified = partial.verified(Proof::of_bytes(object, b"abc").unwrap());
    let shared = setup.run(folder).shared;
    let placed = shared.finish(verified, &step, Target::Free, 0);
    placed.unwrap();
    let remembered = &shared.naming.comparison.remembered;
    assert_eq!(remembered.placed_count(), 1);
    fs::write(setup.at("f"), "abcd").unwrap();
    let file = fs::File::open(setup.at("f")).unwrap();
    remembered.placed(&file, path("f"), &step, i128::from(TIME) * 1000);
    assert_eq!(remembered.placed_count(), 1);
}
