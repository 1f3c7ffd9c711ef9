//! 2023-03-03 against the Python package that defines it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use attachfs_manifest::wire::{Format, Manifest, decode, encode_snapshot};
use attachfs_manifest::{ContentHash, Node, Snapshot};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::entries::{any_name, files_only};
use super::{Peer, Refusal, base64, bytes_of, python, text_of};
use crate::golden::{build, cases, content, set_mtime};
use crate::machine::{Machine, args};

fn path(path: &Path) -> String {
    base64(path.as_os_str().as_bytes())
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("attachfs-")
        .tempdir()
        .unwrap()
}

fn told_entries(snapshot: &Snapshot) -> Vec<Value> {
    let files = snapshot.entries().filter_map(|(path, node)| match node {
        Node::File(file) => Some((path, file)),
        Node::Dir | Node::Symlink(_) => None,
    });
    let told = files.map(|(path, file)| {
        json!({
            "path": base64(path.as_bytes()),
            "hash": file.content.hashes()[0].to_string(),
            "size": file.size,
            "mtime": file.mtime.0,
        })
    });
    told.collect()
}

#[test]
fn the_vectors_of_hashes_are_current() {
    let Some(python) = python() else { return };
    for case in cases("hashes-xxh128.json") {
        let bytes = content(&case);
        let told = python.told(&json!({ "op": "hash", "bytes": base64(&bytes) }));
        assert_eq!(told["hash"], case["xxh128"], "{}", case["id"]);
        let ours = ContentHash::of(&bytes).to_string();
        assert_eq!(told["hash"], ours, "{}", case["id"]);
    }
}

/// Names that begin with a dot are taken only where a pattern says so: each file by its own name.
fn patterns(case: &Value) -> Option<Vec<String>> {
    let tree = case["tree"].as_array()?.iter();
    let paths: Vec<_> = tree.map(|entry| entry["path"].as_str().unwrap()).collect();
    let is_hidden = |path: &&str| path.split('/').any(|name| name.starts_with('.'));
    paths.iter().any(is_hidden).then(|| {
        let escaped = paths.iter().map(|path| path.replace('[', "[[]"));
        escaped.collect()
    })
}

#[test]
fn the_vectors_of_trees_are_current() {
    let Some(python) = python() else { return };
    let mut compared = 0;
    for case in cases("manifests-v2023.json") {
        if case["tree"].is_null() {
            continue;
        }
        let folder = folder();
        let root = build(folder.path(), &case);
        let include = patterns(&case);
        let asked = json!({ "op": "snapshot", "root": path(&root), "include": include });
        let told = python.told(&asked);
        assert_eq!(
            text_of(&told["manifest"]),
            case["manifest"],
            "{}",
            case["id"]
        );
        compared += 1;
    }
    assert_eq!(compared, 14);
}

#[test]
fn the_vectors_of_entries_are_current() {
    let Some(python) = python() else { return };
    let mut compared = 0;
    for case in cases("manifests-v2023.json") {
        let Some(entries) = case["entries"].as_array() else {
            continue;
        };
        let mut entries = entries.clone();
        for entry in &mut entries {
            entry["path"] = base64(entry["path"].as_str().unwrap()).into();
        }
        let told = python.told(&json!({ "op": "encode", "entries": entries }));
        let id = &case["id"];
        assert_eq!(text_of(&told["manifest"]), case["manifest"], "{id}");
        let hash = ContentHash::of(&bytes_of(&told["manifest"])).to_string();
        assert_eq!(case["manifest_hash_xxh128"], hash, "{id}");
        let decoded = python.ask(&json!({ "op": "decode", "manifest": told["manifest"] }));
        let verdict = decoded.map_or_else(|refusal| refusal.to_string(), |_| "accepted".to_owned());
        assert_eq!(case["decode_of_result"], verdict, "{id}");
        compared += 1;
    }
    assert_eq!(compared, 5);
}

