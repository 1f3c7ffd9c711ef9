//! What one side uploads the other downloads, from the same bucket: files, manifests, and the caches that both use.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use attachfs_test_s3::{ACCESS_KEY, REGION, SECRET_KEY};
use serde_json::{Value, json};

use super::folders::{Kind, write};
use super::{Peer, base64, bytes_of, openjd, python};
use crate::machine::{Machine, args};

/// Whose buckets they are.
const ACCOUNT: &str = "111122223333";

pub(crate) fn path(path: &Path) -> String {
    base64(path.as_os_str().as_bytes())
}

/// A request that names the machine's bucket and a prefix in it.
pub(super) fn in_bucket(machine: &Machine, prefix: &str, mut request: Value) -> Value {
    let fields = [
        ("endpoint", machine.server().endpoint()),
        ("region", REGION),
        ("access_key", ACCESS_KEY),
        ("secret_key", SECRET_KEY),
        ("account", ACCOUNT),
        ("bucket", "farm"),
        ("prefix", prefix),
    ];
    for (name, value) in fields {
        request[name] = value.into();
    }
    request
}

/// Files of all kinds that 2023-03-03 has: names outside ASCII, nothing in them, a byte more than a part, an odd microsecond.
pub(crate) fn make_files(root: &Path) {
    let files: [(&str, Vec<u8>, i64); 6] = [
        ("a", b"short".to_vec(), 1_700_000_000_123_456),
        (
            "d/\u{e9} \u{1f3ac}/b",
            b"other".to_vec(),
            1_600_000_000_000_001,
        ),
        ("d/empty", Vec::new(), 1_700_000_001_999_999),
        ("d/same", b"short".to_vec(), 1_700_000_002_000_000),
        (
            "large",
            (0..=250).cycle().take((8 << 20) + 1).collect(),
            1_700_000_003_500_000,
        ),
        ("Z", b"order".to_vec(), 1_700_000_004_000_010),
    ];
    for (name, bytes, microseconds) in files {
        let place = root.join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let kind = Kind::File {
            bytes,
            executable: false,
            mtime: microseconds * 1000,
        };
        write(&kind, &place);
    }
}

/// Bytes, microseconds and whether it is executable, of each file by its path.
type Files = BTreeMap<String, (Vec<u8>, i64, bool)>;

fn files(root: &Path) -> Files {
    fn walk(root: &Path, dir: &Path, found: &mut Files) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::metadata(&path).unwrap();
            if meta.is_dir() {
                walk(root, &path, found);
                continue;
            }
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let microseconds = meta.mtime() * 1_000_000 + meta.mtime_nsec() / 1000;
            let is_executable = meta.mode() & 0o111 != 0;
            found.insert(
                name,
                (fs::read(&path).unwrap(), microseconds, is_executable),
            );
        }
    }
    let mut found = Files::new();
    walk(root, root, &mut found);
    found
}

/// Fails unless both have the same files. Python sets times by floating point, which may miss a microsecond.
#[track_caller]
pub(crate) fn assert_same_files(expected: &Path, placed: &Path, may_miss: i64) {
    let (expected, placed) = (files(expected), files(placed));
    assert!(
        expected.keys().eq(placed.keys()),
        "{:?} instead of {:?}",
        placed.keys(),
        expected.keys()
    );
    for (name, (bytes, time, executable)) in &expected {
        let (placed_bytes, placed_time, placed_executable) = &placed[name];
        assert!(bytes == placed_bytes, "{name} has other bytes");
        assert!(
            (time - placed_time).abs() <= may_miss,
            "{name}: {placed_time} is not {time}"
        );
        assert_eq!(executable, placed_executable, "{name}");
    }
}

/// Uploads a folder with the program; gives the manifest's bytes.
fn our_upload(machine: &Machine, root: &Path, format: &str) -> Vec<u8> {
    let manifest = machine.path("ours.manifest");
    let store = machine.store();
    machine.ok(args![
        "snapshot", root, "-o", &manifest, "--store", store, "--format", format
    ]);
    fs::read(manifest).unwrap()
}

/// The prefix of the machine's store.
pub(super) fn prefix(machine: &Machine) -> String {
    let store = machine.store();
    let (_, prefix) = store
        .strip_prefix("s3://")
        .unwrap()
        .split_once('/')
        .unwrap();
    prefix.to_owned()
}

pub(super) fn their_upload(
    python: &Peer,
    machine: &Machine,
    prefix: &str,
    root: &Path,
    cache: &Path,
) -> Value {
    let request = json!({ "op": "upload", "root": path(root), "cache": path(cache) });
    python.told(&in_bucket(machine, prefix, request))
}

/// Names and bytes of all objects below a prefix of the machine's bucket.
fn objects(machine: &Machine, prefix: &str) -> Files {
    let data = machine.path("s3/farm").join(prefix).join("Data");
    let mut found = files(&data);
    for (_, time, executable) in found.values_mut() {
        (*time, *executable) = (0, false);
    }
    found
}

#[test]
fn what_the_program_uploads_the_client_downloads() {
    let Some(python) = python() else { return };
    Machine::with_s3(|machine| {
        let (root, placed) = (machine.dir("root"), machine.dir("placed"));
        make_files(&root);
        let manifest = our_upload(machine, &root, "2023-03-03");
        let request =
            json!({ "op": "download", "manifest": base64(&manifest), "root": path(&placed) });
        let told = python.told(&in_bucket(machine, &prefix(machine), request));
        assert_eq!(told["processed_files"], 6);
        assert_same_files(&root, &placed, 1);
    });
}

