//! The filter against what Python's `glob` finds in real trees.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use attachfs_manifest::PathFilter;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use tempfile::TempDir;

use super::policy;
use crate::{EntryKind, ScanOptions, Silent, SymlinkPolicy, scan};

/// The files that a walk finds as Python's does: links are followed.
fn files(root: &Path, filter: PathFilter) -> BTreeSet<Vec<u8>> {
    let options = ScanOptions {
        filter,
        ..policy(SymlinkPolicy::CollapseAll)
    };
    let scan = scan(root, &options, &Silent).unwrap();
    let entries = scan.entries.iter();
    let is_file = |kind: &EntryKind| matches!(kind, EntryKind::File(_));
    entries
        .filter(|entry| is_file(&entry.kind))
        .map(|entry| entry.path.as_bytes().to_vec())
        .collect()
}

#[test]
fn the_references_glob_rules_hold() {
    let text = include_str!("../../../../tests/vectors/snapshot-diff-filter.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let mut compared = 0;
    for case in vectors["cases"].as_array().unwrap() {
        let Some(tree) = case.get("tree").and_then(Value::as_array) else {
            continue;
        };
        let temp = TempDir::new().unwrap();
        let root = temp.path().canonicalize().unwrap().join("snap");
        for entry in tree {
            let path = root.join(entry["path"].as_str().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match entry.get("kind").and_then(Value::as_str) {
                Some("dir") => fs::create_dir_all(&path).unwrap(),
                Some("symlink") => symlink(entry["target"].as_str().unwrap(), &path).unwrap(),
                _ => fs::write(&path, "").unwrap(),
            }
        }
        let list = |value: &Value| -> Option<Vec<String>> {
            let list = value.as_array()?.iter();
            Some(list.map(|text| text.as_str().unwrap().to_owned()).collect())
        };
        let include = list(&case["include"]).unwrap_or_else(|| vec!["**/*".to_owned()]);
        let exclude = list(&case["exclude"]).unwrap_or_default();
        let filter = PathFilter::for_root(root.as_os_str().as_bytes(), &include, &exclude);
        let found = files(&root, filter.unwrap());
        let expected = list(&case["paths_in_manifest"]).unwrap_or_default();
        let expected = expected.into_iter().map(String::into_bytes).collect();
        assert_eq!(found, expected, "{}", case["id"]);
        compared += 1;
    }
    assert_eq!(compared, 10);
}

/// What `_glob.py` of the reference does with each line: a root, patterns to include, patterns to
/// exclude, all in hexadecimal.
const SCRIPT: &str = r#"
import glob, os, sys
def found(root, patterns):
    files = set()
    for pattern in patterns:
        for path in glob.glob(os.path.join(glob.escape(root), pattern), recursive=True):
            if os.path.isfile(path):
                files.add(os.path.relpath(os.path.normpath(path), root))
    return files
for line in sys.stdin:
    root, include, exclude = line.rstrip("\n").split(" ")
    read = lambda text: os.fsdecode(bytes.fromhex(text))
    patterns = lambda texts: [read(text) for text in texts.split(",") if text]
    root = read(root)
    files = found(root, patterns(include)) - found(root, patterns(exclude))
    print(",".join(os.fsencode(file).hex() for file in files))
"#;

type Patterns = Vec<Vec<u8>>;

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let names: [&[u8]; 12] = [
        b"a",
        b"b",
        b"ab",
        b"a.b",
        b".a",
        b".b.c",
        b"[a]",
        b"a-b",
        b"\xc3\xa9",
        b"\xff",
        b"!",
        b"^x",
    ];
    prop::sample::select(names.map(<[u8]>::to_vec).to_vec())
}

fn any_component() -> impl Strategy<Value = Vec<u8>> {
    let whole: [&[u8]; 9] = [b"**", b"**", b"*", b"*", b".*", b"?", b".", b"a", b".a"];
    let parts: [&[u8]; 19] = [
        b"a",
        b"b",
        b"c",
        b".",
        b"*",
        b"?",
        b"[",
        b"]",
        b"[!",
        b"-",
        b"!",
        b"^",
        b"\\",
        b"&&",
        b"\xff",
        b"\xc3\xa9",
        b"[a-",
        b"[b-a",
        b"[--a]",
    ];
    let parts = prop::sample::select(parts.map(<[u8]>::to_vec).to_vec());
    prop_oneof![
        6 => prop::sample::select(whole.map(<[u8]>::to_vec).to_vec()),
        2 => any_name(),
        2 => prop::collection::vec(parts, 1..6).prop_map(|parts| parts.concat()),
    ]
    .prop_filter("no component above the root", |text| text != b"..")
}

fn any_pattern() -> impl Strategy<Value = Vec<u8>> {
    let end: [&[u8]; 5] = [b"", b"", b"", b"", b"/"];
    let components = prop::collection::vec(any_component(), 1..=3);
    let end = prop::sample::select(end.map(<[u8]>::to_vec).to_vec());
    (components, end).prop_map(|(components, end)| [components.join(&b'/'), end].concat())
}

fn any_tree() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    prop::collection::vec(prop::collection::vec(any_name(), 1..4), 8..24)
}

