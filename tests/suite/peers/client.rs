//! Random folders as the program and the Python client see them: patterns, changes, the hash cache that both use.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{ContentHash, MergeError, Snapshot, merge};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::entries::{any_name, files_only};
use super::folders::{
    Folder, Kind, build, few, file, folder, is_dir, is_plain, leads_through_a_link, with_links,
    write,
};
use super::{Peer, base64, bytes_of, python, text_of};
use crate::machine::{Machine, args, until};
use crate::process::said;

fn path(path: &Path) -> String {
    base64(path.as_os_str().as_bytes())
}

/// A pattern of Python's globs: names, wildcards, what begins with a dot, and directories of any depth.
fn pattern() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "**", "**", "*", "*", "a", "b", "c.x", ".h", ".*", "?", "[!a]*", "[a-c]", "[a-c]*", "*.x",
        "*.[!y]", "d e", "d*", "\u{e9}", "~", "[]a]", "[!]]", "[", "a[", ".", "**a",
    ]);
    let parts = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    (parts, prop::bool::weighted(0.1)).prop_map(|(pattern, is_dir)| {
        if is_dir {
            format!("{pattern}/")
        } else {
            pattern
        }
    })
}

fn patterns() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let include = prop::collection::vec(pattern(), 0..3);
    (include, prop::collection::vec(pattern(), 0..2)).prop_map(|(mut include, exclude)| {
        // Without patterns the program takes hidden files too.
        if include.is_empty() {
            include.push("**/*".to_owned());
        }
        (include, exclude)
    })
}

/// "folders that links lead back into" of "Operations" in docs/formats.md.
fn without_circles(folder: &Folder) -> Folder {
    with_links(folder, |folder, _, target| {
        !leads_through_a_link(folder, target)
            && target != "root"
            && (!is_dir(folder, target) || is_plain(folder, target))
    })
}

fn choosing((include, exclude): &(Vec<String>, Vec<String>), as_json: bool) -> Vec<String> {
    if as_json {
        let globs = json!({ "include": include, "exclude": exclude });
        return vec!["--globs".to_owned(), globs.to_string()];
    }
    let option = |word: &str, all: &[String]| -> Vec<String> {
        all.iter()
            .flat_map(|pattern| [word.to_owned(), pattern.clone()])
            .collect()
    };
    [option("-i", include), option("-e", exclude)].concat()
}

#[test]
fn any_patterns_choose_the_same_of_any_folder() {
    let Some(python) = python() else { return };
    proptest!(ProptestConfig { cases: few().cases * 4, ..few() },
        |(any in folder(), choice in patterns(), as_json in any::<bool>())| {
        Machine::with_directory(|machine| {
            let folder = without_circles(&any);
            let top = machine.dir("top");
            build(&folder, &top);
            let root = top.join("root");
            let mut command = machine.attachfs(args!["snapshot", &root, "-o", "-", "--format", "2023-03-03"]);
            command.args(choosing(&choice, as_json));
            let ours = said(&mut command).with_code(0).out;
            let told = python.told(&json!({
                "op": "snapshot", "root": path(&root), "include": choice.0, "exclude": choice.1,
            }));
            let theirs = match &told["manifest"] {
                // Nothing was found, and then it writes nothing.
                Value::Null => r#"{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":[],"totalSize":0}"#.to_owned(),
                manifest => text_of(manifest),
            };
            assert_eq!(ours, theirs);
        });
    });
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Stays,
    IsDeleted,
    Grows,
    /// Other bytes, if it has any, with the same length and time.
    IsOverwritten,
    /// So many nanoseconds later.
    Ages(i64),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop::sample::select(vec![
        Fate::Stays,
        Fate::IsDeleted,
        Fate::Grows,
        Fate::IsOverwritten,
        Fate::Ages(999),
        Fate::Ages(1000),
        Fate::Ages(-1000),
        Fate::Ages(2000),
        Fate::Ages(-2000),
        Fate::Ages(1_000_000_000),
    ]);
    prop::collection::vec(fate, 14)
}

fn change(kind: &Kind, fate: Fate, place: &Path) {
    let Kind::File {
        bytes,
        executable,
        mtime,
    } = kind
    else {
        return;
    };
    let mut bytes = bytes.clone();
    let mut mtime = *mtime;
    match fate {
        Fate::Stays => return,
        Fate::IsDeleted => return fs::remove_file(place).unwrap(),
        Fate::Grows => bytes.push(0),
        Fate::IsOverwritten => {
            for byte in &mut bytes {
                *byte = byte.wrapping_add(1);
            }
        }
        // Times before 1970 are left alone.
        Fate::Ages(nanoseconds) => {
            mtime = (mtime + nanoseconds).max(0);
            // "changes in a folder: a time" of "Operations" in docs/formats.md.
            if mtime % 1000 > 900 {
                mtime -= 100;
            }
        }
    }
    let kind = Kind::File {
        bytes,
        executable: *executable,
        mtime,
    };
    write(&kind, place);
}

fn listed(python: &Value, kind: &str) -> BTreeSet<String> {
    python[kind]
        .as_array()
        .unwrap()
        .iter()
        .map(text_of)
        .collect()
}

