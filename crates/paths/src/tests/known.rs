//! Places that are known, and what lies in none.

use proptest::prelude::*;

use super::foreign::{any_format, any_text};
use super::{posix, windows};
use crate::{
    AssetRoot, AssetRoots, ForeignPath, KnownFrom, KnownPaths, KnownSource, PathFormat,
    UnknownPaths,
};

fn options<'a>(paths: &[&'a str]) -> Vec<KnownSource<'a>> {
    paths
        .iter()
        .map(|path| KnownSource::Option(path.as_bytes()))
        .collect()
}

fn known(format: PathFormat, paths: &[&str]) -> KnownPaths {
    KnownPaths::new(format, None, options(paths))
}

fn texts(known: &KnownPaths) -> Vec<&str> {
    let paths = known.paths().iter();
    paths
        .map(|known| str::from_utf8(&known.path).unwrap())
        .collect()
}

#[test]
fn each_source_makes_the_paths_that_it_names_known() {
    let sources = [
        KnownSource::Option(b"/option"),
        KnownSource::Bundle(b"/bundle/x/.."),
        KnownSource::Location(b"/location/"),
        KnownSource::Settings(" /set/1:/set/2:~/set:"),
        KnownSource::DirectoryParameter(b"/param/dir"),
        KnownSource::FileParameter(b"/param/file/scene.ma"),
        KnownSource::FileParameter(b"/top.ma"),
    ];
    let known = KnownPaths::new(PathFormat::Posix, Some(b"/home/me"), sources[..6].to_vec());
    let found: Vec<_> = known
        .paths()
        .iter()
        .map(|of| (str::from_utf8(&of.path).unwrap(), of.from))
        .collect();
    assert_eq!(
        found,
        [
            ("/option", KnownFrom::Option),
            ("/bundle", KnownFrom::Bundle),
            ("/location", KnownFrom::Location),
            ("/set/1", KnownFrom::Settings),
            ("/set/2", KnownFrom::Settings),
            ("/param/dir", KnownFrom::Parameter),
            ("/param/file", KnownFrom::Parameter),
            ("/home/me/set", KnownFrom::Settings),
        ]
    );
    assert!(known.ignored().is_empty());
    // The directory of a file at the top has everything.
    let all = KnownPaths::new(PathFormat::Posix, None, sources);
    assert_eq!(texts(&all), ["/"]);
    assert_eq!(all.ignored(), [b"~/set"]);
    let windows = KnownPaths::new(
        PathFormat::Windows,
        Some(br"C:\Users\me"),
        [
            KnownSource::Settings(r"D:\a;~\b;~"),
            KnownSource::FileParameter(br"\\s\h"),
        ],
    );
    assert_eq!(texts(&windows), [r"D:\a", r"C:\Users\me", r"\\s\h"]);
}

#[test]
fn what_lies_in_another_place_is_left_out_by_whole_components() {
    let posix = known(
        PathFormat::Posix,
        &["/a/b/c", "/a/b", "/a/bc", "//a/b/", "/A/b"],
    );
    assert_eq!(texts(&posix), ["/a/b", "/a/bc", "/A/b"]);
    let windows = known(
        PathFormat::Windows,
        &[
            r"C:\Show\Tex",
            "c:/show",
            r"\\?\C:\SHOW",
            r"\\srv\lib\a",
            r"\\SRV",
            r"\\?\UNC\srv\x",
            "D:/",
        ],
    );
    assert_eq!(texts(&windows), ["D:\\", "c:\\show", r"\\SRV"]);
}

#[test]
fn what_needs_a_working_directory_names_nothing() {
    let posix = known(PathFormat::Posix, &["", "a", "./a", "~", "~me/a", "../b"]);
    assert_eq!(texts(&posix), Vec::<&str>::new());
    assert_eq!(posix.ignored().len(), 5);
    let windows = known(
        PathFormat::Windows,
        &[
            "C:",
            "C:a",
            r"\a",
            r"\\",
            "//",
            r"\\?\UNC\",
            "a",
            r"\\.",
            "///?/a",
        ],
    );
    assert_eq!(texts(&windows), Vec::<&str>::new());
    assert_eq!(windows.ignored().len(), 9);
}

