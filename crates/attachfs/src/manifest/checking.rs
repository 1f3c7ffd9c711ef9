//! Checks a manifest: its faults, and the objects that a store lacks.

use std::collections::HashMap;

use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{
    CaseOptions, Change, ChunkLayout, ContentHash, Diff, ManifestPath, Node, PathRef, Snapshot,
    case_report,
};
use attachfs_transfer::{ObjectFault, Progress, check_objects, error_chain};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::opened::OpenedManifest;
use crate::cancel::Cancellable;
use crate::error::Error;
use crate::store::OpenStore;

/// What to check beside the manifest itself.
#[derive(Debug, Default)]
pub struct CheckRequest<'a> {
    /// Whether this store has every object, in its right length.
    pub store: Option<&'a OpenStore>,
    /// Whether the objects have the bytes that their names say.
    pub deep: bool,
    /// Whether there are names that other systems cannot have, or take for the same.
    pub names: bool,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// What strict reading refuses, if the manifest was read leniently.
    pub fault: Option<String>,
    /// The hash of the manifest's bytes.
    pub hash: String,
    /// Its format.
    pub format: String,
    /// Entries: files, links, directories, deletions.
    pub entries: u64,
    /// Files without a hash.
    pub unhashed: u64,
    /// Some of them.
    pub first_unhashed: Vec<String>,
    /// Whether a store was asked.
    pub asked: bool,
    /// Objects that it was asked for.
    pub objects: u64,
    /// Those that are not as they should be.
    pub bad_objects: Vec<ObjectTrouble>,
    /// Names that other systems cannot have, or take for the same.
    pub names: Vec<NameTrouble>,
}

impl CheckReport {
    /// Whether everything is as it should be. Names are a warning only, and a file without a hash is
    /// a fault only where a store is asked for its bytes.
    pub fn is_sound(&self) -> bool {
        let all_asked = !self.asked || self.unhashed == 0;
        self.fault.is_none() && all_asked && self.bad_objects.is_empty()
    }

    /// Whether something is not what it should be, and not only missing.
    pub fn is_damaged(&self) -> bool {
        self.fault.is_some() || self.bad_objects.iter().any(|object| !object.missing)
    }
}

/// An object that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectTrouble {
    /// Its hash; `-` for a file that has none.
    pub object: String,
    /// The first file that needs it.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// Whether the store does not have it, rather than has it damaged.
    pub missing: bool,
}

/// A name that another system cannot have, or takes for the same as another name.
#[derive(Debug, Clone, Serialize)]
pub struct NameTrouble {
    /// The path.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

/// How many of the same trouble are listed: some are enough to find the others.
const SHOWN: usize = 10;

/// Checks a manifest.
pub async fn check_manifest(
    opened: &OpenedManifest,
    request: &CheckRequest<'_>,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<CheckReport, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress.run(check(opened, request, &progress)).await
}

async fn check(
    opened: &OpenedManifest,
    request: &CheckRequest<'_>,
    progress: &dyn Progress,
) -> Result<CheckReport, Error> {
    let entries = match &opened.manifest {
        Manifest::Snapshot(snapshot) => snapshot.len(),
        Manifest::Diff(diff) => diff.len(),
    };
    let unhashed = unhashed(&opened.manifest);
    let mut report = CheckReport {
        fault: opened.fault.as_ref().map(|fault| error_chain(fault)),
        hash: opened.hash.to_string(),
        format: opened.format.to_string(),
        entries: entries as u64,
        unhashed: unhashed.len() as u64,
        first_unhashed: unhashed
            .iter()
            .take(SHOWN)
            .map(ToString::to_string)
            .collect(),
        asked: request.store.is_some(),
        objects: 0,
        bad_objects: Vec::new(),
        names: Vec::new(),
    };
    if request.names {
        report.names = match &opened.manifest {
            Manifest::Snapshot(snapshot) => troubles(snapshot),
            Manifest::Diff(diff) => troubles(&puts(diff)?),
        };
    }
    if let Some(store) = request.store {
        let (needed, contradictions) = needed(&opened.manifest);
        report.objects = needed.len() as u64;
        let objects = needed
            .iter()
            .map(|(&hash, &(len, _))| (hash, len))
            .collect();
        let chunks: std::sync::Arc<dyn attachfs_store::ChunkStore> = store.store.clone();
        let faults = check_objects(chunks, objects, request.deep, progress).await?;
        report.bad_objects = faults
            .into_iter()
            .map(|(hash, fault)| ObjectTrouble {
                object: hash.to_string(),
                path: needed[&hash].1.to_string(),
                reason: reason(&fault, needed[&hash].0),
                missing: matches!(fault, ObjectFault::Missing),
            })
            .chain(contradictions)
            .collect();
        report.bad_objects.sort_by(|a, b| a.path.cmp(&b.path));
    }
    Ok(report)
}

pub(crate) fn reason(fault: &ObjectFault, expected: u64) -> String {
    match fault {
        ObjectFault::Missing => "the store does not have it".to_owned(),
        ObjectFault::Length(found) => {
            format!("it has {found} bytes in the store, and {expected} in the manifest")
        }
        ObjectFault::Damaged(found) => format!("its bytes have the hash {found}"),
        ObjectFault::Unread(why) => format!("it cannot be read: {why}"),
    }
}

fn troubles(snapshot: &Snapshot) -> Vec<NameTrouble> {
    let found = case_report(snapshot, CaseOptions::default());
    let found = found.into_iter().map(|finding| NameTrouble {
        path: finding.path.to_string(),
        reason: finding.problem.to_string(),
    });
    found.collect()
}

/// The nodes that a diff puts, as a tree of their own.
fn puts(diff: &Diff) -> Result<Snapshot, Error> {
    let puts = diff.changes().filter_map(|(path, change)| match change {
        Change::Put(node) => Some((path.to_owned(), node)),
        Change::DeleteDir | Change::DeleteFile => None,
    });
    let puts = Snapshot::new(diff.chunk_size(), None, puts);
    Ok(puts.map_err(attachfs_transfer::TransferError::from)?)
}

/// The message for a file without a hash, where objects are expected.
pub(crate) const UNHASHED: &str = "it has no hash, so no store has its bytes";

/// The error for files without a hash, of which `first` is one, where their bytes are needed.
pub(crate) fn without_hash(first: &ManifestPath, count: usize) -> Error {
    let sentence = match count.saturating_sub(1) {
        0 => format!("the file \"{first}\" has no hash and cannot be read"),
        others => format!("\"{first}\" and {others} more files have no hash and cannot be read"),
    };
    Error::usage(sentence).advise("`attachfs manifest hash` gives them one")
}

/// The files of a manifest that have no hash.
pub(crate) fn unhashed(manifest: &Manifest) -> Vec<PathRef<'_>> {
    match manifest {
        Manifest::Snapshot(snapshot) => snapshot.unhashed().collect(),
        Manifest::Diff(diff) => diff.unhashed().collect(),
    }
}