fn printed(ours: &Value, kind: &str) -> BTreeSet<String> {
    let paths = ours[kind].as_array().unwrap().iter();
    paths
        .map(|path| path.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn any_changes_of_a_folder_are_told_alike() {
    let Some(python) = python() else { return };
    let more = prop::collection::btree_map("(a|b|c\\.x|\\.h|new)", file(), 0..3);
    proptest!(ProptestConfig { cases: few().cases * 2, ..few() },
        |(any in folder(), fates in fates(), more in more, choice in patterns(), force in any::<bool>())| {
        Machine::with_directory(|machine| {
            let folder = without_circles(&any);
            let top = machine.dir("top");
            build(&folder, &top);
            let root = top.join("root");
            let manifest = machine.path("before");
            machine.ok(args!["snapshot", &root, "-o", &manifest, "--format", "2023-03-03"]);
            for ((path, kind), fate) in folder.iter().zip(fates) {
                change(kind, fate, &top.join(path));
            }
            for (name, kind) in &more {
                if !root.join(name).exists() && !root.join(name).is_symlink() {
                    write(kind, &root.join(name));
                }
            }
            let text = fs::read(&manifest).unwrap();
            // "2023-03-03 with an empty `paths`" of "More lenient than a reference" in docs/formats.md.
            if text.windows(10).any(|part| part == b"\"paths\":[]") {
                return;
            }
            let mut command = machine.attachfs(args!["manifest", "diff", &manifest, "--root", &root, "--json"]);
            command.args(choosing(&choice, false));
            if force {
                command.arg("--force-rehash");
            }
            let ours = said(&mut command).with_code(0).json();
            let told = python.told(&json!({
                "op": "diff", "root": path(&root), "manifest": base64(text), "force_rehash": force,
                "include": choice.0, "exclude": choice.1,
            }));
            for kind in ["new", "modified", "deleted"] {
                assert_eq!(printed(&ours, kind), listed(&told, kind), "{kind}");
            }
        });
    });
}

#[test]
fn any_manifests_are_merged_alike() {
    let Some(python) = python() else { return };
    let names = prop::collection::vec(any_name(), 1..4);
    let trees = names.prop_flat_map(|names| {
        let tree = files_only(prop::sample::select(names).boxed());
        prop::collection::vec(tree, 1..4)
    });
    proptest!(|(trees in trees)| {
        // "2023-03-03 with an empty `paths`" of "More lenient than a reference" in docs/formats.md.
        prop_assume!(trees.iter().all(|tree| !tree.is_empty()));
        let trees: Vec<&Snapshot> = trees.iter().collect();
        let merged = match merge(&trees) {
            Ok(merged) => merged.unwrap(),
            // "merging a file with a directory" of "Operations" in docs/formats.md.
            Err(MergeError::Kind { .. }) => return Ok(()),
            Err(error) => panic!("{error}"),
        };
        let texts: Vec<_> = trees
            .iter()
            .map(|tree| base64(encode_snapshot(tree, Format::V2023_03_03).unwrap()))
            .collect();
        let theirs = python.told(&json!({ "op": "merge", "manifests": texts }));
        let ours = encode_snapshot(&merged, Format::V2023_03_03).unwrap();
        prop_assert_eq!(String::from_utf8(ours).unwrap(), text_of(&theirs["manifest"]));
    });
}

/// Some files, their folder, and a directory for the cache.
fn with_files(test: impl FnOnce(&Machine, &Path, &Path)) {
    Machine::with_directory(|machine| {
        for (number, name) in ["a", "d/b", "d/\u{e9} c"].into_iter().enumerate() {
            let kind = Kind::File {
                bytes: name.as_bytes().repeat(100),
                executable: false,
                mtime: 1_700_000_000_123_456_789 + number as i64 * 1_000_000_000,
            };
            let place = machine.path("root").join(name);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            write(&kind, &place);
        }
        test(machine, &machine.path("root"), &machine.dir("shared"));
    });
}

/// Files that were read by a snapshot with the shared cache, and with an empty one of our own.
fn read_files(machine: &Machine, root: &Path, shared: &Path, own: &str) -> u64 {
    let mut command = machine.attachfs(args![
        "snapshot",
        root,
        "-o",
        machine.path("manifest"),
        "--json",
        "--format",
        "2023-03-03",
        "--cache-dir",
        machine.dir(own),
        "--share-deadline-cache",
        shared,
    ]);
    // The cache has local times, and the driver those of UTC.
    command.env("TZ", "UTC");
    said(&mut command).with_code(0).json()["read_files"]
        .as_u64()
        .unwrap()
}

#[test]
fn what_the_client_hashed_is_not_read_again() {
    let Some(python) = python() else { return };
    with_files(|machine, root, shared| {
        let told =
            python.told(&json!({ "op": "snapshot", "root": path(root), "cache": path(shared) }));
        assert_eq!(read_files(machine, root, shared, "own"), 0);
        assert_eq!(
            fs::read(machine.path("manifest")).unwrap(),
            bytes_of(&told["manifest"])
        );
    });
}

fn remembered(python: &Peer, shared: &Path, file: &Path) -> Value {
    let asked = json!({ "op": "hash_cache_get", "cache": path(shared), "path": path(file) });
    python.told(&asked)["entry"]["hash"].clone()
}

#[test]
fn what_the_program_hashed_the_client_finds() {
    let Some(python) = python() else { return };
    with_files(|machine, root, shared| {
        let mut caches = 0;
        // A file that changed just now is not remembered.
        until("the files have settled", || {
            caches += 1;
            read_files(machine, root, shared, &format!("own{caches}"));
            read_files(machine, root, shared, &format!("own{caches}.again")) == 0
        });
        for name in ["a", "d/b", "d/\u{e9} c"] {
            let hash = ContentHash::of(name.as_bytes().repeat(100).as_slice()).to_string();
            assert_eq!(
                remembered(&python, shared, &root.join(name)),
                hash,
                "{name}"
            );
        }
    });
}
