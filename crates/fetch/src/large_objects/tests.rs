//! Large objects over a store in memory.

use std::time::Duration;

use attachfs_manifest::ContentHash;
use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
use attachfs_store::record::RecordStore;
use attachfs_store::{Call, CallKind, MemoryStore};

use super::*;
use crate::scheduler::TOGETHER;
use crate::testing::cached;
use crate::{FetchOptions, Fetcher};

const UNIT: u64 = 4096;
const LEN: u64 = 3 * UNIT + 100;

fn bytes() -> Vec<u8> {
    (0..LEN).map(|i| (i / 7) as u8).collect()
}

fn options() -> FetchOptions {
    FetchOptions {
        whole_object_limit: 1000,
        unit_len: UNIT,
        least_rate: 50,
        ..FetchOptions::default()
    }
}

struct Long {
    memory: Arc<MemoryStore>,
    store: Arc<RecordStore>,
    fetcher: Arc<Fetcher>,
    hash: ContentHash,
}

impl Long {
    fn new() -> Self {
        let memory = Arc::new(MemoryStore::new());
        let hash = memory.insert(bytes());
        let store = Arc::new(RecordStore::new(Arc::clone(&memory) as _));
        let fetcher = Arc::new(Fetcher::new(Arc::clone(&store) as _, None, options()));
        Self {
            memory,
            store,
            fetcher,
            hash,
        }
    }

    fn piece(&self, range: Range<u64>) -> Piece {
        Piece {
            hash: self.hash,
            object_len: LEN,
            range,
        }
    }

    async fn read(&self, range: Range<u64>) -> Bytes {
        self.fetcher.read(&self.piece(range)).await.unwrap()
    }
}

#[tokio::test]
async fn any_range_is_what_the_object_has_there() {
    let (long, all) = (Long::new(), bytes());
    let edges = [
        0,
        1,
        UNIT - 1,
        UNIT,
        UNIT + 1,
        2 * UNIT,
        3 * UNIT,
        LEN - 1,
        LEN,
    ];
    for start in edges {
        for end in edges.into_iter().filter(|end| *end >= start) {
            let expected = &all[start as usize..end as usize];
            assert_eq!(long.read(start..end).await, expected, "{start}..{end}");
            let cached = cached(&long.fetcher, &long.piece(start..end)).unwrap();
            assert_eq!(cached, expected, "{start}..{end} from memory");
        }
    }
    assert_eq!(long.store.count(CallKind::Get), 4);
    assert_eq!(long.store.bytes_read(), LEN);
}

#[tokio::test]
async fn a_small_read_fetches_one_aligned_unit() {
    let long = Long::new();
    long.read(UNIT + 10..UNIT + 20).await;
    assert_eq!(
        long.store.calls(),
        [Call::Get {
            chunk: long.hash,
            range: UNIT..2 * UNIT
        }]
    );
    assert!(cached(&long.fetcher, &long.piece(UNIT..UNIT + 1)).is_some());
    assert!(cached(&long.fetcher, &long.piece(UNIT - 1..UNIT + 1)).is_none());
}

#[tokio::test]
async fn many_readers_of_a_unit_share_one_request() {
    let long = Long::new();
    let hold = long.store.hold(CallKind::Get);
    let readers: Vec<_> = (0..8)
        .map(|i| {
            let (fetcher, piece) = (Arc::clone(&long.fetcher), long.piece(i * 100..i * 100 + 1));
            tokio::spawn(async move { fetcher.read(&piece).await })
        })
        .collect();
    long.store.wait_in_flight(CallKind::Get, 1).await;
    drop(hold);
    for reader in readers {
        reader.await.unwrap().unwrap();
    }
    assert_eq!(long.store.count(CallKind::Get), 1);
}

#[tokio::test]
async fn an_object_of_another_length_is_refused() {
    for wrong in [LEN - 1, LEN + 1] {
        let long = Long::new();
        let mut object = bytes();
        object.resize(wrong as usize, 0);
        long.memory.insert_as(long.hash, object);
        let error = long.fetcher.read(&long.piece(0..1)).await.unwrap_err();
        assert!(
            matches!(error, FetchError::WrongLength { expected: LEN, found, .. } if found == wrong),
            "{error}"
        );
    }
}

