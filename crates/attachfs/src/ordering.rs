//! The durable steps of keeping a log.

use std::fs;

use attachfs_durable::steps::{Recorder, Step};

use crate::Places;
use crate::logs::keep;

const ID: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn the_names_of_kept_logs_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let places = Places {
        state: dir.path().join("state"),
        cache: attachfs_durable::CacheDir::new(dir.path().join("cache")),
        data: dir.path().join("data"),
    };
    let session = dir.path().join("session");
    fs::create_dir(&session).unwrap();
    fs::write(session.join("log"), "a line\n").unwrap();
    let steps = Recorder::on(dir.path());
    keep(&places, &session, &ID.parse().unwrap()).unwrap();
    let expected = [
        (Step::LogRename, format!("{ID}.log")),
        (Step::LogNames, "logs".to_owned()),
    ];
    let order = steps.order();
    assert_eq!(order[order.len() - 2..], expected);
}
