//! `deadline manifest snapshot`, `diff` and `upload`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Both, assert_same_fields, file_name, store, text};
use crate::golden::set_mtime;
use crate::machine::args;
use crate::peers::transfers::make_files;

/// The patterns of a snapshot: none, and of each kind.
const CHOICES: [&[&str]; 4] = [
    &[],
    &["-i", "d/**"],
    &["-i", "**/*", "-e", "**/same", "-e", "large"],
    &["--force-rehash"],
];

/// Our snapshot of a folder, in a directory of its own, as the client makes it; what is said of it.
fn ours(both: &Both<'_>, root: &Path, choice: &[&str]) -> Value {
    let mut arguments = args![
        "snapshot",
        root,
        "--format",
        "2023-03-03",
        "-d",
        both.machine.dir("ours"),
        "-n",
        "scene",
        "--json"
    ]
    .to_vec();
    if !choice.contains(&"-i") {
        arguments.extend(args!["--hidden", "no"]);
    }
    arguments.extend(choice.iter().map(Into::into));
    both.ours(arguments).json()
}

#[test]
fn a_snapshot_is_byte_for_byte_that_of_the_deadline_client() {
    Both::with(|both| {
        let root = both.machine.dir("root");
        make_files(&root);
        both.machine.file("root/.hidden", "not without a pattern");
        for choice in CHOICES {
            let theirs = both.snapshot(&root, choice);
            let told = ours(both, &root, choice);
            let output = Path::new(told["manifest"].as_str().unwrap());
            assert_eq!(text(&theirs), text(output), "{choice:?}");
            assert_eq!(told["root"], root.to_str().unwrap());
            // The time at the end may be another one.
            let name = |path: &Path| file_name(path).rsplit_once("-2").unwrap().0.to_owned();
            assert_eq!(name(&theirs), name(output));
        }
    });
}

#[test]
fn what_changed_since_a_manifest_is_the_manifest_that_the_deadline_client_makes() {
    Both::with(|both| {
        let root = both.machine.dir("root");
        make_files(&root);
        let before = both.snapshot(&root, &[]);
        // The next snapshot in the same second has the same name, and replaces it.
        let before = both.machine.file("before.manifest", text(&before));
        let since = ["--diff", before.to_str().unwrap()];
        // Nothing changed: there is no manifest.
        let told = ours(both, &root, &since);
        assert_eq!(
            (&told["manifest"], &told["files"]),
            (&Value::Null, &json!(0))
        );
        assert_eq!(fs::read_dir(both.machine.path("ours")).unwrap().count(), 0);
        fs::remove_file(root.join("d/same")).unwrap();
        both.machine.file("root/a", "another length");
        both.machine.file("root/d/new", "new");
        // Other bytes under the old length and time: found by hash alone.
        both.machine.file("root/Z", "ORDER");
        set_mtime(&root.join("Z"), 1_700_000_004_000_010_000);
        for (more, paths) in [
            (&[] as &[&str], 2),
            (&["--force-rehash"], 3),
            (&["-i", "d/*"], 1),
        ] {
            let choice = [&since[..], more].concat();
            // The client takes hashes from its cache by time alone, also with --force-rehash.
            let _ = fs::remove_dir_all(both.machine.path("home/.deadline/cache"));
            let theirs = both.snapshot(&root, &choice);
            let told = ours(both, &root, &choice);
            let output = Path::new(told["manifest"].as_str().unwrap());
            assert_eq!(text(&theirs), text(output), "{more:?}");
            assert_eq!(told["files"], paths, "{more:?}");
        }
    });
}

#[test]
fn changes_of_a_folder_are_told_as_the_deadline_client_tells_them() {
    Both::with(|both| {
        let root = both.machine.dir("root");
        make_files(&root);
        let manifest = both.snapshot(&root, &[]);
        fs::remove_file(root.join("d/same")).unwrap();
        both.machine.file("root/a", "another length");
        both.machine.file("root/d/new", "new");
        let lists = ["new", "modified", "deleted"];
        for choice in [
            &[] as &[&str],
            &["--force-rehash"],
            &["-i", "d/**"],
            &["-i", "**/*", "-e", "a"],
        ] {
            let mut theirs = args![
                "manifest",
                "diff",
                "--root",
                &root,
                "--manifest",
                &manifest,
                "--json"
            ]
            .to_vec();
            theirs.extend(choice.iter().map(Into::into));
            let mut ours = args!["manifest", "diff", &manifest, "--root", &root, "--json"].to_vec();
            if !choice.contains(&"-i") {
                ours.extend(args!["--hidden", "no"]);
            }
            ours.extend(choice.iter().map(Into::into));
            let sorted = |mut told: Value| {
                for list in lists {
                    let paths = told[list].as_array_mut().unwrap();
                    paths.sort_by_key(ToString::to_string);
                }
                told
            };
            let theirs = sorted(both.client(theirs).json());
            assert_ne!(theirs["new"], Value::Array(Vec::new()), "{choice:?}");
            assert_same_fields(&theirs, &sorted(both.ours(ours).json()), &lists);
        }
    });
}

#[test]
fn a_manifest_is_put_where_the_deadline_client_puts_it() {
    Both::with(|both| {
        let root = both.machine.dir("root");
        make_files(&root);
        let manifest = both.snapshot(&root, &[]);
        let name = file_name(&manifest);
        for prefix in [None, Some("some/where")] {
            let mut theirs = args![
                "manifest",
                "upload",
                &manifest,
                "--s3-cas-uri",
                store("theirs"),
                "--profile",
                super::PROFILE,
                "--json"
            ]
            .to_vec();
            if let Some(prefix) = prefix {
                theirs.extend(args!["--s3-manifest-prefix", prefix]);
            }
            assert_eq!(both.client(theirs).out, "");
            let key = prefix.map_or(name.to_owned(), |prefix| format!("{prefix}/{name}"));
            // The client does not ask whether the objects are there.
            let told = both.ours(args![
                "manifest",
                "upload",
                &manifest,
                "--store",
                store("ours"),
                "--key",
                &key,
                "--unchecked",
                "--json"
            ]);
            let address = store(&format!("ours/Manifests/{key}"));
            assert_eq!(told.json()["address"], address);
        }
        let (theirs, ours) = (both.objects("theirs"), both.objects("ours"));
        assert_eq!(theirs.len(), 2);
        assert!(theirs.keys().eq(ours.keys()), "{theirs:?} {ours:?}");
        for (key, (bytes, metadata)) in &theirs {
            assert_eq!(bytes, &ours[key].0, "{key}");
            // A path of the machine in the place of a location's name, which nothing reads.
            assert_eq!(
                metadata["file-system-location-name"],
                manifest.to_str().unwrap()
            );
            assert_eq!(ours[key].1, json!({}));
        }
    });
}
