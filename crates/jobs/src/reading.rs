//! Reading the manifests of a job, many at once, and putting them together root by root.

#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::time::SystemTime;

use attachfs_manifest::wire::{DecodeError, Manifest, decode};
use attachfs_manifest::{ContentHash, MergeError, Snapshot, merge};
use attachfs_store::{ManifestKey, ManifestStore, Store, StoreError, StoredManifest};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt as _, StreamExt as _};

use crate::documents::{Attachments, RootAttachment};
use crate::{
    JobAddress, JobPart, LatestBy, ListedOutput, OutputMetadata, OutputMetadataError, Outputs,
    StepId, Which,
};

/// How many manifests are read at once: ten thousand in less than two seconds, where each takes 20 ms.
const AT_ONCE: usize = 128;

/// How many bytes they have together at most, unless it is one manifest that has more.
const BYTES_AT_ONCE: u64 = 64 << 20;

/// One output of each root, the first: a root and its file-system location have one name in all keys. So the roots of a job are
/// known when these are read, however many tasks it has.
pub fn one_of_each_root<'a>(
    outputs: impl IntoIterator<Item = &'a ListedOutput>,
) -> Vec<ListedOutput> {
    let mut seen = HashSet::new();
    let outputs = outputs.into_iter().copied();
    outputs
        .filter(|output| seen.insert(output.key.root))
        .collect()
}

/// Why the manifests of a job cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A listing failed.
    #[error("cannot list the outputs of {address}")]
    List {
        /// Whose.
        address: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A manifest could not be read.
    #[error("cannot read the manifest {key}")]
    Store {
        /// Its key.
        key: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// An output that does not say which root it is below.
    #[error("cannot use the manifest {key}")]
    Metadata {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        source: OutputMetadataError,
    },
    /// It is no manifest.
    #[error("cannot read the manifest {key}")]
    Decode {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// It is a diff: it lists changes, not files.
    #[error("the manifest {key} is a diff: the outputs and inputs of jobs are snapshots")]
    Diff {
        /// Its key.
        key: String,
    },
    /// It is not the one that was submitted.
    #[error("the manifest {key} has the hash {found}, and the job says {said}")]
    Hash {
        /// Its key.
        key: String,
        /// What the job's attachments say.
        said: ContentHash,
        /// What it is.
        found: ContentHash,
    },
    /// Manifests of one root that disagree.
    #[error("the manifests below {root:?} cannot be put together")]
    Merge {
        /// The root.
        root: String,
        /// Where they disagree; manifests are counted in the order in which they are put together.
        #[source]
        source: MergeError,
    },
}

/// An output that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputManifest {
    /// Which one.
    pub listed: ListedOutput,
    /// What its metadata say: its root and file-system location.
    pub said: OutputMetadata,
    /// When it was written, by the store's clock, if it tells.
    pub modified: Option<SystemTime>,
    /// The hash of its bytes.
    pub hash: ContentHash,
    /// What is in it.
    pub snapshot: Snapshot,
}

/// Outputs that are read in the order in which they were given, up to 128 and 64 MiB at once.
pub struct OutputReader<'a> {
    store: &'a dyn ManifestStore,
    waiting: VecDeque<ListedOutput>,
    reads: FuturesOrdered<BoxFuture<'a, Answer>>,
    bytes: u64,
}

type Answer = (
    ListedOutput,
    ManifestKey,
    Result<StoredManifest, StoreError>,
);

impl std::fmt::Debug for OutputReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutputReader")
            .field("waiting", &self.waiting.len())
            .field("reads", &self.reads.len())
            .finish_non_exhaustive()
    }
}

impl<'a> OutputReader<'a> {
    /// Nothing is read before it is asked for.
    pub fn of(
        store: &'a dyn ManifestStore,
        outputs: impl IntoIterator<Item = ListedOutput>,
    ) -> Self {
        Self {
            store,
            waiting: outputs.into_iter().collect(),
            reads: FuturesOrdered::new(),
            bytes: 0,
        }
    }

