//! The manifests of a job: found, read, and put together root by root.

use attachfs_browse::{NamedRoot, name_roots, roots_of};
use attachfs_jobs::{
    JobAddress, JobPart, LatestBy, LatestDiffers, ListedOutput, MergedRoot, OutputMetadata,
    OutputReader, Outputs, ReadError, StepId, Which, choose, merge_outputs, read_inputs,
};
use attachfs_paths::output_root_hash;
use attachfs_store::StoreError;
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
    /// The job, or the part of it.
    pub address: String,
    pub(in crate::jobs) roots: Vec<FoundRoot>,
    /// How many manifests of earlier runs were passed over.
    pub older: u64,
    /// Tasks of which the latest run by the store's clock is another one than by name.
    pub differing: Vec<LatestDiffers>,
    /// Keys among those of outputs that are no such keys, and are passed over.
    pub foreign: u64,
}

/// The files below one root, and the name of the root's folder where several roots go into one folder.
#[derive(Debug)]
pub(in crate::jobs) struct FoundRoot {
    pub(in crate::jobs) merged: MergedRoot,
    pub(in crate::jobs) name: String,
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
    // Names of folders are those of the whole job, so that they are the same for each part of it.
    let whole = JobAddress {
        part: JobPart::Whole,
        ..address
    };
    let listed = |address: JobAddress, which| async move {
        let found = Outputs::of(&*store.store, &address, which).all().await;
        found.map_err(|source| ReadError::List {
            address: address.to_string(),
            source,
        })
    };
    let all = listed(whole, Which::All).await?;
    let (mut wanted, mut older, mut differing) = (Vec::new(), 0, Vec::new());
    if let Some(action) = named.action {
        wanted = listed(address, Which::Of(action)).await?.manifests;
    } else {
        let of_part = all.manifests.iter().copied();
        let of_part = of_part.filter(|output| address.has(&output.key.place));
        for chosen in choose(Which::Latest(by), of_part) {
            wanted.extend(chosen.manifests);
            older += chosen.older;
            differing.extend(chosen.differs);
        }
    }
    let mut reader = OutputReader::of(&*store.store, wanted);
    let mut outputs = Vec::new();
    while let Some(output) = reader.next().await? {
        outputs.push(output);
    }
    let mut said = Vec::new();
    for (hash, shortest) in roots_of(&all.manifests) {
        let read = outputs.iter().find(|of| of.listed.key.root == hash);
        let known = match read {
            Some(read) => Some(read.said.clone()),
            None => said_of(store, &shortest).await?,
        };
        said.push((hash, known));
    }
    let names = name_roots(said, &[]);
    let merged = merge_outputs(outputs)?;
    Ok(FoundFiles {
        address: address.to_string(),
        roots: with_names(merged, &names),
        older,
        differing,
        foreign: all.foreign.count,
    })
}

/// The metadata of a root, from the first of its manifests that is still there.
async fn said_of(
    store: &OpenStore,
    outputs: &[ListedOutput],
) -> Result<Option<OutputMetadata>, Error> {
    for output in outputs {
        let key = output.key.manifest_key()?;
        match store.store.get_manifest(&key).await {
            Ok(found) => return Ok(OutputMetadata::decode(&found.metadata).ok()),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error).doing(|| format!("cannot read the manifest {key}")),
        }
    }
    Ok(None)
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
        address: address.to_string(),
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
