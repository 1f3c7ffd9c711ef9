//! `deadline attachment upload` and `download`.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::{Both, assert_same_fields, file_name, store};
use crate::machine::args;
use crate::peers::transfers::{assert_same_files, make_files};

/// What the client prints of a download.
const COUNTS: [&str; 6] = [
    "total_files",
    "total_bytes",
    "processed_files",
    "processed_bytes",
    "skipped_files",
    "skipped_bytes",
];

/// A document that maps a root to a folder.
fn rules(both: &Both<'_>, from: &Path, to: &Path) -> std::path::PathBuf {
    let rule = json!({
        "source_path_format": "POSIX", "source_path": from, "destination_path": to,
    });
    both.machine.file(
        "rules.json",
        json!({ "path_mapping_rules": [rule] }).to_string(),
    )
}

#[test]
fn an_upload_leaves_what_the_deadline_client_leaves() {
    Both::with(|both| {
        // Metadata is ASCII, whatever the root is.
        let root = both.machine.dir("r\u{f6}\u{f6}t");
        make_files(&root);
        let manifest = both.snapshot(&root, &[]);
        let told = both.client(args![
            "attachment",
            "upload",
            "-m",
            &manifest,
            "-r",
            &root,
            "--s3-root-uri",
            store("theirs"),
            "--upload-manifest-path",
            "some/where",
            "--profile",
            super::PROFILE,
            "--json"
        ]);
        assert_eq!(told.out, "");
        let key = format!("some/where/{}", file_name(&manifest));
        let told = both.ours(args![
            "upload",
            &manifest,
            "--root",
            &root,
            "--store",
            store("ours"),
            "--publish",
            key,
            "--asset-root",
            &root,
            "--json"
        ]);
        assert_eq!(told.json()["total_files"], 6);
        let (theirs, ours) = (both.objects("theirs"), both.objects("ours"));
        // Two of the six files are the same.
        assert_eq!(theirs.len(), 6);
        assert_eq!(theirs, ours);
    });
}

#[test]
fn an_upload_by_rules_leaves_what_the_deadline_client_leaves() {
    Both::with(|both| {
        // The manifest is that of a root which is elsewhere here.
        let root = both.machine.dir("root");
        make_files(&root);
        let manifest = both.snapshot(&root, &[]);
        let here = both.machine.path("here");
        fs::rename(&root, &here).unwrap();
        let rules = rules(both, &root, &here);
        both.client(args![
            "attachment",
            "upload",
            "-m",
            &manifest,
            "--path-mapping-rules",
            &rules,
            "--s3-root-uri",
            store("theirs"),
            "--upload-manifest-path",
            "some/where",
            "--profile",
            super::PROFILE
        ]);
        let key = format!("some/where/{}", file_name(&manifest));
        let upload = |manifest: &Path, key: &str| {
            args![
                "upload",
                manifest,
                "--path-mapping-rules",
                &rules,
                "--store",
                store("ours"),
                "--publish",
                key
            ]
        };
        both.ours(upload(&manifest, &key));
        let (mut theirs, ours) = (both.objects("theirs"), both.objects("ours"));
        assert_eq!(theirs.len(), 6);
        let (_, said) = theirs.get_mut(&format!("/Manifests/{key}")).unwrap();
        // A format in the place of a location's name.
        let location = said
            .as_object_mut()
            .unwrap()
            .remove("file-system-location-name");
        assert_eq!(location, Some(json!("POSIX")));
        assert_eq!(said["asset-root"], json!(root));
        assert_eq!(theirs, ours);

        let unnamed = both.machine.path("unnamed.manifest");
        fs::copy(&manifest, &unnamed).unwrap();
        let refused = both.machine.says(upload(&unnamed, "unnamed"));
        refused.with_code(2).saying("no rule is for");
    });
}

#[test]
fn a_download_places_and_counts_what_the_deadline_client_does() {
    Both::with(|both| {
        let root = both.machine.dir("root");
        make_files(&root);
        let manifest = both.snapshot(&root, &[]);
        both.ours(args![
            "upload",
            &manifest,
            "--root",
            &root,
            "--store",
            store("farm")
        ]);
        for conflict in ["create_copy", "skip", "overwrite"] {
            let [theirs, ours] = ["theirs", "ours"].map(|whose| {
                let placed = both.machine.dir(format!("{whose}.{conflict}"));
                // In the way of two of the files.
                fs::create_dir(placed.join("d")).unwrap();
                fs::write(placed.join("a"), "in the way").unwrap();
                fs::write(placed.join("d/empty"), "in the way").unwrap();
                placed
            });
            let told = both.client(args![
                "attachment",
                "download",
                "-m",
                &manifest,
                "--path-mapping-rules",
                rules(both, &root, &theirs),
                "--s3-root-uri",
                store("farm"),
                "--conflict-resolution",
                conflict.to_uppercase(),
                "--profile",
                super::PROFILE,
                "--json"
            ]);
            let told_ours = both.ours(args![
                "download",
                &manifest,
                "--root",
                &ours,
                "--store",
                store("farm"),
                "--conflict",
                conflict.replace('_', "-"),
                "--json"
            ]);
            let (told, told_ours) = (told.json(), told_ours.json());
            assert_same_fields(&told, &told_ours, &COUNTS);
            for field in ["total_time", "transfer_rate"] {
                assert!(
                    told[field].is_f64() && told_ours[field].is_f64(),
                    "{told_ours}"
                );
            }
            let times = |placed: &Path| {
                let old = ["a", "d/empty"].map(|name| placed.join(name));
                for file in old.iter().filter(|_| conflict != "overwrite") {
                    crate::golden::set_mtime(file, 0);
                }
            };
            times(&theirs);
            times(&ours);
            assert_same_files(&theirs, &ours, 1);
            let is_copied = fs::read(ours.join("a (1)")).is_ok();
            assert_eq!(is_copied, conflict == "create_copy");
            assert_eq!(
                fs::read(ours.join("a")).unwrap() == b"in the way",
                conflict != "overwrite"
            );
        }
    });
}
