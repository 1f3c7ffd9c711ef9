//! Filling the cache before anybody reads.

use std::collections::HashMap;
use std::sync::Arc;

use attachfs_fetch::{FetchError, FetchOptions, Fetcher, Warmed};
use attachfs_manifest::{ContentHash, DownloadFilter};
use attachfs_store::ChunkStore;
use attachfs_transfer::{Phase, Progress, error_chain};
use futures::{StreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::answering::{answered, does_not_answer};
use super::reporting::{CacheTrouble, Reporting};
use super::{check_cached, objects_of};
use crate::cancel::Cancellable;
use crate::error::Error;
use crate::manifests::ManifestBytes;
use crate::opened::{disk_cache, partition};
use crate::places::Places;
use crate::store::OpenStore;

/// Objects that are fetched at once.
const AT_ONCE: usize = 32;
/// Failures of the store, without a success, after which nothing more is asked of it.
const MOST_FAILURES: u64 = 8;

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

    fn add(&mut self, hash: ContentHash, warmed: Result<Warmed, FetchError>) {
        let trouble = |error: &FetchError| CacheTrouble {
            object: hash.to_string(),
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
    let mut all: HashMap<ContentHash, u64> = HashMap::new();
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
        bytes: all.values().sum(),
        ..WarmReport::default()
    };
    let mut fetched = Vec::new();
    let mut reporting = Reporting::new(Phase::Download, progress);
    {
        let fetcher = &fetcher;
        let warm = |(hash, len): (ContentHash, u64)| async move {
            (hash, len, fetcher.warm(hash, len).await)
        };
        let mut warming = stream::iter(all).map(warm).buffer_unordered(AT_ONCE);
        let (mut done, mut bytes) = (0, 0);
        while let Some((hash, len, warmed)) = warming.next().await {
            if let Ok(Warmed::Fetched(_)) = warmed {
                fetched.push((hash, len));
            }
            report.add(hash, warmed);
            done += 1;
            bytes += len;
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
            let failed = report.failed.len() as u64;
            if failed >= MOST_FAILURES && report.fetched == 0 {
                break;
            }
        }
    }
    reporting.ended()?;
    if !count_not_kept(&fetcher, &fetched, &mut report).await {
        return Err(does_not_answer(&places.cache));
    }
    Ok(report)
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
