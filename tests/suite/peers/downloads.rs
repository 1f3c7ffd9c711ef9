//! What the references uploaded, placed by the program: files, times and modes, and what is left alone the second time.

use serde_json::json;

use super::transfers::{assert_same_files, in_bucket, make_files, prefix, their_upload};
use super::{bytes_of, openjd, python};
use crate::machine::{Machine, args};

/// Places a manifest's files with the program; gives what it said.
fn our_download(machine: &Machine, manifest: &[u8], root: &std::path::Path) -> serde_json::Value {
    let manifest = machine.file("theirs.manifest", manifest);
    let store = machine.store();
    machine.json(args![
        "download", manifest, "--root", root, "--store", store
    ])
}

#[test]
fn what_the_client_uploads_the_program_downloads() {
    let Some(python) = python() else { return };
    Machine::with_s3(|machine| {
        let (root, placed) = (machine.dir("root"), machine.dir("placed"));
        make_files(&root);
        let told = their_upload(
            &python,
            machine,
            &prefix(machine),
            &root,
            &machine.dir("cache"),
        );
        let manifest = bytes_of(&told["manifest"]);
        our_download(machine, &manifest, &placed);
        assert_same_files(&root, &placed, 0);
    });
}

#[test]
fn what_the_program_downloaded_the_client_has_not_to_send() {
    let Some(python) = python() else { return };
    Machine::with_s3(|machine| {
        let (root, placed) = (machine.dir("root"), machine.dir("placed"));
        make_files(&root);
        let prefix = prefix(machine);
        let first = their_upload(&python, machine, &prefix, &root, &machine.dir("cache"));
        our_download(machine, &bytes_of(&first["manifest"]), &placed);
        let again = their_upload(&python, machine, &prefix, &placed, &machine.dir("other"));
        assert_eq!(again["skipped_files"], 6);
        assert_eq!(again["manifest"], first["manifest"]);
    });
}

#[test]
fn what_openjd_uploads_the_program_downloads() {
    let Some(openjd) = openjd() else { return };
    Machine::with_s3(|machine| {
        let (root, placed) = (machine.dir("root"), machine.dir("placed"));
        make_files(&root);
        let request = json!({ "op": "upload", "folders": [&root] });
        let told = openjd.told(&in_bucket(machine, &prefix(machine), request));
        let request = json!({
            "op": "subtree",
            "manifest": told["manifest"],
            "root": &root,
            "policy": "collapse_escaping",
        });
        let told = openjd.told(&request);
        let manifest = bytes_of(&told["manifest"]);
        our_download(machine, &manifest, &placed);
        assert_same_files(&root, &placed, 0);
    });
}

#[test]
fn a_folder_that_openjd_made_keeps_its_links_when_the_program_downloads_over_it() {
    let Some(openjd) = openjd() else { return };
    Machine::with_s3(|machine| {
        let (root, placed) = (machine.dir("root"), machine.dir("placed"));
        make_files(&root);
        for (link, text) in [
            ("l", "d/same"),
            ("d/up", "../a"),
            ("d/here", "."),
            ("dir", "d"),
        ] {
            std::os::unix::fs::symlink(text, root.join(link)).unwrap();
        }
        let request = json!({ "op": "upload", "folders": [&root] });
        let told = openjd.told(&in_bucket(machine, &prefix(machine), request));
        let request = json!({
            "op": "subtree", "manifest": told["manifest"], "root": &root, "policy": "collapse_escaping",
        });
        let told = openjd.told(&request);
        let request = json!({ "op": "download", "manifest": told["manifest"], "root": &placed });
        openjd.told(&in_bucket(machine, &prefix(machine), request));
        let texts = || {
            ["l", "d/up", "d/here", "dir"]
                .map(|link| std::fs::read_link(placed.join(link)).unwrap())
        };
        let theirs = texts();
        let account = our_download(machine, &bytes_of(&told["manifest"]), &placed);
        assert_eq!(account["roots"][0]["copied"], json!([]), "{account}");
        assert_eq!(texts(), theirs);
    });
}

#[test]
fn times_that_the_client_missed_by_a_microsecond_are_corrected() {
    let Some(python) = python() else { return };
    Machine::with_s3(|machine| {
        let (root, placed) = (machine.dir("root"), machine.dir("placed"));
        make_files(&root);
        let cache = machine.dir("cache");
        let told = their_upload(&python, machine, &prefix(machine), &root, &cache);
        let request = json!({
            "op": "download", "manifest": told["manifest"], "root": super::transfers::path(&placed),
        });
        python.told(&in_bucket(machine, &prefix(machine), request));
        let account = our_download(machine, &bytes_of(&told["manifest"]), &placed);
        assert_eq!(account["roots"][0]["copied"], json!([]), "{account}");
        assert_same_files(&root, &placed, 0);
    });
}
