//! A group that this user may not give to files.

use super::*;
use crate::download::file::Target;
use crate::download::plan::{FileStep, Place};

/// One that no test runs in.
const FOREIGN: u32 = 54_321;

/// Runs this where it, and every thread that it starts, may give files only to groups of its own.
fn as_anybody<T: Send + 'static>(run: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective.remove(rustix::thread::CapabilitySet::CHOWN);
        rustix::thread::set_capabilities(None, sets).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(run())
    });
    thread.join().unwrap()
}

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
fn what_was_fetched_of_a_file_that_cannot_be_finished_is_kept() {
    as_anybody(async || {
        let setup = foreign();
        fs::create_dir(setup.root()).unwrap();
        let place = Opened::new(&setup.root(), Permissions::default()).unwrap();
        let step = FileStep {
            path: path("f"),
            file: setup.file("abc").as_file().unwrap().clone(),
            place: Place::Free,
        };
        let run = Arc::new(setup.run(place));
        assert!(run.large(&Arc::new(step), Target::Free).await.is_err());
        let part = fs::metadata(setup.at(&setup.names()[0])).unwrap();
        assert!(part.len() > 3, "it has its records");
    });
}
