//! The manifests of a job: found, read, and put together root by root.

use std::collections::HashMap;

use attachfs_browse::{NamedRoot, name_roots};
use attachfs_jobs::{
    ActionTime, FoundOutputs, JobPart, LatestBy, LatestDiffers, MergedRoot, OutputMetadata,
    OutputReader, Outputs, ReadError, StepId, Which, choose, merge_outputs, read_inputs,
};
use attachfs_manifest::ContentHash;
use attachfs_paths::output_root_hash;
use tokio_util::sync::CancellationToken;

use crate::cancel::unless_cancelled;
use crate::error::{Doing as _, Error};
use crate::jobs::naming::NamedJobs;
use crate::store::OpenStore;

/// Which files of a job are meant.
#[derive(Debug, Clone)]
pub enum JobFiles {
    /// What its tasks wrote: of each the latest run, unless a session action was named.
    Outputs(LatestBy),
    /// What it was given.
    Inputs {
        /// Steps whose outputs are inputs, too.
        dependencies: Vec<StepId>,
        /// Which run of a task of these steps is the latest.
        latest_by: LatestBy,
    },
}

/// The files of a job.
#[derive(Debug)]
pub struct FoundFiles {
    pub(super) roots: Vec<FoundRoot>,
    /// How many manifests of earlier runs were passed over.
    pub older: u64,
    /// Tasks of which the latest run by the store's clock is another one than by name.
    pub differing: Vec<LatestDiffers>,
    /// Keys among those of outputs that are no such keys, and are passed over.
    pub foreign: u64,
}

/// What there is below one root, and what its folder is called where several are in one.
#[derive(Debug)]
pub(super) struct FoundRoot {
    pub(super) merged: MergedRoot,
    pub(super) name: String,
}

impl FoundFiles {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }
}

/// Finds and reads the manifests of a job, or of a part of it. A job that is not in the store has no outputs.
pub async fn find_job_files(
    named: &NamedJobs,
    files: &JobFiles,
    store: &OpenStore,
    cancel: &CancellationToken,
) -> Result<FoundFiles, Error> {
    unless_cancelled(cancel, async {
        match files {
            JobFiles::Outputs(by) => find_outputs(named, *by, store).await,
            JobFiles::Inputs {
                dependencies,
                latest_by,
            } => find_inputs(named, dependencies, *latest_by, store).await,
        }
    })
    .await
}

async fn find_outputs(
    named: &NamedJobs,
    by: LatestBy,
    store: &OpenStore,
) -> Result<FoundFiles, Error> {
    let address = named.job()?;
    let of = |which| Outputs::of(&*store.store, &address, which).all();
    let listed = |source| ReadError::List {
        address: address.to_string(),
        source,
    };
    // When a root had outputs first says which of two roots keeps a name, so all runs are listed.
    let mut first: HashMap<ContentHash, ActionTime> = HashMap::new();
    let mut note = |all: &FoundOutputs| {
        for output in &all.manifests {
            let time = output.key.time;
            let known = first.entry(output.key.root).or_insert(time);
            *known = time.min(*known);
        }
    };
    let found = match named.action {
        Some(action) => {
            let found = of(Which::Of(action)).await.map_err(listed)?;
            note(&found);
            found
        }
        None => {
            let all = of(Which::All).await.map_err(listed)?;
            note(&all);
            let mut found = FoundOutputs {
                foreign: all.foreign,
                ..FoundOutputs::default()
            };
            for chosen in choose(Which::Latest(by), all.manifests) {
                found.manifests.extend(chosen.manifests);
                found.older += chosen.older;
                found.differing.extend(chosen.differs);
            }
            found
        }
    };
    let mut reader = OutputReader::of(&*store.store, found.manifests);
    let mut outputs = Vec::new();
    while let Some(output) = reader.next().await? {
        outputs.push(output);
    }
    let mut order: Vec<(ActionTime, ContentHash, OutputMetadata)> = Vec::new();
    for output in &outputs {
        let hash = output.listed.key.root;
        if !order.iter().any(|(_, known, _)| *known == hash) {
            let time = first.get(&hash).copied().unwrap_or(output.listed.key.time);
            order.push((time, hash, output.said.clone()));
        }
    }
    order.sort_by_key(|(time, hash, _)| (*time, *hash));
    let names = name_roots(
        order.into_iter().map(|(_, hash, said)| (hash, Some(said))),
        &[],
    );
    let merged = merge_outputs(outputs)?;
    Ok(FoundFiles {
        roots: with_names(merged, &names),
        older: found.older,
        differing: found.differing,
        foreign: found.foreign.count,
    })
}

async fn find_inputs(
    named: &NamedJobs,
    dependencies: &[StepId],
    by: LatestBy,
    store: &OpenStore,
) -> Result<FoundFiles, Error> {
    let address = named.job()?;
    let Some(job) = &named.documents.job else {
        return Err(Error::usage(format!(
            "the inputs of {} are not known: their keys have no id of a job",
            address.job
        ))
        .advise("give what `aws deadline get-job` prints with --job-json"));
    };
    if !dependencies.is_empty() && address.part == JobPart::Whole {
        return Err(Error::usage("the step that depends on others is not known")
            .advise("say it with --step"));
    }
    let attachments = job.attachments.clone().unwrap_or_default();
    let merged = read_inputs(&*store.store, &address, &attachments, dependencies, by).await;
    let merged = merged.doing(|| format!("cannot read the inputs of {address}"))?;
    let said = merged.iter().map(|of| {
        let hash = output_root_hash(of.location.as_deref(), &of.root);
        let said = OutputMetadata {
            asset_root: of.root.clone(),
            location: of.location.clone(),
        };
        (hash, Some(said))
    });
    let names = name_roots(said, &[]);
    Ok(FoundFiles {
        roots: with_names(merged, &names),
        older: 0,
        differing: Vec::new(),
        foreign: 0,
    })
}

/// Gives each root its name.
fn with_names(merged: Vec<MergedRoot>, names: &[NamedRoot]) -> Vec<FoundRoot> {
    let name_of = |of: &MergedRoot| {
        let is_it = |named: &&NamedRoot| {
            let said = named.said.as_ref();
            said.is_some_and(|said| said.asset_root == of.root)
        };
        names.iter().find(is_it).map(|named| named.name.clone())
    };
    let named = merged.into_iter().map(|of| FoundRoot {
        name: name_of(&of).unwrap_or_else(|| output_root_hash(None, &of.root).to_string()),
        merged: of,
    });
    named.collect()
}
