//! The files of a job: its outputs or its inputs, put together root by root.
//!
//! Each root has a folder with the name that `browse` gives it. A job with one root has its files at the top.

use attachfs_browse::{NamedRoot, name_roots, roots_of};
use attachfs_jobs::{
    JobAddress, LatestBy, LatestDiffers, OutputMetadata, OutputReader, Outputs, StepId, Which,
    choose, merge_outputs, read_inputs,
};
use attachfs_manifest::wire::{Format, Manifest, encode_snapshot};
use attachfs_manifest::{ContentHash, ManifestPath, Snapshot};
use attachfs_store::StoreError;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::NamedJobs;
use crate::cancel::unless_cancelled;
use crate::error::{Doing as _, Error};
use crate::inspect::{ListedPath, cat_in, list_in};
use crate::manifests::ManifestBytes;
use crate::store::OpenStore;

/// Which files of a job are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobFilesOf {
    /// What it wrote: the latest of each task, or what one session action wrote.
    Outputs(LatestBy),
    /// What it was given: its own inputs, and over them the outputs of the steps that a step depends on.
    Inputs(LatestBy, Vec<StepId>),
}

/// What there is below one root of a job.
#[derive(Debug, Clone, Serialize)]
pub struct JobRoot {
    /// The name of its folder where a job has several roots.
    pub folder: String,
    /// The root, as the job has it.
    pub root: String,
    /// The file-system location that it is in.
    pub location: Option<String>,
    /// How many manifests were put together.
    pub manifests: usize,
    /// How many paths there are.
    pub entries: usize,
    /// The bytes of all files.
    pub bytes: u64,
    /// Everything below it.
    #[serde(skip)]
    pub snapshot: Snapshot,
}

/// The files of a job.
#[derive(Debug, Clone, Serialize)]
pub struct JobFiles {
    /// Whose.
    pub address: String,
    /// Its roots that have files.
    pub roots: Vec<JobRoot>,
    /// How many manifests of earlier runs are passed over.
    pub older: u64,
    /// The tasks whose latest run by the store's clock is another one than by name, each as an address.
    pub differing: Vec<String>,
    /// How many keys below the job are not those of outputs.
    pub foreign: u64,
}

/// Reads the files of a job. One that is not there has none.
pub async fn job_files(
    store: &OpenStore,
    named: &NamedJobs,
    which: &JobFilesOf,
    cancel: &CancellationToken,
) -> Result<JobFiles, Error> {
    let job = named.job()?;
    unless_cancelled(cancel, async {
        match which {
            JobFilesOf::Outputs(by) => {
                let which = named.action.map_or(Which::Latest(*by), Which::Of);
                outputs(store, &job, which).await
            }
            JobFilesOf::Inputs(by, steps) => inputs(store, named, &job, *by, steps).await,
        }
    })
    .await
}

async fn outputs(store: &OpenStore, job: &JobAddress, which: Which) -> Result<JobFiles, Error> {
    let doing = || format!("cannot list the outputs of {job}");
    // The names of folders are those of the whole job.
    let whole = JobAddress {
        part: attachfs_jobs::JobPart::Whole,
        ..*job
    };
    let all = Outputs::of(&*store.store, &whole, Which::All).all();
    let all = all.await.doing(doing)?;
    let (mut used, mut older, mut differs) = (Vec::new(), 0, Vec::new());
    if let Which::Of(_) = which {
        let found = Outputs::of(&*store.store, job, which).all().await;
        used = found.doing(doing)?.manifests;
    } else {
        let of_part = all.manifests.iter().copied();
        for chosen in choose(which, of_part.filter(|of| job.has(&of.key.place))) {
            used.extend(chosen.manifests);
            older += chosen.older;
            differs.extend(chosen.differs);
        }
    }
    let mut reader = OutputReader::of(&*store.store, used);
    let mut read = Vec::new();
    while let Some(output) = reader.next().await? {
        read.push(output);
    }
    let mut said = Vec::new();
    for (hash, some) in roots_of(&all.manifests) {
        let known = read.iter().find(|of| of.listed.key.root == hash);
        let known = known.map(|of| of.said.clone());
        said.push((
            hash,
            match known {
                Some(known) => Some(known),
                None => said_of(store, &some).await?,
            },
        ));
    }
    let names = name_roots(said, &[]);
    let roots = merge_outputs(read)?;
    Ok(JobFiles {
        address: job.to_string(),
        roots: roots
            .into_iter()
            .map(|root| named_root(&names, root))
            .collect(),
        older,
        differing: differs.iter().map(task_of).collect(),
        foreign: all.foreign.count,
    })
}

