//! What happens where something else is.

use attachfs_store::fault::{Failure, Fault};

use super::*;

fn wanted(setup: &Setup) -> Snapshot {
    snapshot([("a.tar.gz", setup.file("new")), ("b", setup.file("b"))])
}

fn copied(path: &str, name: &str) -> Copied {
    let (path, name) = (path.to_owned(), name.to_owned());
    Copied { path, name }
}

fn left(path: &str, why: &str) -> Remark {
    let (path, why) = (path.to_owned(), why.to_owned());
    Remark { path, why }
}

#[tokio::test]
async fn by_default_a_file_that_differs_stays_and_a_copy_is_made_once() {
    let setup = Setup::new();
    setup.there("a.tar.gz", "mine");
    setup.there("a.tar (1).gz", "mine too");
    let wanted = wanted(&setup);
    let report = setup.place(&wanted).await;
    assert_eq!(counts(&report), (2, 2, 0, 0));
    assert_eq!(report.copied, [copied("a.tar.gz", "a.tar (2).gz")]);
    let all = ["a.tar (1).gz", "a.tar (2).gz", "a.tar.gz", "b"];
    assert_eq!(setup.names(), all);
    assert_eq!(setup.text("a.tar.gz"), "mine");
    assert_eq!(setup.text("a.tar (1).gz"), "mine too");
    assert_eq!(setup.text("a.tar (2).gz"), "new");
    assert_eq!(counts(&setup.place(&wanted).await), (2, 0, 2, 0));
    assert_eq!(setup.names(), all);
}

#[tokio::test]
async fn a_copy_never_gets_a_name_that_the_manifest_means_otherwise() {
    let mut setup = Setup::new();
    // Then what comes first is placed first.
    setup.options.max_in_flight = 1;
    setup.there("a.exr", "mine");
    setup.there("l", "mine");
    let wanted = snapshot([
        ("a (1).exr", setup.file("other")),
        ("a.exr", setup.file("new")),
        ("l", link("a.exr")),
        ("l (1)", setup.file("a file")),
    ]);
    let missing = Rule::on(CallKind::Get, Fault::Before(Failure::NotFound));
    setup.fails(missing.of(hash_of(&wanted.get(&path("a (1).exr")).unwrap())));
    let report = setup.place(&wanted).await;
    let expected = [copied("a.exr", "a (2).exr"), copied("l", "l (2)")];
    assert_eq!(report.copied, expected);
    setup.fault.heal();
    assert!(setup.place(&wanted).await.summary.is_complete());
    assert_eq!(setup.text("a (1).exr"), "other");
}

#[tokio::test]
async fn a_copy_that_the_diff_deletes_is_none() {
    let setup = Setup::new();
    setup.there("a", "mine");
    setup.there("a (1)", "new");
    let changes = diff([
        ("a", Change::Put(setup.file("new"))),
        ("a (1)", Change::DeleteFile),
    ]);
    let report = setup.apply(&changes).await;
    assert_eq!(report.copied, [copied("a", "a (2)")]);
    assert_eq!(setup.names(), ["a", "a (2)"]);
}

#[tokio::test]
async fn the_longest_names_have_copies_too() {
    let setup = Setup::new();
    let name = "a".repeat(251) + ".exr";
    setup.there(&name, "mine");
    let wanted = snapshot([(&name, setup.file("new"))]);
    assert_eq!(counts(&setup.place(&wanted).await), (1, 1, 0, 0));
    let copy = "a".repeat(247) + " (1).exr";
    assert_eq!(setup.text(&copy), "new");
    assert_eq!(counts(&setup.place(&wanted).await), (1, 0, 1, 0));
}

#[tokio::test]
async fn a_file_that_differs_can_be_left_or_replaced() {
    let mut setup = Setup::new();
    setup.there("a.tar.gz", "mine");
    let wanted = wanted(&setup);
    setup.options.conflict = Conflict::Skip;
    let report = setup.place(&wanted).await;
    assert_eq!(counts(&report), (2, 1, 1, 0));
    assert_eq!(
        report.left,
        [left("a.tar.gz", "there is another file in its place")]
    );
    assert_eq!(setup.text("a.tar.gz"), "mine");
    setup.options.conflict = Conflict::Overwrite;
    assert_eq!(counts(&setup.place(&wanted).await), (2, 1, 1, 0));
    assert_eq!(setup.text("a.tar.gz"), "new");
    assert_eq!(setup.names(), ["a.tar.gz", "b"]);
}

