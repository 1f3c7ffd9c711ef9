//! Verifying large objects over a store in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use attachfs_manifest::ChunkLayout;
use attachfs_manifest::ChunkSize;
use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
use attachfs_store::record::RecordStore;
use attachfs_store::{CallKind, MemoryStore, Store};
use parking_lot::Mutex;

use super::*;
use crate::large_objects::Serving;
use crate::{Doubt, FetchOptions, Fetcher, Prefetch};

const UNIT: u64 = 4096;
const UNITS: u64 = 40;
const LEN: u64 = UNITS * UNIT - 7;

fn bytes() -> Vec<u8> {
    (0..LEN).map(|i| (i / 11) as u8).collect()
}

struct Setup {
    memory: Arc<MemoryStore>,
    store: Arc<RecordStore>,
    fetcher: Arc<Fetcher>,
    hash: ContentHash,
    told: Arc<Mutex<Vec<Doubt>>>,
}

fn options() -> FetchOptions {
    FetchOptions {
        whole_object_limit: 1000,
        unit_len: UNIT,
        prefetch: Prefetch::Off,
        ..FetchOptions::default()
    }
}

impl Setup {
    fn new(options: FetchOptions) -> Self {
        let memory = Arc::new(MemoryStore::new());
        Self::over(Arc::clone(&memory), memory, options)
    }

    fn strict() -> Self {
        Self::new(FetchOptions {
            verifies_first: true,
            ..options()
        })
    }

    fn over(memory: Arc<MemoryStore>, below: Arc<dyn Store>, options: FetchOptions) -> Self {
        let hash = memory.insert(bytes());
        let store = Arc::new(RecordStore::new(below));
        let fetcher = Arc::new(Fetcher::new(Arc::clone(&store) as _, None, options));
        let told: Arc<Mutex<Vec<Doubt>>> = Arc::default();
        let hear = Arc::clone(&told);
        fetcher.on_doubt(move |doubt| Mutex::lock(&hear).push(*doubt));
        Self {
            memory,
            store,
            fetcher,
            hash,
            told,
        }
    }

    fn spoil(&self) -> ContentHash {
        let mut wrong = bytes();
        wrong[77] ^= 1;
        self.memory.insert_as(self.hash, wrong.clone());
        ContentHash::of(&wrong)
    }

    /// A new version with the right bytes.
    fn mend(&self) {
        self.memory.insert_as(self.hash, bytes());
    }

    fn piece(&self, range: Range<u64>) -> Piece {
        Piece {
            hash: self.hash,
            object_len: LEN,
            range,
        }
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, FetchError> {
        self.fetcher.read(&self.piece(range)).await
    }

    async fn read_unit(&self, unit: u64) -> Result<Bytes, FetchError> {
        self.read(unit * UNIT..((unit + 1) * UNIT).min(LEN)).await
    }

    /// Reads right bytes.
    async fn reads(&self, range: Range<u64>) {
        let read = self.read(range.clone()).await.unwrap();
        assert_eq!(read, bytes()[range.start as usize..range.end as usize]);
    }

    fn verified(&self) -> u64 {
        self.fetcher.counters().verified
    }

    /// How a reader hears that the object is wrong.
    #[track_caller]
    fn is_damaged(read: Result<Bytes, FetchError>, wrong: ContentHash) {
        match read {
            Err(FetchError::Damaged { found, .. }) => assert_eq!(found, wrong),
            other => panic!("{other:?}"),
        }
    }

    fn told(&self) -> Vec<(Option<ContentHash>, bool)> {
        let told = self.told.lock();
        told.iter()
            .map(|doubt| (doubt.found, doubt.was_given))
            .collect()
    }
}

#[tokio::test]
async fn the_reader_of_the_last_bytes_of_a_wrong_object_gets_an_error_and_so_do_all_after_it() {
    let setup = Setup::new(options());
    let wrong = setup.spoil();
    for unit in 0..UNITS - 1 {
        setup.read_unit(unit).await.unwrap();
    }
    assert!(setup.told().is_empty());
    Setup::is_damaged(setup.read_unit(UNITS - 1).await, wrong);
    Setup::is_damaged(setup.read_unit(0).await, wrong);
    assert_eq!(setup.told(), [(Some(wrong), true)]);
    assert_eq!(setup.fetcher.wrong_and_given().len(), 1);
    let counters = setup.fetcher.counters();
    assert_eq!((counters.wrong, counters.verified), (1, 0));
}

#[tokio::test]
async fn a_wrong_object_that_is_read_at_once_is_an_error() {
    let setup = Setup::new(options());
    let wrong = setup.spoil();
    Setup::is_damaged(setup.read(0..LEN).await, wrong);
}

/// The last bytes are in memory for others only once all bytes were hashed, which takes a while for a long unit.
#[test]
fn nobody_finds_the_last_bytes_of_a_wrong_object_in_memory() {
    let unit_len = 4 << 20;
    for _ in 0..10 {
        let memory = MemoryStore::new();
        let hash = ContentHash::of(b"another one");
        memory.insert_as(hash, vec![7; 2 * unit_len as usize]);
        let options = FetchOptions {
            unit_len,
            ..options()
        };
        let fetcher = Fetcher::new(Arc::new(memory), None, options);
        let piece = Piece {
            hash,
            object_len: 2 * unit_len,
            range: 0..2 * unit_len,
        };
        let engine = fetcher.engine();
        let known = engine.known.of(&piece);
        let last = PartKey::unit(&piece, 0, 1);
        let has_ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                while !has_ended.load(Ordering::Relaxed) {
                    // As a reader does.
                    let is_served = || known.serving() == (0, Serving::Now);
                    let is_given =
                        is_served() && engine.scheduler.kept(&last).is_some() && is_served();
                    assert!(!is_given);
                }
            });
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(fetcher.read(&piece)).unwrap_err();
            has_ended.store(true, Ordering::Relaxed);
            looks.join().unwrap();
        });
    }
}

