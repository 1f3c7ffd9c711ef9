//! Small objects: fetched whole, and sound before anyone sees a byte.

use std::sync::Arc;

use attachfs_manifest::{ContentHash, Piece};
use bytes::Bytes;

use crate::budget::SharedPriority;
use crate::fetcher::Core;
use crate::pending::{PendingPart, PendingPiece, Reading};
use crate::scheduler::{Fetched, Lookup, PartKey, Waiting};
use crate::{FetchError, Priority};

/// What an object in memory costs beside its bytes, roughly. Of blocks it does not matter.
const ENTRY_OVERHEAD: u64 = 256;

impl Core {
    /// Looks for the object in memory and, if nobody else does, in the disk cache.
    pub(crate) fn begin_small(self: &Arc<Self>, piece: Piece, priority: Priority) -> Reading {
        let lead = match self.scheduler.look_up(&PartKey::whole(&piece), priority) {
            Lookup::Here(object) => return self.hit(&object, &piece),
            Lookup::Join(waiting) => {
                return self.pending(piece, priority, PendingPart::Join(waiting));
            }
            Lookup::Lead(lead) => lead,
        };
        let Some(fetched) = self.load(piece.hash, piece.object_len) else {
            return self.pending(piece, priority, PendingPart::Fetch(lead));
        };
        let read = cut(&fetched.bytes, &piece);
        lead.land(Ok(fetched));
        Reading::Ready(read)
    }

    pub(crate) fn look_up_small(self: &Arc<Self>, piece: Piece, priority: Priority) -> Reading {
        match self.scheduler.look_up(&PartKey::whole(&piece), priority) {
            Lookup::Here(object) => self.hit(&object, &piece),
            found => self.pending(piece, priority, found.into()),
        }
    }

    fn hit(&self, object: &Bytes, piece: &Piece) -> Reading {
        self.counts.memory_hits.add(1);
        Reading::Ready(cut(object, piece))
    }

    fn pending(self: &Arc<Self>, piece: Piece, priority: Priority, part: PendingPart) -> Reading {
        Reading::Pending(Box::new(PendingPiece {
            shared: Arc::clone(self),
            piece,
            priority,
            parts: vec![part],
            generation: 0,
        }))
    }

    /// From the disk cache. Blocks.
    fn load(&self, hash: ContentHash, len: u64) -> Option<Fetched> {
        let bytes = self.disk.as_ref()?.get(hash, len)?;
        self.counts.disk_hits.add(1);
        let held = self.scheduler.room_now(len + ENTRY_OVERHEAD);
        Some(Fetched { bytes, held })
    }

    /// From the disk cache, off the runtime's own threads.
    async fn load_later(self: &Arc<Self>, hash: ContentHash, len: u64) -> Option<Fetched> {
        self.disk.as_ref()?;
        let shared = Arc::clone(self);
        let loaded = tokio::task::spawn_blocking(move || shared.load(hash, len)).await;
        // The task ends early only when the runtime shuts down or the cache has a bug; in both cases
        // the store still has the object.
        loaded.unwrap_or_else(|error| {
            tracing::error!(%hash, %error, "reading the disk cache ended early");
            None
        })
    }

    async fn fetch_whole(
        self: Arc<Self>,
        hash: ContentHash,
        len: u64,
        priority: SharedPriority,
        is_on_disk: bool,
    ) -> Result<Fetched, FetchError> {
        if is_on_disk && let Some(object) = self.load_later(hash, len).await {
            return Ok(object);
        }
        let held = self.scheduler.room(len + ENTRY_OVERHEAD, &priority).await;
        let part = self.request(hash, 0..len, len).await?;
        let found = ContentHash::of(&part.bytes);
        if found != hash {
            self.counts.damaged.add(1);
            return Err(FetchError::Damaged { hash, found });
        }
        self.counts.objects_from_store.add(1);
        self.counts.bytes_from_store.add(len);
        if let Some(disk) = &self.disk {
            disk.insert(hash, part.bytes.clone());
        }
        Ok(Fetched {
            bytes: part.bytes,
            held: Some(held),
        })
    }
}

