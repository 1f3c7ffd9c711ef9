//! Stores that fail: no wrong file, and always a way to go on.

use attachfs_store::fault::{Failure, Fault};

use super::*;

fn wanted(setup: &Setup) -> Snapshot {
    snapshot([
        ("a", setup.file("small")),
        ("big", setup.file(long(5500))),
        ("chunks", setup.chunks(&long(6100))),
        ("other", setup.file("other")),
    ])
}

/// The store has this fault once for each object, or always.
async fn with(fault: Fault, times: usize) -> (Setup, DownloadReport) {
    let setup = Setup::new();
    let wanted = wanted(&setup);
    let faulty = [
        hash_of(&wanted.get(&path("a")).unwrap()),
        hash_of(&wanted.get(&path("big")).unwrap()),
        hash_of(&wanted.get(&path("chunks")).unwrap()),
    ];
    for object in faulty {
        setup.fails(Rule::on(CallKind::Get, fault).of(object).times(times));
    }
    let report = setup.place(&wanted).await;
    (setup, report)
}

#[tokio::test]
async fn wrong_bytes_are_asked_for_again() {
    for fault in [Fault::Corrupt, Fault::Truncate(2), Fault::Shorten(1)] {
        let (setup, report) = with(fault, 1).await;
        assert_eq!(counts(&report), (4, 4, 0, 0), "{fault:?} {report:?}");
        assert_eq!(setup.text("a"), "small");
        assert_eq!(fs::read(setup.at("big")).unwrap(), long(5500));
        assert_eq!(fs::read(setup.at("chunks")).unwrap(), long(6100));
    }
}

#[tokio::test]
async fn what_is_fetched_again_counts_once() {
    let setup = Setup::new();
    let wanted = wanted(&setup);
    for name in ["big", "chunks"] {
        let object = hash_of(&wanted.get(&path(name)).unwrap());
        setup.fails(Rule::on(CallKind::Get, Fault::Corrupt).of(object).times(1));
    }
    let listener = listening(|_| false);
    let placed = setup.listened(Wanted::Snapshot(&wanted), &listener).await;
    let total = placed.unwrap().summary.total.bytes;
    assert_eq!(listener.bytes(), (total, 0, total));
}

