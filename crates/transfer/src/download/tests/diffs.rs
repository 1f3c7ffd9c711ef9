//! Diffs on a folder that holds what they were made from, or something else.

use std::os::unix::fs::PermissionsExt as _;

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
        assert_eq!(report.left, [], "the second time too");
        assert_eq!(
            (setup.text("d"), setup.text("f/g")),
            ("d".into(), "g".into())
        );
        assert_eq!(setup.leftovers(), 0);
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

/// The store does not have the object of this.
fn is_missing(setup: &Setup, node: &Node) {
    let missing = Rule::on(CallKind::Get, Fault::Before(Failure::NotFound));
    setup.fails(missing.of(hash_of(node)));
}

fn paths(remarks: &[Remark]) -> Vec<&str> {
    remarks.iter().map(|remark| &remark.path[..]).collect()
}

#[tokio::test]
async fn what_is_moved_out_of_a_directory_that_becomes_a_link_stays_until_it_is_elsewhere() {
    let setup = overwriting();
    setup.there("d/big", "big");
    let moved = setup.file("big");
    is_missing(&setup, &moved);
    let changes = diff([
        ("d", Change::DeleteDir),
        ("d", Change::Put(link("e"))),
        ("d/big", Change::DeleteFile),
        ("e/big", Change::Put(moved)),
    ]);
    let report = setup.apply(&changes).await;
    assert_eq!(report.deleted, 0);
    assert_eq!(paths(&report.left), ["d", "d/big"]);
    assert_eq!(
        counts(&report),
        (2, 0, 0, 2),
        "the link is told to be missing"
    );
    assert_eq!(setup.text("d/big"), "big");
    setup.fault.heal();
    let report = setup.apply(&changes).await;
    assert_eq!((counts(&report), report.deleted), ((2, 2, 0, 0), 2));
    assert_eq!(
        (setup.text("d/big"), setup.at("d").is_symlink()),
        ("big".into(), true)
    );
    let again = setup.apply(&changes).await;
    assert_eq!((counts(&again), again.left), ((2, 0, 2, 0), vec![]));
}

#[tokio::test]
async fn nothing_is_cleared_away_while_anything_is_missing() {
    let empty = |setup: &Setup| setup.file("");
    let small = |setup: &Setup| setup.file("small");
    let large = |setup: &Setup| setup.chunks(&long(4000));
    let kinds: [fn(&Setup) -> Node; 3] = [empty, small, large];
    for below in kinds {
        let setup = overwriting();
        for name in ["d/e", "f"] {
            setup.there(name, name);
        }
        let missing = setup.file("missing");
        is_missing(&setup, &missing);
        let changes = diff([
            ("d", Change::DeleteDir),
            ("d", Change::Put(below(&setup))),
            ("d/e", Change::DeleteFile),
            ("f", Change::DeleteFile),
            ("f", Change::Put(Node::Dir)),
            ("f/g/h", Change::Put(below(&setup))),
            ("f/l", Change::Put(link("d"))),
            ("missing", Change::Put(missing)),
        ]);
        let report = setup.apply(&changes).await;
        assert_eq!((report.deleted, report.summary.processed.count), (0, 0));
        assert_eq!(paths(&report.left), ["d", "d/e", "f"]);
        let failed: Vec<_> = report.summary.errors.iter().map(|f| &f.path[..]).collect();
        assert_eq!(failed, ["d", "f", "f/g", "f/g/h", "f/l", "missing"]);
        assert_eq!(
            (setup.text("d/e"), setup.text("f")),
            ("d/e".into(), "f".into())
        );
        setup.fault.heal();
        setup.record.clear();
        let report = setup.apply(&changes).await;
        assert_eq!(counts(&report), (4, 4, 0, 0), "{report:?}");
        assert_eq!(report.left, []);
        assert_eq!(setup.names(), ["d", "f", "missing"]);
        assert_eq!(
            fs::read(setup.at("f/l")).unwrap(),
            fs::read(setup.at("f/g/h")).unwrap()
        );
        assert_eq!(setup.gets(), 1, "what waited had been kept");
        assert_eq!(setup.parts().len(), 0);
    }
}

