//! `snapshot` as the program does it, on the trees of the vectors: byte for byte what the reference implementations wrote
//! (`vectors/README.md` says which, and how).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::machine::{Machine, args};
use crate::tree::set_modified;

/// The cases of a file of vectors.
pub(crate) fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(file);
    let text = fs::read_to_string(path).unwrap();
    // serde_json cannot hold lone surrogates; those that stand for a byte of a file's name move to a range that no case uses, and
    // `file_name` brings them back.
    let text = text.replace(r"bad\udcff\udcfename", r"bad\uf7ff\uf7fename");
    let file: Value = serde_json::from_str(&text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn file_name(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    for c in text.chars() {
        match u32::from(c) {
            code @ 0xf780..=0xf7ff => bytes.push((code - 0xf700) as u8),
            _ => bytes.extend(c.to_string().into_bytes()),
        }
    }
    OsString::from_vec(bytes).into()
}

fn pattern(seed: u64, len: u64) -> Vec<u8> {
    (0..len).map(|i| (seed + 7 * i + (i >> 8)) as u8).collect()
}

/// What a file of a case holds.
pub(crate) fn content(entry: &Value) -> Vec<u8> {
    let number = |value: &Value| value.as_u64().unwrap();
    if let Some(seed) = entry.get("pattern_seed") {
        return pattern(number(seed), number(&entry["len"]));
    }
    let spec = &entry["content"];
    match spec["type"].as_str().unwrap() {
        "utf8" => spec["value"].as_str().unwrap().into(),
        "hex" => {
            let digits = spec["value"].as_str().unwrap().as_bytes();
            let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.chunks(2).map(byte).collect()
        }
        "pattern" => pattern(number(&spec["seed"]), number(&spec["len"])),
        other => panic!("{other}"),
    }
}

pub(crate) fn set_mtime(path: &Path, nanoseconds: i64) {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    let time = match nanoseconds {
        0.. => SystemTime::UNIX_EPOCH + distance,
        _ => SystemTime::UNIX_EPOCH - distance,
    };
    set_modified(path, time);
}

/// The vectors' one link out of its tree led to a file of the machine where they were made: its length, time, mode and hash.
const OUTSIDE: (&[u8], i64, u32) = (b"abc", 1_795_326_756_376_230_000, 0o755);
pub(crate) const OUTSIDE_HASH: &str = "a532cda63cf8ff56b036826de5a049eb";
/// XXH3-128 of `abc`, which stands for that file here.
pub(crate) const ABC_HASH: &str = "06b05ab6733a618578af5f94892f3950";

/// The folder `root` in `folder` with the tree of a case.
pub(crate) fn build(folder: &Path, case: &Value) -> PathBuf {
    let root = folder.join("root");
    fs::create_dir_all(&root).unwrap();
    let (bytes, mtime, mode) = OUTSIDE;
    let outside = folder.join("outside");
    fs::write(&outside, bytes).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(mode)).unwrap();
    set_mtime(&outside, mtime);
    for entry in case["tree"].as_array().unwrap() {
        let path = root.join(file_name(entry["path"].as_str().unwrap()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match entry.get("kind").and_then(Value::as_str) {
            Some("dir") => fs::create_dir_all(&path).unwrap(),
            Some("symlink") => match entry["target"].as_str().unwrap() {
                "/etc/hostname" => symlink(&outside, &path).unwrap(),
                target => symlink(target, &path).unwrap(),
            },
            Some(other) => panic!("{other}"),
            None => {
                fs::write(&path, content(entry)).unwrap();
                let mode = entry.get("mode").and_then(Value::as_str).unwrap_or("0o644");
                let mode = u32::from_str_radix(mode.trim_start_matches("0o"), 8).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                set_mtime(&path, entry["mtime_ns"].as_i64().unwrap());
            }
        }
    }
    root
}

#[test]
fn the_program_writes_the_references_2025_manifests() {
    Machine::with_directory(|machine| {
        let cases = cases("collect-v2025.json");
        assert_eq!(cases.len(), 8);
        for case in cases {
            let root = build(&machine.path(case["id"].as_str().unwrap()), &case);
            let symlinks = case["policy"].as_str().unwrap().replace('_', "-");
            let chunk_size = match case["fileChunkSizeBytes"].as_i64().unwrap() {
                -1 => "none".to_owned(),
                bytes => bytes.to_string(),
            };
            let manifest = machine.path(case["id"].as_str().unwrap()).join("manifest");
            machine.ok(args![
                "snapshot",
                root,
                "-o",
                &manifest,
                "--symlinks",
                symlinks,
                "--chunk-size",
                chunk_size,
            ]);
            let made = fs::read_to_string(manifest).unwrap();
            let expected = case["rel"].as_str().unwrap();
            assert_eq!(
                made,
                expected.replace(OUTSIDE_HASH, ABC_HASH),
                "{}",
                case["id"]
            );
        }
    });
}

#[test]
fn the_program_writes_the_references_2023_manifests() {
    Machine::with_directory(|machine| {
        let cases = cases("manifests-v2023.json");
        let trees = cases.iter().filter(|case| case.get("tree").is_some());
        let mut compared = 0;
        for case in trees {
            let root = build(&machine.path(case["id"].as_str().unwrap()), case);
            let printed = machine.ok(args!["snapshot", root, "-o", "-", "--format", "2023-03-03"]);
            assert_eq!(
                printed.out,
                case["manifest"].as_str().unwrap(),
                "{}",
                case["id"]
            );
            compared += 1;
        }
        assert_eq!(compared, 14);
    });
}
