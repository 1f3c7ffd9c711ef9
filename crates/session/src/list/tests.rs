use std::fs;

use attachfs_durable::create_private_dir;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn named(text: &str) -> Named<'_> {
    Named {
        text,
        ..Named::default()
    }
}

#[test]
fn a_session_that_cannot_be_read_is_not_said_to_be_missing() {
    let state = tempfile::tempdir().unwrap();
    let list = SessionList::in_state(state.path());
    let session = list.dir().join(ID);
    create_private_dir(&session).unwrap();
    let description = r#"{"format":1,"program":"0.0.9"}"#;
    fs::write(session.join("session.json"), description).unwrap();
    let by_path = Named {
        text: "somewhere",
        path: Some(&session),
        in_mount: false,
    };
    for named in [named(ID), by_path] {
        let error = list.find(&named).unwrap_err().to_string();
        assert!(error.contains("the attachfs 0.0.9 that made it"), "{error}");
    }
    let unknown = list.find(&named("0123"));
    assert!(matches!(unknown, Err(SessionListError::Unknown(_))));
}

#[test]
fn what_is_in_a_mount_is_not_looked_at() {
    let state = tempfile::tempdir().unwrap();
    let list = SessionList::in_state(state.path());
    let dir = state.path().join("elsewhere");
    create_private_dir(&dir).unwrap();
    fs::write(dir.join("session.json"), "nonsense").unwrap();
    let found = |in_mount| {
        let path = Some(dir.as_path());
        let named = Named {
            text: "elsewhere",
            path,
            in_mount,
        };
        list.find(&named).unwrap_err()
    };
    assert!(matches!(
        found(false),
        SessionListError::Session(SessionError::Description { .. })
    ));
    assert!(matches!(found(true), SessionListError::Unknown(_)));
}

#[test]
#[cfg_attr(windows, ignore = "Windows has symbolic links, Wine does not")]
fn a_link_that_leads_nowhere_is_a_session_that_cannot_be_reached() {
    let state = tempfile::tempdir().unwrap();
    let list = SessionList::in_state(state.path());
    create_private_dir(list.dir()).unwrap();
    let gone = state.path().join("no such disk").join("session");
    create_link(&list.dir().join(ID), &gone).unwrap();
    let all = list.all().unwrap();
    assert!(
        matches!(&all[..], [Err(SessionListError::Unreachable { dir, .. })] if *dir == gone),
        "{all:?}"
    );
    let pruned = list.prune().unwrap();
    assert_eq!(pruned.unreachable.len(), 1);
    let found = list.find(&named("0123"));
    assert!(matches!(found, Err(SessionListError::Unreachable { .. })));
    list.forget(&ID.parse().unwrap()).unwrap();
    assert!(list.all().unwrap().is_empty());
}