#[tokio::test]
async fn two_things_that_take_each_others_places_stay_until_both_can_be_had() {
    let setup = overwriting();
    setup.there("d/big", "big");
    setup.there("x", "x");
    let big = setup.file("big");
    is_missing(&setup, &big);
    let changes = diff([
        ("d", Change::DeleteDir),
        ("d", Change::Put(setup.file("x"))),
        ("d/big", Change::DeleteFile),
        ("x", Change::DeleteFile),
        ("x/big", Change::Put(big)),
    ]);
    let report = setup.apply(&changes).await;
    assert_eq!((counts(&report), report.deleted), ((2, 0, 0, 2 + 1), 0));
    assert_eq!(
        (setup.text("d/big"), setup.text("x")),
        ("big".into(), "x".into())
    );
    assert_eq!(setup.leftovers(), 1, "what could be had is kept");
    setup.fault.heal();
    setup.apply(&changes).await;
    assert_eq!(
        (setup.text("d"), setup.text("x/big")),
        ("x".into(), "big".into())
    );
    assert_eq!(setup.leftovers(), 0);
}

#[tokio::test]
async fn what_has_several_names_is_deleted_under_those_that_the_diff_deletes() {
    let setup = overwriting();
    for name in ["a", "f"] {
        setup.there(name, name);
    }
    fs::hard_link(setup.at("a"), setup.at("b")).unwrap();
    fs::hard_link(setup.at("f"), setup.at("g")).unwrap();
    let changes = diff([
        ("a", Change::DeleteFile),
        ("b", Change::Put(setup.file("new"))),
        ("f", Change::DeleteFile),
        ("f/h", Change::Put(setup.file("h"))),
        ("g", Change::Put(setup.file("f"))),
    ]);
    let report = setup.apply(&changes).await;
    assert_eq!((counts(&report), report.deleted), ((3, 3, 0, 0), 2));
    assert_eq!(report.left, []);
    assert_eq!(setup.names(), ["b", "f", "g"]);
    assert_eq!(
        (setup.text("b"), setup.text("f/h"), setup.text("g")),
        ("new".into(), "h".into(), "f".into())
    );
}

#[tokio::test]
async fn what_somebody_saves_while_other_files_are_fetched_is_not_deleted() {
    let setup = overwriting();
    for name in ["written", "renamed", "gone"] {
        setup.there(name, "old");
    }
    let changes = diff([
        ("gone", Change::DeleteFile),
        ("new", Change::Put(setup.file("new"))),
        ("renamed", Change::DeleteFile),
        ("written", Change::DeleteFile),
    ]);
    let hold = setup.record.hold(CallKind::Get);
    let apply = setup.apply(&changes);
    let meanwhile = async {
        setup.record.wait_in_flight(CallKind::Get, 1).await;
        setup.there("written", "mine");
        setup.there("saved", "mine");
        fs::rename(setup.at("saved"), setup.at("renamed")).unwrap();
        drop(hold);
    };
    let (report, ()) = tokio::join!(apply, meanwhile);
    assert_eq!(paths(&report.left), ["renamed", "written"]);
    assert_eq!(report.deleted, 1);
    assert_eq!(
        (setup.text("written"), setup.text("renamed")),
        ("mine".into(), "mine".into())
    );
}

#[test]
fn what_cannot_be_looked_at_to_be_deleted_is_told_and_holds_up_nothing() {
    as_anybody(async || {
        let setup = overwriting();
        setup.there("closed/gone", "gone");
        setup.there("gone", "gone");
        let closed = setup.at("closed");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let changes = diff([
            ("closed/gone", Change::DeleteFile),
            ("gone", Change::DeleteFile),
        ]);
        let report = setup.apply(&changes).await;
        assert_eq!((counts(&report), report.deleted), ((0, 0, 0, 1), 1));
        assert_eq!(report.summary.errors[0].path, "closed/gone");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    });
}