#[test]
fn the_vectors_of_decoding_are_current() {
    let Some(python) = python() else { return };
    for case in cases("manifests-v2023-decode.json") {
        let id = &case["id"];
        let manifest = base64(case["json"].as_str().unwrap());
        let told = python.ask(&json!({ "op": "decode", "manifest": manifest }));
        if case["accepted"] == true {
            let told = told.unwrap_or_else(|refusal| panic!("{id}: {refusal}"));
            assert_eq!(text_of(&told["manifest"]), case["reencoded"], "{id}");
            let outside = &told["outside"];
            let check = match outside["type"].as_str() {
                None => "ok".to_owned(),
                Some(kind) => format!("{kind}: {}", outside["text"].as_str().unwrap()),
            };
            assert_eq!(case["download_path_check"], check, "{id}");
        } else {
            let refusal = Refusal {
                kind: case["error_type"].as_str().unwrap().to_owned(),
                text: case["error"].as_str().unwrap().to_owned(),
            };
            assert_eq!(told, Err(refusal), "{id}");
        }
    }
}

#[test]
fn the_vectors_of_merging_are_current() {
    let Some(python) = python() else { return };
    for case in cases("merge-v2023.json") {
        let id = &case["id"];
        let manifests = case["manifests"].as_array().unwrap().iter();
        let manifests: Vec<_> = manifests
            .map(|text| base64(text.as_str().unwrap()))
            .collect();
        let told = python.told(&json!({ "op": "merge", "manifests": manifests }));
        match case["merged"].as_str() {
            None => assert!(told["manifest"].is_null(), "{id}"),
            Some(merged) => assert_eq!(text_of(&told["manifest"]), merged, "{id}"),
        }
    }
}

#[test]
fn the_vectors_of_the_hash_cache_are_current() {
    let Some(python) = python() else { return };
    for case in cases("caches.json") {
        let folder = folder();
        let (root, cache) = (folder.path().join("root"), path(&folder.path().join("c")));
        let file = root.join("f");
        fs::create_dir(&root).unwrap();
        fs::write(&file, "x").unwrap();
        set_mtime(&file, case["mtime_ns"].as_i64().unwrap());
        let taken = json!({ "op": "snapshot", "root": path(&root), "cache": cache });
        python.told(&taken);
        let asked = json!({ "op": "hash_cache_get", "cache": cache, "path": path(&file) });
        let entry = &python.told(&asked)["entry"];
        let id = &case["id"];
        assert_eq!(entry["last_modified_time"], case["row"][5], "{id}");
        assert_eq!(entry["hash"], ContentHash::of(b"x").to_string(), "{id}");
    }
}

#[test]
fn what_is_put_into_a_cache_is_there() {
    let Some(python) = python() else { return };
    let folder = folder();
    let cache = path(folder.path());
    let key = base64(b"/p/bad\xff");
    let put = json!({
        "op": "hash_cache_put", "cache": cache, "path": key, "range_start": 10, "range_end": 20,
        "hash": "00", "last_modified_time": "t",
    });
    python.told(&put);
    let mut get = json!({ "op": "hash_cache_get", "cache": cache, "path": key });
    assert!(python.told(&get)["entry"].is_null());
    get["range_start"] = 10.into();
    get["range_end"] = 20.into();
    let expected = json!({ "hash": "00", "last_modified_time": "t" });
    assert_eq!(python.told(&get)["entry"], expected);

    let seen = |time: &str| {
        let put = json!({
            "op": "s3_check_cache_put", "cache": cache, "key": "b/k", "last_seen_time": time,
        });
        python.told(&put);
        let get = json!({ "op": "s3_check_cache_get", "cache": cache, "key": "b/k" });
        python.told(&get)["last_seen_time"].clone()
    };
    // It forgets after 30 days.
    assert!(seen("1.5").is_null());
    assert_eq!(seen("99999999999.5"), "99999999999.5");
}

