//! The verbs that make manifests, held to what the library promises of them.

use std::fs;

use serde_json::json;

use super::{TIME, made, scene, snapshot, text};
use crate::golden::set_mtime;
use crate::machine::{Machine, args};

#[test]
fn collecting_and_then_hashing_is_a_snapshot() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        let whole = snapshot(machine, &root, "whole");
        let collected = machine.path("collected");
        let done = machine.json(args![
            "manifest",
            "collect",
            &root,
            "-o",
            &collected,
            "--chunk-size",
            "1000",
        ]);
        assert_eq!((&done["files"], &done["entries"]), (&json!(5), &json!(10)));
        assert!(!text(&collected).contains("hash\":\""), "no byte was read");
        let hashed = machine.path("hashed");
        let hash = args![
            "manifest", "hash", &collected, "--root", &root, "-o", &hashed
        ];
        let done = machine.json(&hash);
        assert_eq!((&done["hashed"], &done["skipped"]), (&json!(5), &json!([])));
        assert_eq!(text(&hashed), text(&whole));
        assert_eq!(done["bytes"], 2509);

        // What has hashes stays, whatever became of the files.
        fs::remove_dir_all(&root).unwrap();
        let again = machine.json(args![
            "manifest", "hash", &hashed, "--root", &root, "-o", &hashed
        ]);
        assert_eq!(again["hashed"], 0);
        assert_eq!(text(&hashed), text(&whole));
    });
}

#[test]
fn an_absolute_manifest_says_itself_where_its_files_are() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        let whole = snapshot(machine, &root, "whole");
        let extra = machine.file("extra/file", "more");
        let collected = machine.path("collected");
        machine.ok(args![
            "manifest",
            "collect",
            "--absolute",
            &root,
            &extra,
            "-o",
            &collected,
            "--chunk-size",
            "1000",
        ]);
        let hashed = machine.path("hashed");
        machine.ok(args!["manifest", "hash", &collected, "-o", &hashed]);
        assert_eq!(
            made(machine, args!["subtree", &hashed, &root]),
            text(&whole)
        );
        let folder = extra.parent().unwrap();
        let of_extra = made(machine, args!["subtree", &hashed, folder]);
        assert!(of_extra.contains("\"name\":\"file\""), "{of_extra}");
        let no_root = machine.says(args!["manifest", "collect", &root, &extra, "-o", "-"]);
        no_root.with_code(2).saying("--absolute");
    });
}

#[test]
fn files_from_a_list_are_taken_and_no_others() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        let list = machine.file("list", "a.txt\nd/e/deep.exr\n");
        let chosen = made(machine, args!["collect", &root, "--files-from", &list]);
        assert!(
            chosen.contains("a.txt") && chosen.contains("deep.exr"),
            "{chosen}"
        );
        assert!(
            !chosen.contains("big") && !chosen.contains("run.sh"),
            "{chosen}"
        );
        let optional = machine.file("optional", "a.txt\nnone\n");
        let all = args![
            "manifest",
            "collect",
            &root,
            "--optional-from",
            &optional,
            "-o",
            "-"
        ];
        assert!(machine.ok(&all).out.contains("a.txt"));
        let required = args![
            "manifest",
            "collect",
            &root,
            "--files-from",
            &optional,
            "-o",
            "-"
        ];
        machine.says(&required).with_code(1).saying("none");
    });
}

#[test]
fn what_was_joined_is_taken_out_as_it_was() {
    Machine::with_directory(|machine| {
        let whole = snapshot(machine, &scene(machine), "whole");
        for directory in ["x", "x/y/z", "/x/y", "C:/x"] {
            let joined = machine.path("joined");
            let done = machine.json(args!["manifest", "join", &whole, directory, "-o", &joined]);
            let format = if directory.starts_with('x') {
                "2025-12"
            } else {
                "2025-12 absolute"
            };
            assert_eq!(done["format"], format, "{directory}");
            let out = made(machine, args!["subtree", &joined, directory]);
            assert_eq!(out, text(&whole), "{directory}");
        }
        let inside = made(machine, args!["subtree", &whole, "d"]);
        // The link that led out is a file now.
        assert!(inside.contains("\"name\":\"up\",\"size\":1"), "{inside}");
        let without = made(
            machine,
            args!["subtree", &whole, "d", "--symlinks", "exclude-escaping"],
        );
        assert!(
            !without.contains("\"up\"") && without.contains("\"in\""),
            "{without}"
        );
        let preserve = args![
            "manifest",
            "subtree",
            &whole,
            "d",
            "--symlinks",
            "preserve",
            "-o",
            "-"
        ];
        machine.says(preserve).with_code(2).saying("preserve");
    });
}

