//! What is asked of the store when files are read in all kinds of order. Counted in requests and bytes, on a clock that
//! stands still but for what the store takes.

use std::num::NonZeroU64;
use std::time::Duration;

use attachfs_manifest::{ChunkSize, ContentHash, Hasher};
use attachfs_store::fault::{Fault, FaultStore, Rule};
use attachfs_store::record::RecordStore;
use attachfs_store::{CallKind, DirectoryStore, MemoryStore, Store, data_key};
use bytes::Bytes;

use super::*;
use crate::{FetchOptions, Fetcher, FileRead, FileReader};

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// The hash of so many zeros.
fn hash_of_zeros(len: u64) -> ContentHash {
    let mut hasher = Hasher::new();
    hasher.update_zeros(len);
    hasher.finish()
}

/// A file of zeros that is one object, in a store that takes 20 ms to answer.
struct Far {
    store: Arc<RecordStore>,
    fetcher: Fetcher,
    len: u64,
}

impl Far {
    fn new(len: u64) -> Self {
        Self::with(len, FetchOptions::default())
    }

    fn with(len: u64, options: FetchOptions) -> Self {
        let delay = Fault::Delay(Duration::from_millis(20));
        Self::over(len, options, delay)
    }

    fn over(len: u64, options: FetchOptions, fault: Fault) -> Self {
        let memory = MemoryStore::new();
        memory.insert_as(hash_of_zeros(len), vec![0; len as usize]);
        Self::in_store(Arc::new(memory), len, options, fault)
    }

    fn in_store(store: Arc<dyn Store>, len: u64, options: FetchOptions, fault: Fault) -> Self {
        let faults = FaultStore::new(store);
        faults.add(Rule::on(CallKind::Get, fault));
        let store = Arc::new(RecordStore::new(Arc::new(faults)));
        let fetcher = Fetcher::new(Arc::clone(&store) as _, None, options);
        Self {
            store,
            fetcher,
            len,
        }
    }

    fn open(&self) -> FileReader {
        let hashes = [hash_of_zeros(self.len)];
        let layout = ChunkLayout::from_hashes(self.len, ChunkSize::WholeFile, &hashes);
        self.fetcher.open(&layout.unwrap())
    }

    /// Lets what was begun ask the store.
    async fn begin(&self) {
        for _ in 0..32 {
            tokio::task::yield_now().await;
        }
    }

    fn under_way(&self) -> usize {
        self.store.in_flight(CallKind::Get)
    }
}

/// Reads, and says whether that had to wait.
async fn read(reader: &FileReader, range: Range<u64>) -> bool {
    let len = range.end.min(reader.size()) - range.start;
    let (bytes, waited) = match reader.read(range) {
        FileRead::Ready(bytes) => (bytes, false),
        FileRead::Pending(read) => (read.bytes().await.unwrap(), true),
    };
    assert_eq!(bytes.len() as u64, len);
    waited
}

#[tokio::test(start_paused = true)]
async fn a_thousand_small_random_reads_fetch_their_units_and_no_more() {
    let far = Far::new(2 << 30);
    let reader = far.open();
    let mut random = 1_u64;
    for _ in 0..1000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let at = (random >> 33) % (2 << 30) / 4096 * 4096;
        read(&reader, at..at + 4096).await;
    }
    let bytes = far.store.bytes_read();
    assert!(bytes <= 128_000_000, "{bytes}");
    assert!(far.store.count(CallKind::Get) <= 1000);
}

#[tokio::test(start_paused = true)]
async fn a_lone_read_fetches_what_it_asks_for() {
    let far = Far::new(100 * MIB);
    read(&far.open(), 50 * MIB + 5..50 * MIB + 10).await;
    assert_eq!(far.store.bytes_read(), 128 * KIB);
}