fn paths_in(manifest: &[u8]) -> Vec<String> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let paths = manifest["paths"].as_array().unwrap().iter();
    paths
        .map(|entry| entry["path"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_vectors_of_globs_are_current() {
    let Some(python) = python() else { return };
    let mut compared = 0;
    for case in cases("snapshot-diff-filter.json") {
        if case["tree"].is_null() {
            continue;
        }
        let id = &case["id"];
        let folder = folder();
        let root = build(folder.path(), &case);
        // The one pattern that leaves the root names it as it was called then.
        let include = case["include"].to_string().replace("../snap/", "../root/");
        let include: Value = serde_json::from_str(&include).unwrap();
        let globs = json!({
            "op": "snapshot", "root": path(&root), "include": include, "exclude": case["exclude"],
        });
        let told = python.ask(&globs);
        if let Some(error) = case["error"].as_str() {
            assert_eq!(told.unwrap_err().to_string(), error, "{id}");
        } else {
            let manifest = told.unwrap()["manifest"].clone();
            let paths = match manifest {
                Value::Null => Value::Null,
                manifest => json!(paths_in(&bytes_of(&manifest))),
            };
            assert_eq!(paths, case["paths_in_manifest"], "{id}");
            let mut asked = globs.clone();
            asked["op"] = "glob".into();
            let found = python.told(&asked)["paths"].as_array().unwrap().len();
            assert_eq!(found, paths.as_array().map_or(0, Vec::len), "{id}");
        }
        compared += 1;
    }
    assert_eq!(compared, 10);
}

#[test]
fn the_vectors_of_output_filters_are_current() {
    let Some(python) = python() else { return };
    let cases = cases("snapshot-diff-filter.json");
    let filters = cases.iter().filter(|case| case["filters"].is_array());
    let mut compared = 0;
    for case in filters {
        let file = base64(case["path"].as_str().unwrap());
        let asked = json!({ "op": "filter", "path": file, "filters": case["filters"] });
        let told = python.told(&asked);
        assert_eq!(told["matches"], case["matches"], "{}", case["id"]);
        compared += 1;
    }
    assert_eq!(compared, 9);
}

/// The tree of the vectors' diffs, as their `changes` tell it: a base, its manifest, and then the changes.
fn changed_tree(python: &Peer, folder: &Path) -> (PathBuf, Value) {
    const TIME: i64 = 1_700_000_000_123_456_789;
    let root = folder.join("root");
    fs::create_dir(&root).unwrap();
    let write = |name: &str, text: &str, mtime: i64| {
        fs::write(root.join(name), text).unwrap();
        set_mtime(&root.join(name), mtime);
    };
    for name in ["gone", "keep", "mt", "mt1us", "mt2us", "size"] {
        write(name, "x", TIME);
    }
    write("same_meta_diff_content", "same", TIME);
    let base = python.told(&json!({ "op": "snapshot", "root": path(&root) }));
    write("size", "twelve bytes", TIME);
    write("mt", "x", TIME + 1_000_000_000);
    write("mt1us", "x", TIME + 1000);
    write("mt2us", "x", TIME + 2000);
    write("same_meta_diff_content", "emas", TIME);
    write("new", "n", TIME);
    write(".newhidden", "n", TIME);
    fs::remove_file(root.join("gone")).unwrap();
    (root, base["manifest"].clone())
}

#[test]
fn the_vectors_of_diffs_are_current() {
    let Some(python) = python() else { return };
    let folder = folder();
    let (root, base) = changed_tree(&python, folder.path());
    let cases = cases("snapshot-diff-filter.json");
    let case = |id: &str| cases.iter().find(|case| case["id"] == id).unwrap();
    let expected = case("diff_force_rehash_False");
    let told = python.told(&json!({ "op": "diff", "root": path(&root), "manifest": base }));
    for kind in ["new", "modified", "deleted"] {
        let names: Vec<_> = told[kind].as_array().unwrap().iter().map(text_of).collect();
        assert_eq!(json!(names), expected[kind], "{kind}");
    }
    for (word, force_rehash) in [("False", false), ("True", true)] {
        let expected = case(&format!("snapshot_diff_force_rehash_{word}"));
        let asked = json!({
            "op": "snapshot", "root": path(&root), "base": base, "force_rehash": force_rehash,
        });
        let manifest = bytes_of(&python.told(&asked)["manifest"]);
        assert_eq!(
            json!(paths_in(&manifest)),
            expected["paths_in_manifest"],
            "{word}"
        );
    }
}

#[test]
fn any_bytes_have_one_hash() {
    let Some(python) = python() else { return };
    proptest!(|(bytes in prop::collection::vec(any::<u8>(), 0..3000))| {
        let told = python.told(&json!({ "op": "hash", "bytes": base64(&bytes) }));
        prop_assert_eq!(&told["hash"], &ContentHash::of(&bytes).to_string());
    });
}

#[test]
fn any_files_have_one_text_and_one_meaning() {
    let Some(python) = python() else { return };
    proptest!(|(tree in files_only(any_name()))| {
        let ours = encode_snapshot(&tree, Format::V2023_03_03).unwrap();
        let entries = told_entries(&tree);
        let reversed: Vec<_> = entries.iter().rev().collect();
        let theirs = python.told(&json!({ "op": "encode", "entries": reversed }));
        let theirs = bytes_of(&theirs["manifest"]);
        prop_assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));

        prop_assert_eq!(decode(&theirs), Ok((Format::V2023_03_03, Manifest::Snapshot(tree))));
        let decoded = python.ask(&json!({ "op": "decode", "manifest": base64(&ours) }));
        if entries.is_empty() {
            // "2023-03-03 with an empty `paths`" of "More lenient than a reference" in docs/formats.md.
            prop_assert_eq!(decoded.unwrap_err().text, "paths must have a least one item");
        } else {
            let decoded = decoded.unwrap();
            prop_assert_eq!(&decoded["entries"], &json!(entries));
            prop_assert_eq!(&decoded["outside"], &Value::Null);
            prop_assert_eq!(bytes_of(&decoded["manifest"]), ours);
        }
    });
}