    /// More outputs, behind those that wait.
    pub fn add(&mut self, outputs: impl IntoIterator<Item = ListedOutput>) {
        self.waiting.extend(outputs);
    }

    /// The next one; `None` when all were given. One that cannot be used is an error that names it, and the next call
    /// gives the one behind it. May be cancelled.
    pub async fn next(&mut self) -> Result<Option<OutputManifest>, ReadError> {
        self.ask();
        let Some((listed, key, stored)) = self.reads.next().await else {
            return Ok(None);
        };
        self.bytes = self.bytes.saturating_sub(listed.len);
        let stored = stored.map_err(|source| store_error(&key, source))?;
        let said = OutputMetadata::decode(&stored.metadata).map_err(|source| {
            let key = key.to_string();
            ReadError::Metadata { key, source }
        })?;
        Ok(Some(OutputManifest {
            said,
            modified: stored.modified.or(listed.modified),
            hash: ContentHash::of(&stored.bytes),
            snapshot: snapshot(&key, &stored)?,
            listed,
        }))
    }

    fn ask(&mut self) {
        while let Some(next) = self.waiting.front() {
            let fits = self.bytes.saturating_add(next.len) <= BYTES_AT_ONCE;
            if self.reads.len() >= AT_ONCE || !(fits || self.reads.is_empty()) {
                return;
            }
            let Some(listed) = self.waiting.pop_front() else {
                return;
            };
            self.bytes += listed.len;
            let store = self.store;
            let key = listed.key.manifest_key();
            let key = key.unwrap_or_else(|error| unreachable!("it was read from a key: {error}"));
            let read = async move {
                let stored = store.get_manifest(&key).await;
                (listed, key, stored)
            };
            self.reads.push_back(read.boxed());
        }
    }
}

fn store_error(key: &ManifestKey, source: StoreError) -> ReadError {
    ReadError::Store {
        key: key.to_string(),
        source,
    }
}

fn snapshot(key: &ManifestKey, stored: &StoredManifest) -> Result<Snapshot, ReadError> {
    let key = || key.to_string();
    match decode(&stored.bytes) {
        Ok((_, Manifest::Snapshot(snapshot))) => Ok(snapshot),
        Ok((_, Manifest::Diff(_))) => Err(ReadError::Diff { key: key() }),
        Err(source) => Err(ReadError::Decode { key: key(), source }),
    }
}

/// The files below one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedRoot {
    /// The root, as the job has it.
    pub root: String,
    /// The file-system location that it is in, if there is one.
    pub location: Option<String>,
    /// Everything below it.
    pub snapshot: Snapshot,
    /// How many manifests were put together.
    pub manifests: usize,
}

/// The layers of one root, the lowest first.
struct Layers {
    root: String,
    location: Option<String>,
    snapshots: Vec<Snapshot>,
}

/// Lays a manifest over those of its root.
fn lay(roots: &mut Vec<Layers>, root: &str, location: Option<&String>, layer: Snapshot) {
    let known = roots.iter_mut().find(|of| of.root == root);
    match known {
        Some(of) => of.snapshots.push(layer),
        None => roots.push(Layers {
            root: root.to_owned(),
            location: location.cloned(),
            snapshots: vec![layer],
        }),
    }
}

fn merged(roots: Vec<Layers>) -> Result<Vec<MergedRoot>, ReadError> {
    let mut all = Vec::new();
    for Layers {
        root,
        location,
        snapshots,
    } in roots
    {
        let manifests = snapshots.len();
        let merged = merge(&snapshots.iter().collect::<Vec<_>>());
        let merged = merged.map_err(|source| ReadError::Merge {
            root: root.clone(),
            source,
        })?;
        all.extend(merged.map(|snapshot| MergedRoot {
            root,
            location,
            snapshot,
            manifests,
        }));
    }
    Ok(all)
}