/// Every object of a manifest, with its length and the first file that needs it, and what the manifest
/// itself says of it elsewhere: an object has one length.
pub(crate) fn needed(
    manifest: &Manifest,
) -> (HashMap<ContentHash, (u64, PathRef<'_>)>, Vec<ObjectTrouble>) {
    let mut needed: HashMap<ContentHash, (u64, PathRef<'_>)> = HashMap::new();
    let mut contradictions = Vec::new();
    let add = |path, node: Node| {
        let Node::File(file) = node else { return };
        // Nothing is asked for a file without a hash.
        let layout = ChunkLayout::new(file.size, manifest.chunk_size(), &file.content);
        let Ok(layout) = layout else { return };
        let mut object = |hash: ContentHash, len| {
            let (first_len, first) = *needed.entry(hash).or_insert((len, path));
            if first_len != len {
                contradictions.push(ObjectTrouble {
                    object: hash.to_string(),
                    path: path.to_string(),
                    reason: format!(
                        "it has {len} bytes here, and {first_len} in \"{first}\" of the same manifest"
                    ),
                    missing: false,
                });
            }
        };
        if let [hash] = layout.hashes() {
            object(*hash, file.size);
            return;
        }
        for piece in layout.pieces(0..file.size) {
            object(piece.hash, piece.object_len);
        }
    };
    each_put(manifest, add);
    (needed, contradictions)
}

/// Calls `add` with everything that a manifest says is there: all of a snapshot, what a diff puts.
pub(crate) fn each_put<'a>(manifest: &'a Manifest, mut add: impl FnMut(PathRef<'a>, Node)) {
    match manifest {
        Manifest::Snapshot(snapshot) => {
            for (path, node) in snapshot.entries() {
                add(path, node);
            }
        }
        Manifest::Diff(diff) => {
            for (path, change) in diff.changes() {
                if let Change::Put(node) = change {
                    add(path, node);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::open_manifest;
    use crate::manifests::ManifestBytes;

    #[test]
    fn an_object_of_two_lengths_is_a_contradiction_of_the_manifest() {
        let text = r#"{"hashAlg":"xxh128","manifestVersion":"2023-03-03","paths":[
            {"hash":"a96faf705af16834e6c632b61e964e1f","mtime":1,"path":"a","size":1},
            {"hash":"a96faf705af16834e6c632b61e964e1f","mtime":1,"path":"b","size":1},
            {"hash":"a96faf705af16834e6c632b61e964e1f","mtime":1,"path":"c","size":2}],
            "totalSize":4}"#;
        let bytes = ManifestBytes {
            name: "m".to_owned(),
            bytes: text.into(),
            at: None,
        };
        let opened = open_manifest(&bytes, false).unwrap();
        let (needed, contradictions) = needed(&opened.manifest);
        assert_eq!(needed.len(), 1);
        let [found] = &contradictions[..] else {
            panic!("{contradictions:?}");
        };
        assert_eq!(found.path, "c");
        assert_eq!(
            found.reason,
            "it has 2 bytes here, and 1 in \"a\" of the same manifest"
        );
    }
}