#[tokio::test]
async fn units_of_a_replaced_object_are_forgotten() {
    let long = Long::new();
    long.read(0..1).await;
    // Another version with the same bytes.
    long.memory.insert_as(long.hash, bytes());
    // This read sees the first unit from memory and the second one from the new version.
    let expected = &bytes()[UNIT as usize - 1..=UNIT as usize];
    assert_eq!(long.read(UNIT - 1..UNIT + 1).await, expected);
    assert_eq!(long.fetcher.counters().versions_changed, 1);
    assert_eq!(asked(&long)[2], 0..LEN, "all of it is verified first");
}

/// A fetcher of one large object, over a store with faults.
fn with_faults(rules: impl IntoIterator<Item = Rule>) -> (Long, Arc<FaultStore>) {
    let memory = Arc::new(MemoryStore::new());
    let hash = memory.insert(bytes());
    let faults = Arc::new(FaultStore::new(Arc::clone(&memory) as _));
    rules.into_iter().for_each(|rule| faults.add(rule));
    let store = Arc::new(RecordStore::new(Arc::clone(&faults) as _));
    let fetcher = Arc::new(Fetcher::new(Arc::clone(&store) as _, None, options()));
    let long = Long {
        memory,
        store,
        fetcher,
        hash,
    };
    (long, faults)
}