#[tokio::test]
async fn an_object_is_verified_in_whatever_order_it_is_read() {
    let orders: [Vec<u64>; 3] = [
        (0..UNITS).collect(),
        (0..UNITS).rev().collect(),
        (0..UNITS).map(|i| i * 7 % UNITS).collect(),
    ];
    for order in orders {
        let setup = Setup::new(options());
        for unit in &order[1..] {
            setup.read_unit(*unit).await.unwrap();
        }
        assert_eq!(setup.verified(), 0);
        setup.read_unit(order[0]).await.unwrap();
        assert_eq!(setup.verified(), 1, "{order:?}");
        assert!(setup.told().is_empty());
    }
}

#[tokio::test]
async fn an_object_of_which_units_were_forgotten_before_they_could_be_hashed_is_read_again() {
    for is_right in [true, false] {
        let setup = Setup::new(FetchOptions {
            memory_bytes: 8 * UNIT,
            ..options()
        });
        let wrong = (!is_right).then(|| setup.spoil());
        for unit in (0..UNITS).rev() {
            setup.read_unit(unit).await.unwrap();
        }
        let decided = || {
            let counters = setup.fetcher.counters();
            counters.verified + counters.wrong == 1
        };
        for _ in 0..100_000 {
            if decided() {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(decided());
        if let Some(wrong) = wrong {
            assert_eq!(setup.told(), [(Some(wrong), true)]);
            Setup::is_damaged(setup.read_unit(3).await, wrong);
        } else {
            setup.reads(0..UNIT).await;
        }
    }
}

impl Setup {
    /// Another object of as many units.
    fn other(&self, content: u8) -> Piece {
        let bytes = vec![content; LEN as usize];
        Piece {
            hash: self.memory.insert(bytes),
            ..self.piece(0..LEN)
        }
    }

    /// Reads units, as a reader in order that passes them.
    async fn pass(&self, object: &Piece, units: Range<u64>) {
        for unit in units {
            let range = unit * UNIT..((unit + 1) * UNIT).min(LEN);
            let piece = Piece {
                range,
                ..object.clone()
            };
            self.fetcher.read(&piece).await.unwrap();
            self.fetcher.engine().forget_passed(&piece);
        }
    }
}

#[tokio::test]
async fn units_that_were_passed_before_they_could_be_hashed_are_not_fetched_twice() {
    let setup = Setup::new(FetchOptions {
        memory_bytes: 24 * UNIT,
        ..options()
    });
    let (object, other) = (setup.piece(0..LEN), setup.other(1));
    setup.pass(&object, 8..16).await;
    setup.pass(&other, 0..UNITS).await;
    setup.pass(&object, 0..8).await;
    setup.pass(&object, 16..UNITS).await;
    assert_eq!(setup.verified(), 2);
    assert_eq!(setup.store.bytes_read(), 2 * LEN);
}

#[tokio::test]
async fn units_that_were_passed_before_they_could_be_hashed_are_forgotten_first_afterwards() {
    let setup = Setup::new(FetchOptions {
        memory_bytes: 40 * UNIT,
        ..options()
    });
    let older = setup.other(1);
    for unit in 0..16 {
        let range = unit * UNIT..(unit + 1) * UNIT;
        let piece = Piece {
            range,
            ..older.clone()
        };
        setup.fetcher.read(&piece).await.unwrap();
    }
    setup.pass(&setup.piece(0..LEN), 8..16).await;
    setup.pass(&setup.piece(0..LEN), 0..8).await;
    let newer = Piece {
        range: 0..24 * UNIT,
        ..setup.other(2)
    };
    setup.fetcher.read(&newer).await.unwrap();
    let of_older = Piece {
        range: 0..16 * UNIT,
        ..older
    };
    assert!(crate::testing::cached(&setup.fetcher, &of_older).is_some());
}

/// The store is away when the object is read again to verify it, and comes back.
#[tokio::test(start_paused = true)]
async fn an_object_that_could_not_be_read_again_to_verify_it_is_tried_later() {
    let memory = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(Arc::clone(&memory) as _));
    let setup = Setup::over(
        memory,
        Arc::clone(&faults) as _,
        FetchOptions {
            memory_bytes: 8 * UNIT,
            ..options()
        },
    );
    for unit in (1..UNITS).rev() {
        setup.read_unit(unit).await.unwrap();
    }
    faults.add(Rule::always(Fault::Before(Failure::Unreachable)).after(1));
    setup.read_unit(0).await.unwrap();
    tokio::time::sleep(AGAIN_AFTER[0] / 2).await;
    let struck = faults.struck();
    assert!(struck > 0);
    tokio::time::sleep(AGAIN_AFTER[0]).await;
    assert!(faults.struck() > struck);
    assert_eq!(setup.verified(), 0);
    faults.heal();
    tokio::time::sleep(AGAIN_AFTER[1]).await;
    assert_eq!(setup.verified(), 1);
}

#[tokio::test]
async fn an_object_that_was_replaced_is_verified_before_more_of_it_is_given() {
    let setup = Setup::new(options());
    setup.reads(0..UNIT).await;
    setup.mend();
    setup.reads(9 * UNIT..10 * UNIT).await;
    assert_eq!(setup.verified(), 1);
    assert_eq!(setup.told(), [(None, true)]);
    setup.reads(0..LEN).await;
    assert!(setup.fetcher.wrong_and_given().is_empty());
}

#[tokio::test]
async fn nothing_is_given_of_a_wrong_object_in_the_place_of_another() {
    let setup = Setup::new(options());
    setup.reads(0..UNIT).await;
    let wrong = setup.spoil();
    Setup::is_damaged(setup.read_unit(30).await, wrong);
    assert_eq!(setup.told(), [(None, true), (Some(wrong), true)]);
}

#[tokio::test]
async fn a_strict_reader_gets_nothing_of_a_wrong_object() {
    let setup = Setup::strict();
    let wrong = setup.spoil();
    Setup::is_damaged(setup.read_unit(0).await, wrong);
    assert_eq!(setup.told(), [(Some(wrong), false)]);
    assert!(setup.fetcher.wrong_and_given().is_empty());
}

#[tokio::test]
async fn strict_readers_share_one_verification() {
    let setup = Arc::new(Setup::strict());
    let readers = (0..8).map(|unit| setup.read_unit(unit));
    for read in futures::future::join_all(readers).await {
        read.unwrap();
    }
    assert_eq!(setup.verified(), 1);
    assert_eq!(setup.store.bytes_read(), LEN);
}

#[tokio::test]
async fn a_strict_reader_reads_an_object_that_is_longer_than_the_memory_twice() {
    let setup = Setup::new(FetchOptions {
        verifies_first: true,
        memory_bytes: 8 * UNIT,
        ..options()
    });
    setup.reads(0..UNIT).await;
    setup.reads(0..4 * UNIT).await;
    assert_eq!(setup.verified(), 1);
    // The store has another version: what was verified says nothing about it.
    let wrong = setup.spoil();
    Setup::is_damaged(setup.read_unit(20).await, wrong);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_verification_that_hangs_wait_for_one_deadline() {
    let memory = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(Arc::clone(&memory) as _));
    faults.add(Rule::on(CallKind::Get, Fault::Hang));
    let strict = FetchOptions {
        verifies_first: true,
        ..options()
    };
    let deadline = strict.deadline;
    let setup = Setup::over(memory, faults, strict);
    let begun = tokio::time::Instant::now();
    let readers = (0..8).map(|unit| setup.read_unit(unit));
    for read in futures::future::join_all(readers).await {
        assert!(matches!(read, Err(FetchError::TimedOut { .. })), "{read:?}");
    }
    assert_eq!(begun.elapsed(), deadline);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_object_is_read_again_once_the_store_has_another_version_of_it() {
    let setup = Setup::new(options());
    let wrong = setup.spoil();
    Setup::is_damaged(setup.read(0..LEN).await, wrong);
    let hashes = [setup.hash];
    let layout = ChunkLayout::from_hashes(LEN, ChunkSize::WholeFile, &hashes).unwrap();
    assert!(setup.fetcher.refused(&layout).is_some());
    let calls = setup.store.count(CallKind::Get);
    Setup::is_damaged(setup.read_unit(0).await, wrong);
    assert_eq!(
        setup.store.count(CallKind::Get),
        calls,
        "it is known to be wrong"
    );
    tokio::time::advance(Duration::from_mins(1)).await;
    assert!(setup.fetcher.refused(&layout).is_none());
    Setup::is_damaged(setup.read_unit(0).await, wrong);
    assert_eq!(setup.store.count(CallKind::Get), calls + 1, "one byte");
    setup.mend();
    Setup::is_damaged(setup.read_unit(0).await, wrong);
    tokio::time::advance(Duration::from_mins(1)).await;
    setup.reads(0..UNIT).await;
    setup.reads(0..LEN).await;
    assert_eq!(setup.verified(), 1);
}
