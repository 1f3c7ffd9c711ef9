//! Manifests that nobody should have written, and laws that hold for all.

use std::error::Error;

use proptest::prelude::*;

use super::{
    EncodeError, Format, Manifest, decode, decode_lenient, encode, encode_diff, encode_snapshot,
};
use crate::testing::{any_snapshot, chunks, dir, file, link, path, snapshot};
use crate::{Change, ChunkSize, Content, Diff, LinkTarget, Mtime, Node, Snapshot};

pub(super) const HASH: &str = "00000000000000000000000000000001";

fn v2023(paths: &str, total_size: u64) -> String {
    format!(
        "{{\"hashAlg\":\"xxh128\",\"manifestVersion\":\"2023-03-03\",\
         \"paths\":[{paths}],\"totalSize\":{total_size}}}"
    )
}

fn v2025(kind: &str, dirs: &str, files: &str) -> String {
    format!(
        "{{\"dirs\":[{dirs}],\"fileChunkSizeBytes\":10,\"files\":[{files}],\"hashAlg\":\"xxh128\",\
         \"specificationVersion\":\"relative-manifest-{kind}-beta-2025-12\",\"totalSize\":0}}"
    )
}

/// The message with those of its causes, as a program prints it.
pub(super) fn refusal(text: &str) -> String {
    let error = decode(text.as_bytes()).expect_err(text);
    let causes = std::iter::successors(Some(&error as &dyn Error), |error| (*error).source());
    let messages: Vec<_> = causes.map(ToString::to_string).collect();
    messages.join(": ")
}

fn entry(path: &str) -> String {
    format!("{{\"hash\":\"{HASH}\",\"mtime\":1,\"path\":\"{path}\",\"size\":1}}")
}

fn named(name: &str, rest: &str) -> String {
    format!("{{\"name\":\"{name}\",{rest}}}")
}

#[test]
fn an_error_in_2023_03_03_names_entry_path_and_reason() {
    for (bad, message) in [
        (entry("/a"), "paths[1] \"/a\": the path is absolute"),
        (
            entry("../a"),
            "paths[1] \"../a\": the path has a component \"..\"",
        ),
        (entry(""), "paths[1] \"\": the path is empty"),
        (
            entry("a\\u0000"),
            "paths[1] \"a\\u{0}\": the path has a NUL byte",
        ),
        (entry("b"), "paths[1] \"b\": \"b\" is listed twice"),
        (
            entry("b/c"),
            "paths[1] \"b/c\": \"b/c\" lies below \"b\", which is not a directory",
        ),
        (
            entry(&"x".repeat(256)),
            "a component of the path has 256 bytes, at most 255 are possible",
        ),
        (
            entry("\\u001b[31m").replace(HASH, "../x"),
            "paths[1] \"\\u{1b}[31m\": field \"hash\": a content hash has 32 hexadecimal digits, \
             this text has 4 bytes",
        ),
        (
            entry("a").replace("\"size\":1", "\"size\":-1"),
            "paths[1] \"a\": field \"size\": the number must be 0 to 2^63 - 1",
        ),
        (
            entry("a").replace("\"mtime\":1,", ""),
            "paths[1] \"a\": field \"mtime\": it is missing",
        ),
        (
            entry("a").replace("\"mtime\":1,", "\"mtime\":1,\"mtime\":1,"),
            "paths[1] \"a\": field \"mtime\": it is there twice",
        ),
        ("7".to_owned(), "paths[1]: expected an object, at byte "),
    ] {
        let text = v2023(&format!("{},{bad}", entry("b")), 2);
        let refusal = refusal(&text);
        assert!(refusal.contains(message), "{refusal}");
    }
}

