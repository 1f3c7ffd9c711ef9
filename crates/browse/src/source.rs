//! [`Source`]: what is asked of the store beside the bytes of files. Each request has a deadline.

use std::sync::Arc;
use std::time::Duration;

use attachfs_jobs::{
    Folders, JobAddress, JobId, ListedOutput, OutputMetadata, OutputMetadataError, Outputs, Which,
};
use attachfs_manifest::ContentHash;
use attachfs_manifest::wire::{Manifest, decode};
use attachfs_store::{ManifestKey, Store, StoreError, StoredManifest};
use attachfs_vfs::{Blame, FsError, FsErrorKind};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use moka::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::caches::{weighed, weight};
use crate::tree::{Layers, Origin, Tree};

/// How many manifests are read at once.
pub(crate) const AT_ONCE: usize = 128;
/// How many KiB of manifests are fetched at once. A manifest that is longer is fetched while no other is.
const KIB_AT_ONCE: u32 = 64 << 10;
/// After so many manifests the task lets other tasks run on its thread.
const TURN: usize = 64;

/// A manifest that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) origin: Arc<ManifestKey>,
    /// Its length, if a listing tells.
    pub(crate) len: Option<u64>,
    pub(crate) time: attachfs_tree::Timestamp,
}

/// A decoded manifest, and what it takes.
#[derive(Debug, Clone)]
struct Decoded {
    manifest: Arc<Manifest>,
    weight: u64,
}

impl std::hash::Hash for Wanted {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.origin.as_str().hash(state);
    }
}

/// The store.
#[derive(Debug)]
pub(crate) struct Source {
    store: Arc<dyn Store>,
    deadline: Duration,
    /// By key, length and time, so that a manifest which somebody has replaced under its key is read again.
    decoded: Cache<Wanted, Decoded>,
    /// What manifests say of their roots, by the hash of the root in keys.
    roots: Cache<ContentHash, Option<OutputMetadata>>,
    room: Semaphore,
}

/// A manifest that was read, if it is still there.
type Read = Result<(Wanted, Option<Arc<Manifest>>), FsError>;

/// What a root is.
type Said = (ContentHash, Option<OutputMetadata>);

/// How many roots are remembered.
const ROOTS: u64 = 10_000;

fn failed(doing: impl Into<Box<str>>, error: StoreError) -> FsError {
    FsError::caused(FsErrorKind::Io, doing, error).blaming(Blame::Store)
}

impl Source {
    pub(crate) fn new(store: Arc<dyn Store>, deadline: Duration, memory_bytes: u64) -> Self {
        Self {
            store,
            deadline,
            decoded: weighed(memory_bytes, |_, decoded: &Decoded| weight(decoded.weight)),
            roots: Cache::new(ROOTS),
            room: Semaphore::new(KIB_AT_ONCE as usize),
        }
    }

    /// Waits for a request as long as it may take.
    async fn ask<T>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, FsError> {
        match timeout(self.deadline, request).await {
            Ok(answer) => answer.map_err(|error| failed(doing, error)),
            Err(_) => {
                let why = format!("the store did not answer within {:?}", self.deadline);
                Err(FsError::caused(FsErrorKind::Io, doing, why).blaming(Blame::Store))
            }
        }
    }

    /// All outputs of a job, in the order of keys.
    pub(crate) async fn outputs(&self, job: &JobAddress) -> Result<Vec<ListedOutput>, FsError> {
        let doing = format!("list the outputs of {job}");
        let mut outputs = Outputs::of(&*self.store, job, Which::All);
        let mut found = Vec::new();
        while let Some(some) = self.ask(&doing, outputs.next()).await? {
            found.extend(some.into_iter().flat_map(|chosen| chosen.manifests));
        }
        let foreign = outputs.foreign();
        if foreign.count > 0 {
            let first = foreign.first.keys().next();
            tracing::debug!(%job, count = foreign.count, first, "keys that are not those of outputs");
        }
        Ok(found)
    }

    /// The jobs of a queue that have outputs.
    pub(crate) async fn jobs(&self, queue: &str) -> Result<Vec<JobId>, FsError> {
        let doing = format!("list the jobs of {queue}");
        let prefix = queue.parse();
        let prefix = prefix.map_err(|error| FsError::caused(FsErrorKind::Io, &*doing, error))?;
        let mut folders = Folders::of(&*self.store, prefix);
        let mut jobs = Vec::new();
        while let Some(names) = self.ask(&doing, folders.next()).await? {
            // `Inputs` is beside them.
            jobs.extend(names.iter().filter_map(|name| name.parse::<JobId>().ok()));
        }
        Ok(jobs)
    }

