//! Which steps are taken, in which order.

use std::io::Write as _;
use std::path::Path;

use super::{Act, Recorder, Step};
use crate::{GroupSync, OwnDir, Staged, create_private_dir, publish, publish_if_absent, sync_dir};

/// The steps that were taken, with the names they were about; random ones as `staged`, that of the directory as `.`.
fn order(recorder: &Recorder, dir: &Path) -> Vec<(Step, String)> {
    let named = |taken: super::Taken| {
        let name = taken.path.strip_prefix(dir).unwrap().to_str().unwrap();
        let name = match name {
            "" => ".",
            staged if staged.starts_with(".staged-") => "staged",
            name => name,
        };
        // As Linux writes it.
        (taken.step, name.replace('\\', "/"))
    };
    recorder.taken().into_iter().map(named).collect()
}

fn said(steps: &[(Step, &str)]) -> Vec<(Step, String)> {
    steps
        .iter()
        .map(|&(step, name)| (step, name.to_owned()))
        .collect()
}

fn with(act: impl FnOnce(&Path)) -> Vec<(Step, String)> {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::on(dir.path());
    act(dir.path());
    order(&recorder, dir.path())
}

#[test]
fn a_file_is_published_by_syncing_it_then_renaming_it_then_syncing_its_name() {
    let order = with(|dir| publish(&dir.join("f"), |file| file.write_all(b"x")).unwrap());
    let expected = [
        (Step::StagedContent, "staged"),
        (Step::StagedRename, "f"),
        (Step::StagedName, "."),
    ];
    assert_eq!(order, said(&expected));
}

#[test]
fn a_file_is_published_if_absent_in_the_same_order_and_a_name_that_is_there_is_made_durable() {
    let steps = [
        (Step::StagedContent, "staged"),
        (Step::StagedLink, "f"),
        (Step::StagedName, "."),
    ];
    let order = with(|dir| {
        let path = dir.join("f");
        assert!(publish_if_absent(&path, |file| file.write_all(b"x")).unwrap());
        assert!(!publish_if_absent(&path, |file| file.write_all(b"y")).unwrap());
    });
    let mut expected = said(&steps);
    expected.extend(said(&[
        (Step::StagedContent, "staged"),
        (Step::StagedName, "."),
    ]));
    assert_eq!(order, expected);
}

#[test]
fn a_grouped_publish_syncs_the_file_before_its_name_and_the_names_together() {
    let order = with(|dir| {
        let group = GroupSync::new(dir.to_owned());
        let staged = Staged::create_in(dir).unwrap();
        staged.publish_grouped(&dir.join("f"), &group).unwrap();
    });
    let expected = [
        (Step::StagedContent, "staged"),
        (Step::StagedRename, "f"),
        (Step::GroupNames, "."),
    ];
    assert_eq!(order, said(&expected));
}

#[test]
fn a_directory_and_each_missing_parent_is_made_durable_from_the_top() {
    let order = with(|dir| create_private_dir(&dir.join("a/b")).unwrap());
    assert_eq!(order, said(&[(Step::DirName, "."), (Step::DirName, "a")]));
}

#[test]
fn an_own_directory_is_claimed_durably_and_what_is_made_in_it_is_durable() {
    let order = with(|dir| {
        let (own, _) = OwnDir::claim(&dir.join("own")).unwrap().unwrap();
        own.create_dir("d").unwrap();
        own.publish("f", b"x").unwrap();
        own.remove_file("f").unwrap();
    });
    let expected = [
        (Step::ClaimName, "."),
        (Step::OwnDirName, "own"),
        (Step::OwnRename, "own/f"),
        (Step::OwnName, "own"),
        (Step::OwnRemove, "own/f"),
    ];
    let (content, others): (Vec<_>, Vec<_>) = order
        .into_iter()
        .partition(|(step, _)| *step == Step::OwnContent);
    assert_eq!(content.len(), 1);
    assert!(content[0].1.starts_with("own/.staged-"));
    assert_eq!(others, said(&expected));
}

#[test]
fn the_content_of_an_own_file_is_durable_before_it_gets_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let own = OwnDir::create(&dir.path().join("own")).unwrap();
    own.publish("f", b"old").unwrap();
    let recorder = Recorder::on(dir.path());
    recorder.fail(Step::OwnContent, 5);
    own.publish("f", b"new").unwrap_err();
    assert_eq!(own.read("f").unwrap(), b"old");
    assert_eq!(own.names().unwrap(), ["f"]);
}

#[test]
fn a_failed_step_is_not_taken_and_its_error_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    publish(&path, |file| file.write_all(b"old")).unwrap();
    let recorder = Recorder::on(dir.path());
    for step in [Step::StagedContent, Step::StagedRename] {
        // ENOSPC, and ERROR_DISK_FULL.
        recorder.fail(step, if cfg!(windows) { 112 } else { 28 });
        let error = publish(&path, |file| file.write_all(b"new")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{step:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "{step:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_stopped_process_takes_no_step_any_more() {
    for steps in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::on(dir.path());
        recorder.stop_after(steps);
        publish(&dir.path().join("f"), |file| file.write_all(b"x")).unwrap_err();
        assert_eq!(recorder.taken().len(), steps);
        sync_dir(dir.path(), Step::LogNames).unwrap_err();
    }
}

#[test]
fn a_recorder_records_its_own_directory_only() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recorder = Recorder::on(one.path());
    sync_dir(other.path(), Step::LogNames).unwrap();
    assert_eq!(recorder.taken(), []);
}

#[test]
fn each_step_has_its_own_name_and_one_act() {
    let names: std::collections::HashSet<String> =
        Step::ALL.iter().map(|step| format!("{step:?}")).collect();
    assert_eq!(names.len(), Step::ALL.len());
    assert_eq!(Step::JournalSync.act(), Act::SyncFile);
}