fn asked(long: &Long) -> Vec<Range<u64>> {
    let calls = long.store.calls().into_iter();
    calls
        .filter_map(|call| match call {
            Call::Get { range, .. } => Some(range),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_read_over_several_units_is_one_request() {
    let long = Long::new();
    long.read(UNIT..UNIT + 1).await;
    long.read(0..LEN).await;
    assert_eq!(asked(&long), [UNIT..2 * UNIT, 0..UNIT, 2 * UNIT..LEN]);
}

#[tokio::test(start_paused = true)]
async fn a_unit_is_given_as_soon_as_its_bytes_are_here() {
    let every = Duration::from_secs(10);
    let piece = UNIT as usize;
    let trickle = Rule::on(CallKind::Get, Fault::Trickle { piece, every });
    let (long, _) = with_faults([trickle]);
    let all = long.piece(0..LEN);
    let fetcher = Arc::clone(&long.fetcher);
    let whole = tokio::spawn(async move { fetcher.read(&all).await });
    long.store.wait_in_flight(CallKind::Get, 1).await;
    let begun = tokio::time::Instant::now();
    long.read(0..1).await;
    assert_eq!(begun.elapsed(), every);
    assert_eq!(whole.await.unwrap().unwrap(), bytes());
    assert_eq!(begun.elapsed(), 4 * every);
    assert_eq!(asked(&long), vec![0..LEN; 1]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_asked_for_again_from_there() {
    let (long, faults) = with_faults([Rule::on(CallKind::Get, Fault::Break(5000)).times(2)]);
    assert_eq!(long.read(0..LEN).await, bytes());
    assert_eq!(faults.struck(), 2);
    assert_eq!(asked(&long), [0..LEN, 5000..LEN, 10_000..LEN]);
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_failure_is_kept() {
    let failure = Fault::Before(Failure::Unreachable);
    let (long, faults) = with_faults([
        Rule::on(CallKind::Get, Fault::Break(2 * UNIT as usize)).times(1),
        Rule::on(CallKind::Get, failure),
    ]);
    let all = long.piece(0..LEN);
    long.fetcher.read(&all).await.unwrap_err();
    faults.heal();
    assert_eq!(long.read(0..LEN).await, bytes());
    let last = asked(&long).pop().unwrap();
    assert_eq!(last, 2 * UNIT..LEN);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_at_once_again_and_again_is_given_up() {
    let (long, _) = with_faults([Rule::on(CallKind::Get, Fault::Break(0))]);
    let error = long.fetcher.read(&long.piece(0..1)).await.unwrap_err();
    assert!(matches!(error, FetchError::Store { .. }), "{error}");
    assert_eq!(long.store.count(CallKind::Get), 4);
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_that_keeps_moving_is_waited_for_longer_than_the_deadline() {
    // 8 bytes a second more than the least rate, and four times the deadline for all of it.
    let every = Duration::from_secs(1);
    let trickle = Fault::Trickle { piece: 58, every };
    let (long, _) = with_faults([Rule::on(CallKind::Get, trickle)]);
    let begun = tokio::time::Instant::now();
    assert_eq!(long.read(0..LEN).await, bytes());
    assert!(begun.elapsed() > 3 * options().deadline);
}

#[tokio::test(start_paused = true)]
async fn a_store_below_the_least_rate_is_given_up_and_what_came_is_kept() {
    let every = Duration::from_secs(1);
    let crawl = Fault::Trickle { piece: 42, every };
    let (long, faults) = with_faults([Rule::on(CallKind::Get, crawl).times(1)]);
    let fetcher = Fetcher::new(
        Arc::clone(&long.store) as _,
        None,
        FetchOptions {
            deadline: Duration::from_secs(200),
            ..options()
        },
    );
    let late = fetcher.read(&long.piece(0..LEN)).await.unwrap_err();
    assert!(matches!(late, FetchError::TimedOut { .. }), "{late}");
    assert_eq!(faults.struck(), 1);
    // 42 bytes a second for 200 seconds.
    let rest = long.piece(2 * UNIT..LEN);
    fetcher.read(&rest).await.unwrap_err();
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(fetcher.read(&long.piece(0..LEN)).await.unwrap(), bytes());
    assert_eq!(asked(&long), [0..LEN, 2 * UNIT..LEN]);
}

#[tokio::test(start_paused = true)]
async fn small_reads_over_a_narrow_way_fetch_little_and_all_succeed() {
    let every = Duration::from_secs(1);
    let narrow = Fault::Trickle { piece: 100, every };
    let (long, _) = with_faults([Rule::on(CallKind::Get, narrow)]);
    let reads = (0..24).map(|i| {
        let (fetcher, piece) = (Arc::clone(&long.fetcher), long.piece(i * 100..i * 100 + 4));
        async move { fetcher.read(&piece).await }
    });
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
    assert_eq!(long.store.bytes_read(), UNIT);
}

#[tokio::test(start_paused = true)]
async fn reads_in_line_do_not_time_out_while_others_move() {
    let every = Duration::from_secs(30);
    let piece = UNIT as usize;
    let slow = Fault::Trickle { piece, every };
    let (long, _) = with_faults([Rule::on(CallKind::Get, slow)]);
    let options = FetchOptions {
        max_requests: 2,
        ..options()
    };
    let fetcher = Arc::new(Fetcher::new(Arc::clone(&long.store) as _, None, options));
    let other = long.memory.insert(vec![7; LEN as usize]);
    // Eight requests of one unit each, two at a time: the last one waits for longer than the deadline.
    let reads = [long.hash, other].into_iter().flat_map(|hash| {
        let fetcher = &fetcher;
        (0..4).map(move |i| async move {
            let piece = Piece {
                hash,
                object_len: LEN,
                range: i * UNIT..i * UNIT + 1,
            };
            fetcher.read(&piece).await
        })
    });
    let begun = tokio::time::Instant::now();
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
    assert_eq!(begun.elapsed(), 4 * every);
}

#[tokio::test(start_paused = true)]
async fn reads_in_line_behind_a_store_that_hangs_time_out_with_it() {
    let (long, _) = with_faults([Rule::on(CallKind::Get, Fault::Hang)]);
    let options = FetchOptions {
        max_requests: 2,
        ..options()
    };
    let deadline = options.deadline;
    let fetcher = Arc::new(Fetcher::new(Arc::clone(&long.store) as _, None, options));
    let begun = tokio::time::Instant::now();
    let reads = (0..4).map(|i| {
        let (fetcher, piece) = (Arc::clone(&fetcher), long.piece(i * UNIT..i * UNIT + 1));
        async move { fetcher.read(&piece).await }
    });
    for read in futures::future::join_all(reads).await {
        assert!(matches!(read, Err(FetchError::TimedOut { .. })));
    }
    assert_eq!(begun.elapsed(), deadline);
}

/// Units of an object that is as long as two buffers in which units land together, and a bit longer, over a store that
/// is known to be fast.
async fn fast(rules: impl IntoIterator<Item = Rule>) -> (Long, Arc<FaultStore>, Vec<u8>) {
    let (mut long, faults) = with_faults(rules);
    let object: Vec<u8> = (0..2 * TOGETHER * UNIT + 100)
        .map(|i| (i / 5) as u8)
        .collect();
    long.hash = long.memory.insert(object.clone());
    let link = &long.fetcher.engine().link;
    link.came(1 << 30);
    tokio::time::advance(Duration::from_millis(100)).await;
    link.came(1 << 30);
    (long, faults, object)
}

fn of(long: &Long, object: &[u8], range: Range<u64>) -> Piece {
    Piece {
        hash: long.hash,
        object_len: object.len() as u64,
        range,
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_fast_lands_together_and_is_given_out_without_a_copy() {
    let (long, _, object) = fast([]).await;
    let all = of(&long, &object, 0..object.len() as u64);
    assert_eq!(long.fetcher.read(&all).await.unwrap(), object);
    let cached = |range: Range<u64>| {
        let bytes = cached(&long.fetcher, &of(&long, &object, range.clone())).unwrap();
        assert_eq!(bytes, object[range.start as usize..range.end as usize]);
        bytes
    };
    let buffer = TOGETHER * UNIT;
    let first = cached(0..1);
    assert_eq!(cached(0..buffer).as_ptr(), first.as_ptr());
    let within = cached(UNIT + 5..3 * UNIT + 7);
    assert_eq!(
        within.as_ptr().addr(),
        first.as_ptr().addr() + UNIT as usize + 5
    );
    // From two buffers, and with the units at the end that land alone.
    cached(buffer - 10..buffer + 10);
    cached(2 * buffer - 10..object.len() as u64);
}

#[tokio::test]
async fn what_comes_as_it_should_land_is_not_copied() {
    let (long, all) = (Long::new(), vec![7; (TOGETHER * UNIT) as usize]);
    let object = Bytes::from(all);
    let hash = long.memory.insert(object.clone());
    let piece = |range| Piece {
        hash,
        object_len: object.len() as u64,
        range,
    };
    let read = long.fetcher.read(&piece(0..object.len() as u64)).await;
    assert_eq!(read.unwrap().as_ptr(), object.as_ptr());
    // These are not all that is forgotten together, and would keep the rest in memory.
    let other = Long::new();
    other.memory.insert(object.clone());
    let read = other.fetcher.read(&piece(0..UNIT)).await;
    assert_ne!(read.unwrap().as_ptr(), object.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn units_of_a_buffer_that_was_not_filled_are_kept() {
    let came = (TOGETHER + 3) * UNIT + 50;
    let (long, faults, object) = fast([
        Rule::on(CallKind::Get, Fault::Break(came as usize)).times(1),
        Rule::on(CallKind::Get, Fault::Before(Failure::Unreachable)),
    ])
    .await;
    let len = object.len() as u64;
    let all = of(&long, &object, 0..len);
    long.fetcher.read(&all).await.unwrap_err();
    faults.heal();
    assert_eq!(long.fetcher.read(&all).await.unwrap(), object);
    assert_eq!(asked(&long).pop().unwrap(), (TOGETHER + 3) * UNIT..len);
}

#[tokio::test(start_paused = true)]
async fn units_of_a_buffer_are_kept_when_nobody_waits_for_the_rest() {
    let every = Duration::from_secs(1);
    let piece = UNIT as usize;
    let trickle = Rule::on(CallKind::Get, Fault::Trickle { piece, every });
    let (long, faults, object) = fast([trickle]).await;
    let len = object.len() as u64;
    let all = of(&long, &object, 0..len);
    let read = tokio::time::timeout(every * 7 / 2, long.fetcher.read(&all)).await;
    assert!(read.is_err(), "{every:?} a unit");
    long.store.wait_idle(CallKind::Get).await;
    faults.heal();
    assert_eq!(long.fetcher.read(&all).await.unwrap(), object);
    assert_eq!(asked(&long).pop().unwrap(), 3 * UNIT..len);
}
