//! 2025-12 against the crate that defines it.

use std::collections::BTreeSet;

use attachfs_manifest::wire::{
    Format, Manifest, decode, decode_noted, encode, encode_diff, encode_snapshot,
};
use attachfs_manifest::{Change, ChunkSize, Content, ContentHash, LinkTarget, Node, Snapshot};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Map, Value, json};

use super::entries::{chunk_size, full_tree, text_name};
use super::{Peer, base64, bytes_of, openjd, text_of};
use crate::golden::{ABC_HASH, OUTSIDE_HASH, build, cases, content};

#[test]
fn the_vectors_of_hashes_are_current() {
    let Some(openjd) = openjd() else { return };
    for case in cases("hashes-xxh128.json") {
        let told = openjd.told(&json!({ "op": "hash", "bytes": base64(content(&case)) }));
        assert_eq!(told["hash"], case["xxh128"], "{}", case["id"]);
    }
}

#[test]
fn the_vectors_of_encoding_are_current() {
    let Some(openjd) = openjd() else { return };
    for case in cases("manifests-v2025-encode.json") {
        let mut asked = case.clone();
        asked["op"] = "encode".into();
        let told = openjd.told(&asked);
        let id = &case["id"];
        assert_eq!(text_of(&told["manifest"]), case["encoded"], "{id}");
        assert_eq!(told["invalid"], case["validate_error"], "{id}");
        let hash = ContentHash::of(&bytes_of(&told["manifest"])).to_string();
        assert_eq!(case["encoded_xxh128"], hash, "{id}");
    }
}

#[test]
fn the_vectors_of_decoding_are_current() {
    let Some(openjd) = openjd() else { return };
    for case in cases("manifests-v2025-decode.json") {
        let id = &case["id"];
        let manifest = base64(case["json"].as_str().unwrap());
        let told = openjd.ask(&json!({ "op": "decode", "manifest": manifest }));
        if let Some(error) = case["decode_error"].as_str() {
            assert_eq!(told.expect_err("it is refused").text, error, "{id}");
        } else {
            let told = told.unwrap_or_else(|refusal| panic!("{id}: {refusal}"));
            assert_eq!(told["kind"], case["kind"], "{id}");
            assert_eq!(told["decoded"], case["decoded"], "{id}");
            assert_eq!(text_of(&told["manifest"]), case["reencoded"], "{id}");
        }
    }
}

#[test]
fn the_vectors_of_diffs_are_current() {
    let Some(openjd) = openjd() else { return };
    for case in cases("diff-compose-v2025.json") {
        let id = &case["id"];
        let parent = case["parent"].as_str().unwrap();
        let asked = json!({
            "op": "diff",
            "parent": base64(parent),
            "current": base64(case["current"].as_str().unwrap()),
            "parentManifestHash": ContentHash::of(parent.as_bytes()).to_string(),
        });
        let told = openjd.ask(&asked);
        if let Some(error) = case["error"].as_str() {
            assert_eq!(told.expect_err("it is refused").text, error, "{id}");
            continue;
        }
        let diff = told.unwrap()["manifest"].clone();
        assert_eq!(text_of(&diff), case["diff"], "{id}");
        let asked = json!({ "op": "compose", "base": base64(parent), "diffs": [diff] });
        match openjd.ask(&asked) {
            Ok(told) => assert_eq!(text_of(&told["manifest"]), case["composed"], "{id}"),
            Err(refusal) => {
                // The vector was composed from the diff in memory; its text cannot be read back ("a diff that lists one path as a
                // deleted directory and a live file" in docs/formats.md).
                assert_eq!(case["id"], "dir_to_file", "{refusal}");
                assert!(refusal.text.contains("duplicate path"), "{refusal}");
            }
        }
    }
}

