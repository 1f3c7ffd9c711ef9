//! Small objects: fetched whole, and verified before a byte of them is given.
//!
//! ```text
//!     begin_small    in memory, or in the disk cache; else a PendingPiece
//!     from_small     starts the fetch, if no other read has, and waits for it
//!     fetch_whole    the disk cache, if that was not looked at; else room in the budget, fetch_range (range_fetch.rs),
//!                    the hash; then the disk cache keeps it
//! ```

use std::sync::Arc;

use attachfs_manifest::{ContentHash, Piece};
use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;

use crate::budget::SharedPriority;
use crate::disk::AtOnce;
use crate::fetcher::Engine;
use crate::patience::TooLate;
use crate::range_fetch::{ObjectRange, RangeEnd, RangeSink};
use crate::reader::{PendingPiece, PieceRead};
use crate::scheduler::{Fetched, FoundPart, Interest, Lead, Lookup, PartKey};
use crate::{FetchError, Priority};

/// What an object in memory costs beside its bytes, roughly. Of units it does not matter.
const ENTRY_OVERHEAD: u64 = 256;

impl Engine {
    /// Looks for the object in memory and, if no other read brings it, in the disk cache.
    pub(crate) fn begin_small(self: &Arc<Self>, piece: Piece, priority: Priority) -> PieceRead {
        let mut lookup = match self.find_small(&piece, priority) {
            Ok(object) => return self.hit(&object, &piece),
            Err(lookup) => lookup,
        };
        let Some(mut lead) = lookup.leads.pop() else {
            return self.pending(piece, priority, lookup, false);
        };
        let disk = self.disk.as_ref();
        let looked = disk.map_or(AtOnce::Absent, |disk| {
            disk.get_at_once(piece.hash, piece.object_len)
        });
        let AtOnce::Here(bytes) = looked else {
            lookup.leads.push(lead);
            let looks_on_disk = matches!(looked, AtOnce::Busy);
            return self.pending(piece, priority, lookup, looks_on_disk);
        };
        let fetched = self.loaded(bytes);
        let read = cut(&fetched.bytes.bytes(), &piece);
        lead.land(fetched);
        PieceRead::Ready(read)
    }

    /// As [`begin_small`](Self::begin_small), without looking on the disk.
    pub(crate) fn begin_small_in_memory(
        self: &Arc<Self>,
        piece: Piece,
        priority: Priority,
    ) -> PieceRead {
        match self.find_small(&piece, priority) {
            Ok(object) => self.hit(&object, &piece),
            Err(lookup) => self.pending(piece, priority, lookup, true),
        }
    }

    /// The object from memory, or the look-up that says whether another read brings it or this one is to.
    fn find_small(self: &Arc<Self>, piece: &Piece, priority: Priority) -> Result<Bytes, Lookup> {
        let mut lookup = self.scheduler.look_up([PartKey::whole(piece)], priority);
        match lookup.parts.pop() {
            Some(FoundPart::Here(object)) => Ok(object.bytes()),
            other => {
                lookup.parts.extend(other);
                Err(lookup)
            }
        }
    }

    fn hit(&self, object: &Bytes, piece: &Piece) -> PieceRead {
        self.counts.memory_hits.add(1);
        let bytes = cut(object, piece);
        self.counts.bytes_from_memory.add(bytes.len() as u64);
        PieceRead::Ready(bytes)
    }

    fn pending(
        self: &Arc<Self>,
        piece: Piece,
        priority: Priority,
        lookup: Lookup,
        looks_on_disk: bool,
    ) -> PieceRead {
        PieceRead::Pending(Box::new(PendingPiece {
            engine: Arc::clone(self),
            piece,
            priority,
            lookup,
            looks_on_disk,
            generation: 0,
        }))
    }
}

impl PendingPiece {
    /// Waits for a small object, and fetches it if no other read does.
    pub(crate) async fn from_small(mut self: Box<Self>) -> Result<Bytes, FetchError> {
        let (hash, len) = (self.piece.hash, self.piece.object_len);
        let runtime = self.engine.note_runtime();
        loop {
            let lookup = std::mem::take(&mut self.lookup);
            for lead in lookup.leads {
                let (engine, looks_on_disk) = (Arc::clone(&self.engine), self.looks_on_disk);
                lead.start(&runtime, async move |lead| {
                    engine.fetch_whole(lead, hash, len, looks_on_disk).await;
                });
            }
            for part in lookup.parts {
                match part {
                    FoundPart::Here(object) => return Ok(cut(&object.bytes(), &self.piece)),
                    FoundPart::Coming(waiting) => {
                        if let Some(outcome) = waiting.ended().await {
                            return outcome.map(|object| cut(&object.bytes(), &self.piece));
                        }
                    }
                }
            }
            self.looks_on_disk = true;
            let key = PartKey::whole(&self.piece);
            self.lookup = self.engine.scheduler.look_up([key], self.priority);
        }
    }
}

impl Engine {
    /// Brings an object to everybody who waits for it.
    async fn fetch_whole(
        self: &Arc<Self>,
        mut lead: Lead,
        hash: ContentHash,
        len: u64,
        looks_on_disk: bool,
    ) {
        match self
            .whole_object(&lead.priority(), hash, len, looks_on_disk)
            .await
        {
            Ok(fetched) => lead.land(fetched),
            Err(error) => lead.fail(&error),
        }
    }