#[test]
fn an_error_in_2025_12_names_entry_path_and_reason() {
    let live = format!("\"hash\":\"{HASH}\",\"mtime\":1,\"size\":1");
    for (file, message) in [
        (
            named("$0/..", &live),
            "files[0] \"$0/..\": the path has a component \"..\"",
        ),
        (
            named("$1/a", &live),
            "files[0] \"$1/a\": there is no directory 1 before it",
        ),
        (
            named("$00/a", &live),
            "files[0] \"$00/a\": \"$\" must be followed by a plain decimal",
        ),
        (
            named("$0/a/b", &live),
            "files[0] \"$0/a/b\": the name has a slash",
        ),
        (
            named("d/a", &live),
            "files[0] \"d/a\": a path below a directory must be \"$N/name\"",
        ),
        (named("d", &live), "files[0] \"d\": \"d\" is listed twice"),
        (
            named("$0/a", &live.replace(":1,\"size\":1", ":1")),
            "files[0] \"d/a\": field \"size\": it is missing",
        ),
        (
            named("$0/a", "\"chunkhashes\":[\"x\"],\"mtime\":1,\"size\":11"),
            "files[0] \"d/a\": field \"chunkhashes\": hash 0: a content hash has 32",
        ),
        (
            named(
                "$0/a",
                &format!("\"chunkhashes\":[\"{HASH}\"],\"mtime\":1,\"size\":11"),
            ),
            "files[0] \"d/a\": the chunks of \"d/a\" do not fit its size: a file of 11 bytes in \
             chunks of 10 has 2 of them, not 1",
        ),
        (
            named("$0/l", "\"symlink\":{\"name\":\"../x\"}"),
            "files[0] \"d/l\": field \"symlink\": the target of the link: a path below",
        ),
        (
            named("$0/l", "\"symlink\":{\"name\":\"..\"}"),
            "field \"symlink\": the target of the link: the path has a component \"..\"",
        ),
        (
            named("a", "\"delete\":true"),
            "files[0] \"a\": a snapshot deletes nothing",
        ),
    ] {
        let refusal = refusal(&v2025("snapshot", "{\"name\":\"d\"}", &file));
        assert!(
            refusal.starts_with(message) || refusal.ends_with(message),
            "{refusal}"
        );
    }
    let dirs = "{\"name\":\"a\"},{\"name\":\"a\"}";
    let refusal = refusal(&v2025("diff", dirs, ""));
    assert_eq!(refusal, "dirs[1] \"a\": \"a\" is listed twice");
}

#[test]
fn an_unknown_version_is_named() {
    assert_eq!(
        refusal("{\"manifestVersion\":\"1999\\n\"}"),
        "unknown manifest version \"1999\\n\""
    );
    assert!(refusal("{}").starts_with("not a manifest"));
}

#[test]
fn a_manifest_has_one_version() {
    let both = v2023("", 0).replace("\"totalSize\"", "\"specificationVersion\":1,\"totalSize\"");
    assert_eq!(
        refusal(&both),
        "field \"specificationVersion\" of the manifest: \
         it does not belong in a manifest of version 2023-03-03"
    );
}

#[test]
fn a_total_that_is_not_the_sum_is_refused_in_2023_03_03() {
    assert_eq!(
        refusal(&v2023(&entry("a"), 2)),
        "field \"totalSize\" of the manifest: it says 2, but the files have 1 bytes together"
    );
}

#[test]
fn bytes_that_are_not_text_are_refused() {
    assert!(decode(b"{\"manifestVersion\":\"\xff\"}").is_err());
    assert!(decode(b"").is_err());
}

#[test]
fn a_directory_above_a_links_target_gives_way_to_the_link_it_leads_through() {
    let tree = snapshot([
        ("v2/x/scene", file(1)),
        ("latest", link("v2")),
        ("cur", link("latest/x/scene")),
    ]);
    let encoded = encode_snapshot(&tree, Format::V2025_12).unwrap();
    let text = std::str::from_utf8(&encoded).unwrap();
    assert!(text.starts_with(
        "{\"dirs\":[{\"name\":\"latest\"},{\"name\":\"$0/x\"},{\"name\":\"v2\"},{\"name\":\"$2/x\"}]"
    ));
    let decoded = decode(&encoded).unwrap();
    assert_eq!(decoded, (Format::V2025_12, Manifest::Snapshot(tree)));
}