#[test]
fn a_path_is_known_by_whole_components() {
    let posix = known(PathFormat::Posix, &["/a/b"]);
    for (path, is_known) in [
        ("/a/b", true),
        ("/a/b/c/../d", true),
        ("//a/b", true),
        ("/a/bc", false),
        ("/a/b/../c", false),
        ("/a", false),
        ("a/b", false),
        ("/A/b", false),
    ] {
        assert_eq!(posix.contains(path), is_known, "{path}");
    }
    let windows = known(
        PathFormat::Windows,
        &[r"C:\a", r"\\srv\lib", r"\\srv2\.", r"\\host", r"\\.\dev\a"],
    );
    for (path, is_known) in [
        (r"c:\A\b", true),
        (r"\\?\c:\a\b", true),
        (r"C:\a\..\b", false),
        (r"C:a", false),
        (r"D:\a", false),
        (r"\\SRV\LIB\x", true),
        (r"\\srv\lib\.\..\x", true),
        (r"\\srv\.\x", false),
        (r"\\srv2\.\x", true),
        (r"\\srv2\x", false),
        (r"\\srv\other\x", false),
        (r"\\?\UNC\srv\lib\x", true),
        (r"\\host\share", true),
        (r"\\host\..\x", false),
        (r"\\.\dev\a\b", true),
        (r"\\.\dev2\a\b", false),
        (r"\\?\Volume{0}\a", false),
    ] {
        assert_eq!(windows.contains(path), is_known, "{path}");
    }
}

fn roots(inputs: &[ForeignPath], outputs: &[ForeignPath]) -> AssetRoots {
    AssetRoots {
        roots: vec![AssetRoot {
            root: inputs[0].parent(),
            location: None,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            references: Vec::new(),
        }],
        ..AssetRoots::default()
    }
}

fn lines(unknown: &UnknownPaths) -> Vec<String> {
    unknown.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn what_is_not_known_is_a_short_list_of_directories() {
    let known = known(PathFormat::Posix, &["/known"]);
    let inputs = [
        "/known/x", "/u/a/x", "/u/a/y", "/u/a/b/z", "/u/ab/x", "/v/x",
    ]
    .map(posix);
    let outputs = ["/known/out", "/u/a/out"].map(posix);
    let unknown = known.unknown(&roots(&inputs, &outputs));
    assert_eq!(unknown.input_dirs, [&b"/u/a"[..], b"/u/ab", b"/v"]);
    assert_eq!(
        lines(&unknown),
        ["/u/a", "/u/ab", "/v", "(output) /u/a/out"]
    );
    let many: Vec<_> = (1..=9)
        .map(|number| posix(&format!("/{number}/x")))
        .collect();
    let five = known.unknown(&roots(&many[..5], &[]));
    assert_eq!(lines(&five), ["/1", "/2", "/3", "/4", "/5"]);
    let nine = known.unknown(&roots(&many, &outputs));
    assert_eq!(lines(&nine), ["/1", "/2", "/3", "/4", "... and 6 more"]);
    let nothing = known.unknown(&roots(&inputs[..1], &outputs[..1]));
    assert!(nothing.is_empty());
    assert_eq!(nothing.to_string(), "");
}

#[test]
fn a_directory_is_asked_about_once_whatever_its_case() {
    let inputs = [r"C:\Show\x", r"c:\show\y", r"C:\SHOW\tex\z"].map(windows);
    let unknown = known(PathFormat::Windows, &[]).unknown(&roots(&inputs, &[]));
    assert_eq!(lines(&unknown), [r"C:\Show"]);
}

#[test]
fn the_list_is_safe_to_show() {
    let unknown = known(PathFormat::Posix, &[]).unknown(&roots(&[posix("/a\n\u{1b}[2J/x")], &[]));
    assert_eq!(lines(&unknown), [r"/a\n\u{1b}[2J"]);
}

proptest! {
    #[test]
    fn no_known_place_lies_in_another_one(paths in prop::collection::vec(any_text(), 0..6), probe in any_text(), format in any_format()) {
        let borrowed: Vec<_> = paths.iter().map(String::as_str).collect();
        let kept = known(format, &borrowed);
        for (number, path) in kept.paths().iter().enumerate() {
            let mut others: Vec<_> = kept.paths().to_vec();
            others.remove(number);
            let others = KnownPaths::new(format, None, others.iter().map(|of| KnownSource::Option(&of.path)));
            prop_assert!(!others.contains(&path.path), "{:?}", kept);
            prop_assert!(kept.contains(&path.path));
        }
        // Leaving out what is redundant changes no answer.
        let each = paths.iter().map(|path| known(format, &[path]));
        prop_assert_eq!(kept.contains(&probe), each.into_iter().any(|one| one.contains(&probe)));
    }

    #[test]
    fn any_bytes_can_be_asked_for(paths: Vec<Vec<u8>>, home: Option<Vec<u8>>, probe: Vec<u8>, format in any_format()) {
        let sources = paths.iter().flat_map(|path| [KnownSource::Option(path), KnownSource::FileParameter(path)]);
        let known = KnownPaths::new(format, home.as_deref(), sources);
        let _ = known.contains(&probe);
    }
}
