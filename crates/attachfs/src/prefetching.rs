//! What comes into the disk cache while the job runs, before anybody reads it: everything that is mounted
//! (`--prefetch all`), or what earlier runs read (`--prefetch-trace`, `--trace-dir`).
//!
//! All of it is fetched behind what somebody waits for, and never takes more than a part of the memory that reads need: a
//! store that does not answer holds up nobody.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use attachfs_fetch::{ByteBudget, FetchCounters, Fetcher, Plan, Trace};
use attachfs_manifest::Piece;
use attachfs_tree::BaseTree;
use attachfs_vfs::Vfs;
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// So many pieces are on their way at once.
const AT_ONCE: usize = 32;
/// After so many failures in a row the store is left alone.
const MOST_FAILURES: u32 = 8;

/// What is to be fetched, and how much of it.
#[derive(Debug)]
pub(crate) struct Prefetching {
    /// What earlier runs read.
    pub(crate) traces: Vec<Trace>,
    /// Everything that is mounted, the pieces of the traces first.
    pub(crate) all: bool,
    /// At most so many bytes; as many as the cache has room for if `None`.
    pub(crate) most_bytes: Option<u64>,
    /// At most for so long.
    pub(crate) most_time: Option<Duration>,
}

/// Why no more is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Stopped {
    #[error("the cache is full")]
    Full,
    #[error("the mount ends")]
    Ended,
    #[error("it has fetched as many bytes as it may")]
    Bytes,
    #[error("its time is over")]
    Time,
    #[error("the store fails again and again")]
    Failures,
}

/// Takes so many bytes out of those that may still be fetched.
fn take(left: &AtomicU64, bytes: u64) -> Result<(), Stopped> {
    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(bytes)
    });
    taken.map_or(Err(Stopped::Bytes), |_before| Ok(()))
}

impl Prefetching {
    /// Fetches pieces of a tree until all are there, a bound is reached, the cache is full or the mount has ended.
    pub(crate) async fn run(self, mounted: Weak<Vfs>, tree: Arc<BaseTree>) {
        let fetcher = || Some(Arc::clone(mounted.upgrade()?.fetcher()));
        let evicted = |fetcher: &Fetcher| fetcher.counters().disk_evicted;
        let (before, room) = match fetcher() {
            Some(fetcher) if fetcher.disk().is_some() => {
                (evicted(&fetcher), ByteBudget::new(fetcher.most_behind()))
            }
            Some(_) => {
                tracing::info!(
                    "there is no disk cache to prefetch into: nothing is fetched that nobody reads"
                );
                return;
            }
            None => return,
        };
        let until = self.most_time.map(|time| Instant::now() + time);
        let left = AtomicU64::new(self.most_bytes.unwrap_or(u64::MAX));
        let Some(pieces) = self.pieces(&mounted, tree).await else {
            return;
        };
        let has_stopped = AtomicBool::new(false);
        let pieces = pieces.take_while(|_| !has_stopped.load(Ordering::Relaxed));
        let fetch = |piece: Piece| {
            let (fetcher, left, room) = (fetcher(), &left, &room);
            async move {
                let fetcher = fetcher.ok_or(Stopped::Ended)?;
                let len = piece.range.end - piece.range.start;
                let _room = room.take(len).await;
                if evicted(&fetcher) > before {
                    return Err(Stopped::Full);
                }
                // What is on its way counts, so that the bound holds.
                take(left, len)?;
                let fetched = fetcher.fetch_behind(&piece).await;
                let used = fetched.as_ref().map_or(0, |bytes| *bytes);
                left.fetch_add(len.saturating_sub(used), Ordering::Relaxed);
                Ok(fetched)
            }
        };
        let mut fetched = std::pin::pin!(stream::iter(pieces).map(fetch).buffer_unordered(AT_ONCE));
        let (mut count, mut failures, mut stopped) = (0_u64, 0, None);
        loop {
            let next = match until {
                Some(until) => tokio::time::timeout_at(until, fetched.next()).await,
                None => Ok(fetched.next().await),
            };
            match next {
                Ok(None) => break,
                Err(_elapsed) => {
                    stopped = Some(Stopped::Time);
                    break;
                }
                // What is on its way still comes.
                Ok(Some(Err(why))) => {
                    has_stopped.store(true, Ordering::Relaxed);
                    stopped = Some(why);
                }
                Ok(Some(Ok(Ok(_bytes)))) => {
                    count += 1;
                    failures = 0;
                }
                Ok(Some(Ok(Err(error)))) => {
                    failures += 1;
                    let error = &error as &dyn Error;
                    tracing::warn!(error, "an object cannot be prefetched");
                    if failures == MOST_FAILURES {
                        stopped = Some(Stopped::Failures);
                        break;
                    }
                }
            }
        }
        match stopped {
            None => tracing::info!(count, "all that was to be prefetched is there"),
            Some(Stopped::Failures) => {
                tracing::warn!(count, "no more is prefetched: {}", Stopped::Failures);
            }
            Some(why) => tracing::info!(count, "no more is prefetched: {why}"),
        }
    }

    /// The pieces in their order. `None` if the mount has ended.
    async fn pieces(
        self,
        mounted: &Weak<Vfs>,
        tree: Arc<BaseTree>,
    ) -> Option<Box<dyn Iterator<Item = Piece> + Send>> {
        let options = mounted.upgrade()?.fetcher().plan_options();
        let (traces, objects) = (self.traces, Arc::clone(&tree).objects());
        // A look at every file of the mount: not on the threads that serve it.
        let plan = tokio::task::spawn_blocking(move || Plan::new(&traces, objects, options)).await;
        let plan = plan.unwrap_or_else(|error| {
            tracing::error!(%error, "making a plan of traces ended early");
            Plan::default()
        });
        if plan.unknown > 0 {
            let unknown = plan.unknown;
            tracing::info!(
                unknown,
                "traces name ranges of objects that are not mounted; they are left out"
            );
        }
        let planned = plan.pieces.into_iter();
        if !self.all && !plan.is_everything {
            return Some(Box::new(planned));
        }
        let rest = tree.objects().map(|(hash, len)| Piece {
            hash,
            object_len: len,
            range: 0..len,
        });
        Some(Box::new(planned.chain(rest)))
    }
}

/// What was fetched ahead of all reads, since traces name it or everything is to be fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefetchStats {
    /// Bytes that came.
    pub bytes: u64,
    /// Those of them that were read since.
    pub read: u64,
    /// Those that were not, or not yet. What came while 65,536 objects had unread bytes counts here even when it is read.
    pub unread: u64,
}

impl PrefetchStats {
    pub(crate) fn of(fetch: &FetchCounters) -> Self {
        Self {
            bytes: fetch.bytes_ahead,
            read: fetch.bytes_ahead_read,
            unread: fetch.bytes_ahead - fetch.bytes_ahead_read,
        }
    }
}