#[test]
fn a_directory_may_be_replaced_by_a_link_that_leads_through_itself() {
    let base = snapshot([("a", dir())]);
    let new = snapshot([("a", link("a/b/c"))]);
    let encoded = encode_diff(&new.diff(&base, None), Format::V2025_12).unwrap();
    let (_, Manifest::Diff(decoded)) = decode(&encoded).unwrap() else {
        panic!("a snapshot");
    };
    assert_eq!(base.apply(&decoded), Ok(new));
}

#[test]
fn names_that_look_like_references_are_names() {
    let tree = snapshot([("$0/x", file(1)), ("$1", file(1)), ("d/$1", file(1))]);
    let encoded = encode_snapshot(&tree, Format::V2025_12).unwrap();
    let text = std::str::from_utf8(&encoded).unwrap();
    assert!(text.starts_with("{\"dirs\":[{\"name\":\"$0\"},{\"name\":\"d\"}]"));
    assert!(text.contains("\"name\":\"$0/x\"") && text.contains("\"name\":\"$1/$1\""));
    assert_eq!(
        decode(&encoded),
        Ok((Format::V2025_12, Manifest::Snapshot(tree)))
    );
}

#[test]
fn a_deletion_is_written_with_the_directories_above_it() {
    let base = snapshot([("d/a", file(1)), ("d/b", file(1))]);
    let changes = [(path("d/a"), Change::DeleteFile)];
    let diff = Diff::new(ChunkSize::DEFAULT, None, changes).unwrap();
    let decoded = decode(&encode_diff(&diff, Format::V2025_12).unwrap()).unwrap();
    let (_, Manifest::Diff(decoded)) = decoded else {
        panic!("a snapshot");
    };
    assert_eq!(
        decoded.changes().next(),
        Some((path("d").borrowed(), Change::Put(dir())))
    );
    assert_eq!(base.apply(&decoded), base.apply(&diff));
}

#[test]
fn files_may_come_before_the_directories_they_refer_to() {
    let text = "{\"files\":[{\"name\":\"$0/a\",\"mtime\":1,\"size\":1}],\"dirs\":[{\"name\":\"d\"}],\
         \"totalSize\":1,\"hashAlg\":\"xxh128\",\
         \"specificationVersion\":\"relative-manifest-snapshot-beta-2025-12\"}";
    let (_, Manifest::Snapshot(tree)) = decode(text.as_bytes()).unwrap() else {
        panic!("a diff");
    };
    let file = tree.get(&path("d/a"));
    let content = file.and_then(|node| Some(node.as_file()?.content.clone()));
    assert_eq!(content, Some(Content::Unhashed));
}

#[test]
fn what_2023_03_03_cannot_hold_is_named() {
    for (node, reason) in [
        (link("a"), "it has no symbolic links"),
        (chunks((1 << 28) + 1, 2), "it has no files in chunks"),
    ] {
        let error = encode_snapshot(&snapshot([("d/x", node)]), Format::V2023_03_03);
        let expected = EncodeError::Entry {
            format: Format::V2023_03_03,
            path: path("d/x"),
            reason,
        };
        assert_eq!(error, Err(expected));
    }
}

#[test]
fn a_small_text_cannot_stand_for_a_huge_manifest() {
    let name = "d".repeat(255);
    let mut dirs = vec![format!("{{\"name\":\"{name}\"}}")];
    dirs.extend((0..14).map(|i| format!("{{\"name\":\"${i}/{name}\"}}")));
    let files = (0..40_000).map(|i| format!("{{\"name\":\"$14/{i}\",\"delete\":true}}"));
    let files: Vec<_> = files.collect();
    let refusal = refusal(&v2025("diff", &dirs.join(","), &files.join(",")));
    assert!(
        refusal.ends_with("far longer than the manifest itself"),
        "{refusal}"
    );
}

