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
    /// At most so many bytes; as many as the cache has room for if `None`. Of a full cache traces get half.
    pub(crate) most_bytes: Option<u64>,
    /// At most for so long.
    pub(crate) most_time: Option<Duration>,
}

/// A piece that is to be fetched.
#[derive(Debug)]
struct Wanted {
    piece: Piece,
    /// Whether a trace names it: it may take the place of what nobody has read for long.
    is_traced: bool,
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
        match fetcher().map(|fetcher| fetcher.disk().is_some()) {
            Some(true) => {}
            Some(false) => {
                tracing::info!(
                    "there is no disk cache to prefetch into: nothing is fetched that nobody reads"
                );
                return;
            }
            None => return,
        }
        let until = self.most_time.map(|time| Instant::now() + time);
        let most_bytes = self.most_bytes.unwrap_or(u64::MAX);
        let Some(pieces) = self.pieces(&mounted, tree).await else {
            return;
        };
        let (count, stopped) = fetch_all(fetcher, pieces, most_bytes, until).await;
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
    ) -> Option<Box<dyn Iterator<Item = Wanted> + Send>> {
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
        let planned = plan.pieces.into_iter().map(|piece| Wanted {
            piece,
            is_traced: true,
        });
        if !self.all && !plan.is_everything {
            return Some(Box::new(planned));
        }
        let rest = tree.objects().map(|(hash, len)| Wanted {
            piece: Piece {
                hash,
                object_len: len,
                range: 0..len,
            },
            is_traced: false,
        });
        Some(Box::new(planned.chain(rest)))
    }
}

