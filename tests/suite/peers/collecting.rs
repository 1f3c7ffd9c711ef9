//! Random folders as the program and `openjd-snapshots` list and hash them.

use std::path::Path;

use attachfs_manifest::ContentHash;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::folders::{
    Folder, build, few, folder, is_below, is_dir, is_plain, leads_through_a_link, with_links,
};
use super::{Peer, base64, openjd, text_of};
use crate::machine::{Machine, args};

const POLICIES: [&str; 6] = [
    "collapse-escaping",
    "collapse-all",
    "exclude-escaping",
    "exclude-all",
    "preserve",
    "transitive-include-targets",
];

/// The folder without the links that the two take differently. Nothing leads to the root itself ("a link to the directory that is taken
/// out" of "Operations" in docs/formats.md).
fn fit_for(policy: &str, folder: &Folder) -> Folder {
    match policy {
        // "links that stand for directories" of "Operations" in docs/formats.md.
        "collapse-escaping" | "collapse-all" => with_links(folder, |folder, _, target| {
            target != "root"
                && !leads_through_a_link(folder, target)
                && (!is_dir(folder, target) || is_plain(folder, target))
        }),
        // "collecting what links lead to" of "Operations" in docs/formats.md.
        "transitive-include-targets" => with_links(folder, |folder, path, target| {
            target != "root"
                && !is_below(path, target)
                && !leads_through_a_link(folder, target)
                && (!is_dir(folder, target) || is_plain(folder, target))
        }),
        _ => with_links(folder, |_, _, target| target != "root"),
    }
}

fn theirs(openjd: &Peer, root: &Path, policy: &str, more: Value) -> Value {
    let mut request = json!({
        "op": "collect", "folders": [root], "policy": policy.replace('-', "_"),
    });
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    openjd.told(&request)
}

#[test]
fn any_folder_is_collected_alike_with_every_policy() {
    let Some(openjd) = openjd() else { return };
    proptest!(few(), |(any in folder())| {
        Machine::with_directory(|machine| {
            for policy in POLICIES {
                let folder = fit_for(policy, &any);
                let top = machine.dir(policy);
                build(&folder, &top);
                let root = top.join("root");
                let ours = machine.ok(args![
                    "manifest", "collect", "--absolute", &root, "--symlinks", policy, "-o", "-",
                ]);
                let told = theirs(&openjd, &root, policy, json!({ "hash": false }));
                assert_eq!(ours.out, text_of(&told["absolute"]), "{policy}");

                let collected = machine.file(format!("{policy}.collected"), &ours.out);
                let hashed = machine.ok(args!["manifest", "hash", collected, "-o", "-"]);
                let told = theirs(&openjd, &root, policy, json!({}));
                assert_eq!(hashed.out, text_of(&told["absolute"]), "{policy}");
            }
        });
    });
}

#[test]
fn any_folder_has_one_snapshot_with_every_policy_and_chunk_size() {
    let Some(openjd) = openjd() else { return };
    proptest!(few(), |(any in folder(), chunk_size in 1..50_u64)| {
        Machine::with_directory(|machine| {
            for policy in &POLICIES[..4] {
                let folder = fit_for(policy, &any);
                let top = machine.dir(policy);
                build(&folder, &top);
                let root = top.join("root");
                let ours = machine.ok(args![
                    "snapshot", &root, "--symlinks", policy, "--chunk-size", chunk_size.to_string(), "-o", "-",
                ]);
                let more = json!({ "root": root, "fileChunkSizeBytes": chunk_size });
                let told = theirs(&openjd, &root, policy, more);
                assert_eq!(ours.out, text_of(&told["relative"]), "{policy}");
            }
        });
    });
}

#[test]
fn any_bytes_have_one_hash() {
    let Some(openjd) = openjd() else { return };
    proptest!(|(bytes in prop::collection::vec(any::<u8>(), 0..3000))| {
        let told = openjd.told(&json!({ "op": "hash", "bytes": base64(&bytes) }));
        prop_assert_eq!(&told["hash"], &ContentHash::of(&bytes).to_string());
    });
}
