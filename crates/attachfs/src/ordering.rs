//! What is durable of the list of sessions and of kept logs.

use std::fs;

use attachfs_durable::steps::{Recorder, Step};
use attachfs_session::SessionId;

use crate::Places;
use crate::logs::keep;
use crate::registry::{register, unregister};

const ID: &str = "0123456789abcdef0123456789abcdef";

fn places(dir: &std::path::Path) -> Places {
    Places {
        state: dir.join("state"),
        cache: attachfs_durable::CacheDir::new(dir.join("cache")),
        data: dir.join("data"),
    }
}

fn about(step: Step, name: &str) -> (Step, String) {
    (step, name.to_owned())
}

#[test]
fn the_entry_of_a_session_is_durable_when_it_is_made_moved_and_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    let id: SessionId = ID.parse().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    fs::create_dir(&here).unwrap();
    fs::create_dir(&there).unwrap();
    fs::create_dir_all(places.sessions()).unwrap();
    let steps = Recorder::on(dir.path());
    let made = [
        about(Step::RegistryLink, ID),
        about(Step::RegistryName, "sessions"),
    ];
    register(&places, &id, &here).unwrap();
    assert_eq!(steps.order(), made);
    steps.clear();
    register(&places, &id, &there).unwrap();
    assert_eq!(steps.order()[0], about(Step::OwnRemove, ID));
    assert_eq!(steps.order()[1..], made);
    steps.clear();
    unregister(&places, &id);
    let gone = [
        about(Step::OwnRemove, ID),
        about(Step::RegistryGone, "sessions"),
    ];
    assert_eq!(steps.order(), gone);
    assert_eq!(fs::read_dir(places.sessions()).unwrap().count(), 0);
}

#[test]
fn the_names_of_kept_logs_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let places = places(dir.path());
    let session = dir.path().join("session");
    fs::create_dir(&session).unwrap();
    fs::write(session.join("log"), "a line\n").unwrap();
    let steps = Recorder::on(dir.path());
    keep(&places, &session, &ID.parse().unwrap()).unwrap();
    let expected = [
        about(Step::LogRename, &format!("{ID}.log")),
        about(Step::LogNames, "logs"),
    ];
    let order = steps.order();
    assert_eq!(order[order.len() - 2..], expected);
}
