//! What is placed is what the manifest says.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::download::file::file;

fn microseconds(at: &std::path::Path) -> i64 {
    let meta = fs::symlink_metadata(at).unwrap();
    assert_eq!(meta.mtime_nsec() % 1000, 0, "no part of a microsecond");
    meta.mtime() * 1_000_000 + meta.mtime_nsec() / 1000
}

fn mode(at: &std::path::Path) -> u32 {
    fs::symlink_metadata(at).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn everything_that_a_manifest_holds_is_placed() {
    let setup = Setup::new();
    let bytes = long(4321);
    let wanted = snapshot([
        ("a", setup.file("small")),
        ("d/empty", setup.file("")),
        ("d/run", runnable(setup.file("run"))),
        ("d/whole", setup.file(&bytes)),
        ("d/chunks", setup.chunks(&bytes)),
        ("nothing/in/it", Node::Dir),
        ("d/up", link("a")),
        ("d/in", link("d/whole")),
        ("root", Node::Symlink(LinkTarget::Root)),
    ]);
    let report = setup.place(&wanted).await;
    assert_eq!(counts(&report), (8, 8, 0, 0), "{report:?}");
    assert_eq!(report.summary.processed.bytes, 5 + 3 + 2 * 4321);
    assert_eq!(setup.text("a"), "small");
    assert_eq!(setup.text("d/empty"), "");
    for name in ["d/whole", "d/chunks"] {
        assert_eq!(fs::read(setup.at(name)).unwrap(), bytes, "{name}");
    }
    assert!(setup.at("nothing/in/it").is_dir());
    for (name, text) in [("d/up", "../a"), ("d/in", "whole"), ("root", ".")] {
        assert_eq!(fs::read_link(setup.at(name)).unwrap(), PathBuf::from(text));
    }
    for name in ["a", "d/empty", "d/run", "d/whole", "d/chunks"] {
        assert_eq!(microseconds(&setup.at(name)), TIME, "{name}");
    }
    assert_eq!(mode(&setup.at("d/run")) & 0o100, 0o100);
    assert_eq!(mode(&setup.at("a")) & 0o111, 0);
    assert_eq!(setup.names(), ["a", "d", "nothing", "root"]);
}

#[tokio::test]
async fn times_before_the_epoch_are_exact() {
    let setup = Setup::new();
    let Node::File(file) = setup.file("old") else {
        panic!("it is a file");
    };
    let old = Node::File(File {
        mtime: Mtime(-1),
        ..file
    });
    setup.place(&snapshot([("old", old)])).await;
    assert_eq!(microseconds(&setup.at("old")), -1);
}

#[tokio::test]
async fn what_is_there_is_skipped_and_asks_the_store_for_nothing() {
    let setup = Setup::new();
    let wanted = snapshot([
        ("a", setup.file("small")),
        ("d/chunks", setup.chunks(&long(4321))),
        ("d/link", link("a")),
    ]);
    setup.place(&wanted).await;
    setup.record.clear();
    let report = setup.place(&wanted).await;
    assert_eq!(counts(&report), (3, 0, 3, 0));
    assert_eq!(setup.record.calls(), []);
}

#[tokio::test]
async fn other_bytes_of_the_same_length_and_time_are_found_out() {
    let setup = Setup::new();
    let wanted = snapshot([("a", setup.file("small"))]);
    setup.place(&wanted).await;
    fs::write(setup.at("a"), "SMALL").unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(TIME as u64);
    let file = fs::File::options().write(true).open(setup.at("a")).unwrap();
    file.set_modified(time).unwrap();
    let report = setup.place(&wanted).await;
    assert_eq!(counts(&report), (1, 1, 0, 0));
    assert_eq!(setup.names(), ["a", "a (1)"]);
    assert_eq!(setup.text("a (1)"), "small");
}

#[tokio::test]
async fn the_right_bytes_under_another_time_get_their_time_and_are_not_fetched() {
    for conflict in [Conflict::CreateCopy, Conflict::Skip, Conflict::Overwrite] {
        let mut setup = Setup::new();
        setup.options.conflict = conflict;
        setup.there("a", "small");
        let wanted = snapshot([("a", setup.file("small"))]);
        let report = setup.place(&wanted).await;
        assert_eq!(counts(&report), (1, 0, 1, 0));
        assert_eq!((setup.gets(), setup.names()), (0, vec!["a".to_owned()]));
        assert_eq!(microseconds(&setup.at("a")), TIME);
    }
}

#[tokio::test]
async fn a_copy_that_lost_its_time_is_still_the_copy() {
    let setup = Setup::new();
    setup.there("a", "mine");
    setup.there("a (1)", "small");
    let wanted = snapshot([("a", setup.file("small"))]);
    assert_eq!(counts(&setup.place(&wanted).await), (1, 0, 1, 0));
    assert_eq!(setup.names(), ["a", "a (1)"]);
}

#[tokio::test]
async fn a_file_with_another_name_is_neither_made_runnable_nor_given_a_time() {
    for (wants_time, is_runnable) in [(true, false), (false, true)] {
        let setup = Setup::new();
        setup.there("f", "same");
        let outside = setup.temp.path().join("outside");
        fs::hard_link(setup.at("f"), &outside).unwrap();
        if !wants_time {
            let file = fs::File::options().write(true).open(&outside).unwrap();
            attachfs_durable::set_modified(&file, TIME / 1_000_000, 123_456_000).unwrap();
        }
        let before = (
            mode(&outside),
            fs::metadata(&outside).unwrap().modified().unwrap(),
        );
        let mut node = setup.file("same");
        if is_runnable {
            node = runnable(node);
        }
        let report = setup.place(&snapshot([("f", node)])).await;
        assert_eq!(report.copied.len(), 1, "{report:?}");
        let after = (
            mode(&outside),
            fs::metadata(&outside).unwrap().modified().unwrap(),
        );
        assert_eq!(before, after);
    }
}

#[test]
fn the_right_bytes_of_somebody_elses_file_are_skipped_and_what_cannot_be_set_is_told() {
    let setup = Setup::new();
    setup.there("run", "run");
    if std::os::unix::fs::chown(setup.at("run"), Some(54_321), None).is_err() {
        // Only root can prepare this.
        return;
    }
    as_anybody(async move || {
        let wanted = snapshot([("run", runnable(setup.file("run")))]);
        let report = setup.place(&wanted).await;
        assert_eq!(counts(&report), (1, 0, 1, 0));
        let why = &report.left[0].why;
        assert!(why.starts_with("cannot make it executable: "), "{why}");
    });
}

#[test]
fn a_file_that_may_not_be_read_differs() {
    as_anybody(async || {
        for (conflict, expected) in [
            (Conflict::CreateCopy, (1, 1, 0, 0)),
            (Conflict::Skip, (1, 0, 1, 0)),
            (Conflict::Overwrite, (1, 1, 0, 0)),
        ] {
            let mut setup = Setup::new();
            setup.options.conflict = conflict;
            setup.there("a", "small");
            fs::set_permissions(setup.at("a"), fs::Permissions::from_mode(0o000)).unwrap();
            let report = setup.place(&snapshot([("a", setup.file("small"))])).await;
            assert_eq!(counts(&report), expected, "{conflict:?} {report:?}");
        }
    });
}

#[tokio::test]
async fn no_more_files_are_read_at_once_than_are_written() {
    let setup = Setup::new();
    setup.there("a", "small");
    let folder = setup.folder();
    let found = folder.dir.look(b"a").unwrap().unwrap();
    let step = FileStep {
        place: Place::Alike(found.stamp),
        ..setup.step("a", "small")
    };
    let shared = setup.run(folder).shared;
    let held = shared.threads.all_turns().await;
    let mut reading = std::pin::pin!(file(Arc::clone(&shared), step));
    tokio::select! {
        biased;
        done = &mut reading => panic!("{done:?}"),
        () = std::future::ready(()) => {}
    }
    assert!(shared.threads.are_idle(), "none is being read");
    drop(held);
    reading.await.unwrap();
}

#[tokio::test]
async fn an_execute_bit_that_is_missing_is_added_without_a_fetch() {
    let setup = Setup::new();
    let wanted = snapshot([("run", runnable(setup.file("run")))]);
    setup.place(&wanted).await;
    fs::set_permissions(setup.at("run"), fs::Permissions::from_mode(0o640)).unwrap();
    let report = setup.place(&wanted).await;
    assert_eq!(counts(&report), (1, 0, 1, 0));
    assert_eq!(mode(&setup.at("run")), 0o750);
}

#[tokio::test]
async fn an_execute_bit_that_the_manifest_does_not_have_stays() {
    let setup = Setup::new();
    let wanted = snapshot([("a", setup.file("a"))]);
    setup.place(&wanted).await;
    fs::set_permissions(setup.at("a"), fs::Permissions::from_mode(0o750)).unwrap();
    let report = setup.place(&wanted).await;
    assert_eq!(report.summary.skipped.count, 1);
    assert_eq!(mode(&setup.at("a")), 0o750);
}

#[tokio::test]
async fn permissions_are_added_to_what_is_made() {
    let mut setup = Setup::new();
    fs::create_dir_all(setup.at("old")).unwrap();
    fs::set_permissions(setup.at("old"), fs::Permissions::from_mode(0o700)).unwrap();
    let mine = rustix::process::getegid().as_raw();
    // Only root can give another one for sure.
    let is_root = rustix::process::geteuid().is_root();
    let group = if is_root { mine + 1 } else { mine };
    setup.options.permissions = Permissions {
        group: Some(group),
        add_file_mode: 0o020,
        add_dir_mode: 0o070,
    };
    let wanted = snapshot([
        ("new/a", setup.file("small")),
        ("new/b", setup.file(long(2000))),
        ("old/c", setup.file("c")),
    ]);
    setup.place(&wanted).await;
    for name in ["new/a", "new/b", "old/c"] {
        assert_eq!(mode(&setup.at(name)) & 0o020, 0o020, "{name}");
    }
    assert_eq!(mode(&setup.at("new")) & 0o070, 0o070);
    assert_eq!(mode(&setup.at("old")), 0o700, "it was there before");
    let group_of = |name: &str| fs::metadata(setup.at(name)).unwrap().gid();
    let made = ["new", "new/a", "new/b", "old/c"].map(group_of);
    assert_eq!((made, group_of("old")), ([group; 4], mine));
}

#[tokio::test]
async fn a_file_without_a_hash_fails_and_the_others_are_placed() {
    let setup = Setup::new();
    let Node::File(file) = setup.file("a") else {
        panic!("it is a file");
    };
    let unhashed = Node::File(File {
        content: Content::Unhashed,
        ..file
    });
    let report = setup
        .place(&snapshot([("a", setup.file("a")), ("u", unhashed)]))
        .await;
    assert_eq!(counts(&report), (2, 1, 0, 1));
    assert_eq!(report.summary.errors[0].path, "u");
    assert_eq!(setup.names(), ["a"]);
}

#[tokio::test]
async fn paths_that_are_too_long_here_are_told_before_anything_is_made() {
    let setup = Setup::new();
    let deep = "d/".repeat(2045) + "file";
    let root = setup.root();
    let wanted = snapshot([("a", setup.file("a")), (&deep[..], setup.file("b"))]);
    let error = setup.try_to(Wanted::Snapshot(&wanted)).await.unwrap_err();
    let is_told = matches!(&error,
        TransferError::Download(DownloadError::TooLong { count, .. }) if *count >= 1);
    assert!(is_told, "{error}");
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}

#[tokio::test]
async fn a_near_file_is_taken_instead_of_the_stores_object_if_it_is_sound() {
    #[derive(Debug)]
    struct Near(PathBuf);
    impl Nearby for Near {
        fn find(&self, object: ContentHash, _: u64) -> Option<(fs::File, u64)> {
            let file = fs::File::open(self.0.join(object.to_string())).ok()?;
            Some((file, 0))
        }
    }
    let setup = Setup::new();
    let near = TempDir::new().unwrap();
    let (good, bad) = (setup.file("good"), setup.file("bad!"));
    fs::write(near.path().join(hash_of(&good).to_string()), "good").unwrap();
    fs::write(near.path().join(hash_of(&bad).to_string()), "BAD!").unwrap();
    let wanted = snapshot([("good", good), ("bad", bad)]);
    let sources = Sources {
        store: Arc::clone(&setup.record) as _,
        nearby: Some(Arc::new(Near(near.path().to_owned()))),
    };
    let wanted = Wanted::Snapshot(&wanted);
    download(&setup.root(), wanted, sources, &setup.options, &Silent)
        .await
        .unwrap();
    assert_eq!(
        (setup.text("good"), setup.text("bad")),
        ("good".into(), "bad!".into())
    );
    assert_eq!(setup.gets(), 1);
}

#[tokio::test]
async fn near_files_are_read_within_the_memory_that_there_is() {
    /// Waits until a second one is asked for while a first one is read, which should not be.
    #[derive(Debug, Default)]
    struct Near {
        reading: parking_lot::Mutex<(usize, usize)>,
        another: parking_lot::Condvar,
    }
    impl Nearby for Near {
        fn find(&self, _: ContentHash, _: u64) -> Option<(fs::File, u64)> {
            let mut reading = self.reading.lock();
            reading.0 += 1;
            reading.1 = reading.1.max(reading.0);
            self.another.notify_all();
            let moment = std::time::Duration::from_millis(100);
            self.another
                .wait_while_for(&mut reading, |now| now.1 < 2, moment);
            reading.0 -= 1;
            None
        }
    }
    let mut setup = Setup::new();
    setup.options.memory_bytes = 1 << 10;
    let near = Arc::new(Near::default());
    let wanted = snapshot([("a", setup.file("a")), ("b", setup.file("b"))]);
    let sources = Sources {
        store: Arc::clone(&setup.record) as _,
        nearby: Some(Arc::clone(&near) as _),
    };
    let wanted = Wanted::Snapshot(&wanted);
    download(&setup.root(), wanted, sources, &setup.options, &Silent)
        .await
        .unwrap();
    assert_eq!(near.reading.lock().1, 1, "files at once");
}
