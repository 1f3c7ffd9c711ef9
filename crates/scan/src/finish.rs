//! Merges what the threads found into one ordered result.

use std::collections::HashMap;
use std::path::PathBuf;

use attachfs_manifest::ManifestPath;

use crate::walk::PartialScan;
use crate::{EntryKind, Scan, ScanError, ScannedEntry};

/// Sorts all entries. Unless `is_complete`, the same path may have been found more than once, and
/// directories above the entries may be missing.
pub(crate) fn finish(
    root: PathBuf,
    found: Vec<PartialScan>,
    is_complete: bool,
) -> Result<Scan, ScanError> {
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
    for mut found in found {
        entries.append(&mut found.entries);
        skipped.append(&mut found.skipped);
    }
    sort(&mut entries);
    skipped.sort_by(|a, b| a.path.cmp(&b.path));
    if !is_complete {
        skipped.dedup();
        merge_same(&mut entries);
        let missing = missing_directories(&entries)?;
        entries.extend(missing);
        sort(&mut entries);
    }
    Ok(Scan {
        root,
        entries,
        skipped,
    })
}

fn sort(entries: &mut [ScannedEntry]) {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
}

/// Of entries at one path keeps one, a directory if there is one.
fn merge_same(entries: &mut Vec<ScannedEntry>) {
    entries.dedup_by(|later, first| {
        let is_same = later.path == first.path;
        if is_same && later.kind == EntryKind::Dir {
            std::mem::swap(later, first);
        }
        is_same
    });
}

/// The directories above the entries that are no entries themselves.
fn missing_directories(entries: &[ScannedEntry]) -> Result<Vec<ScannedEntry>, ScanError> {
    let mut is_dir: HashMap<ManifestPath, bool> = HashMap::new();
    for entry in entries {
        is_dir.insert(entry.path.clone(), entry.kind == EntryKind::Dir);
    }
    let mut missing = Vec::new();
    let mut last = None;
    for entry in entries {
        let parent = entry.path.parent();
        if parent == last {
            continue;
        }
        for above in parent.iter().cloned().chain(entry.path.ancestors().skip(1)) {
            match is_dir.get(&above) {
                Some(true) => break,
                Some(false) => {
                    let path = entry.path.clone();
                    return Err(ScanError::BelowNoDirectory { path, above });
                }
                None => {
                    is_dir.insert(above.clone(), true);
                    missing.push(ScannedEntry {
                        path: above,
                        kind: EntryKind::Dir,
                    });
                }
            }
        }
        last = parent;
    }
    Ok(missing)
}