    /// The object, verified: from the disk cache or the store.
    async fn whole_object(
        self: &Arc<Self>,
        priority: &SharedPriority,
        hash: ContentHash,
        len: u64,
        looks_on_disk: bool,
    ) -> Result<Fetched, FetchError> {
        let late = |_: TooLate| self.timed_out(hash);
        let mut patience = self.patience();
        if looks_on_disk {
            let loaded = patience.on_its_way(self.load_later(hash, len)).await;
            if let Some(object) = loaded.map_err(late)? {
                return Ok(object);
            }
        }
        let room = self.scheduler.room(len + ENTRY_OVERHEAD, priority);
        let held = patience.in_line(room).await.map_err(late)?;
        let wanted = ObjectRange {
            hash,
            object_len: len,
            range: 0..len,
        };
        let mut whole = Whole {
            len: len as usize,
            ..Whole::default()
        };
        loop {
            let end = self.fetch_range(&wanted, priority, &mut patience, &mut whole);
            match end.await? {
                RangeEnd::Complete => break,
                RangeEnd::Stopped if whole.restarts > MOST_RESTARTS => {
                    return Err(FetchError::Replaced { hash });
                }
                RangeEnd::Stopped => whole = whole.again(),
            }
        }
        let bytes = whole.bytes();
        let found = ContentHash::of(&bytes);
        if found != hash {
            self.counts.damaged.add(1);
            return Err(FetchError::Damaged { hash, found });
        }
        self.counts.objects_from_store.add(1);
        if let Some(disk) = &self.disk {
            disk.insert(hash, bytes.clone());
        }
        Ok(Fetched {
            bytes: bytes.into(),
            held: Some(held),
        })
    }

    /// Loads an object from the disk cache, off the runtime's own threads. `None` if it is not there or the disk does not
    /// answer.
    async fn load_later(&self, hash: ContentHash, len: u64) -> Option<Fetched> {
        let disk = self.disk.as_ref()?;
        let bytes = disk.ask(move |disk| disk.get(hash, len)).await??;
        Some(self.loaded(bytes))
    }

    fn loaded(&self, bytes: Bytes) -> Fetched {
        self.counts.disk_hits.add(1);
        self.counts.bytes_from_disk.add(bytes.len() as u64);
        let held = self.scheduler.room_now(bytes.len() as u64 + ENTRY_OVERHEAD);
        Fetched {
            bytes: bytes.into(),
            held,
        }
    }

    /// Whether a file of the disk cache has the name and the length of an object.
    pub(crate) async fn may_be_on_disk(&self, hash: ContentHash, len: u64) -> bool {
        let Some(disk) = &self.disk else {
            return false;
        };
        let looked = disk.ask(move |disk| disk.may_have(hash, len)).await;
        looked.unwrap_or(false)
    }

    /// Begins to fetch an object for a read that may come, unless it is in memory or in the disk cache. That goes on as
    /// long as the [`Interest`] lives.
    pub(crate) fn fetch_small_ahead(
        self: &Arc<Self>,
        runtime: &Handle,
        piece: &Piece,
        priority: Priority,
    ) -> Option<Interest> {
        let mut lookup = self.find_small(piece, priority).err()?;
        let lead = lookup.leads.pop()?;
        let interest = lead.interest();
        let (engine, hash, len) = (Arc::clone(self), piece.hash, piece.object_len);
        lead.start(runtime, async move |lead| {
            if !engine.may_be_on_disk(hash, len).await {
                engine.fetch_whole(lead, hash, len, false).await;
            }
        });
        Some(interest)
    }
}

impl Engine {
    /// Fetches an object that is not in the disk cache, behind everything that somebody waits for, and says how many bytes came
    /// that nobody else had or was fetching.
    pub(crate) async fn fetch_small_behind(
        self: &Arc<Self>,
        piece: &Piece,
    ) -> Result<u64, FetchError> {
        match self.begin_in_memory(piece.clone(), Priority::Prefetch) {
            PieceRead::Ready(_) => Ok(0),
            PieceRead::Pending(read) => {
                let leads = !read.lookup.leads.is_empty();
                let ours = leads.then_some(0..piece.object_len);
                let claim = self.unread.claim(piece.hash, ours);
                read.bytes().await?;
                Ok(claim.came())
            }
        }
    }
}

/// How often an object is begun again because it was replaced between two parts of it.
const MOST_RESTARTS: u32 = 3;

/// An object that is coming in.
#[derive(Default)]
struct Whole {
    len: usize,
    version: Option<Arc<str>>,
    /// All that came, if it came in one piece.
    first: Option<Bytes>,
    rest: BytesMut,
    restarts: u32,
}

impl Whole {
    fn again(self) -> Self {
        Self {
            len: self.len,
            restarts: self.restarts + 1,
            ..Self::default()
        }
    }

    fn bytes(self) -> Bytes {
        self.first.unwrap_or_else(|| self.rest.freeze())
    }
}

impl RangeSink for Whole {
    fn begins(&mut self, version: Option<Arc<str>>) -> bool {
        let goes_on = self.version.is_none() || self.version == version;
        self.version = version;
        goes_on
    }

    fn take(&mut self, bytes: Bytes) {
        if bytes.len() == self.len {
            self.first = Some(bytes);
            return;
        }
        if self.rest.is_empty() {
            self.rest.reserve(self.len);
        }
        self.rest.extend_from_slice(&bytes);
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
        assert!(fetcher.engine().scheduler.room_now(whole).is_some());
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
        let PieceRead::Pending(pending) = fetcher.begin(all, Priority::Read) else {
            panic!("it is nowhere yet");
        };
        // Whoever looks again finds it.
        objects.writer().write(*hash.as_bytes(), TEXT).unwrap();
        assert_eq!(pending.bytes().await.unwrap(), TEXT);
        assert_eq!(store.count(CallKind::Get), 1);
        assert_eq!(fetcher.counters().disk_hits, 0);
        // One look-up, and the landing of what was fetched.
        assert_eq!(fetcher.engine().scheduler.uses(), 2);
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
        let kept = fetcher.engine().scheduler.kept_bytes();
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