#[tokio::test]
async fn bytes_that_stay_wrong_fail_the_file_and_nothing_is_placed() {
    for fault in [
        Fault::Corrupt,
        Fault::Truncate(2),
        Fault::Shorten(1),
        Fault::Before(Failure::NotFound),
        Fault::Before(Failure::Other),
    ] {
        let (setup, report) = with(fault, usize::MAX).await;
        assert_eq!(counts(&report), (4, 1, 0, 3), "{fault:?} {report:?}");
        let mut names = setup.names();
        names.retain(|name| names::key_of_part(name.as_bytes()).is_none());
        assert_eq!(names, ["other"], "{fault:?}");
        setup.fault.heal();
        let wanted = wanted(&setup);
        assert_eq!(counts(&setup.place(&wanted).await), (4, 3, 1, 0));
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_had_costs_none_of_the_others() {
    for fault in [
        Fault::Corrupt,
        Fault::Before(Failure::NotFound),
        Fault::Before(Failure::Unreachable),
    ] {
        let mut setup = Setup::new();
        setup.options.memory_bytes = 1 << 10;
        let bytes = long(6100);
        let chunks = setup.chunks(&bytes);
        let last_but_one = chunks.as_file().unwrap().content.hashes()[3];
        let wanted = snapshot([("chunks", chunks)]);
        setup.fails(Rule::on(CallKind::Get, fault).of(last_but_one));
        assert_eq!(counts(&setup.place(&wanted).await), (1, 0, 0, 1));
        setup.fault.heal();
        setup.record.clear();
        assert_eq!(counts(&setup.place(&wanted).await), (1, 1, 0, 0));
        assert_eq!(setup.gets(), 3, "{fault:?}: two blocks of it, and the last");
        assert_eq!(fs::read(setup.at("chunks")).unwrap(), bytes);
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_file_that_is_one_damaged_object() {
    let setup = Setup::new();
    setup.fails(Rule::on(CallKind::Get, Fault::Corrupt));
    let wanted = snapshot([("big", setup.file(long(5500)))]);
    assert_eq!(counts(&setup.place(&wanted).await), (1, 0, 0, 1));
    assert_eq!(setup.names(), [] as [&str; 0]);
}

#[tokio::test]
async fn a_damaged_object_is_named_with_both_hashes() {
    let (_, report) = with(Fault::Corrupt, usize::MAX).await;
    let failed = &report.summary.errors[0];
    assert_eq!(failed.path, "a");
    let expected = ContentHash::of(b"small").to_string();
    assert!(failed.error.contains(&expected), "{}", failed.error);
    // One bit in the middle.
    let found = ContentHash::of(b"sm`ll").to_string();
    assert!(failed.error.contains(&found), "{}", failed.error);
}

#[tokio::test]
async fn a_store_that_is_gone_or_refuses_ends_the_call() {
    for failure in [Failure::Unreachable, Failure::Denied] {
        let setup = Setup::new();
        let names: Vec<String> = (0..20).map(|number| format!("{number}")).collect();
        let entries = names.iter().map(|name| (path(name), setup.file(name)));
        let wanted = Snapshot::new(ChunkSize::WholeFile, None, entries.collect::<Vec<_>>());
        let wanted = wanted.unwrap();
        setup.fails(Rule::on(CallKind::Get, Fault::Before(failure)));
        let error = setup.try_to(Wanted::Snapshot(&wanted)).await.unwrap_err();
        let is_of_store = matches!(&error, TransferError::Download(DownloadError::Store { .. }));
        assert!(is_of_store, "{error}");
        assert_eq!(setup.names(), [] as [&str; 0]);
        setup.fault.heal();
        assert_eq!(counts(&setup.place(&wanted).await), (20, 20, 0, 0));
    }
}

#[tokio::test]
async fn one_object_that_is_refused_fails_its_file_only_even_if_it_is_the_first() {
    let mut setup = Setup::new();
    // Then what comes first is asked for first.
    setup.options.max_in_flight = 1;
    let refused = setup.file("refused");
    let hash = hash_of(&refused);
    let wanted = snapshot([("a", refused), ("b", setup.file("b"))]);
    setup.fails(Rule::on(CallKind::Get, Fault::Before(Failure::Denied)).of(hash));
    let report = setup.place(&wanted).await;
    assert_eq!(counts(&report), (2, 1, 0, 1));
    assert_eq!(setup.names(), ["b"]);
}

#[tokio::test]
async fn an_empty_file_asks_the_store_for_nothing() {
    let setup = Setup::new();
    let report = setup.place(&snapshot([("e", setup.file(""))])).await;
    assert_eq!(counts(&report), (1, 1, 0, 0));
    assert_eq!(setup.gets(), 0);
}

#[tokio::test]
async fn memory_is_held_for_a_bounded_number_of_bytes() {
    let mut setup = Setup::new();
    setup.options.memory_bytes = 4 << 10;
    let wanted = snapshot([
        ("1", setup.file(long(20_000))),
        ("2", setup.file(long(20_001))),
        ("3", setup.file(long(20_002))),
        ("s", setup.file("small")),
    ]);
    let hold = setup.record.hold(CallKind::Get);
    let place = setup.place(&wanted);
    let meanwhile = async {
        // One block for each KiB.
        setup.record.wait_in_flight(CallKind::Get, 4).await;
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let most = setup.record.in_flight(CallKind::Get);
        drop(hold);
        most
    };
    let (report, most) = tokio::join!(place, meanwhile);
    assert_eq!((most, counts(&report)), (4, (4, 4, 0, 0)));
    for (name, len) in [("1", 20_000), ("2", 20_001), ("3", 20_002)] {
        assert_eq!(fs::read(setup.at(name)).unwrap(), long(len));
    }
}