#[tokio::test(start_paused = true)]
async fn a_reader_in_order_soon_has_many_parts_under_way_and_fetches_nothing_twice() {
    let far = Far::new(512 * MIB);
    let reader = far.open();
    let (mut most, mut waits) = (0, 0);
    for at in (0..512 * MIB).step_by(MIB as usize) {
        waits += usize::from(read(&reader, at..at + MIB).await);
        far.begin().await;
        most = most.max(far.under_way());
    }
    assert!(most >= 16, "{most} parts at once");
    assert!(waits <= 100, "{waits} of 512 reads waited");
    assert_eq!(far.store.bytes_read(), 512 * MIB);
    let requests = far.store.count(CallKind::Get);
    assert!(requests <= 200, "{requests} requests");
}

#[tokio::test(start_paused = true)]
async fn few_parts_are_under_way_at_once_if_the_store_is_fastest_with_few() {
    let dir = tempfile::tempdir().unwrap();
    let directory = DirectoryStore::create(dir.path()).unwrap();
    directory.staging().unwrap();
    let key = data_key(hash_of_zeros(512 * MIB));
    let object = std::fs::File::create(dir.path().join(key)).unwrap();
    object.set_len(512 * MIB).unwrap();
    let delay = Fault::Delay(Duration::from_millis(20));
    let options = FetchOptions::default();
    let far = Far::in_store(Arc::new(directory), 512 * MIB, options, delay);
    let reader = far.open();
    let mut most = 0;
    for at in (0..512 * MIB).step_by(MIB as usize) {
        read(&reader, at..at + MIB).await;
        far.begin().await;
        most = most.max(far.under_way());
    }
    // One more while the parts become longer.
    assert!(most <= 3, "{most} parts at once");
    assert_eq!(far.store.bytes_read(), 512 * MIB);
    let requests = far.store.count(CallKind::Get);
    assert!(requests <= 140, "{requests} requests");
}