/// Makes files, and links to a directory and a file beside the root. No link leads in a circle: there
/// the reference goes round until the kernel stops it.
fn plant(top: &Path, tree: &[Vec<Vec<u8>>]) -> PathBuf {
    let root = top.join("root");
    fs::create_dir(&root).unwrap();
    fs::create_dir_all(top.join("out/a/.h")).unwrap();
    for file in ["out/a/b", "out/.a", "out/a/.h/b", "out/ab"] {
        fs::write(top.join(file), "").unwrap();
    }
    for (index, names) in tree.iter().enumerate() {
        let path = root.join(OsStr::from_bytes(&names.join(&b'/')));
        let through_link = path.ancestors().skip(1).any(Path::is_symlink);
        if through_link || fs::create_dir_all(path.parent().unwrap()).is_err() {
            continue;
        }
        // An existing file stays.
        let _ = match index % 5 {
            0 => symlink(top.join("out"), &path),
            1 => symlink(top.join("out/ab"), &path),
            2 => symlink("nothing", &path),
            _ if path.exists() => Ok(()),
            _ => fs::write(&path, ""),
        };
    }
    root
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

#[test]
fn the_filter_chooses_what_pythons_glob_finds() {
    let python = Command::new("python3")
        .args(["-W", "ignore", "-c", SCRIPT])
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut python = match python {
        Ok(python) => python,
        Err(error) => {
            eprintln!("not compared with Python, which cannot be started: {error}");
            return;
        }
    };
    let temp = TempDir::new().unwrap();
    let top = temp.path().canonicalize().unwrap();
    let mut runner = TestRunner::deterministic();
    let mut jobs: Vec<(PathBuf, Patterns, Patterns)> = Vec::new();
    for index in 0..30 {
        let place = top.join(format!("[{index}]"));
        fs::create_dir(&place).unwrap();
        let root = plant(&place, &any_tree().new_tree(&mut runner).unwrap().current());
        let patterns = (
            prop::collection::vec(any_pattern(), 1..4),
            prop::collection::vec(any_pattern(), 0..2),
        );
        for _ in 0..40 {
            let (include, exclude) = patterns.new_tree(&mut runner).unwrap().current();
            jobs.push((root.clone(), include, exclude));
        }
    }
    let mut input = String::new();
    for (root, include, exclude) in &jobs {
        let list = |patterns: &Patterns| -> String {
            let texts: Vec<String> = patterns.iter().map(|pattern| hex(pattern)).collect();
            texts.join(",")
        };
        let root = hex(root.as_os_str().as_bytes());
        writeln!(input, "{root} {} {}", list(include), list(exclude)).unwrap();
    }
    let mut stdin = python.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).unwrap();
    assert_eq!(answers.lines().count(), jobs.len());
    let mut chosen = 0;
    let mut everything: (&Path, BTreeSet<Vec<u8>>) = (Path::new(""), BTreeSet::new());
    for ((root, include, exclude), answer) in jobs.iter().zip(answers.lines()) {
        let hexes = answer.split(',').filter(|text| !text.is_empty());
        let expected: BTreeSet<Vec<u8>> = hexes.map(from_hex).collect();
        let filter = PathFilter::new(include, exclude).unwrap();
        let shown = |patterns: &Patterns| -> Vec<String> {
            let texts = patterns.iter();
            texts
                .map(|pattern| pattern.escape_ascii().to_string())
                .collect()
        };
        let which = || format!("{root:?} {:?} without {:?}", shown(include), shown(exclude));
        assert_eq!(files(root, filter.clone()), expected, "{}", which());
        if everything.0 != root {
            everything = (root, files(root, PathFilter::everything()));
        }
        let matching = everything.1.iter().filter(|path| filter.matches(path));
        assert_eq!(
            matching.cloned().collect::<BTreeSet<_>>(),
            expected,
            "{}",
            which()
        );
        chosen += expected.len();
    }
    assert!(chosen > 1000, "{chosen} paths say little");
}
