//! Everything that was written, on the disk.

use std::collections::BTreeSet;

use attachfs_durable::HeldDir;

use super::error::DownloadError;
use super::paths::parent_bytes;
use super::plan::Plan;
use crate::error::TransferError;
use crate::meter::Meter;

/// Paths of directories; empty for the root.
pub(super) type DirPaths = BTreeSet<Vec<u8>>;

/// The directories whose names a plan changes.
pub(super) fn written_to(plan: &Plan) -> DirPaths {
    let files = plan.files.iter().map(|step| &step.path);
    let links = plan.all_links().map(|step| &step.path);
    let swapped = plan.swaps.values().flat_map(|swap| &swap.deletions);
    let deletions = plan.deletions.iter().chain(swapped).map(|one| &one.path);
    let all = plan.all_dirs().chain(files).chain(links).chain(deletions);
    all.map(|path| parent_bytes(path.borrowed()).to_vec())
        .collect()
}

/// Writes everything to the disk: the file system of the folder, and those that are mounted below it
/// where something was written to. Blocks.
pub(super) fn sync(
    root: &HeldDir,
    written_to: &DirPaths,
    meter: &Meter,
) -> Result<(), TransferError> {
    for dir in one_of_each_file_system(root, written_to) {
        meter.go_on()?;
        dir.sync_file_system()
            .map_err(|source| DownloadError::Sync { source })?;
    }
    Ok(())
}

/// The root, and of these directories below it the first on each other file system.
pub(super) fn one_of_each_file_system(root: &HeldDir, dirs: &DirPaths) -> Vec<HeldDir> {
    let mut found: Vec<(u64, HeldDir)> = Vec::new();
    for below in std::iter::once(&b""[..]).chain(dirs.iter().map(Vec::as_slice)) {
        // What is gone by now has nothing to be written.
        let Ok(dir) = root.dir(below) else { continue };
        let Ok(Some(facts)) = dir.look(b".") else {
            continue;
        };
        if found.iter().all(|(device, _)| *device != facts.stamp.dev) {
            found.push((facts.stamp.dev, dir));
        }
    }
    found.into_iter().map(|(_, dir)| dir).collect()
}
