//! Files and frames of two jobs.

use attachfs_jobs::MergedRoot;
use attachfs_manifest::{ChunkSize, Content, ContentHash, File, Mtime, Node};

use super::*;

/// Files with these bytes. All are runnable if `mtime` is not 0.
fn snapshot(files: &[(&str, &str)], mtime: i64) -> Snapshot {
    let entries = files.iter().map(|(path, text)| {
        let file = File {
            size: text.len() as u64,
            mtime: Mtime(mtime),
            runnable: mtime > 0,
            content: Content::Whole(ContentHash::of(text.as_bytes())),
        };
        let path = ManifestPath::new(path.as_bytes()).unwrap();
        (path, Node::File(file))
    });
    Snapshot::new(ChunkSize::WholeFile, None, entries).unwrap()
}

fn found(roots: Vec<(&str, Snapshot)>) -> FoundFiles {
    let roots = roots.into_iter().map(|(root, snapshot)| FoundRoot {
        name: root.to_owned(),
        merged: MergedRoot {
            root: root.to_owned(),
            location: None,
            snapshot,
            manifests: 1,
        },
    });
    FoundFiles {
        address: "deadline://".to_owned(),
        roots: roots.collect(),
        older: 0,
        differing: Vec::new(),
        foreign: 0,
    }
}

/// The missing frames of each sequence in both jobs.
fn frames(a: &[&str], b: &[&str]) -> Vec<(String, String, String)> {
    let of = |names: &[&str]| {
        let files: Vec<_> = names.iter().map(|name| (*name, "x")).collect();
        snapshot(&files, 0)
    };
    let text = |of: &SequenceFrames| {
        let count: u64 = of.missing.iter().map(|range| range.frames()).sum();
        assert_eq!(of.missing_frames, count);
        let ranges = of.missing.iter().map(FrameRange::to_string);
        ranges.collect::<Vec<_>>().join(", ")
    };
    let diffs = sequences_of(&of(a), &of(b)).into_iter();
    let shown = diffs.map(|diff| (diff.sequence.clone(), text(&diff.a), text(&diff.b)));
    shown.collect()
}

/// The sequences of one job that is compared with itself.
fn gaps(names: &[&str]) -> Vec<(String, String)> {
    let found = frames(names, names).into_iter();
    let of = found.map(|(sequence, a, b)| {
        assert_eq!(a, b);
        (sequence, a)
    });
    of.collect()
}

fn pair(sequence: &str, missing: &str) -> (String, String) {
    (sequence.to_owned(), missing.to_owned())
}

#[test]
fn files_differ_by_size_or_hash_root_by_root() {
    let a = found(vec![
        (
            "/film",
            snapshot(
                &[("d/same", "1"), ("hash", "1"), ("size", "1"), ("gone", "1")],
                0,
            ),
        ),
        ("/old", snapshot(&[("x", "1")], 0)),
    ]);
    let b = found(vec![
        ("/new", snapshot(&[("x", "1")], 0)),
        (
            "/film",
            snapshot(
                &[
                    ("d/same", "1"),
                    ("hash", "2"),
                    ("size", "11"),
                    ("d/new", "1"),
                ],
                7,
            ),
        ),
    ]);
    let diff = compare_jobs(&a, &b);
    let [film, new, old] = &diff.roots[..] else {
        panic!("other roots: {diff:?}");
    };
    assert_eq!((&*film.root, film.side), ("/film", Side::Both));
    assert_eq!(film.added, ["d/new"]);
    assert_eq!(film.changed, ["hash", "size"]);
    assert_eq!(film.missing, ["gone"]);
    assert_eq!(film.same, 1);
    assert_eq!((&*new.root, new.side), ("/new", Side::B));
    assert_eq!(
        (&new.added[..], new.missing.len()),
        (&["x".to_owned()][..], 0)
    );
    assert_eq!((&*old.root, old.side), ("/old", Side::A));
    assert_eq!(
        (&old.missing[..], old.added.len()),
        (&["x".to_owned()][..], 0)
    );
    assert!(!diff.roots.iter().any(RootDiff::is_same));
    assert!(compare_jobs(&a, &a).roots.iter().all(RootDiff::is_same));
}