#[test]
fn both_upload_the_same_objects_and_make_the_same_manifest() {
    let Some(python) = python() else { return };
    Machine::with_s3(|machine| {
        let root = machine.dir("root");
        make_files(&root);
        let manifest = our_upload(machine, &root, "2023-03-03");
        let told = their_upload(&python, machine, "theirs", &root, &machine.dir("cache"));
        assert_eq!(bytes_of(&told["manifest"]), manifest);
        let ours = objects(machine, &prefix(machine));
        assert_eq!(ours.len(), 5);
        assert!(ours == objects(machine, "theirs"));
        let key = told["key"].as_str().unwrap();
        let published = machine.path("s3/farm/theirs/Manifests").join(key);
        assert_eq!(fs::read(published).unwrap(), manifest);
    });
}

#[test]
fn what_the_client_uploads_the_program_reads() {
    let Some(python) = python() else { return };
    Machine::with_s3(|machine| {
        let (root, cache) = (machine.dir("root"), machine.dir("cache"));
        make_files(&root);
        let told = their_upload(&python, machine, &prefix(machine), &root, &cache);
        let manifest = machine.file("theirs.manifest", bytes_of(&told["manifest"]));
        for (name, (bytes, ..)) in files(&root) {
            let command =
                &mut machine.attachfs(args!["cat", "--store", machine.store(), &manifest, &name]);
            let output = command.output().unwrap();
            assert!(
                output.status.success() && output.stdout == bytes,
                "{name}: {output:?}"
            );
        }
    });
}

#[test]
fn what_one_side_has_uploaded_the_other_does_not_send_again() {
    let Some(python) = python() else { return };
    Machine::with_s3(|machine| {
        let root = machine.dir("root");
        make_files(&root);
        our_upload(machine, &root, "2023-03-03");
        let prefix = prefix(machine);
        let told = their_upload(&python, machine, &prefix, &root, &machine.dir("cache"));
        let counts = (&told["processed_files"], &told["skipped_files"]);
        assert_eq!(counts, (&json!(0), &json!(6)));
        let report = machine.json(args![
            "snapshot",
            &root,
            "-o",
            machine.path("again"),
            "--store",
            machine.store(),
        ]);
        assert_eq!(report["uploaded_objects"], 0);
    });
}

#[test]
fn the_caches_of_the_client_stay_usable_beside_the_program() {
    let Some(python) = python() else { return };
    Machine::with_s3(|machine| {
        let (root, cache) = (machine.dir("root"), machine.dir("cache"));
        make_files(&root);
        let prefix = prefix(machine);
        let first = their_upload(&python, machine, &prefix, &root, &cache);
        let mut command = machine.attachfs(args![
            "snapshot",
            &root,
            "-o",
            machine.path("ours.manifest"),
            "--store",
            machine.store(),
            "--format",
            "2023-03-03",
            "--share-deadline-cache",
            &cache,
            "--json",
        ]);
        // The cache has local times, and the driver those of UTC.
        command.env("TZ", "UTC");
        let report = crate::process::said(&mut command).with_code(0).json();
        let counts = (&report["read_files"], &report["uploaded_objects"]);
        assert_eq!(counts, (&json!(0), &json!(0)));
        let again = their_upload(&python, machine, &prefix, &root, &cache);
        assert_eq!(again["skipped_files"], 6);
        assert_eq!(again["manifest"], first["manifest"]);
        for name in objects(machine, &prefix).into_keys() {
            let key = format!("farm/{prefix}/Data/{name}");
            let asked = json!({ "op": "s3_check_cache_get", "cache": path(&cache), "key": key });
            let told = python.told(&asked);
            assert!(told["last_seen_time"].is_string(), "{key}: {told}");
        }
    });
}

#[test]
fn what_either_side_uploads_as_2025_12_is_the_same_and_has_the_bytes_and_times_that_were_there() {
    let Some(openjd) = openjd() else { return };
    Machine::with_s3(|machine| {
        let (root, placed) = (machine.dir("root"), machine.dir("placed"));
        make_files(&root);
        let kind = Kind::File {
            bytes: b"#!/bin/sh".to_vec(),
            executable: true,
            mtime: 1_700_000_000_123_456_000,
        };
        write(&kind, &root.join("d/run"));
        let prefix = prefix(machine);
        let manifest = our_upload(machine, &root, "2025-12");
        let request = json!({ "op": "download", "manifest": base64(&manifest), "root": &placed });
        openjd.told(&in_bucket(machine, &prefix, request));
        // openjd-snapshots 0.3.2 reads the execute bit and gives none to what it places.
        assert!(
            manifest
                .windows(15)
                .any(|part| part == b"\"runnable\":true")
        );
        let run = placed.join("d/run");
        fs::set_permissions(run, fs::Permissions::from_mode(0o755)).unwrap();
        assert_same_files(&root, &placed, 0);
        let request = json!({ "op": "upload", "folders": [&root] });
        openjd.told(&in_bucket(machine, "theirs", request));
        assert!(objects(machine, &prefix) == objects(machine, "theirs"));
    });
}
