//! What the reference implementations wrote, read and refused (`tests/vectors`, see its README).
//!
//! Where this crate is meant to differ, the case is in a table here with the reason, and in
//! `docs/formats.md`.

use std::path::Path;

use serde_json::Value;

use super::{DecodeError, Format, Manifest, decode, decode_lenient, encode_snapshot};
use crate::{
    By, Change, Changes, ChunkSize, Content, ContentHash, Diff, DiffOptions, File, LinkTarget,
    ManifestPath, Mtime, Node, Snapshot, merge,
};

/// Case and reason.
type Table = [(&'static str, &'static str)];

fn cases(file: &str) -> Vec<Value> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let text = std::fs::read_to_string(vectors.join(file)).unwrap();
    // The one name that is not UTF-8, which serde_json cannot hold; see `path`.
    let text = text.replace(r#": "bad\udcff\udcfename"#, ": \"bad\u{f8ff}name");
    let file: Value = serde_json::from_str(&text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    let id = &case["id"];
    case[field]
        .as_str()
        .unwrap_or_else(|| panic!("{id} has no {field}"))
}

fn path(value: &Value) -> Option<ManifestPath> {
    let text = value.as_str()?;
    let bytes = match text.split_once('\u{f8ff}') {
        Some((before, after)) => [before.as_bytes(), b"\xff\xfe", after.as_bytes()].concat(),
        None => text.as_bytes().to_vec(),
    };
    ManifestPath::new(&bytes).ok()
}

fn content(spec: &Value) -> Vec<u8> {
    match text(spec, "type") {
        "utf8" => text(spec, "value").as_bytes().to_vec(),
        "hex" => {
            let digits = text(spec, "value").as_bytes();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
            digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
        }
        "pattern" => {
            let seed = spec["seed"].as_u64().unwrap();
            let len = spec["len"].as_u64().unwrap();
            (0..len).map(|i| (seed + 7 * i + (i >> 8)) as u8).collect()
        }
        other => panic!("unknown content {other}"),
    }
}

fn whole(size: u64, mtime: i64, hash: ContentHash) -> Node {
    Node::File(File {
        size,
        mtime: Mtime(mtime),
        runnable: false,
        content: Content::Whole(hash),
    })
}

/// Fails if a table names a case that is not there.
fn all_there(cases: &[Value], tables: &[&Table]) {
    for (id, _) in tables.iter().copied().flatten() {
        assert!(cases.iter().any(|case| case["id"] == *id), "no case {id}");
    }
}

fn is_in(table: &Table, case: &Value) -> bool {
    table.iter().any(|(id, _)| case["id"] == *id)
}

fn decode_snapshot(text: &str) -> Result<Snapshot, DecodeError> {
    match decode(text.as_bytes())? {
        (_, Manifest::Snapshot(snapshot)) => Ok(snapshot),
        (_, Manifest::Diff(_)) => panic!("a diff"),
    }
}

fn decode_diff(text: &str) -> Result<Diff, DecodeError> {
    match decode(text.as_bytes())? {
        (_, Manifest::Diff(diff)) => Ok(diff),
        (_, Manifest::Snapshot(_)) => panic!("a snapshot"),
    }
}

fn encode(manifest: &Manifest, format: Format) -> String {
    String::from_utf8(super::encode(manifest, format).unwrap()).unwrap()
}

#[test]
fn hashes_are_those_of_the_reference() {
    for case in cases("hashes-xxh128.json") {
        let hash = ContentHash::of(&content(&case["content"]));
        assert_eq!(hash.to_string(), text(&case, "xxh128"), "{}", case["id"]);
    }
}

#[test]
fn trees_encode_as_2023_03_03_to_the_references_bytes() {
    for case in cases("manifests-v2023.json") {
        let Some(tree) = case["tree"].as_array() else {
            continue;
        };
        let entries = tree.iter().map(|entry| {
            let path = path(&entry["path"]).unwrap();
            if entry["kind"] == "dir" {
                return (path, Node::Dir);
            }
            let bytes = content(&entry["content"]);
            let mtime = entry["mtime_ns"].as_i64().unwrap().div_euclid(1000);
            let size = bytes.len() as u64;
            (path, whole(size, mtime, ContentHash::of(&bytes)))
        });
        let snapshot = Snapshot::new(ChunkSize::DEFAULT, None, entries).unwrap();
        let encoded = encode_snapshot(&snapshot, Format::V2023_03_03).unwrap();
        let encoded_text = std::str::from_utf8(&encoded).unwrap();
        assert_eq!(encoded_text, text(&case, "manifest"), "{}", case["id"]);
        let hash = ContentHash::of(&encoded).to_string();
        assert_eq!(hash, text(&case, "manifest_hash_xxh128"), "{}", case["id"]);
        let again = decode_snapshot(encoded_text).unwrap();
        let again = encode_snapshot(&again, Format::V2023_03_03).unwrap();
        assert_eq!(again, encoded, "{}", case["id"]);
    }
}

#[test]
fn entries_encode_as_2023_03_03_to_the_references_bytes() {
    const REFUSED: &Table = &[
        ("entries_negative", "no file has a negative size"),
        ("entries_duplicate_paths", "two files cannot have one path"),
        (
            "entries_short_and_upper_hash",
            "a hash is part of a store's key: 32 lower-case digits",
        ),
    ];
    let cases = cases("manifests-v2023.json");
    all_there(&cases, &[REFUSED]);
    for case in cases.iter().filter(|case| case["entries"].is_array()) {
        let manifest = text(case, "manifest");
        if is_in(REFUSED, case) {
            decode_snapshot(manifest).expect_err(text(case, "id"));
            continue;
        }
        let snapshot = decode_snapshot(manifest).unwrap();
        let entries = case["entries"].as_array().unwrap().iter().map(|entry| {
            let hash = text(entry, "hash").parse().unwrap();
            let size = entry["size"].as_u64().unwrap();
            let node = whole(size, entry["mtime"].as_i64().unwrap(), hash);
            (path(&entry["path"]).unwrap(), node)
        });
        let built = Snapshot::new(ChunkSize::WholeFile, None, entries).unwrap();
        assert_eq!(built, snapshot, "{}", case["id"]);
        let encoded = encode(&Manifest::Snapshot(snapshot), Format::V2023_03_03);
        assert_eq!(encoded, manifest, "{}", case["id"]);
    }
}

#[test]
fn decoding_2023_03_03_is_as_strict_as_the_reference_or_stricter() {
    const STRICTER: &Table = &[
        (
            "totalSize_negative",
            "sizes are not negative, and the total is their sum",
        ),
        ("path_empty", "an empty path names no file"),
        ("path_abs", "an absolute path leaves the root"),
        ("path_nul", "no file system has such a name"),
        ("size_negative", "no file has a negative size"),
        ("mtime_bool", "true and false are not times"),
        ("mtime_huge", "beyond 64 bits"),
        ("dup_paths", "two files cannot have one path"),
        (
            "dup_json_keys",
            "a field that is there twice means two things",
        ),
        ("unsorted_keys_and_paths", "its hashes have two digits"),
        ("escaped_slash", "its hash has two digits"),
        ("raw_utf8", "its hash has two digits"),
    ];
    let cases = cases("manifests-v2023-decode.json");
    all_there(&cases, &[STRICTER]);
    for case in &cases {
        let id = text(case, "id");
        let decoded = decode(text(case, "json").as_bytes());
        if id == "spec_version_2025" {
            // Another format, which the reference of this one does not know.
            decoded.expect(id);
        } else if case["accepted"] == true && !is_in(STRICTER, case) {
            let (format, manifest) = decoded.expect(id);
            assert_eq!(format, Format::V2023_03_03, "{id}");
            assert_eq!(encode(&manifest, format), text(case, "reencoded"), "{id}");
        } else {
            decoded.expect_err(id);
        }
    }
}

#[test]
fn order_white_space_and_escapes_of_2023_03_03_do_not_matter() {
    let a = "0000000000000000000000000000000a";
    let read = decode_snapshot(&format!(
        "{{ \"totalSize\": 3,\n\"paths\": [ {{\"size\":2,\"path\":\"\u{e9}\u{1f600}\",\"hash\":\"{a}\",\
         \"mtime\":-2}}, {{\"size\":1,\"path\":\"a\\/b\",\"mtime\":1,\"hash\":\"{a}\"}} ], \
         \"manifest\\u0056ersion\":\"2023-03-03\",\"hashAlg\":\"xxh128\", \"new\":[{{}},null] }}\n"
    ));
    let expected = format!(
        "{{\"hashAlg\":\"xxh128\",\"manifestVersion\":\"2023-03-03\",\"paths\":[\
         {{\"hash\":\"{a}\",\"mtime\":1,\"path\":\"a/b\",\"size\":1}},\
         {{\"hash\":\"{a}\",\"mtime\":-2,\"path\":\"\\u00e9\\ud83d\\ude00\",\"size\":2}}],\"totalSize\":3}}"
    );
    let encoded = encode(&Manifest::Snapshot(read.unwrap()), Format::V2023_03_03);
    assert_eq!(encoded, expected);
}

/// An entry of `files` in the encode vectors; `None` if the types cannot hold it.
fn built_file(file: &Value, is_absolute: bool) -> Option<(ManifestPath, Change)> {
    let path = path_of(&file["path"], is_absolute)?;
    if file["deleted"] == true {
        return Some((path, Change::DeleteFile));
    }
    if file["symlink_target"].is_string() {
        let target = LinkTarget::Below(path_of(&file["symlink_target"], is_absolute)?);
        return Some((path, Change::Put(Node::Symlink(target))));
    }
    let content = match (file["hash"].as_str(), file["chunkhashes"].as_array()) {
        (Some(hash), _) => Content::Whole(hash.parse().unwrap()),
        (None, Some(hashes)) => {
            let hashes = hashes
                .iter()
                .map(|hash| hash.as_str().unwrap().parse().unwrap());
            Content::Chunks(hashes.collect())
        }
        (None, None) => Content::Unhashed,
    };
    let node = Node::File(File {
        size: file["size"].as_u64()?,
        mtime: Mtime(file["mtime"].as_i64()?),
        runnable: file["runnable"] == true,
        content,
    });
    Some((path, Change::Put(node)))
}

/// A path as an absolute manifest's is held: without its first slash.
fn path_of(value: &Value, is_absolute: bool) -> Option<ManifestPath> {
    match value.as_str()?.strip_prefix('/') {
        Some(below) if is_absolute => ManifestPath::new(below.as_bytes()).ok(),
        None if is_absolute => None,
        _ => path(value),
    }
}

fn built(case: &Value) -> Option<Manifest> {
    let is_absolute = text(case, "kind").starts_with("abs_");
    let chunk_size = match case["fileChunkSizeBytes"].as_i64() {
        None => ChunkSize::DEFAULT,
        Some(-1) => ChunkSize::WholeFile,
        Some(bytes) => ChunkSize::Bytes(u64::try_from(bytes).unwrap().try_into().unwrap()),
    };
    let parent = case["parentManifestHash"].as_str();
    let parent = parent.map(|hash| hash.parse().unwrap());
    let files = case["files"].as_array().unwrap().iter();
    let files = files.map(|file| built_file(file, is_absolute));
    let dirs = case["dirs"].as_array().unwrap().iter().map(|dir| {
        let change = if dir["deleted"] == true {
            Change::DeleteDir
        } else {
            Change::Put(Node::Dir)
        };
        Some((path_of(&dir["path"], is_absolute)?, change))
    });
    let changes: Option<Vec<_>> = files.chain(dirs).collect();
    if text(case, "kind").ends_with("_diff") {
        let diff = Diff::new(chunk_size, parent, changes?).ok()?;
        return Some(Manifest::Diff(diff));
    }
    let entries = changes?.into_iter().map(|(path, change)| match change {
        Change::Put(node) => Some((path, node)),
        _ => None,
    });
    let entries: Option<Vec<_>> = entries.collect();
    let snapshot = Snapshot::new(chunk_size, parent, entries?).ok()?;
    Some(Manifest::Snapshot(snapshot))
}

#[test]
fn entries_encode_as_2025_12_to_the_references_bytes() {
    const REFUSED: &Table = &[
        ("symlink_up", "the link's target is outside the root"),
        ("dollar_names", "a file is used as a directory"),
        (
            "normalised_paths",
            "paths are taken as they are or not at all",
        ),
    ];
    /// What is wrong with these is gone from their encoded form.
    const FAULT_NOT_ENCODED: &Table = &[
        ("dup_dirs", "only one of the two is written"),
        ("hash_and_chunks", "only the hash is written"),
        ("normalised_paths", "they are written normalised"),
    ];
    let cases = cases("manifests-v2025-encode.json");
    all_there(&cases, &[REFUSED, FAULT_NOT_ENCODED]);
    for case in &cases {
        let id = text(case, "id");
        let encoded = text(case, "encoded");
        let decoded = decode(encoded.as_bytes());
        let expected = if text(case, "kind").starts_with("abs_") {
            Format::V2025_12Absolute
        } else {
            Format::V2025_12
        };
        let is_good = case["validate_error"].is_null() && !is_in(REFUSED, case);
        if is_good || is_in(FAULT_NOT_ENCODED, case) {
            let (format, decoded) = decoded.expect(id);
            assert_eq!(format, expected, "{id}");
            assert_eq!(encode(&decoded, format), encoded, "{id}");
        } else {
            decoded.expect_err(id);
        }
        if is_good {
            let built = built(case).expect(id);
            assert_eq!(encode(&built, expected), encoded, "{id}");
            let hash = ContentHash::of(encoded.as_bytes()).to_string();
            assert_eq!(hash, text(case, "encoded_xxh128"), "{id}");
        }
    }
}

#[test]
fn decoding_2025_12_is_as_strict_as_the_reference_or_stricter() {
    const STRICTER: &Table = &[
        ("ref_plus", "a reference is written in one way"),
        ("two_slashes", "a reference is followed by one name"),
        ("dotdot_ref", "a name is not \"..\""),
        (
            "symlink_with_size",
            "a link has no size and no time of its own",
        ),
        ("symlink_escape", "the link's target is outside the root"),
        (
            "hash_nonhex",
            "a hash is part of a store's key: 32 lower-case digits",
        ),
        ("parent_int", "a hash is text, not a number"),
        ("v2023_dotdot", "\"..\" leaves the root"),
    ];
    const LOOSER: &Table = &[("mtime_negative", "files can be older than 1970")];
    let cases = cases("manifests-v2025-decode.json");
    all_there(&cases, &[STRICTER, LOOSER]);
    for case in &cases {
        let id = text(case, "id");
        let decoded = decode(text(case, "json").as_bytes());
        if is_in(LOOSER, case) {
            decoded.expect(id);
        } else if case["decoded"].is_null() || is_in(STRICTER, case) {
            decoded.expect_err(id);
        } else {
            let (_, manifest) = decoded.expect(id);
            let total_size = match &manifest {
                Manifest::Snapshot(snapshot) => snapshot.total_size(),
                Manifest::Diff(diff) => diff.total_size(),
            };
            // The reference keeps any total, this crate writes the sum.
            let reencoded = text(case, "reencoded");
            let (before, _) = reencoded.rsplit_once(':').unwrap();
            let expected = format!("{before}:{total_size}}}");
            assert_eq!(encode(&manifest, Format::V2025_12), expected, "{id}");
        }
    }
}

#[test]
fn collected_trees_of_the_reference_are_written_again_as_they_were() {
    for case in cases("collect-v2025.json") {
        let id = text(&case, "id");
        for (field, expected) in [("rel", Format::V2025_12), ("abs", Format::V2025_12Absolute)] {
            let text = text(&case, field);
            let (format, manifest) = decode(text.as_bytes()).expect(id);
            assert_eq!(format, expected, "{id} {field}");
            assert_eq!(encode(&manifest, format), text, "{id} {field}");
        }
    }
}

#[test]
fn differences_and_their_application_are_those_of_the_reference() {
    const WITHOUT_ERROR: &Table = &[(
        "unhashed_current",
        "a file that lost its hash is a changed file",
    )];
    let cases = cases("diff-compose-v2025.json");
    all_there(&cases, &[WITHOUT_ERROR]);
    for case in &cases {
        let id = text(case, "id");
        let parent = decode_snapshot(text(case, "parent")).expect(id);
        let current = decode_snapshot(text(case, "current")).expect(id);
        let parent_hash = ContentHash::of(text(case, "parent").as_bytes());
        let diff = current.diff(&parent, Some(parent_hash));
        let encoded = encode(&Manifest::Diff(diff), Format::V2025_12);
        if is_in(WITHOUT_ERROR, case) {
            assert!(case["error"].is_string(), "{id}");
        } else {
            assert_eq!(encoded, text(case, "diff"), "{id}");
            assert_eq!(text(case, "composed"), text(case, "current"), "{id}");
        }
        let decoded = decode_diff(&encoded).expect(id);
        assert_eq!(parent.apply(&decoded), Ok(current), "{id}");
    }
}

#[test]
fn composed_differences_do_what_the_references_composition_does() {
    const NO_DIFFERENCE: &Table = &[("unhashed_current", "the reference refuses to compare")];
    let cases = cases("diff-compose-v2025.json");
    all_there(&cases, &[NO_DIFFERENCE]);
    for case in &cases {
        let id = text(case, "id");
        if is_in(NO_DIFFERENCE, case) {
            continue;
        }
        let parent = decode_snapshot(text(case, "parent")).expect(id);
        let diff = decode_diff(text(case, "diff")).expect(id);
        let nothing = Snapshot::new(parent.chunk_size(), None, []).unwrap();
        let made = parent.diff(&nothing, None).then(&diff).expect(id);
        let composed = nothing.apply_composed(&made).expect(id);
        let encoded = encode(&Manifest::Snapshot(composed), Format::V2025_12);
        assert_eq!(encoded, text(case, "composed"), "{id}");
        let current = decode_snapshot(text(case, "current")).expect(id);
        let there_and_back = diff.then(&parent.diff(&current, None)).expect(id);
        assert_eq!(there_and_back.parent(), diff.parent(), "{id}");
        let back = parent.apply_composed(&there_and_back);
        assert_eq!(back, Ok(parent), "{id}");
    }
}

#[test]
fn merging_gives_what_the_reference_gives() {
    /// Manifests that are only read leniently.
    const LENIENT: &Table = &[(
        "dup_within_with_other",
        "two files cannot have one path; the last one counts",
    )];
    let cases = cases("merge-v2023.json");
    all_there(&cases, &[LENIENT]);
    for case in &cases {
        let id = text(case, "id");
        let manifests = case["manifests"].as_array().unwrap().iter();
        let snapshots: Vec<_> = manifests
            .map(|text| {
                let read = decode_lenient(text.as_str().unwrap().as_bytes()).expect(id);
                assert!(read.fault.is_none() || is_in(LENIENT, case), "{id}");
                match read.manifest {
                    Manifest::Snapshot(snapshot) => snapshot,
                    Manifest::Diff(_) => panic!("{id}: a diff"),
                }
            })
            .collect();
        let all: Vec<&Snapshot> = snapshots.iter().collect();
        let merged = merge(&all).expect(id);
        let encoded = merged.map(|merged| encode(&Manifest::Snapshot(merged), Format::V2023_03_03));
        assert_eq!(encoded.as_deref(), case["merged"].as_str(), "{id}");
    }
}

#[test]
fn files_count_as_changed_by_the_rules_of_manifest_diff() {
    let cases = cases("snapshot-diff-filter.json");
    let find = |id: &str| cases.iter().find(|case| case["id"] == id).expect(id);
    let case = find("diff_force_rehash_False");
    let base = decode_snapshot(text(case, "base_manifest")).unwrap();
    // As the case's "changes" says; a hidden file is nothing that the reference's globs find.
    let now = base.entries().filter_map(|(path, node)| {
        let Node::File(mut file) = node else {
            return None;
        };
        match path.as_bytes() {
            b"gone" => return None,
            b"mt" => file.mtime.0 += 1_000_000,
            b"mt1us" => file.mtime.0 += 1,
            b"mt2us" => file.mtime.0 += 2,
            b"same_meta_diff_content" => file.content = Content::Whole(ContentHash::of(b"other")),
            b"size" => {
                file.size = 12;
                file.content = Content::Whole(ContentHash::of(b"a longer one"));
            }
            _ => {}
        }
        Some((path.to_owned(), Node::File(file)))
    });
    let added = (
        ManifestPath::new(b"new").unwrap(),
        whole(3, 5, ContentHash::of(b"new")),
    );
    let now = Snapshot::new(base.chunk_size(), None, now.chain([added])).unwrap();
    let changes = |compare| {
        let options = DiffOptions {
            compare,
            ..DiffOptions::default()
        };
        Changes::of(&now.diff_by(&base, None, options), &base)
    };
    let shown = |paths: &[ManifestPath]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    let fast = changes(By::SizeAndMtime);
    for (field, paths) in [
        ("new", &fast.new),
        ("modified", &fast.modified),
        ("deleted", &fast.deleted),
    ] {
        assert_eq!(serde_json::json!(shown(paths)), case[field], "{field}");
    }
    for (id, compare) in [
        ("snapshot_diff_force_rehash_False", By::SizeAndMtime),
        ("snapshot_diff_force_rehash_True", By::Hash),
    ] {
        let changes = changes(compare);
        let mut put = shown(&[changes.new, changes.modified].concat());
        put.sort_unstable();
        let expected = &find(id)["paths_in_manifest"];
        assert_eq!(serde_json::json!(put), *expected, "{id}");
    }
}

#[test]
fn reading_leniently_takes_what_the_references_take_and_can_be_held() {
    const NOT_HELD: &Table = &[
        ("path_empty", "an empty path names no file"),
        ("path_abs", "an absolute path leaves the root"),
        ("path_nul", "no file system has such a name"),
        ("size_negative", "no file has a negative size"),
        ("mtime_huge", "beyond 64 bits"),
        ("dup_json_keys", "its hash has two digits"),
        ("unsorted_keys_and_paths", "its hashes have two digits"),
        ("escaped_slash", "its hash has two digits"),
        ("raw_utf8", "its hash has two digits"),
        ("dotdot_ref", "the name leads to the root itself"),
        ("symlink_escape", "the link's target is outside the root"),
        (
            "hash_nonhex",
            "a hash is part of a store's key: 32 lower-case digits",
        ),
        ("v2023_dotdot", "\"..\" leaves the root"),
    ];
    /// Formats that the reference of the case does not know, and what strict reading takes too.
    const LOOSER: &Table = &[
        ("spec_version_2025", "another format"),
        ("mtime_negative", "files can be older than 1970"),
        ("paths_empty", "an empty folder is a snapshot"),
        ("v2023_dup", "the reference of 2023-03-03 takes it"),
    ];
    let mut all = cases("manifests-v2023-decode.json");
    all.extend(cases("manifests-v2025-decode.json"));
    all_there(&all, &[NOT_HELD, LOOSER]);
    for case in &all {
        let id = text(case, "id");
        let accepted = case["accepted"] == true || case["decoded"].is_object();
        let read = decode_lenient(text(case, "json").as_bytes());
        if (accepted && !is_in(NOT_HELD, case)) || is_in(LOOSER, case) {
            let read = read.expect(id);
            let strict = decode(text(case, "json").as_bytes());
            assert_eq!(read.fault, strict.err(), "{id}");
        } else {
            read.expect_err(id);
        }
    }
}
