//! Real trees, scanned and hashed, against the manifests that the references made of the same trees
//! (`tests/vectors/README.md` says which references, and how).

use std::ffi::OsString;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{ChunkSize, ContentHash};
use attachfs_scan::{ScanOptions, SymlinkPolicy, scan};
use serde_json::Value;
use tempfile::TempDir;

use crate::{HashOptions, Silent, snapshot};

fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(file);
    let text = fs::read_to_string(path).unwrap();
    // serde_json cannot hold lone surrogates; those that stand for a byte of a file's name move to a
    // range that no case uses, and `file_name` brings them back.
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

fn content(entry: &Value) -> Vec<u8> {
    if let Some(seed) = entry.get("pattern_seed") {
        return pattern(seed.as_u64().unwrap(), entry["len"].as_u64().unwrap());
    }
    let spec = &entry["content"];
    match spec["type"].as_str().unwrap() {
        "utf8" => spec["value"].as_str().unwrap().into(),
        "hex" => {
            let digits = spec["value"].as_str().unwrap().as_bytes();
            let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.chunks(2).map(byte).collect()
        }
        "pattern" => pattern(
            spec["seed"].as_u64().unwrap(),
            spec["len"].as_u64().unwrap(),
        ),
        other => panic!("{other}"),
    }
}

fn set_times(path: &Path, mtime_ns: i64) {
    let distance = Duration::from_nanos(mtime_ns.unsigned_abs());
    let time = match mtime_ns {
        0.. => SystemTime::UNIX_EPOCH + distance,
        _ => SystemTime::UNIX_EPOCH - distance,
    };
    File::open(path)
        .unwrap()
        .set_times(FileTimes::new().set_modified(time))
        .unwrap();
}

/// The same three bytes, times and mode as the file that the vectors' one escaping link points to.
const OUTSIDE: &[u8] = b"abc";
const OUTSIDE_MTIME_NS: i64 = 1_795_326_756_376_230_000;
/// Its hash on the machine where the vectors were made.
const OUTSIDE_HASH: &str = "a532cda63cf8ff56b036826de5a049eb";

/// Builds the case's tree, and a file outside of it.
fn tree(case: &Value) -> (TempDir, PathBuf) {
    let temp = TempDir::new().unwrap();
    let outside = temp.path().join("outside");
    fs::write(&outside, OUTSIDE).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).unwrap();
    set_times(&outside, OUTSIDE_MTIME_NS);
    let root = temp.path().join("root");
    fs::create_dir(&root).unwrap();
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
                set_times(&path, entry["mtime_ns"].as_i64().unwrap());
            }
        }
    }
    (temp, root)
}

async fn manifest(
    root: &Path,
    symlinks: SymlinkPolicy,
    chunk_size: ChunkSize,
    format: Format,
) -> String {
    let options = ScanOptions {
        symlinks,
        ..ScanOptions::default()
    };
    let found = scan(root, &options, &Silent).unwrap();
    let (snapshot, _) = snapshot(&found, &HashOptions::new(chunk_size), None, &Silent)
        .await
        .unwrap();
    String::from_utf8(encode_snapshot(&snapshot, format).unwrap()).unwrap()
}

#[tokio::test]
async fn trees_with_links_give_the_references_2025_manifests() {
    let cases = cases("collect-v2025.json");
    assert_eq!(cases.len(), 8);
    for case in cases {
        let symlinks = match case["policy"].as_str().unwrap() {
            "collapse_escaping" => SymlinkPolicy::CollapseEscaping,
            "collapse_all" => SymlinkPolicy::CollapseAll,
            "exclude_escaping" => SymlinkPolicy::ExcludeEscaping,
            "exclude_all" => SymlinkPolicy::ExcludeAll,
            other => panic!("{other}"),
        };
        let chunk_size = match case["fileChunkSizeBytes"].as_i64().unwrap() {
            -1 => ChunkSize::WholeFile,
            bytes => ChunkSize::Bytes(bytes.unsigned_abs().try_into().unwrap()),
        };
        let (_temp, root) = tree(&case);
        let made = manifest(&root, symlinks, chunk_size, Format::V2025_12).await;
        let outside = ContentHash::of(OUTSIDE).to_string();
        let expected = case["rel"]
            .as_str()
            .unwrap()
            .replace(OUTSIDE_HASH, &outside);
        assert_eq!(made, expected, "{}", case["id"]);
    }
}

#[tokio::test]
async fn trees_give_the_references_2023_manifests() {
    let mut compared = 0;
    for case in cases("manifests-v2023.json") {
        if case.get("tree").is_none() {
            continue;
        }
        let (_temp, root) = tree(&case);
        let symlinks = SymlinkPolicy::CollapseAll;
        let made = manifest(&root, symlinks, ChunkSize::WholeFile, Format::V2023_03_03).await;
        assert_eq!(made, case["manifest"].as_str().unwrap(), "{}", case["id"]);
        compared += 1;
    }
    assert_eq!(compared, 14);
}