#[test]
fn the_vectors_of_collecting_are_current() {
    let Some(openjd) = openjd() else { return };
    let mut compared = 0;
    for case in cases("collect-v2025.json") {
        let id = &case["id"];
        let folder = tempfile::tempdir().unwrap();
        let root = build(folder.path(), &case);
        let root = root.to_str().unwrap();
        let told = openjd.told(&json!({
            "op": "collect", "folders": [root], "root": root, "policy": case["policy"],
            "fileChunkSizeBytes": case["fileChunkSizeBytes"],
        }));
        let expected = case["rel"].as_str().unwrap();
        let expected = expected.replace(OUTSIDE_HASH, ABC_HASH);
        assert_eq!(text_of(&told["relative"]), expected, "{id}");
        let absolute = |manifest: &Value, root: &str| {
            let decoded = openjd.told(&json!({ "op": "decode", "manifest": manifest }));
            let files = decoded["decoded"]["files"].to_string();
            let dirs = decoded["decoded"]["dirs"].as_array().unwrap().clone();
            // The directories above the root are listed too, wherever it is.
            let below = |dir: &Value| dir["path"].as_str().unwrap().starts_with(root);
            let dirs: Vec<_> = dirs.into_iter().filter(below).collect();
            let told = json!([files, dirs]).to_string();
            told.replace(root, "/root").replace(OUTSIDE_HASH, ABC_HASH)
        };
        let expected = base64(case["abs"].as_str().unwrap());
        assert_eq!(
            absolute(&told["absolute"], root),
            absolute(&expected.into(), case["root"].as_str().unwrap()),
            "{id}"
        );
        compared += 1;
    }
    assert_eq!(compared, 8);
}

/// The fields of an `encode` request that say the same as one of our manifests.
fn told<'a>(
    (kind, root): (&str, &str),
    chunk_size: ChunkSize,
    parent: Option<ContentHash>,
    changes: impl Iterator<Item = (&'a [u8], Option<Node>, bool)>,
) -> Value {
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    for (path, node, is_dir) in changes {
        let mut fields = Map::new();
        let named = |path| format!("{root}{}", str::from_utf8(path).unwrap());
        fields.insert("path".into(), named(path).into());
        match node {
            None => {
                fields.insert("deleted".into(), true.into());
            }
            Some(Node::Dir) => {}
            Some(Node::Symlink(target)) => {
                let target = match &target {
                    LinkTarget::Root if root.is_empty() => ".".to_owned(),
                    LinkTarget::Root => root.to_owned(),
                    LinkTarget::Below(path) => named(path.as_bytes()),
                };
                fields.insert("symlink_target".into(), target.into());
            }
            Some(Node::File(file)) => {
                fields.insert("size".into(), file.size.into());
                fields.insert("mtime".into(), file.mtime.0.into());
                if file.runnable {
                    fields.insert("runnable".into(), true.into());
                }
                let mut hashes = file.content.hashes().iter().map(ToString::to_string);
                match &file.content {
                    Content::Unhashed => {}
                    Content::Whole(_) => {
                        fields.insert("hash".into(), hashes.next().into());
                    }
                    Content::Chunks(_) => {
                        let hashes: Vec<_> = hashes.collect();
                        fields.insert("chunkhashes".into(), hashes.into());
                    }
                }
            }
        }
        let list = if is_dir { &mut dirs } else { &mut files };
        list.push(Value::Object(fields));
    }
    // The order of both differs (docs/formats.md, "What all formats share"); ours is that of files.
    dirs.sort_by_key(|dir| dir["path"].as_str().unwrap().to_owned());
    let chunk_size = match chunk_size {
        ChunkSize::WholeFile => -1,
        ChunkSize::Bytes(bytes) => bytes.get().cast_signed(),
    };
    json!({
        "kind": kind,
        "files": files,
        "dirs": dirs,
        "fileChunkSizeBytes": chunk_size,
        "parentManifestHash": parent.map(|hash| hash.to_string()),
    })
}

pub(super) fn told_manifest(manifest: &Manifest, format: Format) -> Value {
    let (kind, root) = match format {
        Format::V2025_12Absolute => ("abs", "/"),
        _ => ("rel", ""),
    };
    match manifest {
        Manifest::Snapshot(snapshot) => {
            let kind = format!("{kind}_snapshot");
            let entries = snapshot.entries().map(|(path, node)| {
                let is_dir = node.is_dir();
                (path.as_bytes(), Some(node), is_dir)
            });
            told(
                (&kind, root),
                snapshot.chunk_size(),
                snapshot.parent(),
                entries,
            )
        }
        Manifest::Diff(diff) => {
            let kind = format!("{kind}_diff");
            let changes = diff.changes().map(|(path, change)| match change {
                Change::Put(node) => {
                    let is_dir = node.is_dir();
                    (path.as_bytes(), Some(node), is_dir)
                }
                Change::DeleteDir => (path.as_bytes(), None, true),
                Change::DeleteFile => (path.as_bytes(), None, false),
            });
            told((&kind, root), diff.chunk_size(), diff.parent(), changes)
        }
    }
}