#[test]
fn directories_as_deep_as_a_path_can_be_are_read_and_applied() {
    let mut dirs = vec!["{\"name\":\"d\"}".to_owned()];
    dirs.extend((0..2046).map(|i| format!("{{\"name\":\"${i}/d\"}}")));
    let through = named("l", "\"symlink\":{\"name\":\"$2046/d\"}");
    let text = v2025("diff", &dirs.join(","), &through);
    let (_, Manifest::Diff(diff)) = decode(text.as_bytes()).unwrap() else {
        panic!("a snapshot");
    };
    let ten = ChunkSize::Bytes(10.try_into().unwrap());
    let base = [(path("d"), file(1))];
    let base = Snapshot::new(ten, None, base).unwrap();
    assert_eq!(base.apply(&diff).unwrap().len(), 2);
    let empty = Snapshot::new(ten, None, []).unwrap();
    assert_eq!(empty.apply(&diff).unwrap().len(), 2048);
}

/// What a reader makes of a snapshot: directories above the targets of broken links are there.
fn through_text(tree: &Snapshot) -> Snapshot {
    match decode(&encode_snapshot(tree, Format::V2025_12).unwrap()) {
        Ok((_, Manifest::Snapshot(decoded))) => decoded,
        other => panic!("{other:?}"),
    }
}

fn leads_somewhere(tree: &Snapshot) -> bool {
    tree.entries().all(|(_, node)| match node {
        Node::Symlink(crate::LinkTarget::Below(target)) => {
            let mut above = target.ancestors();
            above.all(|directory| tree.get(&directory).is_some())
        }
        _ => true,
    })
}

/// A manifest with one place cut out and something put there.
fn any_altered_manifest() -> impl Strategy<Value = String> {
    let put = "[\\[\\]{}:,\"\\\\$/.a-f0-9]{0,3}|null|true|\\\\u00e9|\\\\udcff|\\$0/";
    (
        any_snapshot(),
        any_snapshot(),
        any::<bool>(),
        any::<prop::sample::Index>(),
        0..4_usize,
        put,
    )
        .prop_map(|(base, new, is_diff, at, cut, put)| {
            let encoded = if is_diff {
                encode_diff(&new.diff(&base, None), Format::V2025_12).unwrap()
            } else {
                encode_snapshot(&new, Format::V2025_12).unwrap()
            };
            let mut text = String::from_utf8(encoded).unwrap();
            let at = at.index(text.len());
            let end = (at + cut).min(text.len());
            text.replace_range(at..end, &put);
            text
        })
}

proptest! {
    #[test]
    fn a_snapshot_is_what_its_text_says(tree in any_snapshot()) {
        let decoded = through_text(&tree);
        prop_assert_eq!(&through_text(&decoded), &decoded);
        if leads_somewhere(&tree) {
            prop_assert_eq!(decoded, tree);
        }
    }

    #[test]
    fn a_difference_leads_to_the_new_snapshot_through_its_text_too(
        base in any_snapshot(), new in any_snapshot()
    ) {
        let (base, new) = (through_text(&base), through_text(&new));
        let encoded = encode_diff(&new.diff(&base, None), Format::V2025_12).unwrap();
        let (_, Manifest::Diff(decoded)) = decode(&encoded).unwrap() else {
            panic!("a snapshot");
        };
        prop_assert_eq!(base.apply(&decoded), Ok(new));
        prop_assert_eq!(encode_diff(&decoded, Format::V2025_12), Ok(encoded));
    }

    #[test]
    fn what_is_taken_from_an_altered_text_can_be_written_and_read_again(
        text in any_altered_manifest()
    ) {
        if let Ok((_, manifest)) = decode(text.as_bytes()) {
            let encoded = encode(&manifest, Format::V2025_12).unwrap();
            let (_, again) = decode(&encoded).unwrap();
            prop_assert_eq!(encode(&again, Format::V2025_12), Ok(encoded));
        }
    }
}

