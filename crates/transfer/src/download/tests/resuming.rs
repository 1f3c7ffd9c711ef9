//! What was interrupted is gone on with.

use attachfs_store::fault::{Failure, Fault};

use super::*;
use crate::download::states::Partial;
use crate::download::step::{LinkStep, Swap};
use crate::download::sync::{one_of_each_file_system, sync};

/// Downloads block after block until the store has given so many, and stops there.
async fn interrupted(setup: &Setup, wanted: &Snapshot, gets: usize) {
    setup.record.clear();
    setup.fails(Rule::on(CallKind::Get, Fault::Hang).after(gets));
    let place = setup.try_to(Wanted::Snapshot(wanted));
    let until = async {
        while setup.gets() <= gets {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = place => panic!("it ended: {ended:?}"),
        () = until => {}
    }
    setup.record.wait_idle(CallKind::Get).await;
    setup.ended().await;
    setup.fault.heal();
    setup.record.clear();
}

#[tokio::test]
async fn blocks_that_were_fetched_before_an_interruption_are_not_fetched_again() {
    let mut setup = Setup::new();
    setup.options.memory_bytes = 1 << 10;
    let bytes = long(20_000);
    for node in [setup.file(&bytes), setup.chunks(&bytes)] {
        let _ = fs::remove_dir_all(setup.root());
        let all = if hash_of(&node) == ContentHash::of(&bytes) {
            20
        } else {
            27
        };
        let wanted = snapshot([("big", node)]);
        interrupted(&setup, &wanted, 12).await;
        assert_eq!(setup.names().len(), 1, "one part");
        let listener = listening(|_| false);
        let report = setup.listened(Wanted::Snapshot(&wanted), &listener).await;
        let report = report.unwrap();
        assert_eq!(counts(&report), (1, 1, 0, 0));
        assert_eq!(setup.gets(), all - 12);
        let (done, skipped, total) = listener.bytes();
        assert_eq!((done, total), (20_000, 20_000));
        assert!(skipped >= 9000, "{skipped}");
        let summary = &report.summary;
        let counted = (summary.processed.bytes, summary.skipped.bytes);
        assert_eq!(counted, (20_000 - skipped, skipped));
        assert_eq!(setup.names(), ["big"]);
        assert_eq!(fs::read(setup.at("big")).unwrap(), bytes);
    }
}

#[tokio::test]
async fn blocks_that_were_altered_since_are_fetched_again() {
    let mut setup = Setup::new();
    setup.options.memory_bytes = 1 << 10;
    let bytes = long(20_000);
    let wanted = snapshot([("big", setup.file(&bytes))]);
    interrupted(&setup, &wanted, 12).await;
    let part = setup.at(&setup.names()[0]);
    let mut there = fs::read(&part).unwrap();
    there[1500] ^= 1;
    fs::write(&part, there).unwrap();
    assert_eq!(counts(&setup.place(&wanted).await), (1, 1, 0, 0));
    assert_eq!(fs::read(setup.at("big")).unwrap(), bytes);
}

#[tokio::test]
async fn what_is_left_of_something_else_is_removed_and_nothing_of_others() {
    let mut setup = Setup::new();
    setup.options.memory_bytes = 1 << 10;
    let first = snapshot([("big", setup.file(long(20_000)))]);
    interrupted(&setup, &first, 5).await;
    let part = setup.names()[0].clone();
    setup.there(".attachfs-mine.part", "mine");
    let second = snapshot([
        ("small", setup.file("small")),
        (&part, setup.file("theirs")),
    ]);
    setup.place(&second).await;
    assert_eq!(
        setup.names().len(),
        4,
        "a file of the manifest may have any name"
    );
    let third = snapshot([("small", setup.file("small")), ("other", setup.file("o"))]);
    setup.place(&third).await;
    assert!(setup.names().contains(&".attachfs-mine.part".to_owned()));
    assert!(!setup.names().contains(&part));
}

#[tokio::test]
async fn what_is_left_of_something_else_takes_no_room_that_is_needed() {
    let mut setup = Setup::new();
    setup.options.memory_bytes = 1 << 10;
    let first = snapshot([("big", setup.file(long(20_000)))]);
    interrupted(&setup, &first, 5).await;
    // Refused where it is reckoned what there is room for.
    let deep = "d/".repeat(2045) + "file";
    let second = snapshot([("a", setup.file("a")), (&deep, setup.file("b"))]);
    let error = setup.try_to(Wanted::Snapshot(&second)).await.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    assert_eq!(setup.names(), [] as [&str; 0]);
}

#[tokio::test]
async fn a_failure_of_the_store_in_the_middle_is_gone_on_from() {
    let mut setup = Setup::new();
    setup.options.memory_bytes = 1 << 10;
    let wanted = snapshot([("big", setup.file(long(20_000))), ("a", setup.file("a"))]);
    setup.fails(
        Rule::on(CallKind::Get, Fault::Before(Failure::Full))
            .after(9)
            .times(1),
    );
    let report = setup.place(&wanted).await;
    assert_eq!(report.summary.errors.len(), 1);
    let before = setup.gets();
    assert!(setup.place(&wanted).await.summary.is_complete());
    let (blocks, small) = (20, 1);
    assert_eq!(setup.gets(), blocks + small + 1, "nothing twice: {before}");
}

#[tokio::test]
async fn a_listener_that_has_enough_ends_it_and_the_next_one_goes_on() {
    let setup = Setup::new();
    let entries: Vec<_> = (0..500)
        .map(|i| (path(&format!("f{i}")), setup.file(format!("file {i}"))))
        .collect();
    let wanted = Snapshot::new(ChunkSize::WholeFile, None, entries).unwrap();
    let enough = listening(|event| event.phase == Phase::Download && event.items_done > 0);
    let placed = setup.listened(Wanted::Snapshot(&wanted), &enough).await;
    let error = placed.unwrap_err();
    assert!(
        matches!(error.source, TransferError::Cancelled(_)),
        "{error}"
    );
    let summary = &error.report.summary;
    assert_eq!(summary.total.count, 500);
    assert!((1..500).contains(&summary.processed.count), "{summary:?}");
    let report = setup.place(&wanted).await;
    assert!(report.summary.is_complete());
    assert!(report.summary.skipped.count > 0);
    assert_eq!(setup.names().len(), 500);
}

#[tokio::test]
async fn who_has_enough_of_looking_is_heard() {
    let setup = Setup::new();
    let wanted = snapshot([("a", setup.file("a"))]);
    let enough = listening(|event| event.phase == Phase::Scan);
    let placed = setup.listened(Wanted::Snapshot(&wanted), &enough).await;
    let error = placed.unwrap_err().source;
    assert!(matches!(error, TransferError::Cancelled(_)), "{error}");
    assert_eq!((setup.gets(), setup.names().len()), (0, 0));
}

#[tokio::test]
async fn every_quick_act_stops_when_it_is_told_to() {
    let setup = Setup::new();
    setup.there("gone", "gone");
    let folder = setup.folder();
    let stamp = folder.dir.look(b"gone").unwrap().unwrap().stamp;
    let run = setup.run(folder);
    let deletion = Deletion {
        path: path("gone"),
        is_dir: false,
        stamp,
    };
    let link = LinkStep {
        path: path("l"),
        target: LinkTarget::Root,
        taken: None,
    };
    let swap = Swap {
        deletions: vec![deletion.clone()],
        ..Swap::default()
    };
    let Shared { folder, meter, .. } = &*run.shared;
    meter.stop();
    let acts = run.acts();
    acts.make_dirs(&[path("d")]).unwrap_err();
    acts.make_links(&[link]).unwrap_err();
    let swaps = [(path("gone"), swap)].into();
    run.swaps().make_all(&swaps).unwrap_err();
    acts.make_deletions(&[deletion]).unwrap_err();
    sync(&folder.dir, &[vec![]].into(), meter).unwrap_err();
    assert_eq!(setup.names(), ["gone"]);
}

#[tokio::test]
async fn what_was_deleted_before_it_stopped_is_told() {
    let setup = Setup::new();
    setup.there("gone", "gone");
    setup.there("z/mine", "mine");
    let changes = diff([
        ("gone", Change::DeleteFile),
        ("new", Change::Put(setup.file("new"))),
        // Comes first: deletions go backwards.
        ("z", Change::DeleteDir),
    ]);
    let enough = listening(|_| !setup.at("gone").exists());
    let stopped = setup.listened(Wanted::Diff(&changes), &enough).await;
    let report = stopped.unwrap_err().report;
    assert_eq!((report.deleted, report.left.len()), (1, 1), "{report:?}");
}

#[tokio::test]
async fn a_file_that_came_while_it_was_fetched_counts_once() {
    for bytes in [b"new".to_vec(), long(4000)] {
        let setup = Setup::new();
        let wanted = snapshot([("a", setup.file(&bytes))]);
        let hold = setup.record.hold(CallKind::Get);
        let listener = listening(|_| false);
        let place = setup.listened(Wanted::Snapshot(&wanted), &listener);
        let meanwhile = async {
            setup.record.wait_in_flight(CallKind::Get, 1).await;
            fs::write(setup.at("a"), &bytes).unwrap();
            drop(hold);
        };
        let (report, ()) = tokio::join!(place, meanwhile);
        assert_eq!(counts(&report.unwrap()), (1, 0, 1, 0));
        let all = bytes.len() as u64;
        assert_eq!(listener.bytes(), (all, 0, all));
    }
}

#[test]
fn only_room_that_is_taken_and_can_be_gone_on_with_is_not_asked_for_again() {
    let setup = Setup::new();
    fs::create_dir(setup.root()).unwrap();
    let folder = setup.folder();
    let step = setup.step("f", long(100_000));
    let partial = || {
        let dir = folder.dir.dir(b"").unwrap();
        Partial::create(dir, step.key(), 100_000, false).unwrap()
    };
    let room_of = |partial: &Partial| {
        let mut leftovers = Leftovers::default();
        leftovers.add(b"", step.key(), partial.name().to_vec());
        leftovers.room_of(&folder.dir, &step, 100_000)
    };
    let in_use = partial();
    in_use.reserve().unwrap();
    assert_eq!(room_of(&in_use), 0);
    in_use.keep();
    in_use.file().unlock().unwrap();
    assert_eq!(room_of(&in_use), 100_000);
    let sparse = partial();
    sparse.file().set_len(100_000).unwrap();
    sparse.file().unlock().unwrap();
    assert!(room_of(&sparse) < 100_000);
}

#[tokio::test]
async fn links_and_directories_that_did_not_get_their_names_are_removed() {
    let setup = Setup::new();
    fs::create_dir(setup.root()).unwrap();
    let left = |number| {
        let name = names::part_name(ContentHash::of(b"text"), number);
        setup.at(&String::from_utf8(name).unwrap())
    };
    std::os::unix::fs::symlink("nowhere", left(1)).unwrap();
    fs::create_dir(left(2)).unwrap();
    setup.place(&snapshot([("a", setup.file("a"))])).await;
    assert_eq!(setup.names(), ["a"]);
}

#[test]
fn every_file_system_that_was_written_to_is_synced_once() {
    let root = HeldDir::open(std::path::Path::new("/")).unwrap();
    let dirs = [&b""[..], b"dev", b"none", b"proc", b"proc/self/attr"];
    let dirs = dirs.map(<[u8]>::to_vec).into();
    assert_eq!(one_of_each_file_system(&root, &dirs).len(), 3);
}

#[tokio::test]
async fn what_was_moved_into_another_directory_places_nothing_there() {
    let mut setup = Setup::new();
    setup.options.memory_bytes = 1 << 10;
    setup.options.conflict = Conflict::Overwrite;
    setup.there("x", "x");
    let bytes = long(20_000);
    let wanted = snapshot([("d/big", setup.file(&bytes)), ("a", setup.file("a"))]);
    interrupted(&setup, &wanted, 5).await;
    let below = fs::read_dir(setup.at("d")).unwrap().next().unwrap();
    let name = below.unwrap().file_name();
    for places_again in [false, true] {
        if places_again {
            interrupted(&setup, &wanted, 5).await;
            let below = fs::read_dir(setup.at("d")).unwrap().next().unwrap();
            fs::copy(below.unwrap().path(), setup.root().join(&name)).unwrap();
        } else {
            fs::rename(setup.at("d").join(&name), setup.root().join(&name)).unwrap();
        }
        setup.there("big", "mine");
        assert!(setup.place(&wanted).await.summary.is_complete());
        assert_eq!(setup.text("big"), "mine");
        assert_eq!(fs::read(setup.at("d/big")).unwrap(), bytes);
        assert_eq!(setup.names(), ["a", "big", "d", "x"]);
        fs::remove_file(setup.at("d/big")).unwrap();
    }
}

#[tokio::test]
async fn what_is_left_of_a_file_that_needs_it_no_more_is_removed() {
    let mut setup = Setup::new();
    setup.options.memory_bytes = 1 << 10;
    let wanted = snapshot([("big", setup.file(long(20_000)))]);
    interrupted(&setup, &wanted, 5).await;
    let part = setup.at(&setup.names()[0]);
    // Of the same file, so that only one of them is gone on with.
    let key = names::key_of_part(setup.names()[0].as_bytes()).unwrap();
    let second = String::from_utf8(names::part_name(key, 1)).unwrap();
    fs::copy(&part, setup.at(&second)).unwrap();
    setup.place(&wanted).await;
    assert_eq!(setup.names(), ["big"]);
    fs::rename(setup.at("big"), setup.root().join("kept")).unwrap();
    interrupted(&setup, &wanted, 5).await;
    fs::rename(setup.at("kept"), setup.at("big")).unwrap();
    assert_eq!(counts(&setup.place(&wanted).await), (1, 0, 1, 0));
    assert_eq!(setup.names(), ["big"], "it is skipped");
}
