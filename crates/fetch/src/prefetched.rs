//! Files that are fetched before anybody reads them.

use std::ops::Range;
use std::sync::Arc;

use attachfs_manifest::{ChunkLayout, Piece};

use crate::disk::UNIT;
use crate::fetcher::Engine;
use crate::large_objects::KnownObject;
use crate::scheduler::Interest;
use crate::warming::missing;
use crate::{DiskCache, FetchError, Fetcher, PlanOptions, Prefetch, Priority};

/// A file on its way that nobody has asked for. It is kept in memory for a while when it has come; dropping this
/// cancels the rest, unless a reader is waiting for it.
#[derive(Debug)]
pub struct Prefetched(#[expect(dead_code, reason = "held for its Drop")] Vec<Interest>);

impl Fetcher {
    /// How many bytes of files may be on their way or in memory that nobody has asked for; none if that is off.
    pub fn most_prefetched(&self) -> u64 {
        let options = &self.engine().options;
        match options.prefetch {
            Prefetch::Off => 0,
            Prefetch::Auto | Prefetch::All => self.most_behind(),
        }
    }

    /// Begins to fetch all of a file, behind everything that somebody waits for. What is in memory or in the disk
    /// cache is left there, and so is an object that is too long to be fetched whole. Nothing is fetched before
    /// the first read that waited for the store.
    pub fn prefetch(&self, layout: &ChunkLayout<'_>) -> Prefetched {
        let engine = self.engine();
        let pieces = layout.pieces(0..layout.size());
        let whole = pieces.filter(|piece| engine.verifies(piece));
        let fetch = |piece: Piece| engine.fetch_ahead(&piece, Priority::Prefetch);
        Prefetched(whole.flat_map(fetch).collect())
    }

    /// How many bytes may be on their way that nobody has asked for.
    pub fn most_behind(&self) -> u64 {
        self.engine().options.memory_bytes / 4
    }

    /// How traces are to be made a plan for this fetcher.
    pub fn plan_options(&self) -> PlanOptions {
        let options = &self.engine().options;
        PlanOptions {
            // What is verified first is fetched whole, whatever its length.
            whole_object_limit: if options.verifies_first {
                u64::MAX
            } else {
                options.whole_object_limit
            },
        }
    }

    /// How many bytes the disk cache holds when it is full. `None` without a disk cache, and if its disk does not answer in time. Needs a
    /// tokio runtime with time enabled.
    pub async fn most_on_disk(&self) -> Option<u64> {
        self.disk()?.ask(DiskCache::capacity).await?
    }

    /// How many bytes [`fetch_behind`](Self::fetch_behind) would fetch: all that a disk which does not answer may have. Needs a
    /// tokio runtime with time enabled.
    pub async fn missing_behind(&self, piece: &Piece) -> u64 {
        let engine = self.engine();
        if piece.range.is_empty() {
            return 0;
        }
        if engine.verifies(piece) {
            let is_there = engine.may_be_on_disk(piece.hash, piece.object_len).await;
            return if is_there { 0 } else { piece.object_len };
        }
        let range = if engine.comes_whole(piece) {
            0..piece.object_len
        } else {
            piece.range.clone()
        };
        let wanted = Piece {
            range,
            ..piece.clone()
        };
        let missing = engine.not_on_disk(&wanted).await;
        missing.iter().map(|range| range.end - range.start).sum()
    }

    /// Has a piece in the disk cache, and says how many bytes came for it: what is missing is fetched behind everything that
    /// somebody waits for. A whole object is verified. Needs a tokio runtime with time enabled.
    pub async fn fetch_behind(&self, piece: &Piece) -> Result<u64, FetchError> {
        let engine = self.engine();
        if piece.range.is_empty() {
            return Ok(0);
        }
        if engine.verifies(piece) {
            if engine.may_be_on_disk(piece.hash, piece.object_len).await {
                return Ok(0);
            }
            return engine.fetch_small_behind(piece).await;
        }
        if engine.comes_whole(piece) {
            return engine.verify_behind(&engine.known.of(piece)).await;
        }
        let mut fetched = 0;
        for range in engine.not_on_disk(piece).await {
            let missing = Piece {
                range,
                ..piece.clone()
            };
            fetched += engine.fetch_units_behind(&missing).await?;
        }
        Ok(fetched)
    }
}

impl Engine {
    /// Whether all of a large object is verified because of a piece.
    fn comes_whole(&self, piece: &Piece) -> bool {
        piece.range == (0..piece.object_len) || !self.known.of(piece).serves_parts()
    }

    /// Verifies an object behind everything that somebody waits for, and says how many bytes of it were not in the disk cache.
    pub(crate) async fn verify_behind(
        self: &Arc<Self>,
        known: &Arc<KnownObject>,
    ) -> Result<u64, FetchError> {
        let all = Piece {
            hash: known.hash(),
            object_len: known.size(),
            range: 0..known.size(),
        };
        let claim = self.unread.claim(all.hash, self.not_on_disk(&all).await);
        self.verify(known, Priority::Prefetch).await?;
        Ok(claim.came())
    }

    /// The ranges of a piece of a large object that are not in the disk cache, in whole units.
    async fn not_on_disk(&self, piece: &Piece) -> Vec<Range<u64>> {
        let all = || vec![piece.range.clone()];
        let Some(disk) = &self.disk else {
            return all();
        };
        let (hash, len) = (piece.hash, piece.object_len);
        let units = piece.range.start / UNIT..piece.range.end.div_ceil(UNIT);
        let looked = disk
            .ask(move |disk| {
                let large = disk.large(hash, len)?;
                Some(missing(&large, units))
            })
            .await;
        let Some(Some(missing)) = looked else {
            return all();
        };
        let range = |units: Range<u64>| units.start * UNIT..(units.end * UNIT).min(len);
        missing.into_iter().map(range).collect()
    }
}

#[cfg(test)]
mod tests {
    use attachfs_manifest::{ChunkSize, ContentHash};
    use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore};

    use super::*;
    use crate::FetchOptions;

    const LARGE: u64 = 20 * UNIT + 7;

    fn options() -> FetchOptions {
        FetchOptions {
            whole_object_limit: 1000,
            prefetch: Prefetch::Off,
            ..FetchOptions::default()
        }
    }

    fn piece(hash: ContentHash, object_len: u64, range: Range<u64>) -> Piece {
        Piece {
            hash,
            object_len,
            range,
        }
    }

    fn ahead(fetcher: &Fetcher) -> (u64, u64) {
        let counters = fetcher.counters();
        (counters.bytes_ahead, counters.bytes_ahead_read)
    }

    async fn read(fetcher: &Fetcher, hash: ContentHash, len: u64, range: Range<u64>) {
        let hashes = [hash];
        let layout = ChunkLayout::from_hashes(len, ChunkSize::WholeFile, &hashes).unwrap();
        fetcher.open(&layout).read(range).bytes().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_fetched_ahead_is_counted_until_it_is_read_and_not_fetched_twice() {
        let temp = tempfile::tempdir().unwrap();
        let memory = MemoryStore::new();
        let large = memory.insert(vec![2; LARGE as usize]);
        let small = memory.insert(vec![1; 900]);
        let store = Arc::new(RecordStore::new(Arc::new(memory)));
        let cache = crate::testing::unbounded(temp.path().join("cache"));
        let disk = DiskCache::start(cache.objects([1; 16]).unwrap()).unwrap();
        let fetcher = Fetcher::new(Arc::clone(&store) as _, Some(disk), options());
        let gets = || store.count(CallKind::Get);

        let part = piece(large, LARGE, 2 * UNIT..5 * UNIT);
        assert_eq!(fetcher.fetch_behind(&part).await.unwrap(), 3 * UNIT);
        let whole = piece(small, 900, 0..900);
        assert_eq!(fetcher.fetch_behind(&whole).await.unwrap(), 900);
        assert_eq!((gets(), ahead(&fetcher)), (2, (3 * UNIT + 900, 0)));
        fetcher.flush_disk().await;
        // What overlaps is on the disk.
        let more = piece(large, LARGE, 0..6 * UNIT);
        assert_eq!(fetcher.fetch_behind(&more).await.unwrap(), 3 * UNIT);
        assert_eq!(fetcher.fetch_behind(&whole).await.unwrap(), 0);
        assert_eq!(gets(), 4, "one for each gap");

        read(&fetcher, large, LARGE, UNIT + 5..UNIT + 10).await;
        read(&fetcher, large, LARGE, UNIT..UNIT + 10).await;
        read(&fetcher, small, 900, 0..900).await;
        assert_eq!((gets(), ahead(&fetcher)), (4, (6 * UNIT + 900, 910)));
        // What a read fetches is nothing that was fetched ahead.
        read(&fetcher, large, LARGE, 10 * UNIT..10 * UNIT + 1).await;
        assert_eq!(ahead(&fetcher), (6 * UNIT + 900, 910));
        fetcher.flush_disk().await;
        let rest = piece(large, LARGE, 0..LARGE);
        let missing = LARGE - 7 * UNIT;
        assert_eq!(fetcher.fetch_behind(&rest).await.unwrap(), missing);
        assert_eq!(fetcher.counters().verified, 1);
    }

    #[tokio::test]
    async fn what_is_verified_first_is_planned_and_counted_whole() {
        let memory = MemoryStore::new();
        let hash = memory.insert(vec![2; LARGE as usize]);
        let strict = FetchOptions {
            verifies_first: true,
            ..options()
        };
        let fetcher = Fetcher::new(Arc::new(memory), None, strict);
        let trace = crate::Trace {
            ranges: vec![crate::TracedRange {
                hash,
                range: 5..10,
                after: std::time::Duration::ZERO,
            }],
            dropped: 0,
        };
        let other = ContentHash::from_bytes([9; 16]);
        let objects = [(hash, LARGE), (other, 100 * LARGE)];
        let plan = crate::Plan::new(&[trace], objects.into_iter(), fetcher.plan_options());
        assert_eq!(plan.pieces, [piece(hash, LARGE, 0..LARGE)]);
        // Nobody's plan: a part, of which all has to come.
        let part = piece(hash, LARGE, 0..UNIT);
        let engine = fetcher.engine();
        assert_eq!(engine.fetch_units_behind(&part).await.unwrap(), LARGE);
        assert_eq!(ahead(&fetcher), (LARGE, 0));
    }

    #[tokio::test]
    async fn what_fails_was_not_fetched_ahead() {
        let memory = MemoryStore::new();
        let large = memory.insert(vec![2; LARGE as usize]);
        let small = memory.insert(vec![1; 900]);
        let store = FaultStore::new(Arc::new(memory));
        let failure = Fault::Before(Failure::Denied);
        store.add(Rule::on(CallKind::Get, failure));
        let fetcher = Fetcher::new(Arc::new(store), None, options());
        for failing in [
            piece(large, LARGE, 0..UNIT),
            piece(large, LARGE, 0..LARGE),
            piece(small, 900, 0..900),
        ] {
            fetcher.fetch_behind(&failing).await.unwrap_err();
            assert_eq!(ahead(&fetcher), (0, 0));
        }
    }

    #[tokio::test]
    async fn a_trace_has_what_programs_read_and_nothing_that_is_read_for_them() {
        let memory = MemoryStore::new();
        let large = memory.insert(vec![2; LARGE as usize]);
        let small = memory.insert(vec![1; 900]);
        let fetcher = Fetcher::new(Arc::new(memory), None, options());
        let (tell, told) = std::sync::mpsc::channel();
        let recording = crate::Recorder::start(move |trace| {
            tell.send(trace.clone()).map_err(std::io::Error::other)
        });
        let recording = recording.unwrap();
        fetcher.record(recording.recorder());
        read(&fetcher, large, LARGE, 5..10).await;
        fetcher
            .fetch_behind(&piece(small, 900, 0..900))
            .await
            .unwrap();
        let all = piece(large, LARGE, 0..LARGE);
        let verifying = fetcher.open_object(&all).read(0..UNIT);
        verifying.bytes().await.unwrap();
        read(&fetcher, small, 900, 800..2000).await;
        recording
            .end(std::time::Duration::from_mins(1))
            .await
            .unwrap();
        let trace = told.recv().unwrap();
        let ranges: Vec<_> = trace
            .ranges
            .into_iter()
            .map(|of| (of.hash, of.range))
            .collect();
        assert_eq!(ranges, [(large, 5..10), (small, 800..900)]);
    }
}