/// What `openjd-snapshots` cannot hold, and docs/formats.md says so: bytes that are not UTF-8 ("Names are bytes"; its paths are text),
/// DEL ("DEL (0x7f) too"), and the beginnings of a path that it takes for those of Windows ("paths that begin" of "More lenient than a
/// reference").
pub(super) fn names() -> BoxedStrategy<Vec<u8>> {
    let kept = text_name().prop_filter("not for this reference", |name| {
        let is_drive = name[0].is_ascii_alphabetic() && name.get(1) == Some(&b':');
        !is_drive && !name.starts_with(br"\\") && !name.contains(&0x7f)
    });
    kept.boxed()
}

/// "negative `mtime` in 2025-12" of "More lenient than a reference" in docs/formats.md.
pub(super) fn times() -> BoxedStrategy<i64> {
    (0..=i64::MAX).boxed()
}

fn trees() -> impl Strategy<Value = Snapshot> {
    chunk_size().prop_flat_map(|chunk_size| full_tree(names(), chunk_size, times()))
}

/// Two trees of the same names.
fn pairs() -> impl Strategy<Value = (Snapshot, Snapshot)> {
    let names = prop::collection::vec(names(), 1..5);
    (names, chunk_size()).prop_flat_map(|(names, chunk_size)| {
        let names = prop::sample::select(names).boxed();
        let tree = full_tree(names, chunk_size, times()).boxed();
        (tree.clone(), tree)
    })
}

/// Checks that both write the same text, and that each reads what the other wrote as the same entries.
fn agrees(openjd: &Peer, manifest: &Manifest, format: Format) -> Result<(), TestCaseError> {
    let ours = &encode(manifest, format).unwrap();
    let fields = told_manifest(manifest, format);
    let mut asked = fields.clone();
    asked["op"] = "encode".into();
    asked["files"].as_array_mut().unwrap().reverse();
    let theirs = text_of(&openjd.told(&asked)["manifest"]);
    prop_assert_eq!(String::from_utf8_lossy(ours), theirs.as_str());

    let (found, decoded) = decode(theirs.as_bytes()).unwrap();
    prop_assert_eq!(found, format);
    let ours_again = told_manifest(&decoded, format);
    prop_assert_eq!(&ours_again["files"], &fields["files"]);
    let paths = |fields: &Value| -> BTreeSet<String> {
        let dirs = fields["dirs"].as_array().unwrap().iter();
        dirs.map(|dir| dir["path"].as_str().unwrap().to_owned())
            .collect()
    };
    prop_assert!(paths(&fields).is_subset(&paths(&ours_again)));

    let told = openjd.ask(&json!({ "op": "decode", "manifest": base64(ours) }));
    match told {
        Ok(told) => {
            let renamed = ours_again["files"]
                .to_string()
                .replace("\"symlink_target\":", "\"symlinkTarget\":");
            let files: Value = serde_json::from_str(&renamed).unwrap();
            prop_assert_eq!(&told["kind"], &fields["kind"]);
            prop_assert_eq!(&told["decoded"]["files"], &files);
            prop_assert_eq!(&told["decoded"]["dirs"], &ours_again["dirs"]);
            prop_assert_eq!(&bytes_of(&told["manifest"]), ours);
            for field in ["fileChunkSizeBytes", "parentManifestHash"] {
                prop_assert_eq!(&told["decoded"][field], &fields[field]);
            }
        }
        Err(refusal) => {
            // It does not read all that it writes: "a diff that lists one path as a deleted directory and a live file, or the
            // reverse" and "a path in `dirs` and in `files`" of "More lenient than a reference" in docs/formats.md.
            let path = refusal.text.rsplit_once("duplicate path: ");
            let path = path.map_or_else(|| panic!("{refusal}"), |(_, path)| path);
            let files = fields["files"].as_array().unwrap();
            prop_assert!(files.iter().any(|file| file["path"] == path), "{}", refusal);
        }
    }
    Ok(())
}