    async fn manifest(&self, key: &ManifestKey) -> Result<Option<StoredManifest>, FsError> {
        let doing = format!("read the manifest {key}");
        let request = async {
            match self.store.get_manifest(key).await {
                Ok(manifest) => Ok(Some(manifest)),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.ask(&doing, request).await
    }

    /// What a root is, from the first of its manifests that is still there.
    async fn root(
        &self,
        hash: ContentHash,
        manifests: &[ListedOutput],
    ) -> Result<Option<OutputMetadata>, FsError> {
        if let Some(known) = self.roots.get(&hash) {
            return Ok(known);
        }
        for output in manifests {
            let key = key_of(output)?;
            let _room = self.room(Some(output.len)).await;
            let Some(manifest) = self.manifest(&key).await? else {
                continue;
            };
            let said = match OutputMetadata::decode(&manifest.metadata) {
                Ok(said) => Some(said),
                Err(OutputMetadataError::Missing) => None,
                Err(error) => {
                    tracing::warn!(%key, %error, "the name of a root is not known");
                    None
                }
            };
            self.roots.insert(hash, said.clone());
            return Ok(said);
        }
        // All of these manifests were deleted after they were listed. The next listing will not have them.
        Ok(None)
    }

    /// What roots are, in the same order.
    pub(crate) async fn roots(
        &self,
        roots: Vec<(ContentHash, Vec<ListedOutput>)>,
    ) -> Result<Vec<Said>, FsError> {
        let ask = |(hash, manifests): (_, Vec<_>)| -> BoxFuture<'_, Result<Said, FsError>> {
            async move { Ok((hash, self.root(hash, &manifests).await?)) }.boxed()
        };
        let asked = roots.into_iter().map(ask);
        let asked = futures::stream::iter(asked).buffered(AT_ONCE);
        asked.try_collect().await
    }

    async fn room(&self, len: Option<u64>) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let kib = len.unwrap_or(1 << 20).div_ceil(1024);
        let kib = u32::try_from(kib).map_or(KIB_AT_ONCE, |kib| kib.clamp(1, KIB_AT_ONCE));
        // This fails only if the semaphore is closed, which nobody does.
        self.room.acquire_many(kib).await.ok()
    }

    /// A manifest, decoded; `None` if it is not there any more.
    async fn decoded(&self, wanted: &Wanted) -> Result<Option<Arc<Manifest>>, FsError> {
        if let Some(known) = self.decoded.get(wanted) {
            return Ok(Some(known.manifest));
        }
        let _room = self.room(wanted.len).await;
        let Some(stored) = self.manifest(&wanted.origin).await? else {
            tracing::warn!(key = %wanted.origin, "a manifest that was listed is gone");
            return Ok(None);
        };
        let (_, manifest) = decode(&stored.bytes).map_err(|error| {
            let doing = format!("read the manifest {}", wanted.origin);
            FsError::caused(FsErrorKind::Io, doing, error)
                .blaming(Blame::Object(wanted.origin.object_key().into()))
        })?;
        let manifest = Arc::new(manifest);
        let decoded = Decoded {
            manifest: Arc::clone(&manifest),
            // A decoded entry takes less memory than its JSON.
            weight: 512 + stored.bytes.len() as u64,
        };
        self.decoded.insert(wanted.clone(), decoded);
        Ok(Some(manifest))
    }

    fn read(&self, wanted: Wanted) -> BoxFuture<'_, Read> {
        async move {
            let manifest = self.decoded(&wanted).await?;
            Ok((wanted, manifest))
        }
        .boxed()
    }

    /// The tree that manifests make, the latest of them last.
    pub(crate) async fn tree(&self, manifests: &[Wanted]) -> Result<Tree, FsError> {
        let read = manifests.iter().cloned().map(|wanted| self.read(wanted));
        let mut read = futures::stream::iter(read).buffered(AT_ONCE);
        let mut layers = Layers::default();
        let mut count = 0;
        while let Some((wanted, manifest)) = read.try_next().await? {
            let origin = Origin {
                key: wanted.origin,
                time: wanted.time,
            };
            if let Some(manifest) = manifest {
                layers.add(&manifest, &origin);
            }
            count += 1;
            if count % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(layers.finish())
    }
}

/// The key of a listed output.
pub(crate) fn key_of(output: &ListedOutput) -> Result<ManifestKey, FsError> {
    let key = output.key.manifest_key();
    key.map_err(|error| FsError::caused(FsErrorKind::Io, "write the key of an output", error))
}
