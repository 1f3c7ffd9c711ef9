//! Paths taken apart and put together.

use attachfs_manifest::ManifestPath;
use proptest::prelude::*;
use proptest::sample::select;

use super::{posix, text, windows};
use crate::{ForeignPath, PathFormat};

/// Text, drive, anchor, components; of `PurePosixPath` and `PureWindowsPath` in Python 3.11.7.
type Parts = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const ON_POSIX: [Parts; 8] = [
    ("", ".", "", "", &[]),
    (".", ".", "", "", &[]),
    ("a/./b//c/", "a/b/c", "", "", &["a", "b", "c"]),
    ("/", "/", "", "/", &[]),
    ("//a", "//a", "", "//", &["a"]),
    ("///a", "/a", "", "/", &["a"]),
    ("/a/../b", "/a/../b", "", "/", &["a", "..", "b"]),
    (r"C:\a", r"C:\a", "", "", &[r"C:\a"]),
];

const ON_WINDOWS: [Parts; 24] = [
    ("", ".", "", "", &[]),
    (r"a/.\b", r"a\b", "", "", &["a", "b"]),
    (r"\a", r"\a", "", r"\", &["a"]),
    ("C:", "C:", "C:", "C:", &[]),
    ("c:/", r"c:\", "c:", r"c:\", &[]),
    ("C:a", "C:a", "C:", "C:", &["a"]),
    ("C:/a//b/", r"C:\a\b", "C:", r"C:\", &["a", "b"]),
    ("1:a", "1:a", "", "", &["1:a"]),
    ("./C:a", "C:a", "", "", &["C:a"]),
    ("//s/h", r"\\s\h\", r"\\s\h", r"\\s\h\", &[]),
    (r"\\s\h\a/b", r"\\s\h\a\b", r"\\s\h", r"\\s\h\", &["a", "b"]),
    (r"\\s\h\\a", r"\\s\h\a", r"\\s\h", r"\\s\h\", &["a"]),
    (r"\\s", r"\s", "", r"\", &["s"]),
    (r"\\s\", r"\\s\\", r"\\s\", r"\\s\\", &[]),
    (r"\\s\\h", r"\s\h", "", r"\", &["s", "h"]),
    (r"\\\s\h", r"\s\h", "", r"\", &["s", "h"]),
    (r"\\.\dev\a", r"\\.\dev\a", r"\\.\dev", r"\\.\dev\", &["a"]),
    (r"\\?\C:\a", r"\\?\C:\a", r"\\?\C:", r"\\?\C:\", &["a"]),
    ("//?/C:a", r"\\?\C:a", r"\\?\C:", r"\\?\C:", &["a"]),
    (r"\\?\", r"\\?\", r"\\?\", r"\\?\", &[]),
    (r"\\?\v\a", r"\\?\v\a", r"\\?\", r"\\?\", &["v", "a"]),
    (
        r"\\?\UNC\s\h\a",
        r"\\?\UNC\s\h\a",
        r"\\?\UNC\s\h",
        r"\\?\UNC\s\h\",
        &["a"],
    ),
    (r"\\?\UNC\s", r"\\?\UNC\s", r"\\?\UNC", r"\\?\UNC\", &["s"]),
    (
        r"\\?\\\s\h\a",
        r"\\?\\s\h\a",
        r"\\?\\s\h",
        r"\\?\\s\h\",
        &["a"],
    ),
];

#[test]
fn a_path_is_taken_apart_as_python_does_it() {
    let on = |format, table: &'static [Parts]| table.iter().map(move |parts| (format, parts));
    let all = on(PathFormat::Posix, &ON_POSIX).chain(on(PathFormat::Windows, &ON_WINDOWS));
    for (format, (given, written, drive, anchor, components)) in all {
        let path = ForeignPath::parse(format, given);
        assert_eq!(text(&path), *written, "{given}");
        assert_eq!(path.drive(), drive.as_bytes(), "{given}");
        assert_eq!(path.anchor(), anchor.as_bytes(), "{given}");
        let found = path.components().map(|name| str::from_utf8(name).unwrap());
        assert_eq!(found.collect::<Vec<_>>(), *components, "{given}");
    }
}

#[test]
fn a_path_is_absolute_if_it_needs_no_working_directory() {
    for absolute in [posix("/a"), posix("//a"), windows(r"C:\"), windows("//s/h")] {
        assert!(absolute.is_absolute(), "{absolute}");
    }
    for relative in [
        posix("a"),
        posix(""),
        windows("C:a"),
        windows(r"\a"),
        windows("a"),
    ] {
        assert!(!relative.is_absolute(), "{relative}");
    }
}

#[test]
fn joining_goes_by_the_format() {
    for (path, more, joined) in [
        (posix("/a"), "b/../c/", "/a/b/../c"),
        (posix("/a"), "/b", "/b"),
        (posix(""), "b", "b"),
        (posix("/a"), "", "/a"),
        (windows(r"C:\a"), "b/c", r"C:\a\b\c"),
        (windows(r"C:\a"), "c:b", r"C:\a\b"),
        (windows(r"C:\a"), "D:b", "D:b"),
        (windows(r"C:\a"), r"\b", r"C:\b"),
        (windows("C:a"), r"\b", r"C:\b"),
        (windows("C:"), "b", "C:b"),
        (windows(r"C:\a"), "D:/", r"D:\"),
        (windows("a"), r"\b", r"\b"),
        (windows(r"\\s\h"), "b", r"\\s\h\b"),
        (windows(r"\\s\h\a"), r"\b", r"\\s\h\b"),
    ] {
        assert_eq!(text(&path.join(more)), joined, "{path} {more}");
    }
}

#[test]
fn names_below_a_path_stay_names() {
    let entry = |path: &str| ManifestPath::new(path.as_bytes()).unwrap();
    let root = posix("/r/");
    assert_eq!(
        text(&root.entry(&entry(r"a\b/C:c")).unwrap()),
        r"/r/a\b/C:c"
    );
    let root = windows(r"D:\r");
    assert_eq!(text(&root.entry(&entry("a/b c")).unwrap()), r"D:\r\a\b c");
    for bad in ["a/b:c", r"..\..\a", "C:"] {
        let error = root.entry(&entry(bad)).unwrap_err();
        assert!(bad.as_bytes().ends_with(&error.name), "{error}");
    }
    let error = root.entry(&entry("a/b:c")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"b:c\" cannot be a name in a path of the format windows"
    );
}

#[test]
fn a_directory_holds_what_has_its_whole_components() {
    for (path, directory, relative) in [
        (posix("/a/b/c"), posix("/a/"), Some("b/c")),
        (posix("/a"), posix("/a"), Some(".")),
        (posix("/ab"), posix("/a"), None),
        (posix("/A/b"), posix("/a"), None),
        (posix("a/b"), posix(""), Some("a/b")),
        (posix("/a"), posix(""), None),
        (posix("/a"), posix("/"), Some("a")),
        (windows(r"c:\A\B\c"), windows("C:/a/b"), Some("c")),
        (windows(r"C:\ÉTÉ\a"), windows(r"C:\été"), Some("a")),
        (windows(r"C:\ab"), windows(r"C:\a"), None),
        (windows(r"C:\a\b"), windows("C:"), Some(r"a\b")),
        (windows("C:a"), windows(r"C:\"), None),
        (windows(r"C:\a\b"), windows("C:a"), None),
        (windows("C:a/b"), windows("c:A"), Some("b")),
        (windows(r"\\S\H\a"), windows(r"\\s\h"), Some("a")),
        (windows(r"\\s\h\a"), windows(r"\\s\other"), None),
        (windows("/a"), posix("/"), None),
    ] {
        let found = path.relative_to(&directory);
        assert_eq!(
            found.as_deref(),
            relative.map(str::as_bytes),
            "{path} {directory}"
        );
        assert_eq!(path.is_within(&directory), relative.is_some());
    }
}

#[test]
fn what_leads_up_is_left_out_by_text() {
    for (path, normal) in [
        (posix("/a/../../b/./c/.."), "/b"),
        (posix("../a/../../b"), "../../b"),
        (posix("a/.."), "."),
        (posix("//a/../b"), "//b"),
        (windows(r"C:\..\a\..\b"), r"C:\b"),
        (windows(r"C:..\a"), r"C:..\a"),
        (windows(r"\\s\h\..\a"), r"\\s\h\a"),
    ] {
        assert_eq!(text(&path.normalized()), normal, "{path}");
        assert_eq!(
            path.normalized().has_parent_components(),
            normal.contains("..")
        );
    }
}

#[test]
fn the_parent_of_what_has_none_is_itself() {
    for (path, parent) in [
        (posix("/a/b"), "/a"),
        (posix("/a"), "/"),
        (posix("/"), "/"),
        (posix("a"), "."),
        (posix(""), "."),
        (windows(r"C:\a"), r"C:\"),
        (windows("C:a"), "C:"),
        (windows(r"\\s\h\a"), r"\\s\h\"),
        (windows(r"\\s\h"), r"\\s\h\"),
    ] {
        assert_eq!(text(&path.parent()), parent, "{path}");
    }
}

#[test]
fn a_path_is_shown_safely() {
    assert_eq!(windows("C:/a/b\n\u{202e}").to_string(), r"C:\a\b\n\u{202e}");
    assert_eq!(
        ForeignPath::parse(PathFormat::Posix, b"/a\\\xff").to_string(),
        r"/a\\\xff"
    );
    assert_eq!(
        ForeignPath::parse(PathFormat::Posix, b"/\xff").to_str(),
        None
    );
}

/// Texts of which most are paths, and odd ones.
pub(super) fn any_text() -> impl Strategy<Value = String> {
    const PIECES: [&str; 16] = [
        "/",
        "\\",
        ":",
        ".",
        "..",
        "?",
        "C:",
        "z:",
        "UNC",
        "a",
        "B",
        "c d",
        "\u{e9}",
        "\u{c9}",
        "\u{1f600}",
        "\0",
    ];
    let mixed = prop::collection::vec(select(&PIECES[..]), 0..12).prop_map(|all| all.concat());
    prop_oneof![4 => mixed, 1 => any::<String>()]
}

pub(super) fn any_format() -> impl Strategy<Value = PathFormat> {
    select(&[PathFormat::Posix, PathFormat::Windows][..])
}

/// Whether Python, too, reads a path of Windows as it writes it: not if a name that looks as a drive comes first, or a share
/// has no name. No system can open such paths.
fn is_stable(path: &ForeignPath) -> bool {
    let first = path.components().next();
    let is_drive = first
        .is_some_and(|name| matches!(name, [letter, b':', ..] if letter.is_ascii_alphabetic()));
    let drive = path.drive();
    let is_odd = drive.ends_with(br"\") || drive.starts_with(br"\\?\\");
    path.format() == PathFormat::Posix || !(is_odd || (path.anchor().is_empty() && is_drive))
}

proptest! {
    #[test]
    fn any_text_is_a_path_that_reads_as_it_is_written(text in any_text(), format in any_format()) {
        let path = ForeignPath::parse(format, &text);
        let again = ForeignPath::parse(format, path.as_bytes());
        if is_stable(&path) {
            prop_assert_eq!(again.as_bytes(), path.as_bytes());
        }
        let normal = path.normalized();
        prop_assert_eq!(normal.normalized(), normal);
        prop_assert!(path.is_within(&path));
        prop_assert!(path.is_within(&path.parent()));
    }

    #[test]
    fn any_bytes_can_be_used(one: Vec<u8>, other: Vec<u8>, format in any_format()) {
        let path = ForeignPath::parse(format, &one);
        let joined = path.join(&other);
        let _ = (joined.to_string(), joined.parent(), joined.normalized(), joined.relative_to(&path));
        let both = [path, joined];
        if let Some(common) = ForeignPath::common(both.iter()) {
            prop_assert!(both.iter().all(|path| path.is_within(&common)));
        }
    }

    #[test]
    fn what_is_joined_to_a_root_lies_in_it(one in any_text(), names in prop::collection::vec("[a-z]{1,3}", 0..4)) {
        for format in [PathFormat::Posix, PathFormat::Windows] {
            let path = ForeignPath::parse(format, &one);
            let joined = path.join(names.join("/"));
            let relative = joined.relative_to(&path).unwrap();
            let expected = if names.is_empty() { ".".into() } else { names.join(&char::from(format.separator()).to_string()) };
            prop_assert_eq!(relative, expected.into_bytes());
        }
    }
}
