//! Manifests as other programs write them, where that is not the canonical form.

use super::hostile::{HASH, refusal};
use super::{Format, Manifest, decode, decode_lenient, decode_noted, encode_snapshot};
use crate::Change;
use crate::testing::{link, path};

/// As `openjd-snapshots` 0.3.2 composes a snapshot of `/home/u/a` with a diff that puts the link and `b`.
const COMPOSED: &str = "{\"dirs\":[{\"name\":\"/\"},{\"name\":\"/e\"},{\"name\":\"/home\"},{\"name\":\"$2/u\"}],\
    \"fileChunkSizeBytes\":268435456,\"files\":[{\"name\":\"$2/l\",\"symlink\":{\"name\":\"/\"}},\
    {\"hash\":\"06b05ab6733a618578af5f94892f3950\",\"mtime\":5,\"name\":\"$3/a\",\"size\":3},\
    {\"hash\":\"06b05ab6733a618578af5f94892f3950\",\"mtime\":5,\"name\":\"$3/b\",\"size\":3},\
    {\"hash\":\"06b05ab6733a618578af5f94892f3950\",\"mtime\":5,\"name\":\"/top\",\"size\":3}],\
    \"hashAlg\":\"xxh128\",\"specificationVersion\":\"absolute-manifest-snapshot-beta-2025-12\",\"totalSize\":9}";

#[test]
fn an_entry_for_the_root_itself_says_nothing_and_is_noted() {
    let read = decode_noted(COMPOSED.as_bytes()).unwrap();
    let Manifest::Snapshot(tree) = &read.manifest else {
        panic!("a diff");
    };
    let listed: Vec<_> = tree.entries().map(|(path, _)| path.to_string()).collect();
    assert_eq!(
        listed,
        [
            "e", "home", "home/l", "home/u", "home/u/a", "home/u/b", "top"
        ]
    );
    assert_eq!(
        read.note.map(|note| note.to_string()).as_deref(),
        Some("dirs[0] \"/\" is the root directory itself, which needs no entry")
    );
    let lenient = decode_lenient(COMPOSED.as_bytes()).unwrap();
    assert!(lenient.note.is_some() && lenient.fault.is_none());
    // Written again it is not there.
    let again = encode_snapshot(tree, read.format).unwrap();
    let without = COMPOSED.replace("{\"name\":\"/\"},", "");
    let without = without.replace("$2", "$1").replace("$3", "$2");
    assert_eq!(String::from_utf8(again).unwrap(), without);
    assert_eq!(decode_noted(without.as_bytes()).unwrap().note, None);
}

#[test]
fn what_is_in_the_root_may_refer_to_its_entry_leniently() {
    let text = COMPOSED
        .replace("\"/e\"", "\"$0/e\"")
        .replace("\"/top\"", "\"$0/top\"");
    assert!(decode(text.as_bytes()).is_err());
    let read = decode_lenient(text.as_bytes()).unwrap();
    assert_eq!(read.manifest, decode(COMPOSED.as_bytes()).unwrap().1);
}

#[test]
fn entries_that_are_spelled_as_later_writers_of_the_draft_do_are_read() {
    let file =
        |path: &str| format!("{{\"hash\":\"{HASH}\",\"mtime\":1,\"path\":\"{path}\",\"size\":1}}");
    let text = format!(
        "{{\"dirs\":[{{\"path\":\"d\"}},{{\"path\":\"$0/e\"}}],\"files\":[{},{},{},{},{}],\"hashAlg\":\"xxh128\",\
         \"specificationVersion\":\"relative-manifest-snapshot-beta-2025-12\",\"totalSize\":2}}",
        file("$1/a"),
        file("not/listed/b"),
        "{\"path\":\"$1/l\",\"symlink\":{\"target\":\"../t\"}}",
        "{\"path\":\"$1/m\",\"symlink\":{\"target\":\"a\"}}",
        // Their encoder takes the text for a path and finds `d` among the directories.
        "{\"path\":\"n\",\"symlink\":{\"target\":\"$0/t\"}}",
    );
    let (format, Manifest::Snapshot(tree)) = decode(text.as_bytes()).unwrap() else {
        panic!("a diff");
    };
    assert_eq!(format, Format::V2025_12);
    let listed: Vec<_> = tree.entries().map(|(path, _)| path.to_string()).collect();
    assert_eq!(
        listed,
        [
            "d",
            "d/e",
            "d/e/a",
            "d/e/l",
            "d/e/m",
            "n",
            "not",
            "not/listed",
            "not/listed/b"
        ]
    );
    assert_eq!(tree.get(&path("d/e/l")), Some(link("d/t")));
    assert_eq!(tree.get(&path("d/e/m")), Some(link("d/e/a")));
    assert_eq!(tree.get(&path("n")), Some(link("d/t")));

    let leads_out = text.replace("../t", "../../../t");
    assert_eq!(
        refusal(&leads_out),
        "files[2] \"d/e/l\": field \"symlink\": the target of the link: it leads out of the root"
    );
    // A name spelled whole is theirs alone, and so is the target's spelling.
    let mixed = text.replace("{\"path\":\"n\"", "{\"name\":\"n\"");
    assert!(refusal(&mixed).contains("files[4] \"n\": field \"symlink\""));
}

#[test]
fn a_deletion_that_is_spelled_as_later_writers_of_the_draft_do_is_one() {
    let text = format!(
        "{{\"dirs\":[{{\"deleted\":true,\"path\":\"d\"}}],\"files\":[{{\"deleted\":true,\"path\":\"$0/a\"}}],\
         \"hashAlg\":\"xxh128\",\"parentManifestHash\":\"{HASH}\",\
         \"specificationVersion\":\"relative-manifest-diff-beta-2025-12\",\"totalSize\":0}}"
    );
    let (_, Manifest::Diff(diff)) = decode(text.as_bytes()).unwrap() else {
        panic!("a snapshot");
    };
    let changes: Vec<_> = diff
        .changes()
        .map(|(path, change)| (path.to_string(), change))
        .collect();
    assert_eq!(
        changes,
        [
            ("d".to_owned(), Change::DeleteDir),
            ("d/a".to_owned(), Change::DeleteFile)
        ]
    );
    let snapshot = text.replace("diff-beta", "snapshot-beta");
    assert!(refusal(&snapshot).contains("a snapshot deletes nothing"));
    // Beside a name it is an unknown field.
    let named = text.replace("\"path\"", "\"name\"");
    assert!(decode(named.as_bytes()).is_err());
}

#[test]
fn whole_paths_of_an_absolute_manifest_are_read_where_entries_have_a_path() {
    let text = format!(
        "{{\"dirs\":[],\"files\":[{{\"hash\":\"{HASH}\",\"mtime\":1,\"path\":\"/home/u/a\",\"size\":1}}],\
         \"hashAlg\":\"xxh128\",\"specificationVersion\":\"absolute-manifest-snapshot-beta-2025-12\",\"totalSize\":1}}"
    );
    let (format, Manifest::Snapshot(tree)) = decode(text.as_bytes()).unwrap() else {
        panic!("a diff");
    };
    assert!(format.is_absolute() && tree.get(&path("home/u/a")).is_some());
    assert!(refusal(&text.replace("\"path\"", "\"name\"")).contains("$N/name"));
}
