//! Filling the cache before anybody reads.

use std::collections::HashMap;
use std::sync::Arc;

use attachfs_fetch::{FetchError, FetchOptions, Fetcher, Warmed};
use attachfs_manifest::{ContentHash, DownloadFilter};
use attachfs_session::FailureClass;
use attachfs_store::ChunkStore;
use attachfs_transfer::{Phase, Progress, error_chain};
use futures::{StreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::answering::{answered, does_not_answer};
use super::reporting::{CacheTrouble, Reporting};
use super::{NeededObject, check_cached, objects_of};
use crate::cancel::Cancellable;
use crate::error::Error;
use crate::manifests::ManifestBytes;
use crate::opened::{disk_cache, partition};
use crate::places::Places;
use crate::store::OpenStore;

/// Objects that are fetched at once.
const AT_ONCE: usize = 32;
/// Failures of the store, without a success, after which nothing more is asked of it.
const MOST_FAILURES: usize = 8;

/// The files that are to be in the cache.
#[derive(Debug, Clone, Default)]
pub struct WarmRequest {
    /// Patterns of these files; all of the manifest, if there are none.
    pub include: Vec<Vec<u8>>,
    /// Patterns of those that are not all the same.
    pub exclude: Vec<Vec<u8>>,
}

/// The result of warming a cache.
#[derive(Debug, Clone, Default, Serialize)]
pub struct WarmReport {
    /// Objects that are meant.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that were there.
    pub present: u64,
    /// Those that were fetched, some of their bytes at least.
    pub fetched: u64,
    /// Bytes that were fetched.
    pub fetched_bytes: u64,
    /// Those that the cache did not keep: its limits or its disk left no room.
    pub not_kept: u64,
    /// Objects whose bytes in the store are not what their hashes say.
    pub damaged: Vec<CacheTrouble>,
    /// Objects that could not be fetched.
    pub failed: Vec<CacheTrouble>,
}

impl WarmRequest {
    pub(super) fn filter(&self) -> DownloadFilter {
        DownloadFilter::new(&self.include, &self.exclude)
    }
}

impl WarmReport {
    /// Whether everything is in the cache.
    pub fn is_complete(&self) -> bool {
        self.not_kept == 0 && self.damaged.is_empty() && self.failed.is_empty()
    }

    fn add(
        &mut self,
        hash: ContentHash,
        object: &NeededObject,
        warmed: Result<Warmed, FetchError>,
    ) {
        let trouble = |error: &FetchError| CacheTrouble {
            object: hash.to_string(),
            path: Some(object.path.clone()),
            reason: error_chain(error),
        };
        match warmed {
            Ok(Warmed::Present) => self.present += 1,
            Ok(Warmed::Fetched(bytes)) => {
                self.fetched += 1;
                self.fetched_bytes += bytes;
            }
            Ok(Warmed::NotKept) => self.not_kept += 1,
            Err(error) if error.is_about_bytes() => self.damaged.push(trouble(&error)),
            Err(error) => self.failed.push(trouble(&error)),
        }
    }
}

/// Fetches what the cache lacks of manifests. What fails is listed, and the rest goes on. Needs a tokio runtime with time
/// enabled.
pub async fn warm_cache(
    manifests: &[ManifestBytes],
    request: &WarmRequest,
    store: &OpenStore,
    places: &Places,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<WarmReport, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress
        .run(warm(manifests, request, store, places, &progress))
        .await
}

async fn warm(
    manifests: &[ManifestBytes],
    request: &WarmRequest,
    store: &OpenStore,
    places: &Places,
    progress: &dyn Progress,
) -> Result<WarmReport, Error> {
    check_cached(store)?;
    let filter = request.filter();
    let mut all: HashMap<ContentHash, NeededObject> = HashMap::new();
    for manifest in manifests {
        all.extend(objects_of(manifest, &filter)?);
    }
    // Whether the cache can be written to, is told before hours of work.
    let partition = partition(store);
    answered(&places.cache, progress, move |cache, _| {
        cache.objects(partition)?;
        Ok(())
    })
    .await?;
    let disk = disk_cache(store, places)?;
    let chunks: Arc<dyn ChunkStore> = store.store.clone();
    let fetcher = Fetcher::new(chunks, Some(disk), FetchOptions::default());
    let mut report = WarmReport {
        objects: all.len() as u64,
        bytes: all.values().map(|object| object.len).sum(),
        ..WarmReport::default()
    };
    let mut fetched = Vec::new();
    // Why nothing at all came of a store.
    let mut refused: Option<FetchError> = None;
    let mut reporting = Reporting::new(Phase::Download, progress);
    {
        let fetcher = &fetcher;
        let warm = |(hash, object): (ContentHash, NeededObject)| async move {
            let warmed = fetcher.warm(hash, object.len).await;
            (hash, object, warmed)
        };
        let mut warming = stream::iter(all).map(warm).buffer_unordered(AT_ONCE);
        let (mut done, mut bytes) = (0, 0);
        while let Some((hash, object, warmed)) = warming.next().await {
            match &warmed {
                Ok(Warmed::Fetched(_)) => fetched.push((hash, object.len)),
                // What the store as a whole fails with says more than what it says of one object.
                Err(error) if error.is_of_the_store() || refused.is_none() => {
                    refused = Some(error.clone());
                }
                Ok(Warmed::Present | Warmed::NotKept) | Err(_) => {}
            }
            report.add(hash, &object, warmed);
            done += 1;
            bytes += object.len;
            let total = Some(report.objects);
            if reporting
                .at(done, total, bytes, Some(report.bytes))
                .is_break()
            {
                break;
            }
            if !fetcher.disk().is_some_and(|disk| disk.answers()) {
                return Err(does_not_answer(&places.cache));
            }
            if report.failed.len() >= MOST_FAILURES && fetched.is_empty() {
                break;
            }
        }
    }
    reporting.ended()?;
    if let Some(why) = refused
        && fetched.is_empty()
        && !report.failed.is_empty()
        && (why.is_of_the_store() || report.failed.len() >= MOST_FAILURES)
    {
        return Err(unreadable(store, why, report.failed.len()));
    }
    if !count_not_kept(&fetcher, &fetched, &mut report).await {
        return Err(does_not_answer(&places.cache));
    }
    Ok(report)
}

/// A store of which nothing came.
fn unreadable(store: &OpenStore, why: FetchError, objects: usize) -> Error {
    let address = &store.settings.address;
    if why.is_of_the_store() {
        let sentence = format!("the store {address} cannot be read");
        return Error::new(FailureClass::Store, sentence).because(why);
    }
    let sentence =
        format!("the store {address} gave none of {objects} objects that it was asked for");
    Error::new(FailureClass::Store, sentence)
        .because(why)
        .advise("check that the files were uploaded to this store and prefix")
}

/// What was fetched may not have found room. `false` if the disk does not answer.
async fn count_not_kept(
    fetcher: &Fetcher,
    fetched: &[(ContentHash, u64)],
    report: &mut WarmReport,
) -> bool {
    fetcher.flush_disk().await;
    for &(hash, len) in fetched {
        match fetcher.may_be_on_disk(hash, len).await {
            Some(true) => {}
            Some(false) => {
                report.not_kept += 1;
                report.fetched -= 1;
            }
            None => return false,
        }
    }
    true
}