/// Fetches the pieces while there is a fetcher. How many are there, and why they are not all.
async fn fetch_all(
    fetcher: impl Fn() -> Option<Arc<Fetcher>>,
    pieces: impl Iterator<Item = Wanted>,
    most_bytes: u64,
    until: Option<Instant>,
) -> (u64, Option<Stopped>) {
    let evicted = |fetcher: &Fetcher| fetcher.counters().disk_evicted;
    let Some(first) = fetcher() else {
        return (0, Some(Stopped::Ended));
    };
    let (before, room) = (evicted(&first), ByteBudget::new(first.most_behind()));
    // A cache that has been in use for long is always full: then this is what traces may have of it.
    let part = first.most_on_disk().await.unwrap_or(0) / 2;
    drop(first);
    let (left, taken) = (AtomicU64::new(most_bytes), AtomicU64::new(0));
    let has_stopped = AtomicBool::new(false);
    let pieces = pieces.take_while(|_| !has_stopped.load(Ordering::Relaxed));
    let look = |wanted: Wanted| {
        let fetcher = fetcher();
        async move {
            let fetcher = fetcher.ok_or(Stopped::Ended)?;
            let missing = fetcher.missing_behind(&wanted.piece).await;
            Ok((fetcher, wanted, missing))
        }
    };
    // In the order of the pieces: what was read first is fetched if not all of it may be.
    let take = |looked| {
        let (fetcher, wanted, missing): (Arc<Fetcher>, Wanted, u64) = looked?;
        let all = taken.load(Ordering::Relaxed).saturating_add(missing);
        let may_replace = wanted.is_traced && all <= part;
        if evicted(&fetcher) > before && !may_replace {
            return Err(Stopped::Full);
        }
        // What is on its way counts, so that the bound holds.
        take(&left, missing)?;
        taken.fetch_add(missing, Ordering::Relaxed);
        Ok((fetcher, wanted.piece, missing))
    };
    let fetch = |ready: Result<(Arc<Fetcher>, Piece, u64), Stopped>| {
        let (left, taken, room) = (&left, &taken, &room);
        async move {
            let (fetcher, piece, missing) = ready?;
            let _room = room.take(piece.range.end - piece.range.start).await;
            let fetched = fetcher.fetch_behind(&piece).await;
            let used = fetched.as_ref().map_or(0, |bytes| *bytes);
            let unused = missing.saturating_sub(used);
            left.fetch_add(unused, Ordering::Relaxed);
            taken.fetch_sub(unused, Ordering::Relaxed);
            Ok(fetched)
        }
    };
    let looked = stream::iter(pieces).map(look).buffered(AT_ONCE).map(take);
    let mut fetched = std::pin::pin!(looked.map(fetch).buffer_unordered(AT_ONCE));
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
            // A shorter piece may fit.
            Ok(Some(Err(Stopped::Bytes))) => {
                stopped.get_or_insert(Stopped::Bytes);
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
    (count, stopped)
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

#[cfg(test)]
mod tests {
    use attachfs_durable::{CacheDir, CacheLimits};
    use attachfs_fetch::{DiskCache, FetchOptions};
    use attachfs_manifest::ContentHash;
    use attachfs_store::MemoryStore;
    use attachfs_store::fault::{Fault, FaultStore, Rule};

    use super::*;

    const LEN: u64 = 8192;

    /// A store, and a cache of so many bytes that processes use one after the other.
    struct Setup {
        temp: tempfile::TempDir,
        store: Arc<MemoryStore>,
        max_bytes: u64,
    }

    impl Setup {
        fn new(max_bytes: u64) -> Self {
            Self {
                temp: tempfile::tempdir().unwrap(),
                store: Arc::new(MemoryStore::new()),
                max_bytes,
            }
        }

        fn process(&self) -> Arc<Fetcher> {
            let limits = CacheLimits {
                max_bytes: Some(self.max_bytes),
                min_free: Some(0),
            };
            let cache = CacheDir::new(self.temp.path().join("cache")).with_limits(limits);
            let disk = DiskCache::start(cache.objects([1; 16]).unwrap()).unwrap();
            let store = Arc::clone(&self.store) as _;
            Arc::new(Fetcher::new(store, Some(disk), FetchOptions::default()))
        }

        fn wanted(&self, number: u64, len: u64, is_traced: bool) -> Wanted {
            let mut bytes = vec![7; len as usize];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            let hash: ContentHash = self.store.insert(bytes);
            let piece = Piece {
                hash,
                object_len: len,
                range: 0..len,
            };
            Wanted { piece, is_traced }
        }

        /// Fetches pieces, each once those that came before it are on the disk.
        async fn fetch(
            &self,
            fetcher: &Arc<Fetcher>,
            pieces: impl Iterator<Item = Wanted>,
        ) -> (u64, Option<Stopped>) {
            let disk = fetcher.disk().unwrap();
            let pieces = pieces.inspect(|_| {
                tokio::task::block_in_place(|| disk.flush());
            });
            fetch_all(|| Some(Arc::clone(fetcher)), pieces, u64::MAX, None).await
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_traces_name_takes_half_of_a_full_cache_and_what_they_do_not_name_nothing() {
        let setup = Setup::new(128 * LEN);
        let old = (0..124).map(|number| setup.wanted(number, LEN, false));
        let filling = setup.process();
        setup.fetch(&filling, old).await;
        drop(filling);

        let fetcher = setup.process();
        let traced = (1000..1060).map(|number| setup.wanted(number, LEN, true));
        let rest = (2000..2100).map(|number| setup.wanted(number, LEN, false));
        let fetched = setup.fetch(&fetcher, traced.chain(rest)).await;
        assert!(fetcher.counters().disk_evicted > 0);
        assert_eq!(fetched.1, Some(Stopped::Full));
        assert!(fetched.0 >= 60, "{fetched:?}");
        assert!(fetched.0 < 160, "{fetched:?}");

        let fetcher = setup.process();
        let traced = (3000..3300).map(|number| setup.wanted(number, LEN, true));
        let fetched = setup.fetch(&fetcher, traced).await;
        assert_eq!(fetched.1, Some(Stopped::Full));
        assert!(fetched.0 < 128, "{fetched:?}");
    }

    #[tokio::test]
    async fn what_is_in_the_cache_or_too_long_takes_none_of_the_bytes_that_may_be_fetched() {
        let setup = Setup::new(u64::MAX);
        let fetcher = setup.process();
        let cached = || setup.wanted(1, 100 * LEN, true);
        let fetch = |pieces: Vec<Wanted>| {
            let fetcher = Arc::clone(&fetcher);
            let pieces = pieces.into_iter();
            async move { fetch_all(|| Some(Arc::clone(&fetcher)), pieces, 4 * LEN, None).await }
        };
        let first = fetch(vec![
            setup.wanted(2, 5 * LEN, true),
            setup.wanted(3, LEN, true),
        ]);
        assert_eq!(first.await, (1, Some(Stopped::Bytes)));
        let all = fetch_all(
            || Some(Arc::clone(&fetcher)),
            std::iter::once(cached()),
            u64::MAX,
            None,
        );
        assert_eq!(all.await, (1, None));
        fetcher.flush_disk().await;
        let small = (10..14).map(|number| setup.wanted(number, LEN, true));
        let pieces = std::iter::once(cached()).chain(small).collect();
        assert_eq!(fetch(pieces).await, (5, None));
    }

    #[tokio::test]
    async fn nothing_is_fetched_ahead_any_more_once_the_time_for_it_is_over() {
        let setup = Setup::new(u64::MAX);
        let cache = CacheDir::new(setup.temp.path().join("cache"));
        let disk = DiskCache::start(cache.objects([1; 16]).unwrap()).unwrap();
        let store = FaultStore::new(Arc::clone(&setup.store) as _);
        store.add(Rule::always(Fault::Hang));
        let options = FetchOptions::default();
        let fetcher = Arc::new(Fetcher::new(Arc::new(store), Some(disk), options));
        let pieces = std::iter::once(setup.wanted(1, LEN, true));
        let until = Some(Instant::now() + Duration::from_millis(1));
        let fetched = fetch_all(|| Some(Arc::clone(&fetcher)), pieces, u64::MAX, until);
        assert_eq!(fetched.await, (0, Some(Stopped::Time)));
    }
}