impl PendingPiece {
    /// Waits for the object, and fetches it if nobody else does.
    pub(crate) async fn whole(mut self: Box<Self>) -> Result<Bytes, FetchError> {
        let key = PartKey::whole(&self.piece);
        let mut next = self.parts.pop();
        loop {
            let part = next
                .take()
                .unwrap_or_else(|| self.shared.scheduler.look_up(&key, self.priority).into());
            let fetch = |is_on_disk| {
                let (shared, piece) = (Arc::clone(&self.shared), &self.piece);
                let (hash, len) = (piece.hash, piece.object_len);
                move |priority| shared.fetch_whole(hash, len, priority, is_on_disk)
            };
            let waiting: Waiting = match part {
                PendingPart::Here(object) => return Ok(cut(&object, &self.piece)),
                PendingPart::Join(waiting) => waiting,
                PendingPart::Fetch(lead) => lead.start(fetch(false)),
                PendingPart::Find(lead) => lead.start(fetch(true)),
            };
            if let Some(outcome) = waiting.ended().await {
                return outcome.map(|object| cut(&object, &self.piece));
            }
        }
    }
}

/// `piece` out of its whole object. The range lies in the object: the layout that made the piece
/// says so, and the object's length was compared with it.
fn cut(object: &Bytes, piece: &Piece) -> Bytes {
    object.slice(piece.range.start as usize..piece.range.end as usize)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore, StoreError};

    use super::*;
    use crate::testing::cached;
    use crate::{FetchCounters, FetchOptions, Fetcher};

    const TEXT: &[u8] = b"what the manifest promises";

    fn piece(hash: ContentHash, len: usize, range: std::ops::Range<u64>) -> Piece {
        Piece {
            hash,
            object_len: len as u64,
            range,
        }
    }

    /// A store with one object, wrapped for counting and holding its calls.
    fn one_object() -> (Arc<RecordStore>, ContentHash) {
        let memory = MemoryStore::new();
        let hash = memory.insert(TEXT);
        (Arc::new(RecordStore::new(Arc::new(memory))), hash)
    }

    fn fetcher(store: &Arc<RecordStore>) -> Arc<Fetcher> {
        Arc::new(Fetcher::new(
            Arc::clone(store) as _,
            None,
            FetchOptions::default(),
        ))
    }

    /// What a read of the one object gives when the store has this fault.
    async fn with_fault(fault: Fault) -> (Result<Bytes, FetchError>, FetchCounters, ContentHash) {
        let memory = MemoryStore::new();
        let hash = memory.insert(TEXT);
        let store = FaultStore::new(Arc::new(memory));
        store.add(Rule::on(CallKind::Get, fault));
        let fetcher = Fetcher::new(Arc::new(store), None, FetchOptions::default());
        let read = fetcher.read(&piece(hash, TEXT.len(), 0..4)).await;
        (read, fetcher.counters(), hash)
    }

    #[tokio::test]
    async fn a_read_gives_exactly_its_range_and_a_second_one_makes_no_request() {
        let (store, hash) = one_object();
        let fetcher = fetcher(&store);
        let some = piece(hash, TEXT.len(), 5..8);
        assert!(cached(&fetcher, &some).is_none());
        assert_eq!(fetcher.read(&some).await.unwrap(), "the");
        let others = piece(hash, TEXT.len(), 0..TEXT.len() as u64);
        assert_eq!(fetcher.read(&others).await.unwrap(), TEXT);
        assert_eq!(cached(&fetcher, &some).unwrap(), "the");
        assert_eq!(store.count(CallKind::Get), 1);
        let counters = fetcher.counters();
        assert_eq!((counters.objects_from_store, counters.memory_hits), (1, 2));
        assert_eq!(counters.bytes_from_store, TEXT.len() as u64);
    }

    #[tokio::test]
    async fn nothing_is_read_without_a_request() {
        let (store, hash) = one_object();
        let fetcher = fetcher(&store);
        assert_eq!(
            fetcher.read(&piece(hash, TEXT.len(), 3..3)).await.unwrap(),
            ""
        );
        assert_eq!(store.calls(), []);
    }

    #[test]
    fn what_is_in_memory_needs_no_runtime() {
        let (store, hash) = one_object();
        let fetcher = fetcher(&store);
        let all = piece(hash, TEXT.len(), 0..TEXT.len() as u64);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(fetcher.read(&all)).unwrap();
        drop(runtime);
        assert_eq!(cached(&fetcher, &all).unwrap(), TEXT);
    }

    #[tokio::test]
    async fn many_readers_share_one_request() {
        let (store, hash) = one_object();
        let fetcher = fetcher(&store);
        let hold = store.hold(CallKind::Get);
        let readers: Vec<_> = (0..16)
            .map(|i| {
                let fetcher = Arc::clone(&fetcher);
                tokio::spawn(async move { fetcher.read(&piece(hash, TEXT.len(), i..i + 1)).await })
            })
            .collect();
        store.wait_in_flight(CallKind::Get, 1).await;
        drop(hold);
        for (i, reader) in readers.into_iter().enumerate() {
            assert_eq!(reader.await.unwrap().unwrap(), TEXT[i..=i]);
        }
        assert_eq!(store.count(CallKind::Get), 1);
    }

    #[tokio::test]
    async fn a_fetch_goes_on_for_those_who_still_wait() {
        let (store, hash) = one_object();
        let fetcher = fetcher(&store);
        let all = piece(hash, TEXT.len(), 0..TEXT.len() as u64);
        let hold = store.hold(CallKind::Get);
        let read = || {
            let (fetcher, all) = (Arc::clone(&fetcher), all.clone());
            tokio::spawn(async move { fetcher.read(&all).await })
        };
        let first = read();
        store.wait_in_flight(CallKind::Get, 1).await;
        let second = read();
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        drop(hold);
        assert_eq!(second.await.unwrap().unwrap(), TEXT);
        assert_eq!(store.count(CallKind::Get), 1);
    }

    #[tokio::test]
    async fn a_fetch_that_nobody_waits_for_ends_and_gives_its_room_back() {
        let (store, hash) = one_object();
        let fetcher = fetcher(&store);
        let all = piece(hash, TEXT.len(), 0..TEXT.len() as u64);
        let _hold = store.hold(CallKind::Get);
        let reader = {
            let (fetcher, all) = (Arc::clone(&fetcher), all.clone());
            tokio::spawn(async move { fetcher.read(&all).await })
        };
        store.wait_in_flight(CallKind::Get, 1).await;
        reader.abort();
        assert!(reader.await.unwrap_err().is_cancelled());
        while store.in_flight(CallKind::Get) > 0 {
            tokio::task::yield_now().await;
        }
        let whole = FetchOptions::default().memory_bytes;
        assert!(fetcher.shared().scheduler.room_now(whole).is_some());
    }

    #[tokio::test]
    async fn a_read_that_is_given_up_before_it_fetches_lets_another_one_fetch() {
        let (store, hash) = one_object();
        let fetcher = fetcher(&store);
        let all = piece(hash, TEXT.len(), 0..TEXT.len() as u64);
        let begun = fetcher.begin(all.clone(), Priority::Read);
        let second = {
            let (fetcher, all) = (Arc::clone(&fetcher), all.clone());
            tokio::spawn(async move { fetcher.read(&all).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(store.calls(), [], "the first one is to fetch it");
        drop(begun);
        assert_eq!(second.await.unwrap().unwrap(), TEXT);
    }

    #[tokio::test]
    async fn a_cold_object_is_looked_for_once_in_memory_and_once_on_disk() {
        let (store, hash) = one_object();
        let temp = tempfile::tempdir().unwrap();
        let dir = crate::testing::unbounded(temp.path().join("cache"));
        let objects = dir.objects([1; 16]).unwrap();
        let disk = crate::DiskCache::start(objects.clone()).unwrap();
        let options = FetchOptions::default();
        let fetcher = Fetcher::new(Arc::clone(&store) as _, Some(disk), options);
        let all = piece(hash, TEXT.len(), 0..TEXT.len() as u64);
        let Reading::Pending(pending) = fetcher.begin(all, Priority::Read) else {
            panic!("it is nowhere yet");
        };
        // Whoever looks again finds it.
        objects.writer().write(*hash.as_bytes(), TEXT).unwrap();
        assert_eq!(pending.bytes().await.unwrap(), TEXT);
        assert_eq!(store.count(CallKind::Get), 1);
        assert_eq!(fetcher.counters().disk_hits, 0);
        // One look-up, and the landing of what was fetched.
        assert_eq!(fetcher.shared().scheduler.uses(), 2);
    }

    #[tokio::test]
    async fn an_altered_object_is_damaged() {
        let (read, counters, hash) = with_fault(Fault::Corrupt).await;
        match read.unwrap_err() {
            FetchError::Damaged { hash: named, found } => {
                assert_eq!(named, hash);
                assert_ne!(found, hash);
            }
            other => panic!("{other}"),
        }
        assert_eq!(counters.damaged, 1);
        assert_eq!(counters.objects_from_store, 0);
    }

    #[tokio::test]
    async fn a_short_object_has_the_wrong_length() {
        let (read, counters, _) = with_fault(Fault::Shorten(1)).await;
        let len = TEXT.len() as u64;
        assert!(
            matches!(read, Err(FetchError::WrongLength { expected, found, .. })
                if expected == len && found == len - 1)
        );
        assert_eq!(counters.wrong_length, 1);
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_has_the_wrong_length() {
        let (read, ..) = with_fault(Fault::Truncate(4)).await;
        assert!(matches!(
            read,
            Err(FetchError::WrongLength { found: 4, .. })
        ));
    }

    #[tokio::test]
    async fn a_long_object_has_the_wrong_length() {
        let (store, hash) = one_object();
        let read = fetcher(&store)
            .read(&piece(hash, TEXT.len() - 1, 0..4))
            .await;
        assert!(matches!(read, Err(FetchError::WrongLength { .. })));
    }

    #[tokio::test]
    async fn an_object_that_is_not_there_is_missing_and_nothing_else_is() {
        let (read, counters, _) = with_fault(Fault::Before(Failure::NotFound)).await;
        assert!(matches!(read, Err(FetchError::Missing { .. })));
        assert_eq!((counters.missing, counters.failed), (1, 0));
        let (read, counters, _) = with_fault(Fault::Before(Failure::Unreachable)).await;
        match read.unwrap_err() {
            FetchError::Store { source, .. } => {
                assert!(matches!(*source, StoreError::Unreachable { .. }));
            }
            other => panic!("{other}"),
        }
        assert_eq!((counters.missing, counters.failed), (0, 1));
    }

    #[tokio::test]
    async fn a_failure_is_forgotten() {
        let memory = MemoryStore::new();
        let hash = memory.insert(TEXT);
        let store = FaultStore::new(Arc::new(memory));
        store.add(Rule::on(CallKind::Get, Fault::Corrupt).times(1));
        let fetcher = Fetcher::new(Arc::new(store), None, FetchOptions::default());
        let all = piece(hash, TEXT.len(), 0..TEXT.len() as u64);
        fetcher.read(&all).await.unwrap_err();
        assert_eq!(fetcher.read(&all).await.unwrap(), TEXT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_given_up_after_the_deadline() {
        let started = tokio::time::Instant::now();
        let (read, counters, _) = with_fault(Fault::Hang).await;
        let minute = Duration::from_mins(1);
        assert!(matches!(read, Err(FetchError::TimedOut { after, .. }) if after == minute));
        assert!(started.elapsed() >= minute && started.elapsed() < 2 * minute);
        assert_eq!(counters.timed_out, 1);
    }

    #[tokio::test]
    async fn memory_stays_within_its_bound() {
        let memory = MemoryStore::new();
        let objects: Vec<_> = (0..100_u8)
            .map(|i| memory.insert(vec![i; 10_000]))
            .collect();
        let options = FetchOptions {
            memory_bytes: 200_000,
            ..FetchOptions::default()
        };
        let fetcher = Fetcher::new(Arc::new(memory), None, options);
        for hash in &objects {
            fetcher.read(&piece(*hash, 10_000, 0..1)).await.unwrap();
        }
        let kept = fetcher.shared().scheduler.kept_bytes();
        assert!((100_000..=200_000).contains(&kept), "{kept}");
        // The newest is kept, however little it was asked for.
        assert!(cached(&fetcher, &piece(objects[99], 10_000, 0..1)).is_some());
    }

    #[tokio::test]
    async fn what_is_under_way_stays_within_its_bound() {
        let memory = MemoryStore::new();
        let objects: Vec<_> = (0..8_u8).map(|i| memory.insert(vec![i; 10_240])).collect();
        let store = Arc::new(RecordStore::new(Arc::new(memory)));
        let options = FetchOptions {
            memory_bytes: 22 << 10,
            ..FetchOptions::default()
        };
        let fetcher = Arc::new(Fetcher::new(Arc::clone(&store) as _, None, options));
        let hold = store.hold(CallKind::Get);
        let readers: Vec<_> = objects
            .into_iter()
            .map(|hash| {
                let fetcher = Arc::clone(&fetcher);
                tokio::spawn(async move { fetcher.read(&piece(hash, 10_240, 0..1)).await })
            })
            .collect();
        store.wait_in_flight(CallKind::Get, 2).await;
        tokio::task::yield_now().await;
        assert_eq!(store.in_flight(CallKind::Get), 2);
        drop(hold);
        for reader in readers {
            reader.await.unwrap().unwrap();
        }
    }
}
