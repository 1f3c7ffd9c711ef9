//! Diffs on a folder that holds what they were made from, or something else.

use attachfs_store::fault::{Failure, Fault};

use super::*;

fn overwriting() -> Setup {
    let mut setup = Setup::new();
    setup.options.conflict = Conflict::Overwrite;
    setup
}

#[tokio::test]
async fn a_diff_puts_and_deletes_what_it_says_and_nothing_else() {
    let setup = overwriting();
    for name in ["gone", "d/gone", "d/mine", "e/f/gone", "kept"] {
        setup.there(name, name);
    }
    let changes = diff([
        ("gone", Change::DeleteFile),
        ("d/gone", Change::DeleteFile),
        ("d", Change::DeleteDir),
        ("e", Change::DeleteDir),
        ("e/f", Change::DeleteDir),
        ("e/f/gone", Change::DeleteFile),
        ("never", Change::DeleteFile),
        ("kept", Change::Put(setup.file("new"))),
        ("n/new", Change::Put(setup.file("n"))),
    ]);
    let report = setup.apply(&changes).await;
    assert_eq!(counts(&report), (2, 2, 0, 0));
    assert_eq!(report.deleted, 5);
    let left: Vec<_> = report.left.iter().map(|left| &left.path[..]).collect();
    assert_eq!(left, ["d"], "it has a file that the diff does not know");
    assert_eq!(setup.names(), ["d", "kept", "n"]);
    assert_eq!(
        (setup.text("kept"), setup.text("d/mine")),
        ("new".into(), "d/mine".into())
    );
    let again = setup.apply(&changes).await;
    assert_eq!((counts(&again), again.deleted), ((2, 0, 2, 0), 0));
}

#[tokio::test]
async fn a_diff_can_be_told_to_delete_nothing() {
    let mut setup = overwriting();
    setup.options.deletes = false;
    setup.there("gone", "gone");
    let report = setup.apply(&diff([("gone", Change::DeleteFile)])).await;
    assert_eq!(report.deleted, 0);
    assert_eq!(setup.names(), ["gone"]);
}

#[tokio::test]
async fn a_directory_becomes_a_file_and_a_file_a_directory() {
    let setup = overwriting();
    setup.there("d/e", "e");
    setup.there("f", "f");
    let changes = diff([
        ("d", Change::DeleteDir),
        ("d", Change::Put(setup.file("d"))),
        ("d/e", Change::DeleteFile),
        ("f", Change::DeleteFile),
        ("f", Change::Put(Node::Dir)),
        ("f/g", Change::Put(setup.file("g"))),
    ]);
    for expected in [(2, 2, 0, 0), (2, 0, 2, 0)] {
        let report = setup.apply(&changes).await;
        assert_eq!(counts(&report), expected, "{report:?}");
        assert_eq!(
            (setup.text("d"), setup.text("f/g")),
            ("d".into(), "g".into())
        );
    }
}

#[tokio::test]
async fn a_directory_that_should_become_a_file_stays_with_what_the_diff_does_not_know() {
    let setup = overwriting();
    setup.there("d/e", "e");
    setup.there("d/mine", "mine");
    let report = setup
        .apply(&diff([
            ("d", Change::DeleteDir),
            ("d", Change::Put(setup.file("d"))),
            ("d/e", Change::DeleteFile),
        ]))
        .await;
    assert_eq!(counts(&report), (1, 0, 0, 1));
    assert_eq!(setup.text("d/mine"), "mine");
}

#[tokio::test]
async fn what_is_something_else_by_now_is_not_deleted() {
    let setup = overwriting();
    setup.there("file/inner", "mine");
    setup.there("dir", "mine");
    let report = setup
        .apply(&diff([
            ("file", Change::DeleteFile),
            ("dir", Change::DeleteDir),
        ]))
        .await;
    assert_eq!((report.deleted, report.left.len()), (0, 2));
    assert_eq!(setup.names(), ["dir", "file"]);
}

#[tokio::test]
async fn a_diff_of_which_not_everything_could_be_placed_deletes_nothing() {
    let setup = overwriting();
    setup.there("gone", "gone");
    let moved = setup.file("moved");
    let missing = Rule::on(CallKind::Get, Fault::Before(Failure::NotFound));
    setup.fails(missing.of(hash_of(&moved)));
    let changes = diff([
        ("gone", Change::DeleteFile),
        ("moved", Change::Put(moved)),
        ("new", Change::Put(setup.file("n"))),
    ]);
    let report = setup.apply(&changes).await;
    assert_eq!((counts(&report), report.deleted), ((2, 1, 0, 1), 0));
    assert_eq!(report.left[0].path, "gone");
    assert_eq!(setup.names(), ["gone", "new"]);
    setup.fault.heal();
    assert_eq!(setup.apply(&changes).await.deleted, 1);
    assert_eq!(setup.names(), ["moved", "new"]);
}

#[tokio::test]
async fn what_is_in_the_place_of_something_else_stays_until_that_can_be_had() {
    for failure in [Failure::NotFound, Failure::Denied, Failure::Unreachable] {
        let setup = overwriting();
        setup.there("d/e", "e");
        setup.there("f", "f");
        let changes = diff([
            ("d", Change::DeleteDir),
            ("d", Change::Put(setup.file("d"))),
            ("d/e", Change::DeleteFile),
            ("f", Change::DeleteFile),
            ("f", Change::Put(Node::Dir)),
            ("f/g", Change::Put(setup.chunks(&long(1600)))),
        ]);
        setup.fails(Rule::on(CallKind::Get, Fault::Before(failure)));
        let report = setup.apply(&changes).await;
        assert_eq!(report.deleted, 0, "{failure:?} {report:?}");
        assert_eq!(
            (setup.text("d/e"), setup.text("f")),
            ("e".into(), "f".into())
        );
        let left: Vec<_> = report.left.iter().map(|left| &left.path[..]).collect();
        assert_eq!(left, ["d", "d/e", "f"]);
        setup.fault.heal();
        assert_eq!(counts(&setup.apply(&changes).await), (2, 2, 0, 0));
        assert_eq!(setup.text("d"), "d");
        assert_eq!(fs::read(setup.at("f/g")).unwrap(), long(1600));
    }
}
