//! A group that this user may not give to files.

use super::*;
use crate::download::large::large;
use crate::download::naming::Target;

/// One that no test runs in.
const FOREIGN: u32 = 54_321;

fn foreign() -> Setup {
    let mut setup = Setup::new();
    setup.options.permissions.group = Some(FOREIGN);
    setup
}

#[test]
fn a_group_that_may_not_be_given_is_told_before_anything_is_fetched() {
    as_anybody(async || {
        let setup = foreign();
        fs::create_dir(setup.root()).unwrap();
        let wanted = snapshot([("a", setup.file("a"))]);
        let error = setup.try_to(Wanted::Snapshot(&wanted)).await.unwrap_err();
        let is_told = matches!(&error, TransferError::Download(DownloadError::Root { .. }));
        assert!(is_told, "{error}");
        assert_eq!((setup.gets(), setup.names()), (0, Vec::new()));
    });
}

#[test]
fn directories_without_files_ask_for_their_group_too_and_nothing_is_made() {
    as_anybody(async || {
        let setup = foreign();
        fs::create_dir(setup.root()).unwrap();
        let wanted = snapshot([("d/e", Node::Dir)]);
        let error = setup.try_to(Wanted::Snapshot(&wanted)).await.unwrap_err();
        assert!(error.to_string().contains("group"), "{error}");
        assert_eq!(setup.names(), [] as [&str; 0]);
    });
}

#[test]
fn a_group_that_may_not_be_given_is_no_trouble_where_nothing_is_made() {
    as_anybody(async || {
        let setup = foreign();
        let wanted = snapshot([("d/a", setup.file("a")), ("l", link("d"))]);
        let permitted = Setup {
            options: DownloadOptions::default(),
            ..setup
        };
        permitted.place(&wanted).await;
        let setup = Setup {
            options: foreign().options,
            ..permitted
        };
        assert_eq!(counts(&setup.place(&wanted).await), (2, 0, 2, 0));
    });
}

#[test]
fn a_file_that_only_its_bytes_tell_from_the_wanted_one_asks_before_it_is_fetched() {
    as_anybody(async || {
        let setup = foreign();
        setup.there("a", "mine");
        let wanted = snapshot([("a", setup.file("text"))]);
        let error = setup.try_to(Wanted::Snapshot(&wanted)).await.unwrap_err();
        assert!(error.to_string().contains("group"), "{error}");
        assert_eq!(setup.gets(), 0);
    });
}

#[test]
fn a_directory_that_cannot_be_shared_is_not_made() {
    as_anybody(async || {
        let temp = TempDir::new().unwrap();
        let held = HeldDir::open(&temp.path().canonicalize().unwrap()).unwrap();
        let share = foreign().options.permissions;
        tree::make_dir(&held, b"d", share).unwrap_err();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
        let setup = foreign();
        let wanted = snapshot([("a", setup.file("a"))]);
        setup.try_to(Wanted::Snapshot(&wanted)).await.unwrap_err();
        assert!(!setup.root().exists());
    });
}

#[test]
fn what_was_fetched_of_a_file_that_cannot_be_finished_is_kept() {
    as_anybody(async || {
        let setup = foreign();
        fs::create_dir(setup.root()).unwrap();
        let step = Arc::new(setup.step("f", "abc"));
        let run = setup.run(setup.folder());
        let ended = large(&run.shared, &step, Target::Free).await;
        assert!(ended.is_err());
        let part = fs::metadata(setup.at(&setup.names()[0])).unwrap();
        assert!(part.len() > 3, "it has its records");
    });
}