#[test]
fn of_paths_and_keys_that_are_there_twice_the_last_counts_leniently() {
    let twice = format!(
        "{},{{\"hash\":\"{HASH}\",\"mtime\":1,\"mtime\":true,\"path\":\"./d//x/../a\",\"size\":7}}",
        entry("d/a")
    );
    let read = decode_lenient(v2023(&twice, 999).as_bytes()).unwrap();
    assert!(read.fault.is_some());
    let Manifest::Snapshot(tree) = read.manifest else {
        panic!("a diff");
    };
    let file = tree
        .get(&path("d/a"))
        .and_then(|node| node.as_file().cloned());
    let file = file.unwrap();
    assert_eq!((file.size, file.mtime, tree.total_size()), (7, Mtime(1), 7));
    assert_eq!(tree.len(), 2);
}

#[test]
fn a_version_or_a_list_that_is_there_twice_is_refused_leniently_too() {
    let text = v2023(&entry("a"), 1);
    let version = "\"manifestVersion\":\"2023-03-03\",";
    let paths = format!("\"paths\":[{}],", entry("b"));
    let tree = snapshot([("d/a", file(1))]);
    let full = encode_snapshot(&tree, Format::V2025_12).unwrap();
    let full = std::str::from_utf8(&full).unwrap();
    for (text, again) in [
        (&*text, "\"manifestVersion\":\"2025-12\","),
        (&*text, version),
        (&*text, &paths),
        (
            full,
            "\"specificationVersion\":\"relative-manifest-diff-beta-2025-12\",",
        ),
        (full, "\"dirs\":[],"),
        (full, "\"files\":[],"),
    ] {
        assert!(decode_lenient(text.as_bytes()).is_ok(), "{text}");
        let twice = text.replacen('{', &format!("{{{again}"), 1);
        assert!(decode_lenient(twice.as_bytes()).is_err(), "{twice}");
        let twice = text.replace(",\"totalSize\"", &format!(",{again}\"totalSize\""));
        assert!(decode_lenient(twice.as_bytes()).is_err(), "{twice}");
    }
}

#[test]
fn an_absolute_manifest_is_a_snapshot_of_the_root_directory() {
    let tree = snapshot([
        ("f", file(1)),
        ("home/u/x", file(2)),
        ("l", link("home/u")),
        ("r", Node::Symlink(LinkTarget::Root)),
    ]);
    let encoded = encode_snapshot(&tree, Format::V2025_12Absolute).unwrap();
    let text = std::str::from_utf8(&encoded).unwrap();
    assert!(
        text.starts_with(
            "{\"dirs\":[{\"name\":\"/home\"},{\"name\":\"$0/u\"}],\"fileChunkSizeBytes\":268435456,"
        ) && text.contains("{\"name\":\"/l\",\"symlink\":{\"name\":\"$0/u\"}}")
            && text.contains("{\"name\":\"/r\",\"symlink\":{\"name\":\"/\"}}"),
        "{text}"
    );
    let decoded = decode(&encoded).unwrap();
    assert_eq!(
        decoded,
        (Format::V2025_12Absolute, Manifest::Snapshot(tree))
    );
}

#[test]
fn a_drive_is_a_root_of_its_own() {
    let tree = snapshot([("C:/a/b", file(1)), ("D:/x", file(2))]);
    let encoded = encode_snapshot(&tree, Format::V2025_12Absolute).unwrap();
    let text = std::str::from_utf8(&encoded).unwrap();
    assert!(
        text.starts_with("{\"dirs\":[{\"name\":\"C:\"},{\"name\":\"$0/a\"},{\"name\":\"D:\"}]"),
        "{text}"
    );
    let decoded = decode(&encoded).unwrap();
    assert_eq!(
        decoded,
        (Format::V2025_12Absolute, Manifest::Snapshot(tree))
    );
    let mixed = snapshot([("C:/a", file(1)), ("home", file(2))]);
    let error = encode_snapshot(&mixed, Format::V2025_12Absolute).unwrap_err();
    assert!(matches!(error, EncodeError::Entry { .. }), "{error}");
}

