//! Places manifests, some at a time, and says of each whether all of it is placed.
//!
//! What goes into one folder is put together and placed at once, durably. If that cannot be, because manifests contradict each other or the folder cannot be used,
//! they are placed one after the other, so that one of them keeps none of the others back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use attachfs_durable::path_bytes;
use attachfs_jobs::ReadError;
use attachfs_manifest::{EscapedBytes, Snapshot, merge};
use attachfs_store::{Reach, StoreError};
use attachfs_transfer::{
    Copied, DownloadError, DownloadOptions, DownloadReport, DownloadStopped, Failed, Progress,
    Remark, Sources, TransferError, Wanted, download, error_chain,
};

use super::items::{Item, whole};

/// What is placed before it is noted: so much is looked at again after a kill.
const BATCH_FILES: u64 = 1000;
const BATCH_BYTES: u64 = 256 << 20;
/// A manifest counts as so many files at least.
const BATCH_MANIFESTS: u64 = 2;

/// Places batches.
pub(crate) struct Placer<'a> {
    pub(crate) sources: Sources,
    pub(crate) options: DownloadOptions,
    pub(crate) progress: &'a dyn Progress,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) report: DownloadReport,
    /// By the manifest's number: what failed of it. All of those that are not here are placed.
    pub(crate) failed: HashMap<usize, Vec<Failed>>,
}

/// The manifests of each batch, at least one.
pub(crate) fn batches(items: &[Item]) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let (mut start, mut files, mut bytes) = (0, 0, 0);
    for (number, item) in items.iter().enumerate() {
        let tally = item.tally();
        let count = tally.count.max(BATCH_MANIFESTS);
        let is_full = files + count > BATCH_FILES || bytes + tally.bytes > BATCH_BYTES;
        if number > start && is_full {
            all.push(start..number);
            (start, files, bytes) = (number, 0, 0);
        }
        files += count;
        bytes += tally.bytes;
    }
    if start < items.len() {
        all.push(start..items.len());
    }
    all
}

impl Placer<'_> {
    /// Places these manifests. After an error nothing is known of any of them.
    pub(crate) async fn place(
        &self,
        items: &[Item],
        numbers: Range<usize>,
    ) -> Result<Batch, TransferError> {
        let of_all = numbers.map(|number| (number, &*items[number].placed));
        self.place_all(of_all).await
    }

    /// Places something of manifests, each with its number.
    pub(crate) async fn place_all<'i>(
        &self,
        wanted: impl IntoIterator<Item = (usize, &'i [(PathBuf, Snapshot)])>,
    ) -> Result<Batch, TransferError> {
        let mut folders: BTreeMap<&Path, Vec<(usize, &Snapshot)>> = BTreeMap::new();
        for (number, placed) in wanted {
            for (folder, snapshot) in placed {
                if !snapshot.is_empty() {
                    let of_folder = folders.entry(folder).or_default();
                    of_folder.push((number, snapshot));
                }
            }
        }
        let mut batch = Batch::default();
        for (folder, layers) in folders {
            let snapshots: Vec<&Snapshot> = layers.iter().map(|(_, snapshot)| *snapshot).collect();
            if let Ok(Some(merged)) = merge(&snapshots)
                && self.folder(folder, &merged, &layers, &mut batch).await?
            {
                continue;
            }
            for (number, snapshot) in &layers {
                let alone = [(*number, *snapshot)];
                self.folder(folder, snapshot, &alone, &mut batch).await?;
            }
        }
        Ok(batch)
    }

    /// Places what is in `layers` together; whether it could be tried. One manifest alone always can: that it cannot be placed is a failure of
    /// it.
    async fn folder(
        &self,
        folder: &Path,
        merged: &Snapshot,
        layers: &[(usize, &Snapshot)],
        batch: &mut Batch,
    ) -> Result<bool, TransferError> {
        let wanted = Wanted::Snapshot(merged);
        let placed = download(
            folder,
            wanted,
            self.sources.clone(),
            &self.options,
            self.progress,
        );
        let report = match placed.await {
            Ok(report) => report,
            Err(DownloadStopped { source, .. }) if !concerns_folder(&source) => return Err(source),
            Err(DownloadStopped { source, report }) => {
                let [(number, _)] = layers else {
                    return Ok(false);
                };
                let failed = Failed {
                    path: EscapedBytes(path_bytes(folder)).to_string(),
                    error: error_chain(&source),
                };
                batch.failed.entry(*number).or_default().push(failed);
                *report
            }
        };
        batch.add(folder, report, layers);
        Ok(true)
    }
}

/// Whether another folder, or less in this one, may go.
fn concerns_folder(error: &TransferError) -> bool {
    match error {
        TransferError::Download(error) => matches!(
            error,
            DownloadError::Root { .. } | DownloadError::TooLong { .. }
        ),
        TransferError::Snapshot(_) => true,
        _ => false,
    }
}

/// Whether no other manifest could be read either.
pub(crate) fn concerns_all(error: &ReadError) -> bool {
    let ReadError::Store { source, .. } = error else {
        return false;
    };
    match source {
        StoreError::Unreachable { .. } | StoreError::Setting { .. } => true,
        StoreError::Denied { reach, .. } => *reach == Reach::Everything,
        _ => false,
    }
}

impl Batch {
    fn add(&mut self, folder: &Path, report: DownloadReport, layers: &[(usize, &Snapshot)]) {
        let whole = |path: &str| whole(folder, path);
        let paths: HashSet<&str> = report.summary.errors.iter().map(|of| &*of.path).collect();
        for (number, snapshot) in layers.iter().filter(|_| !paths.is_empty()) {
            let entries = snapshot.entries().map(|(path, _)| path.to_string());
            let of_this: HashSet<String> = entries.filter(|path| paths.contains(&**path)).collect();
            let errors = report.summary.errors.iter();
            for error in errors.filter(|error| of_this.contains(&error.path)) {
                self.failed.entry(*number).or_default().push(Failed {
                    path: whole(&error.path),
                    error: error.error.clone(),
                });
            }
        }
        let all = &mut self.report;
        all.summary.add(&report.summary);
        all.left.extend(report.left.into_iter().map(|of| Remark {
            path: whole(&of.path),
            ..of
        }));
        all.copied
            .extend(report.copied.into_iter().map(|of| Copied {
                path: whole(&of.path),
                ..of
            }));
    }
}