/// What is said of a root, by the first of its manifests that is still there.
async fn said_of(
    store: &OpenStore,
    outputs: &[attachfs_jobs::ListedOutput],
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

fn task_of(differs: &LatestDiffers) -> String {
    let place = differs.place;
    let task = place
        .task
        .map(|task| format!("/{task}"))
        .unwrap_or_default();
    format!(
        "deadline://{}/{}/{}/{}{task}",
        place.farm, place.queue, place.job, place.step
    )
}

fn named_root(names: &[NamedRoot], of: attachfs_jobs::MergedRoot) -> JobRoot {
    let is_it = |named: &&NamedRoot| {
        let said = named.said.as_ref();
        said.is_some_and(|said| said.asset_root == of.root)
    };
    let name = names.iter().find(is_it).map(|named| named.name.clone());
    JobRoot {
        folder: name.unwrap_or_else(|| ContentHash::of(of.root.as_bytes()).to_string()),
        root: of.root,
        location: of.location,
        manifests: of.manifests,
        entries: of.snapshot.len(),
        bytes: of.snapshot.total_size(),
        snapshot: of.snapshot,
    }
}

async fn inputs(
    store: &OpenStore,
    named: &NamedJobs,
    job: &JobAddress,
    by: LatestBy,
    steps: &[StepId],
) -> Result<JobFiles, Error> {
    let document = named.documents.job.as_ref();
    let attachments = document.and_then(|job| job.attachments.as_ref());
    let Some(attachments) = attachments else {
        let sentence = format!("the inputs of {job} are not known");
        let advice = "the keys of inputs name no job: give what `aws deadline get-job` prints with --job-json";
        return Err(Error::usage(sentence).advise(advice));
    };
    let roots = read_inputs(&*store.store, job, attachments, steps, by).await?;
    let said = roots.iter().map(|root| {
        let hash = attachfs_paths::output_root_hash(root.location.as_deref(), &root.root);
        let said = OutputMetadata {
            asset_root: root.root.clone(),
            location: root.location.clone(),
        };
        (hash, Some(said))
    });
    let names = name_roots(said.collect::<Vec<_>>(), &[]);
    Ok(JobFiles {
        address: job.to_string(),
        roots: roots
            .into_iter()
            .map(|root| named_root(&names, root))
            .collect(),
        older: 0,
        differing: Vec::new(),
        foreign: 0,
    })
}

impl JobFiles {
    /// Only one root: as the job has it, or by the name of its folder.
    pub fn only(mut self, root: &str) -> Result<Self, Error> {
        let found = self.roots.iter();
        let found = found.filter(|of| of.root == root || of.folder == root);
        if found.count() == 0 {
            return Err(self.no_such(root));
        }
        let exact = self.roots.iter().any(|of| of.root == root);
        self.roots.retain(|of| {
            if exact {
                of.root == root
            } else {
                of.folder == root
            }
        });
        Ok(self)
    }

    fn no_such(&self, what: &str) -> Error {
        let roots = self
            .roots
            .iter()
            .map(|of| format!("\"{}\" ({})", of.folder, of.root));
        let roots = roots.collect::<Vec<_>>().join(", ");
        let advice = if roots.is_empty() {
            "it has no files at all".to_owned()
        } else {
            format!("it has {roots}")
        };
        Error::usage(format!("{} has no \"{what}\"", self.address)).advise(advice)
    }

    /// The root that a path lies in, and the path below that.
    fn place(&self, path: &ManifestPath) -> Result<(&JobRoot, Option<ManifestPath>), Error> {
        let text = path.to_string();
        if let [root] = &self.roots[..] {
            return Ok((root, Some(path.clone())));
        }
        let (folder, rest) = match text.split_once('/') {
            Some((folder, rest)) => (folder, Some(rest)),
            None => (&*text, None),
        };
        let root = self.roots.iter().find(|of| of.folder == folder);
        let root = root.ok_or_else(|| self.no_such(folder))?;
        let rest = rest
            .map(|rest| ManifestPath::new(rest.as_bytes()))
            .transpose();
        Ok((root, rest.doing(|| format!("\"{text}\" is no path"))?))
    }

    /// Lists a directory, or everything below it, or a single file; roots are folders if there are several.
    pub fn list(
        &self,
        at: Option<&ManifestPath>,
        recursive: bool,
    ) -> Result<Vec<ListedPath>, Error> {
        let of_root = |root: &JobRoot, at: Option<&ManifestPath>| {
            let mut listed = list_in(&Manifest::Snapshot(root.snapshot.clone()), at, recursive)?;
            if self.roots.len() > 1 {
                for path in &mut listed {
                    path.path = format!("{}/{}", root.folder, path.path);
                }
            }
            Ok::<_, Error>(listed)
        };
        if let Some(at) = at {
            let (root, rest) = self.place(at)?;
            return of_root(root, rest.as_ref());
        }
        let mut listed = Vec::new();
        for root in &self.roots {
            if self.roots.len() > 1 {
                listed.push(ListedPath::dir(root.folder.clone()));
            }
            if self.roots.len() == 1 || recursive {
                listed.extend(of_root(root, None)?);
            }
        }
        Ok(listed)
    }

    /// Reads a file, as [`cat`](crate::cat) does.
    pub async fn cat(
        &self,
        path: &ManifestPath,
        store: &OpenStore,
        write: impl FnMut(&[u8]) -> std::io::Result<()>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let (root, rest) = self.place(path)?;
        let Some(rest) = rest else {
            return Err(Error::usage(format!("\"{path}\" is a directory")));
        };
        let manifest = Manifest::Snapshot(root.snapshot.clone());
        cat_in(&manifest, &rest, store, write, cancel).await
    }

    /// The manifests to mount: each root in its folder, one root at the top.
    pub fn manifests(&self) -> Result<Vec<ManifestBytes>, Error> {
        if self.roots.is_empty() {
            let sentence = format!("{} has no files to mount", self.address);
            return Err(Error::usage(sentence).advise("`attachfs jobs` lists what is there"));
        }
        let roots = self.roots.iter().map(|root| {
            let at = if self.roots.len() > 1 {
                let folder = ManifestPath::new(root.folder.as_bytes());
                Some(folder.doing(|| format!("\"{}\" is no name", root.folder))?)
            } else {
                None
            };
            Ok(ManifestBytes {
                name: format!("{} below {}", self.address, root.root),
                bytes: encode_snapshot(&root.snapshot, Format::V2025_12)?,
                at,
            })
        });
        roots.collect()
    }
}