#[test]
fn absolute_and_relative_names_do_not_go_together() {
    let absolute = |dirs: &str, files: &str| {
        refusal(&v2025("snapshot", dirs, files).replace("relative", "absolute"))
    };
    let file = |name: &str| named(name, "\"mtime\":1,\"size\":1");
    assert_eq!(
        absolute("", &file("a")),
        "files[0] \"a\": the path must be absolute"
    );
    assert_eq!(
        absolute("", &file("/a/b")),
        "files[0] \"/a/b\": a path below a directory must be \"$N/name\", N its place in \"dirs\""
    );
    assert_eq!(
        absolute("", &format!("{},{}", file("/a"), file("C:"))),
        "files[1] \"C:\": the manifest has paths of a drive and of \"/\""
    );
    assert_eq!(
        absolute("", &file("/C:")),
        "files[0] \"/C:\": the manifest has paths of a drive and of \"/\""
    );
    assert_eq!(
        absolute("{\"name\":\"/\"},{\"name\":\"/\"}", ""),
        "dirs[1] \"/\": the path is empty"
    );
    assert_eq!(
        absolute("{\"name\":\"/\"},{\"name\":\"$0/a\"}", ""),
        "dirs[1] \"$0/a\": there is no directory 0 before it"
    );
    let deleted = "{\"dirs\":[{\"delete\":true,\"name\":\"/\"}],\"files\":[],\"hashAlg\":\"xxh128\",\
         \"specificationVersion\":\"absolute-manifest-diff-beta-2025-12\",\"totalSize\":0}";
    assert_eq!(
        refusal(deleted),
        "dirs[0] \"/\": the root directory is not deleted"
    );
}

#[test]
fn the_draft_of_2025_12_is_read_and_not_written() {
    let draft = format!(
        "{{\"dirs\":[{{\"name\":\"d\"}}],\"files\":[{},{},{},{}],\"hashAlg\":\"xxh128\",\
         \"manifestVersion\":\"2025-12-04-beta\",\"totalSize\":3}}",
        named(
            "$0/a",
            &format!("\"hash\":\"{HASH}\",\"mtime\":1,\"size\":1")
        ),
        named(
            "e/f/\u{e9}",
            &format!("\"hash\":\"{HASH}\",\"mtime\":1,\"size\":2,\"runnable\":true")
        ),
        named("l", "\"symlink\":{\"name\":\"$0/a\"}"),
        named("$0/m", "\"symlink_target\":\"../d/a\""),
    );
    let (format, Manifest::Snapshot(tree)) = decode(draft.as_bytes()).unwrap() else {
        panic!("a diff");
    };
    assert_eq!(format, Format::Draft2025_12_04);
    let listed: Vec<_> = tree.entries().map(|(path, _)| path.to_string()).collect();
    assert_eq!(listed, ["d", "d/a", "d/m", "e", "e/f", "e/f/\u{e9}", "l"]);
    // Links say their own text.
    assert_eq!(tree.get(&path("d/m")), Some(link("d/a")));
    assert_eq!(tree.get(&path("l")), Some(link("d/a")));
    assert_eq!(encode_snapshot(&tree, format), Err(EncodeError::Draft));

    let with_parent = draft.replace(
        "\"hashAlg\"",
        &format!("\"parentManifestHash\":\"{HASH}\",\"hashAlg\""),
    );
    assert!(matches!(
        decode(with_parent.as_bytes()),
        Ok((_, Manifest::Diff(_)))
    ));
    let without = v2023("", 0).replace("2023-03-03", "2025-12-04-beta");
    assert_eq!(
        refusal(&without),
        "field \"dirs\" of the manifest: it is missing"
    );
}

#[test]
fn a_version_that_a_name_pretends_at_the_end_is_not_believed() {
    let pretended = "{\"dirs\":[],\"files\":[],\"hashAlg\":\"xxh128\",\"totalSize\":0,\
         \"specificationVersion\":\"relative-manifest-diff-beta-2025-12\",\
         \"x\":{\"specificationVersion\":\"absolute-manifest-snapshot-beta-2025-12\"}}";
    let read = decode(pretended.as_bytes()).unwrap();
    assert!(matches!(read, (Format::V2025_12, Manifest::Diff(_))));
}
