//! The files of a job as manifests, one for each root.

use attachfs_manifest::wire::{Format, Manifest};
use attachfs_manifest::{Snapshot, merge};
use tokio_util::sync::CancellationToken;

use super::finding::{FoundFiles, JobFiles, find_job_files};
use crate::error::Error;
use crate::jobs::naming::NamedJobs;
use crate::manifest::{MadeManifest, OperationError};
use crate::store::OpenStore;

/// Everything below one root of a job.
#[derive(Debug, Clone)]
pub struct RootManifest {
    /// The root, as the job has it.
    pub root: String,
    /// Its files, in the format 2023-03-03, in which AWS's client reads them.
    pub made: MadeManifest,
}

/// The roots of a job in the order of their names. Of several kinds of files the later lie over the earlier. Fails if a file is one that
/// 2023-03-03 cannot have.
pub async fn find_root_manifests(
    named: &NamedJobs,
    kinds: &[JobFiles],
    store: &OpenStore,
    cancel: &CancellationToken,
) -> Result<(Vec<RootManifest>, Vec<FoundFiles>), Error> {
    let mut all = Vec::with_capacity(kinds.len());
    for files in kinds {
        all.push(find_job_files(named, files, store, cancel).await?);
    }
    let mut roots: Vec<(&str, Vec<&Snapshot>)> = Vec::new();
    for of in all.iter().flat_map(|found| &found.roots) {
        let (root, snapshot) = (of.merged.root.as_str(), &of.merged.snapshot);
        match roots.iter_mut().find(|(known, _)| *known == root) {
            Some((_, layers)) => layers.push(snapshot),
            None => roots.push((root, vec![snapshot])),
        }
    }
    roots.sort_by_key(|(root, _)| *root);
    let mut made = Vec::with_capacity(roots.len());
    for (root, layers) in roots {
        let refused = |error: OperationError| error.of(&format!("the manifests of {root}"));
        let merged = merge(&layers).map_err(|error| refused(error.into()))?;
        if let Some(merged) = merged {
            let manifest = Manifest::Snapshot(merged);
            made.push(RootManifest {
                root: root.to_owned(),
                made: MadeManifest::new(manifest, Format::V2023_03_03)
                    .map_err(|error| refused(error.into()))?,
            });
        }
    }
    Ok((made, all))
}
