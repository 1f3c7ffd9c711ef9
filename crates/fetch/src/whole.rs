//! Small objects: fetched whole, and sound before anyone sees a byte.

use std::sync::Arc;

use attachfs_manifest::{ContentHash, Piece};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::memory::PartKey;
use crate::{FetchError, Fetcher};

/// Lets one thread at a time load an object from the disk cache, so that many that ask for it at once
/// read it once. Objects share locks; taken with no other lock held, and none is taken inside.
#[derive(Debug, Default)]
pub(crate) struct Loading([Mutex<()>; 32]);

impl Loading {
    fn of(&self, hash: ContentHash) -> &Mutex<()> {
        &self.0[usize::from(hash.as_bytes()[0]) % self.0.len()]
    }
}

impl Fetcher {
    pub(crate) fn whole_cached(&self, piece: &Piece) -> Option<Bytes> {
        let key = PartKey::whole(piece);
        if let Some(object) = self.memory.get(&key) {
            self.counts.memory_hits.add(1);
            return Some(object);
        }
        let disk = self.disk.as_ref()?;
        let _alone = self.loading.of(piece.hash).lock();
        if let Some(object) = self.memory.get(&key) {
            self.counts.memory_hits.add(1);
            return Some(object);
        }
        let object = disk.get(piece.hash, piece.object_len)?;
        self.counts.disk_hits.add(1);
        self.memory.insert(key, object.clone());
        Some(object)
    }

    pub(crate) async fn whole(&self, piece: &Piece) -> Result<Bytes, FetchError> {
        let key = PartKey::whole(piece);
        if let Some(object) = self.memory.get(&key) {
            self.counts.memory_hits.add(1);
            return Ok(object);
        }
        self.memory
            .get_or_fetch(key, self.fetch_whole(piece.hash, piece.object_len))
            .await
    }

    async fn fetch_whole(&self, hash: ContentHash, len: u64) -> Result<Bytes, FetchError> {
        if let Some(object) = self.load(hash, len).await {
            self.counts.disk_hits.add(1);
            return Ok(object);
        }
        let _held = self.in_flight.take(len).await;
        let part = self
            .store
            .get(hash, 0..len)
            .await
            .map_err(|error| self.store_failed(hash, error))?;
        self.outage.over();
        if part.object_len != len {
            return Err(self.wrong_length(hash, len, part.object_len));
        }
        if part.bytes.len() as u64 != len {
            return Err(self.wrong_length(hash, len, part.bytes.len() as u64));
        }
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
        Ok(part.bytes)
    }

    /// From the disk cache, off the runtime's own threads.
    async fn load(&self, hash: ContentHash, len: u64) -> Option<Bytes> {
        let disk = self.disk.as_ref()?;
        let disk = Arc::clone(disk);
        let loaded = tokio::task::spawn_blocking(move || disk.get(hash, len)).await;
        // The task ends early only when the runtime shuts down or the cache has a bug; in both cases
        // the store still has the object.
        loaded.unwrap_or_else(|error| {
            tracing::error!(%hash, %error, "reading the disk cache ended early");
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore, StoreError};

    use super::*;
    use crate::{FetchCounters, FetchOptions};

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
        assert!(fetcher.read_cached(&some).is_none());
        assert_eq!(fetcher.read(&some).await.unwrap(), "the");
        let others = piece(hash, TEXT.len(), 0..TEXT.len() as u64);
        assert_eq!(fetcher.read(&others).await.unwrap(), TEXT);
        assert_eq!(fetcher.read_cached(&some).unwrap(), "the");
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
        assert_eq!(fetcher.read_cached(&all).unwrap(), TEXT);
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
    async fn when_the_first_reader_goes_away_another_one_fetches() {
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
        assert_eq!(store.count(CallKind::Get), 2);
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
        let kept = fetcher.memory.bytes().await;
        assert!((100_000..=200_000).contains(&kept), "{kept}");
        // The newest is kept, however little it was asked for.
        assert!(
            fetcher
                .read_cached(&piece(objects[99], 10_000, 0..1))
                .is_some()
        );
    }

    #[tokio::test]
    async fn what_is_under_way_stays_within_its_bound() {
        let memory = MemoryStore::new();
        let objects: Vec<_> = (0..8_u8).map(|i| memory.insert(vec![i; 10_240])).collect();
        let store = Arc::new(RecordStore::new(Arc::new(memory)));
        let options = FetchOptions {
            in_flight_bytes: 20_480,
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
