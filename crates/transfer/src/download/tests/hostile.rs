//! Folders that somebody else prepared: nothing outside is touched.

use std::os::unix::fs::symlink;

use super::*;

/// A folder outside with a file in it.
fn outside() -> (TempDir, PathBuf) {
    let temp = TempDir::new().unwrap();
    let file = temp.path().join("victim");
    fs::write(&file, "victim").unwrap();
    (temp, file)
}

fn untouched(outside: &(TempDir, PathBuf)) {
    assert_eq!(fs::read_to_string(&outside.1).unwrap(), "victim");
    assert_eq!(fs::read_dir(outside.0.path()).unwrap().count(), 1);
    let old = fs::metadata(&outside.1).unwrap().modified().unwrap();
    let set = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(TIME as u64);
    assert_ne!(old, set);
}

#[tokio::test]
async fn a_link_where_a_directory_should_be_is_not_followed() {
    let outside = outside();
    for conflict in [Conflict::CreateCopy, Conflict::Skip, Conflict::Overwrite] {
        let mut setup = Setup::new();
        setup.options.conflict = conflict;
        fs::create_dir(setup.root()).unwrap();
        symlink(outside.0.path(), setup.at("d")).unwrap();
        let wanted = snapshot([
            ("d/victim", setup.file("mine")),
            ("d/new", setup.file("new")),
            ("d/l", link("d/new")),
            ("ok", setup.file("ok")),
        ]);
        let report = setup.place(&wanted).await;
        assert_eq!(counts(&report), (4, 1, 0, 4), "{report:?}");
        untouched(&outside);
        assert_eq!(setup.text("ok"), "ok");
    }
}

#[tokio::test]
async fn a_link_where_a_file_should_be_is_replaced_or_left_and_not_written_through() {
    let outside = outside();
    for conflict in [Conflict::CreateCopy, Conflict::Skip, Conflict::Overwrite] {
        let mut setup = Setup::new();
        setup.options.conflict = conflict;
        setup.options.permissions.add_file_mode = 0o777;
        fs::create_dir(setup.root()).unwrap();
        symlink(&outside.1, setup.at("f")).unwrap();
        symlink("nowhere", setup.at("f (1)")).unwrap();
        let report = setup.place(&snapshot([("f", setup.file("mine"))])).await;
        assert!(report.summary.is_complete());
        untouched(&outside);
        let is_replaced = conflict == Conflict::Overwrite;
        assert_eq!(setup.at("f").is_symlink(), !is_replaced);
        assert!(setup.at("f (1)").is_symlink());
    }
}

#[tokio::test]
async fn nothing_is_deleted_through_a_link() {
    let outside = outside();
    let setup = Setup::new();
    fs::create_dir(setup.root()).unwrap();
    symlink(outside.0.path(), setup.at("d")).unwrap();
    symlink(&outside.1, setup.at("l")).unwrap();
    let report = setup
        .apply(&diff([
            ("d", Change::DeleteDir),
            ("d/victim", Change::DeleteFile),
            ("l", Change::DeleteFile),
        ]))
        .await;
    untouched(&outside);
    assert_eq!(report.deleted, 1, "the link itself");
    let left: Vec<_> = report.left.iter().map(|left| &left.path[..]).collect();
    assert_eq!(left, ["d", "d/victim"], "both are told");
    assert_eq!(setup.names(), ["d"]);
}

#[tokio::test]
async fn a_link_that_comes_in_the_middle_is_not_followed() {
    let outside = outside();
    let setup = Setup::new();
    let wanted = snapshot([("d/f", setup.file("mine")), ("d/g", setup.file("mine too"))]);
    let hold = setup.record.hold(CallKind::Get);
    let place = setup.place(&wanted);
    let meanwhile = async {
        setup.record.wait_in_flight(CallKind::Get, 2).await;
        fs::remove_dir(setup.at("d")).unwrap();
        symlink(outside.0.path(), setup.at("d")).unwrap();
        drop(hold);
    };
    let (report, ()) = tokio::join!(place, meanwhile);
    assert_eq!(counts(&report), (2, 0, 0, 2));
    untouched(&outside);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory_that_turns_into_a_link_again_and_again_leads_nowhere() {
    let outside = outside();
    let setup = Arc::new(Setup::new());
    let entries = (0..200).map(|i| (path(&format!("d/{i}")), setup.file(format!("file {i}"))));
    let wanted = Snapshot::new(ChunkSize::WholeFile, None, entries.collect::<Vec<_>>()).unwrap();
    fs::create_dir_all(setup.at("d")).unwrap();
    symlink(outside.0.path(), setup.at("link")).unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapper = {
        let (root, stop) = (setup.root(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let dir = rustix::fs::open(&root, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
            let dir = dir.unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&dir, "d", &dir, "link", exchange).unwrap();
            }
        })
    };
    for _ in 0..5 {
        setup.place(&wanted).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().unwrap();
    untouched(&outside);
}

#[tokio::test]
async fn a_fifo_in_the_way_is_neither_opened_nor_replaced() {
    let mut setup = Setup::new();
    setup.options.conflict = Conflict::Overwrite;
    fs::create_dir(setup.root()).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, setup.at("f"), 0o600.into()).unwrap();
    let report = setup.place(&snapshot([("f", setup.file("mine"))])).await;
    assert_eq!(counts(&report), (1, 0, 0, 1));
}

#[tokio::test]
async fn a_root_that_is_a_link_is_where_it_leads() {
    let outside = TempDir::new().unwrap();
    let setup = Setup::new();
    symlink(outside.path(), setup.root()).unwrap();
    setup.place(&snapshot([("f", setup.file("f"))])).await;
    assert_eq!(fs::read_to_string(outside.path().join("f")).unwrap(), "f");
}