#[test]
fn an_old_snapshot_and_what_changed_since_are_the_new_one() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        let first = snapshot(machine, &root, "1");
        machine.file("scene/new/file", "new");
        fs::remove_file(root.join("d/e/deep.exr")).unwrap();
        let second = snapshot(machine, &root, "2");
        fs::remove_file(root.join("a.txt")).unwrap();
        machine.file("scene/a.txt/now/a/directory", "x");
        let third = snapshot(machine, &root, "3");
        let [one, two, both] = ["one", "two", "both"].map(|name| machine.path(name));
        let changes = machine.json(args!["manifest", "diff", &first, &second, "-o", &one]);
        assert_eq!(changes["new"], json!(["new/file"]));
        assert_eq!(changes["deleted"], json!(["d/e/deep.exr"]));
        assert_eq!(changes["new_directories"], json!(["new"]));
        assert_eq!(changes["unchanged"], 6);
        assert_eq!(changes["manifest"], one.to_str().unwrap());
        machine.ok(args!["manifest", "diff", &second, &third, "-o", &two]);
        assert_eq!(made(machine, args!["compose", &first, &one]), text(&second));
        assert_eq!(
            made(machine, args!["compose", &first, &one, &two]),
            text(&third)
        );
        // Both diffs as one, which may name what the first snapshot never had.
        machine.ok(args!["manifest", "compose", &one, &two, "-o", &both]);
        assert_eq!(made(machine, args!["apply", &first, &both]), text(&third));
        let wrong = machine.says(args!["manifest", "compose", &first, &two, "-o", "-"]);
        assert_eq!((wrong.code, wrong.out.as_str()), (12, ""));
        wrong.saying("was made from a manifest with the hash");
        let lone = machine.says(args!["manifest", "merge", &first, &one, "-o", "-"]);
        lone.with_code(2)
            .saying("it is a diff, and a snapshot is needed");
    });
}

#[test]
fn two_snapshots_are_compared_by_what_was_asked() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        let old = snapshot(machine, &root, "old");
        set_mtime(&root.join("a.txt"), TIME + 1000);
        set_mtime(&root.join("big"), TIME + 2000);
        fs::write(root.join("d/e/deep.exr"), "DEEP").unwrap();
        set_mtime(&root.join("d/e/deep.exr"), TIME);
        let new = snapshot(machine, &root, "new");
        for (by, modified) in [
            ("everything", json!(["a.txt", "big", "d/e/deep.exr"])),
            ("size-and-mtime", json!(["big"])),
            ("hash", json!(["d/e/deep.exr"])),
        ] {
            let found = machine.json(args!["manifest", "diff", &old, &new, "--by", by]);
            assert_eq!(found["modified"], modified, "{by}");
            assert_eq!(
                (&found["new"], &found["deleted"]),
                (&json!([]), &json!([])),
                "{by}"
            );
        }
        let shown = machine.ok(args!["manifest", "diff", &old, "--root", &root]);
        shown
            .printing("modified   big\n")
            .printing("0 new, 1 modified, 0 deleted");
        let forced = machine.json(args![
            "manifest",
            "diff",
            &old,
            "--root",
            &root,
            "--force-rehash"
        ]);
        assert_eq!(forced["modified"], json!(["d/e/deep.exr"]));
    });
}