#[test]
fn frames_that_are_missing_are_told_as_ranges() {
    let names = |frames: &[u32]| -> Vec<String> {
        let name = |frame| format!("frames/beauty.{frame}.exr");
        frames.iter().map(name).collect()
    };
    let of = |a: &[u32], b: &[u32]| {
        let (a, b) = (names(a), names(b));
        let [a, b] = [&a, &b].map(|of| of.iter().map(String::as_str).collect::<Vec<_>>());
        let mut found = frames(&a, &b);
        assert!(found.len() < 2);
        found.pop().map(|(sequence, a, b)| {
            assert_eq!(sequence, "frames/beauty.####.exr");
            (a, b)
        })
    };
    let some = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    assert_eq!(of(&[1001, 1002, 1003], &[1001, 1002, 1003]), None);
    // What only B has is missing nowhere, unless A has a gap there.
    assert_eq!(of(&[1001, 1002], &[1001, 1002, 1003]), None);
    assert_eq!(of(&[1001, 1003], &[1001, 1002, 1003]), some("1002", ""));
    assert_eq!(
        of(
            &[1001, 1002, 1003, 1004, 1005, 1006, 1009, 1010],
            &[1002, 1006, 1009]
        ),
        some("1007-1008", "1001, 1003-1005, 1007-1008, 1010")
    );
    assert_eq!(
        of(&[1001, 1002, 1005], &[]),
        some("1003-1004", "1001-1002, 1005")
    );
    assert_eq!(of(&[], &[1001, 1004]), some("", "1002-1003"));
}

#[test]
fn a_sequence_has_one_folder_prefix_padding_and_extension() {
    assert_eq!(
        gaps(&[
            "a/f_0001.png",
            "a/f_0003.png",
            "b/f_0002.png",
            "f_0001.exr",
            "f_0004.exr",
            "g_0002.exr",
            "g_0003.exr",
        ]),
        [pair("a/f_####.png", "2"), pair("f_####.exr", "2-3")]
    );
    assert_eq!(
        gaps(&[
            "f_01.png",
            "f_03.png",
            "f_001.png",
            "f_002.png",
            "f_004.png"
        ]),
        [pair("f_##.png", "2"), pair("f_###.png", "3")]
    );
}

#[test]
fn a_number_that_outgrows_its_padding_stays_in_its_sequence() {
    assert_eq!(
        gaps(&["f_8.png", "f_9.png", "f_10.png", "f_12.png"]),
        [pair("f_#.png", "11")]
    );
    assert_eq!(
        gaps(&["f.098.png", "f.099.png", "f.100.png", "f.1001.png"]),
        [pair("f.###.png", "101-1000")]
    );
    // Of the two jobs together, too.
    let (a, b) = (["f.0999.png", "f.1000.png"], ["f.1000.png", "f.1001.png"]);
    let lacking = ("f.####.png".to_owned(), String::new(), "999".to_owned());
    assert_eq!(frames(&a, &b), [lacking]);
}

#[test]
fn only_numbers_before_an_extension_are_frames() {
    let none: [(String, String); 0] = [];
    assert_eq!(
        gaps(&[
            "1",
            "3",
            "render.1001",
            "render.1003",
            "v2.1001",
            "v4.1001",
            "take1/x.exr",
            "take3/x.exr",
            "a.1/x",
            "a.3/x",
            "a.mp4",
            "a.mp6",
            "f_1.",
            "f_3.",
            "alone_1.exr",
            "f_1234567890123456789.exr",
            "f_3234567890123456789.exr",
        ]),
        none
    );
    assert_eq!(
        gaps(&[
            "smoke.0001.bgeo.sc",
            "smoke.0003.bgeo.sc",
            "1.exr",
            "3.exr",
            "take2.0007.exr",
            "take2.0009.exr"
        ]),
        [
            pair("#.exr", "2"),
            pair("smoke.####.bgeo.sc", "2"),
            pair("take2.####.exr", "8")
        ]
    );
    assert_eq!(
        gaps(&["\u{1b}.1.exr", "\u{1b}.3.exr"]),
        [pair("\\u{1b}.#.exr", "2")]
    );
}

#[test]
fn a_number_that_stands_alone_is_no_sequence() {
    assert_eq!(frames(&["preview_1.png"], &[]), []);
    let lacking = ("f_#.png".to_owned(), String::new(), "1-2".to_owned());
    assert_eq!(frames(&["f_1.png", "f_2.png"], &[]), [lacking]);
}