#[tokio::test]
async fn a_directory_in_the_place_of_a_file_is_never_replaced() {
    let mut setup = Setup::new();
    setup.there("b/mine", "mine");
    let wanted = wanted(&setup);
    setup.options.conflict = Conflict::Overwrite;
    let report = setup.place(&wanted).await;
    assert_eq!(counts(&report), (2, 1, 0, 1));
    assert!(report.summary.errors[0].error.contains("directory"));
    assert_eq!(setup.text("b/mine"), "mine");
    setup.options.conflict = Conflict::CreateCopy;
    assert_eq!(counts(&setup.place(&wanted).await), (2, 1, 1, 0));
    assert_eq!(setup.text("b (1)"), "b");
}

#[tokio::test]
async fn a_file_in_the_place_of_a_directory_stays_and_what_lies_below_fails() {
    let mut setup = Setup::new();
    setup.options.conflict = Conflict::Overwrite;
    setup.there("d", "mine");
    let wanted = snapshot([("a", setup.file("a")), ("d/e/f", setup.file("f"))]);
    let report = setup.place(&wanted).await;
    let failed: Vec<_> = report.summary.errors.iter().map(|f| &f.path[..]).collect();
    assert_eq!(failed, ["d", "d/e", "d/e/f"]);
    assert_eq!(
        (setup.text("a"), setup.text("d")),
        ("a".into(), "mine".into())
    );
}

#[tokio::test]
async fn two_downloads_at_once_never_take_each_others_names() {
    let setup = Setup::new();
    setup.there("a", "mine");
    let first = snapshot([("a", setup.file("one"))]);
    let second = snapshot([("a", setup.file("two"))]);
    let (one, two) = tokio::join!(setup.place(&first), setup.place(&second));
    assert_eq!((counts(&one), counts(&two)), ((1, 1, 0, 0), (1, 1, 0, 0)));
    assert_eq!(setup.names(), ["a", "a (1)", "a (2)"]);
    let mut copies = [setup.text("a (1)"), setup.text("a (2)")];
    copies.sort();
    assert_eq!(copies, ["one", "two"]);
}

#[tokio::test]
async fn two_downloads_of_the_same_at_once_place_everything_once() {
    for there in [None, Some("mine")] {
        let mut setup = Setup::new();
        setup.options.conflict = Conflict::CreateCopy;
        if let Some(mine) = there {
            setup.there("a", mine);
            setup.there("b", mine);
        }
        let wanted = snapshot([("a", setup.file("a")), ("b", setup.chunks(&long(2000)))]);
        let hold = setup.record.hold(CallKind::Get);
        let both = async { tokio::join!(setup.place(&wanted), setup.place(&wanted)) };
        let begun = async {
            setup.record.wait_in_flight(CallKind::Get, 2 + 2 * 3).await;
            drop(hold);
        };
        let ((one, two), ()) = tokio::join!(both, begun);
        let skipped = one.summary.skipped.count + two.summary.skipped.count;
        assert_eq!(skipped, 2, "{one:?} {two:?}");
        let names = match there {
            None => vec!["a", "b"],
            Some(_) => vec!["a", "a (1)", "b", "b (1)"],
        };
        assert_eq!(setup.names(), names);
    }
}

#[tokio::test]
async fn a_file_that_comes_while_another_is_fetched_is_a_conflict_too() {
    let setup = Setup::new();
    let wanted = snapshot([("a", setup.file("new"))]);
    let hold = setup.record.hold(CallKind::Get);
    let place = setup.place(&wanted);
    let meanwhile = async {
        setup.record.wait_in_flight(CallKind::Get, 1).await;
        setup.there("a", "mine");
        drop(hold);
    };
    let (report, ()) = tokio::join!(place, meanwhile);
    assert_eq!(counts(&report), (1, 1, 0, 0));
    assert_eq!(
        (setup.text("a"), setup.text("a (1)")),
        ("mine".into(), "new".into())
    );
}