#[test]
fn any_folder_has_one_manifest() {
    let Some(python) = python() else { return };
    let names = any_name().prop_filter("hidden names are left out", |name| name[0] != b'.');
    proptest!(ProptestConfig { cases: cases_of_folders(), ..ProptestConfig::default() },
        |(tree in files_only(names.boxed()))| {
        let folder = folder();
        let root = folder.path().join("root");
        let entries = tree.entries().filter_map(|(path, node)| match node {
            Node::File(mut file) => {
                let place = root.join(OsStr::from_bytes(path.as_bytes()));
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                let bytes = file.size.to_le_bytes();
                fs::write(&place, bytes).unwrap();
                // What any file system can hold.
                let mtime = file.mtime.0 % (1 << 50);
                set_mtime(&place, mtime * 1000);

                file.size = bytes.len() as u64;
                file.mtime.0 = mtime;
                file.content = attachfs_manifest::Content::Whole(ContentHash::of(&bytes));
                Some((path.to_owned(), Node::File(file)))
            }
            Node::Dir | Node::Symlink(_) => None,
        });
        let tree = Snapshot::new(tree.chunk_size(), None, entries).unwrap();
        prop_assume!(!tree.is_empty());
        let told = python.told(&json!({ "op": "snapshot", "root": path(&root) }));
        let ours = encode_snapshot(&tree, Format::V2023_03_03).unwrap();
        prop_assert_eq!(text_of(&told["manifest"]), String::from_utf8(ours).unwrap());
    });
}

#[test]
fn any_folder_has_one_manifest_without_hidden_names() {
    let Some(python) = python() else { return };
    proptest!(ProptestConfig { cases: cases_of_folders(), ..ProptestConfig::default() },
        |(any in super::folders::folder())| {
        // "folders that links lead back into" of "Operations" in docs/formats.md.
        let tree = super::folders::with_links(&any, |folder, path, target| {
            target != "root"
                && target != "out"
                && !super::folders::is_below(path, target)
                && !super::folders::leads_through_a_link(folder, target)
                && (!super::folders::is_dir(folder, target) || super::folders::is_plain(folder, target))
        });
        Machine::with_directory(|machine| {
            let top = machine.dir("top");
            super::folders::build(&tree, &top);
            let root = top.join("root");
            let told = python.told(&json!({ "op": "snapshot", "root": path(&root) }));
            let out = machine.path("ours");
            machine.ok(args![
                "snapshot", &root, "--format", "2023-03-03", "--hidden", "no", "-o", &out,
            ]);
            let ours = fs::read_to_string(out).unwrap();
            if told["manifest"].is_null() {
                assert!(ours.contains("\"paths\":[]"), "{ours}");
                return;
            }
            assert_eq!(text_of(&told["manifest"]), ours);
            let diff = args!["manifest", "diff", machine.path("ours"), "--root", &root, "--hidden", "no"];
            let ours = machine.json(diff);
            let theirs = python.told(&json!({
                "op": "diff", "root": path(&root), "manifest": told["manifest"],
            }));
            for list in ["new", "modified", "deleted"] {
                assert_eq!((&ours[list], &theirs[list]), (&json!([]), &json!([])), "{list}");
            }
        });
    });
}

/// Folders are made and hashed, so fewer of them.
fn cases_of_folders() -> u32 {
    ProptestConfig::default().cases / 8
}