#[tokio::test(start_paused = true)]
async fn small_reads_in_order_are_joined_to_long_requests() {
    let far = Far::new(64 * MIB);
    let reader = far.open();
    for at in (0..64 * MIB).step_by(64 << 10) {
        read(&reader, at..at + 64 * KIB).await;
    }
    assert_eq!(far.store.bytes_read(), 64 * MIB);
    let requests = far.store.count(CallKind::Get);
    assert!(requests <= 64, "{requests} requests for 1024 reads");
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_kernel_that_come_in_another_order_are_read_ahead_too() {
    let far = Far::new(128 * MIB);
    let reader = far.open();
    let mut waits = 0;
    for four in (0..128).step_by(4) {
        for at in [1, 0, 3, 2].map(|i| (four + i) * MIB) {
            waits += usize::from(read(&reader, at..at + MIB).await);
        }
    }
    assert!(waits <= 40, "{waits} of 128 reads waited");
    assert_eq!(far.store.bytes_read(), 128 * MIB);
}

#[tokio::test(start_paused = true)]
async fn a_reader_from_the_end_is_read_ahead_of() {
    let far = Far::new(64 * MIB);
    let reader = far.open();
    let mut waits = 0;
    for at in (0..1024).rev().map(|i| i * 64 * KIB) {
        waits += usize::from(read(&reader, at..at + 64 * KIB).await);
    }
    assert!(waits <= 60, "{waits} of 1024 reads waited");
    assert_eq!(far.store.bytes_read(), 64 * MIB);
}

#[tokio::test(start_paused = true)]
async fn reads_in_equal_steps_are_read_ahead_of() {
    let far = Far::new(1 << 30);
    let reader = far.open();
    let mut waits = 0;
    for at in (0..1024 * MIB).step_by(10 << 20) {
        waits += usize::from(read(&reader, at..at + 4096).await);
    }
    assert!(waits <= 20, "{waits} of 103 reads waited");
    assert!(far.store.bytes_read() <= 103 * 2 * 128 * KIB);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_cancelled_when_the_file_is_closed() {
    let far = Far::new(256 * MIB);
    let reader = far.open();
    for at in (0..32 * MIB).step_by(MIB as usize) {
        read(&reader, at..at + MIB).await;
    }
    let _hold = far.store.hold(CallKind::Get);
    for at in (32 * MIB..64 * MIB).step_by(MIB as usize) {
        drop(reader.read(at..at + MIB));
    }
    far.store.wait_in_flight(CallKind::Get, 4).await;
    drop(reader);
    far.store.wait_idle(CallKind::Get).await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_cancelled_when_other_places_are_read() {
    let far = Far::new(1 << 30);
    let reader = far.open();
    for at in (0..32 * MIB).step_by(MIB as usize) {
        read(&reader, at..at + MIB).await;
    }
    let _hold = far.store.hold(CallKind::Get);
    for at in (32 * MIB..64 * MIB).step_by(MIB as usize) {
        drop(reader.read(at..at + MIB));
    }
    far.store.wait_in_flight(CallKind::Get, 4).await;
    // Not in equal steps.
    for at in [400, 203, 801, 550] {
        drop(reader.read(at * MIB..at * MIB + 1));
    }
    far.store.wait_idle(CallKind::Get).await;
}

#[tokio::test(start_paused = true)]
async fn over_a_narrow_way_no_more_is_fetched_ahead_than_comes_in_a_second() {
    let every = Duration::from_millis(100);
    let narrow = Fault::Trickle {
        piece: 100_000,
        every,
    };
    let far = Far::over(256 * MIB, FetchOptions::default(), narrow);
    let reader = far.open();
    for at in (0..8 * MIB).step_by(128 << 10) {
        read(&reader, at..at + 128 * KIB).await;
    }
    drop(reader);
    far.store.wait_idle(CallKind::Get).await;
    // Each connection gives a million bytes a second.
    let bytes = far.store.bytes_read();
    assert!(bytes <= 32 * MIB, "{bytes}");
}

#[tokio::test(start_paused = true)]
async fn without_prefetch_nothing_is_fetched_that_nobody_asked_for() {
    let options = FetchOptions {
        prefetch: Prefetch::Off,
        ..FetchOptions::default()
    };
    let far = Far::with(64 * MIB, options);
    let reader = far.open();
    for at in (0..16 * MIB).step_by(MIB as usize) {
        assert!(read(&reader, at..at + MIB).await);
        assert_eq!(far.under_way(), 0);
    }
    assert_eq!(far.store.bytes_read(), 16 * MIB);
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_ahead_stays_within_half_the_memory() {
    let options = FetchOptions {
        memory_bytes: 32 * MIB,
        ..FetchOptions::default()
    };
    let far = Far::with(512 * MIB, options);
    let reader = far.open();
    for at in (0..256 * MIB).step_by(MIB as usize) {
        read(&reader, at..at + MIB).await;
        far.begin().await;
        let ahead = far.store.bytes_read().saturating_sub(at + MIB);
        assert!(ahead <= 16 * MIB, "{ahead} at {at}");
    }
    far.store.wait_idle(CallKind::Get).await;
    assert_eq!(far.store.bytes_read() / MIB, 256 + 16);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_several_objects_is_read_ahead_across_their_borders() {
    let memory = MemoryStore::new();
    let hashes: Vec<_> = (0..4_u8)
        .map(|i| memory.insert(Bytes::from(vec![i; 16 << 20])))
        .collect();
    let faults = FaultStore::new(Arc::new(memory));
    let delay = Fault::Delay(Duration::from_millis(20));
    faults.add(Rule::on(CallKind::Get, delay));
    let store = Arc::new(RecordStore::new(Arc::new(faults)));
    let fetcher = Fetcher::new(Arc::clone(&store) as _, None, FetchOptions::default());
    let cut = ChunkSize::Bytes(NonZeroU64::new(16 * MIB).unwrap());
    let layout = ChunkLayout::from_hashes(64 * MIB, cut, &hashes).unwrap();
    let reader = fetcher.open(&layout);
    let mut waits = 0;
    for at in (0..64 * MIB).step_by(MIB as usize) {
        waits += usize::from(read(&reader, at..at + MIB).await);
    }
    assert!(waits <= 20, "{waits} of 64 reads waited");
    assert_eq!(store.bytes_read(), 64 * MIB);
}