/// Whether a manifest is one of the root `/`.
fn formats() -> impl Strategy<Value = Format> {
    prop::sample::select(vec![Format::V2025_12, Format::V2025_12Absolute])
}

#[test]
fn any_snapshot_has_one_text_and_one_meaning() {
    let Some(openjd) = openjd() else { return };
    proptest!(|(tree in trees(), format in formats())| {
        agrees(&openjd, &Manifest::Snapshot(tree), format)?;
    });
}

#[test]
fn any_diff_has_one_text_and_one_meaning() {
    let Some(openjd) = openjd() else { return };
    proptest!(|((parent, current) in pairs(), with_parent in any::<bool>(), format in formats())| {
        let hash = with_parent.then(|| ContentHash::of(&encode_snapshot(&parent, format).unwrap()));
        let diff = current.diff(&parent, hash);
        agrees(&openjd, &Manifest::Diff(diff), format)?;
    });
}

#[test]
fn any_two_snapshots_have_one_diff() {
    let Some(openjd) = openjd() else { return };
    proptest!(|((parent, current) in pairs())| {
        let [parent, current] = [parent, current].map(|tree| {
            let text = encode_snapshot(&tree, Format::V2025_12).unwrap();
            // As it is read again: with the directories above the targets of links.
            match decode(&text).unwrap() {
                (_, Manifest::Snapshot(tree)) => (tree, text),
                (_, Manifest::Diff(_)) => unreachable!("a snapshot was written"),
            }
        });
        let hash = ContentHash::of(&parent.1);
        let told = openjd.ask(&json!({
            "op": "diff",
            "parent": base64(&parent.1),
            "current": base64(&current.1),
            "parentManifestHash": hash.to_string(),
        }));
        match told {
            Ok(told) => {
                let ours = encode_diff(&current.0.diff(&parent.0, Some(hash)), Format::V2025_12).unwrap();
                prop_assert_eq!(String::from_utf8(ours).unwrap(), text_of(&told["manifest"]));
            }
            Err(refusal) => {
                // "A link to `latest/scene`" of "Directories above the targets of links", and "a difference between a hashed and an unhashed snapshot" of
                // "More lenient than a reference" in docs/formats.md.
                let expected = ["duplicate path: ", "cannot diff hashed", "cannot diff unhashed"];
                let is_expected = expected.iter().any(|text| refusal.text.contains(text));
                prop_assert!(is_expected, "{}", refusal);
            }
        }
    });
}

#[test]
fn what_is_composed_of_absolute_manifests_is_read_and_its_root_entry_noted() {
    let Some(openjd) = openjd() else { return };
    let file = |path: &str| json!({ "path": path, "hash": ABC_HASH, "size": 3, "mtime": 5 });
    let encoded = |kind: &str, files: Value| {
        let request = json!({ "op": "encode", "kind": kind, "dirs": [], "files": files });
        openjd.told(&request)["manifest"].clone()
    };
    let base = encoded("abs_snapshot", json!([file("/home/u/a"), file("/top")]));
    let link = json!({ "path": "/home/l", "symlink_target": "/home/u/a" });
    let diff = encoded("abs_diff", json!([file("/home/u/b"), link]));
    for request in [
        json!({ "op": "compose", "base": base, "diffs": [diff] }),
        json!({ "op": "compose", "diffs": [diff, diff] }),
    ] {
        let text = text_of(&openjd.told(&request)["manifest"]);
        assert!(text.contains("{\"name\":\"/\"}"), "{text}");
        let read = decode_noted(text.as_bytes()).unwrap();
        assert!(read.note.is_some());
        // Without the entry it is what is written for the same.
        let again = encode(&read.manifest, read.format).unwrap();
        let told = openjd.told(&json!({ "op": "decode", "manifest": base64(&again) }));
        let theirs = openjd.told(&json!({ "op": "decode", "manifest": base64(&text) }));
        assert_eq!(told["decoded"]["files"], theirs["decoded"]["files"]);
    }
}