/// Sorts outputs by when they were written. At the same time those of steps whose tasks run together come first, as they do
/// for AWS's library, then it is the order in which they are.
fn in_time_order(mut outputs: Vec<OutputManifest>) -> Vec<OutputManifest> {
    outputs.sort_by_key(|output| (output.modified, output.listed.key.place.task.is_some()));
    outputs
}

/// What there is below each root, in the order of roots: where several outputs have a file, the one that was written last
/// counts. As `get_output_manifests_by_asset_root` of AWS's library.
pub fn merge_outputs(outputs: Vec<OutputManifest>) -> Result<Vec<MergedRoot>, ReadError> {
    let mut roots = Vec::new();
    for OutputManifest { said, snapshot, .. } in in_time_order(outputs) {
        lay(
            &mut roots,
            &said.asset_root,
            said.location.as_ref(),
            snapshot,
        );
    }
    roots.sort_by(|one, other| one.root.cmp(&other.root));
    merged(roots)
}

/// The outputs of a job, or of a part of one, put together root by root.
pub async fn read_outputs(
    store: &dyn Store,
    address: &JobAddress,
    which: Which,
) -> Result<Vec<MergedRoot>, ReadError> {
    merge_outputs(outputs_of(store, address, which).await?)
}

async fn outputs_of(
    store: &dyn Store,
    address: &JobAddress,
    which: Which,
) -> Result<Vec<OutputManifest>, ReadError> {
    let found = Outputs::of(store, address, which).all().await;
    let found = found.map_err(|source| ReadError::List {
        address: address.to_string(),
        source,
    })?;
    let mut reader = OutputReader::of(store, found.manifests);
    let mut outputs = Vec::new();
    while let Some(output) = reader.next().await? {
        outputs.push(output);
    }
    Ok(outputs)
}

/// What a step of a job begins with: the inputs that were submitted, and over them the outputs of the steps that it depends
/// on, whichever step they are of, in the order in which they were written. First the roots of the attachments in their order,
/// then those that only outputs have. A root without inputs and outputs is left out.
///
/// AWS's library lays one step's outputs over the other's, in the order in which the steps are listed. That is the same where
/// no two of them write one file; where they do, here the later file wins.
pub async fn read_inputs(
    store: &dyn Store,
    job: &JobAddress,
    attachments: &Attachments,
    dependencies: &[StepId],
    by: LatestBy,
) -> Result<Vec<MergedRoot>, ReadError> {
    let mut roots = Vec::new();
    let with_inputs = attachments.roots.iter().filter(|of| of.inputs.is_some());
    let reads = with_inputs.map(|of| async move { Ok((of, input_of(store, of).await?)) });
    let read: Vec<_> = futures::future::try_join_all(reads).await?;
    for (of, input) in read {
        if let Some(input) = input {
            lay(&mut roots, &of.root, of.location.as_ref(), input);
        }
    }
    let mut outputs = Vec::new();
    for (place, &step) in dependencies.iter().enumerate() {
        if !dependencies[..place].contains(&step) {
            let part = JobPart::Step(step);
            let address = JobAddress { part, ..*job };
            outputs.extend(outputs_of(store, &address, Which::Latest(by)).await?);
        }
    }
    for OutputManifest { said, snapshot, .. } in in_time_order(outputs) {
        lay(
            &mut roots,
            &said.asset_root,
            said.location.as_ref(),
            snapshot,
        );
    }
    merged(roots)
}

/// What was submitted below one root; nothing if nothing was.
pub async fn input_of(
    store: &dyn ManifestStore,
    of: &RootAttachment,
) -> Result<Option<Snapshot>, ReadError> {
    let Some(key) = &of.inputs else {
        return Ok(None);
    };
    let stored = store.get_manifest(key).await;
    let stored = stored.map_err(|source| store_error(key, source))?;
    let found = ContentHash::of(&stored.bytes);
    if let Some(said) = of.inputs_hash.filter(|&said| said != found) {
        let key = key.to_string();
        return Err(ReadError::Hash { key, said, found });
    }
    snapshot(key, &stored).map(Some)
}