#[tokio::test]
async fn links_are_copied_left_or_replaced_like_files() {
    let mut setup = Setup::new();
    setup.there("l", "mine");
    let wanted = snapshot([("t", setup.file("t")), ("l", link("t"))]);
    assert_eq!(setup.place(&wanted).await.copied, [copied("l", "l (1)")]);
    assert_eq!(setup.text("l"), "mine");
    assert_eq!(
        fs::read_link(setup.at("l (1)")).unwrap(),
        PathBuf::from("t")
    );
    let again = setup.place(&wanted).await;
    assert_eq!((counts(&again), again.left), ((2, 0, 2, 0), vec![]));
    setup.options.conflict = Conflict::Skip;
    let skipping = setup.place(&wanted).await;
    assert_eq!(counts(&skipping), (2, 0, 2, 0));
    assert_eq!(
        skipping.left,
        [left("l", "there is another file in its place")]
    );
    setup.options.conflict = Conflict::Overwrite;
    setup.place(&wanted).await;
    assert_eq!(fs::read_link(setup.at("l")).unwrap(), PathBuf::from("t"));
    assert_eq!(setup.names(), ["l", "l (1)", "t"]);
}

#[tokio::test]
async fn a_link_that_is_spelled_otherwise_is_the_same_and_keeps_its_text() {
    let mut setup = Setup::new();
    let wanted = snapshot([
        ("d/t", setup.file("t")),
        ("d/up", link("d/t")),
        ("l", link("d/t")),
        ("m", link("d/t")),
    ]);
    setup.there("d/other", "");
    let texts = [
        ("l", format!("{}/d/t", setup.root().display())),
        ("m", "./d/../d/t".to_owned()),
        ("d/up", "../d/./t".to_owned()),
    ];
    for (name, text) in &texts {
        std::os::unix::fs::symlink(text, setup.at(name)).unwrap();
    }
    for conflict in [Conflict::CreateCopy, Conflict::Overwrite, Conflict::Skip] {
        setup.options.conflict = conflict;
        let report = setup.place(&wanted).await;
        assert_eq!((&report.copied[..], &report.left[..]), (&[][..], &[][..]));
        assert_eq!(setup.names(), ["d", "l", "m"]);
        for (name, text) in &texts {
            let there = fs::read_link(setup.at(name)).unwrap();
            assert_eq!(there.to_str(), Some(&text[..]), "{conflict:?}");
        }
    }
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_another_whatever_its_text_looks_like() {
    let setup = Setup::new();
    let wanted = snapshot([
        ("d/e/x", setup.file("x")),
        ("d/t", setup.file("t")),
        ("l", link("d/t")),
        ("near", link("d/e")),
        ("t", setup.file("other")),
    ]);
    setup.place(&wanted).await;
    fs::remove_file(setup.at("l")).unwrap();
    // As text `t`, but it leads to `d/t` through a link: nobody has to find that out.
    std::os::unix::fs::symlink("near/../t", setup.at("l")).unwrap();
    let report = setup.place(&wanted).await;
    assert_eq!(report.copied, [copied("l", "l (1)")]);
    let again = setup.place(&wanted).await;
    assert_eq!(again.copied, []);
    assert_eq!(setup.names(), ["d", "l", "l (1)", "near", "t"]);
}

#[tokio::test]
async fn a_time_that_is_off_by_a_microsecond_is_corrected_but_not_under_several_names() {
    let setup = Setup::new();
    let wanted = snapshot([("a", setup.file("a")), ("b", setup.file("b"))]);
    let micros = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::metadata(setup.at(name)).unwrap();
        meta.mtime() * 1_000_000 + meta.mtime_nsec() / 1000
    };
    for by in [-1, 1] {
        for name in ["a", "b"] {
            setup.there(name, name);
            let time = std::time::Duration::from_micros((TIME + by) as u64);
            let file = fs::File::options()
                .write(true)
                .open(setup.at(name))
                .unwrap();
            file.set_modified(std::time::UNIX_EPOCH + time).unwrap();
        }
        let other = setup.temp.path().join("other");
        fs::hard_link(setup.at("b"), &other).unwrap();
        let report = setup.place(&wanted).await;
        assert_eq!(report.copied, []);
        assert_eq!((micros("a"), micros("b")), (TIME, TIME + by));
        fs::remove_file(other).unwrap();
    }
}