#[test]
fn what_is_chosen_and_what_is_not_are_everything() {
    Machine::with_directory(|machine| {
        let whole = snapshot(machine, &scene(machine), "whole");
        assert_eq!(
            made(machine, args!["filter", &whole, "-e", "nothing"]),
            text(&whole)
        );
        let [d, rest] = ["d", "rest"].map(|name| machine.path(name));
        machine.ok(args!["manifest", "filter", &whole, "-i", "d/**", "-o", &d]);
        machine.ok(args![
            "manifest", "filter", &whole, "-e", "d/**", "-o", &rest
        ]);
        assert_eq!(made(machine, args!["merge", &d, &rest]), text(&whole));
        let globs = machine.file("globs", r#"{"include":["d/**"]}"#);
        assert_eq!(
            made(machine, args!["filter", &whole, "--globs", &globs]),
            text(&d)
        );
        machine
            .says(args!["manifest", "filter", &whole, "-o", "-"])
            .with_code(2)
            .saying("--include");
    });
}

#[test]
fn parts_put_together_are_the_whole() {
    Machine::with_directory(|machine| {
        machine.file("tree/x/a", "a");
        machine.file("tree/x/b/c", "c");
        machine.file("tree/y/d", "d");
        machine.dir("tree/z");
        let whole = snapshot(machine, &machine.path("tree"), "whole");
        let parts = machine.path("parts");
        let done = machine.json(args![
            "manifest",
            "partition",
            &whole,
            "--root",
            "y",
            "--root",
            "x",
            "--output-dir",
            &parts,
        ]);
        let parts = done["parts"].as_array().unwrap();
        let roots: Vec<_> = parts
            .iter()
            .map(|part| part["root"].as_str().unwrap())
            .collect();
        assert_eq!(roots, ["y", "x", "z"]);
        let mut arguments: Vec<_> = args!["merge"].into();
        for (number, part) in parts.iter().enumerate() {
            let manifest = part["manifest"].as_str().unwrap();
            assert!(
                manifest.ends_with(&format!("/{number}.manifest")),
                "{manifest}"
            );
            let moved = machine.path(format!("moved{number}"));
            let root = part["root"].as_str().unwrap();
            machine.ok(args!["manifest", "join", manifest, root, "-o", &moved]);
            arguments.push(moved.into());
        }
        assert_eq!(made(machine, arguments), text(&whole));

        // Without roots: that of everything, or one for each directory of a machine.
        let one = machine.json(args![
            "manifest",
            "partition",
            &whole,
            "--output-dir",
            machine.path("p")
        ]);
        assert_eq!(one["parts"][0]["root"], ".");
        let absolute = machine.path("absolute");
        machine.ok(args!["manifest", "join", &whole, "/", "-o", &absolute]);
        let each = machine.json(args![
            "manifest",
            "partition",
            &absolute,
            "--output-dir",
            machine.path("q")
        ]);
        let roots = each["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part["root"].as_str().unwrap());
        assert_eq!(roots.collect::<Vec<_>>(), ["/x", "/y", "/z"]);
    });
}

#[test]
fn converting_says_what_it_drops_and_does_not_drop_bytes() {
    Machine::with_directory(|machine| {
        let root = scene(machine);
        let old = machine.path("old");
        let cut = snapshot(machine, &root, "cut");
        let refused = args![
            "manifest",
            "convert",
            &cut,
            "--format",
            "2023-03-03",
            "-o",
            &old
        ];
        machine
            .says(refused)
            .with_code(2)
            .saying("\"big\" is stored in chunks");
        assert!(!old.exists());
        let whole = machine.path("whole");
        machine.ok(args!["snapshot", &root, "-o", &whole]);
        let convert = args![
            "manifest",
            "convert",
            &whole,
            "--format",
            "2023-03-03",
            "-o",
            &old
        ];
        let done = machine.json(&convert);
        assert_eq!(done["format"], "2023-03-03");
        for (what, count) in [
            ("empty_directories", 1),
            ("runnable", 1),
            ("links", 2),
            ("deletions", 0),
        ] {
            assert_eq!(done[what], count, "{what}: {done}");
        }
        assert_eq!(done["parent_dropped"], false);
        machine
            .ok(&convert)
            .printing("1 empty directory: empty\n")
            .printing("d/run.sh");
        // The links were replaced by what they pointed to, as a snapshot of that format does.
        let direct = machine.ok(args![
            "snapshot",
            &root,
            "-o",
            "-",
            "--format",
            "2023-03-03"
        ]);
        assert_eq!(text(&old), direct.out);
        let said = machine.ok(args![
            "manifest",
            "convert",
            &whole,
            "--format",
            "2023-03-03",
            "-o",
            "-"
        ]);
        assert_eq!(said.out, direct.out);
        said.saying("dropped");
        let back = made(machine, args!["convert", &old, "--format", "2025-12"]);
        assert!(
            back.contains("relative-manifest-snapshot-beta-2025-12"),
            "{back}"
        );
    });
}
