//! `--prefetch all`: everything that is mounted comes into the disk cache while the job runs.

use std::error::Error;
use std::sync::{Arc, Weak};

use attachfs_fetch::Fetcher;
use attachfs_manifest::ContentHash;
use attachfs_tree::BaseTree;
use attachfs_vfs::Vfs;
use futures::{StreamExt as _, stream};

/// So many objects are on their way at once.
const AT_ONCE: usize = 32;
/// After so many failures in a row the store is left alone.
const MOST_FAILURES: u32 = 8;

/// Fetches all objects of a tree, in the order of its files, until the cache is full or the mount has ended.
pub(crate) async fn prefetch_all(mounted: Weak<Vfs>, tree: Arc<BaseTree>) {
    let fetcher = || Some(Arc::clone(mounted.upgrade()?.fetcher()));
    let evicted = |fetcher: &Fetcher| fetcher.counters().disk_evicted;
    let before = match fetcher() {
        Some(fetcher) if fetcher.disk().is_some() => evicted(&fetcher),
        Some(_) => {
            tracing::info!(
                "there is no disk cache to prefetch into: nothing is fetched that nobody reads"
            );
            return;
        }
        None => return,
    };
    let fetch = |(hash, len): (ContentHash, u64)| {
        let fetcher = fetcher();
        async move {
            let fetcher = fetcher?;
            if evicted(&fetcher) > before {
                return None;
            }
            Some(fetcher.fetch_behind(hash, len).await)
        }
    };
    let mut fetched = std::pin::pin!(stream::iter(tree.objects()).map(fetch).buffered(AT_ONCE));
    let (mut count, mut failures) = (0_u64, 0);
    while let Some(outcome) = fetched.next().await {
        match outcome {
            None => {
                tracing::info!(
                    count,
                    "no more is prefetched: the cache is full, or the mount ends"
                );
                return;
            }
            Some(Ok(())) => {
                count += 1;
                failures = 0;
            }
            Some(Err(error)) => {
                failures += 1;
                let error = &error as &dyn Error;
                tracing::warn!(error, "an object cannot be prefetched");
                if failures == MOST_FAILURES {
                    tracing::warn!(
                        count,
                        "no more is prefetched: the store fails again and again"
                    );
                    return;
                }
            }
        }
    }
    tracing::info!(count, "everything is prefetched");
}
