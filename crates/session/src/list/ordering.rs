//! The durable steps of the list of sessions.

use std::fs;

use attachfs_durable::steps::{Recorder, Step};

use super::SessionList;
use crate::SessionId;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn about(step: Step, name: &str) -> (Step, String) {
    (step, name.to_owned())
}

#[test]
#[cfg_attr(windows, ignore = "Windows has symbolic links, Wine does not")]
fn the_entry_of_a_session_is_durable_when_it_is_made_moved_and_taken_away() {
    let temp = tempfile::tempdir().unwrap();
    let list = SessionList::in_state(&temp.path().join("state"));
    let id: SessionId = ID.parse().unwrap();
    let (here, there) = (temp.path().join("here"), temp.path().join("there"));
    fs::create_dir(&here).unwrap();
    fs::create_dir(&there).unwrap();
    fs::create_dir_all(list.dir()).unwrap();
    let steps = Recorder::on(temp.path());
    let made = [
        about(Step::RegistryLink, ID),
        about(Step::RegistryName, "sessions"),
    ];
    list.add(&id, &here).unwrap();
    assert_eq!(steps.order(), made);
    steps.clear();
    list.add(&id, &there).unwrap();
    assert_eq!(steps.order()[0], about(Step::OwnRemove, ID));
    assert_eq!(steps.order()[1..], made);
    steps.clear();
    list.remove(&id);
    let gone = [
        about(Step::OwnRemove, ID),
        about(Step::RegistryGone, "sessions"),
    ];
    assert_eq!(steps.order(), gone);
    assert_eq!(fs::read_dir(list.dir()).unwrap().count(), 0);
}
