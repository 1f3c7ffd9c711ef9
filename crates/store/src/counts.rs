//! What everything counts with: numbers that many threads add to, and how long things took.
//!
//! A mount's counts are added to where things happen, on the threads that serve the kernel too, and are read for reports
//! alone. So no order is asked of them, a reader may see one number a moment older than another, and adding
//! costs a few relaxed atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that many threads add to.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The first bucket has everything below 2^10 ns.
const FIRST_BITS: u32 = 10;
/// The last bucket has everything from 2^37 ns on: 137 s, longer than any operation may take.
const LAST_BITS: u32 = 37;
/// Buckets for each doubling: a time is known to a quarter.
const PARTS: usize = 4;
const BUCKETS: usize = (LAST_BITS - FIRST_BITS) as usize * PARTS + 2;

/// How long many things took, in buckets that are a quarter of a doubling wide.
#[derive(Debug)]
pub struct Latencies {
    buckets: [Count; BUCKETS],
    nanos: Count,
    longest: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Count::default()),
            nanos: Count::default(),
            longest: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    /// Something took so long.
    pub fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)].add(1);
        self.nanos.add(nanos);
        // Written by few: a longest time is rare.
        if self.longest.load(Ordering::Relaxed) < nanos {
            self.longest.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    /// What has been counted so far.
    pub fn so_far(&self) -> LatencyCounts {
        let buckets: Vec<u64> = self.buckets.iter().map(Count::get).collect();
        LatencyCounts {
            count: buckets.iter().sum(),
            total: Duration::from_nanos(self.nanos.get()),
            longest: Duration::from_nanos(self.longest.load(Ordering::Relaxed)),
            buckets,
        }
    }
}

fn bucket_of(nanos: u64) -> usize {
    let Some(bits) = nanos.checked_ilog2().filter(|bits| *bits >= FIRST_BITS) else {
        return 0;
    };
    if bits >= LAST_BITS {
        return BUCKETS - 1;
    }
    let part = (nanos >> (bits - 2)) as usize % PARTS;
    1 + (bits - FIRST_BITS) as usize * PARTS + part
}

/// The times in a bucket are shorter than this; nothing is said of the last one.
fn end_of(bucket: usize) -> Option<Duration> {
    let Some(above) = bucket.checked_sub(1) else {
        return Some(Duration::from_nanos(1 << FIRST_BITS));
    };
    let (bits, part) = (above / PARTS, (above % PARTS) as u64);
    let quarter = 1_u64 << (bits as u32 + FIRST_BITS - 2);
    (bucket < BUCKETS - 1).then(|| Duration::from_nanos(quarter * (PARTS as u64 + part + 1)))
}

/// What [`Latencies`] counted up to a moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatencyCounts {
    /// How many things.
    pub count: u64,
    /// How long all of them took together.
    pub total: Duration,
    /// How long the longest took.
    pub longest: Duration,
    buckets: Vec<u64>,
}

impl LatencyCounts {
    /// The time within which this share (from 0 to 1) of the things was done; up to a quarter too long, and never longer than the
    /// longest. Nothing if there were none.
    pub fn within(&self, share: f64) -> Option<Duration> {
        let wanted = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(end_of(bucket).map_or(self.longest, |end| end.min(self.longest)))
    }

    /// How many took less than 2^10, 2^12, 2^14 .. ns and no less than the step before; the last step has no end.
    pub fn steps(&self) -> Vec<(Option<Duration>, u64)> {
        let mut since = 0;
        let mut steps = Vec::new();
        for (bucket, count) in self.buckets.iter().enumerate() {
            since += count;
            let end = end_of(bucket);
            if bucket % (2 * PARTS) == 0 || end.is_none() {
                steps.push((end, std::mem::take(&mut since)));
            }
        }
        steps
    }
}

/// A kind of request to a store, as they are priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// Read an object or a manifest, or a part of it.
    Get,
    /// Ask what is there without reading it.
    Head,
    /// Write an object, a manifest, or a part of an upload.
    Put,
    /// List names.
    List,
    /// Begin or end an upload in parts.
    Post,
    /// Give an upload up.
    Delete,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Get,
        Self::Head,
        Self::Put,
        Self::List,
        Self::Post,
        Self::Delete,
    ];

    /// Its name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::List => "list",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }
}

/// Counts the requests of an open store.
#[derive(Debug, Default)]
pub struct Requests {
    made: [Count; RequestKind::ALL.len()],
    retries: Count,
}

impl Requests {
    /// A request is made, for the first time or again.
    pub fn note(&self, kind: RequestKind) {
        self.made[kind as usize].add(1);
    }

    /// A request failed and will be made again.
    pub fn note_retry(&self) {
        self.retries.add(1);
    }

    /// What has been counted so far.
    pub fn so_far(&self) -> RequestCounts {
        RequestCounts {
            made: std::array::from_fn(|kind| self.made[kind].get()),
            retries: self.retries.get(),
        }
    }
}

/// The requests of an open store up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestCounts {
    made: [u64; RequestKind::ALL.len()],
    /// Requests that were made again after they had failed; each is counted by its kind too.
    pub retries: u64,
}

impl RequestCounts {
    /// Requests of a kind, repeated ones included.
    pub fn of(&self, kind: RequestKind) -> u64 {
        self.made[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_below_the_end_of_its_bucket_and_not_below_the_one_before() {
        let mut times: Vec<u64> = (0..64).map(|bits| 1 << bits).collect();
        times.extend((0..64).map(|bits| (1_u64 << bits) - 1));
        times.extend((0..62).map(|bits| (5_u64 << bits) + 1));
        for nanos in times {
            let (bucket, time) = (bucket_of(nanos), Duration::from_nanos(nanos));
            assert!(end_of(bucket).is_none_or(|end| time < end), "{nanos}");
            let before = bucket.checked_sub(1).and_then(end_of);
            assert!(before.is_none_or(|end| time >= end), "{nanos}");
        }
    }

    #[test]
    fn percentiles_are_at_most_a_quarter_too_long() {
        let latencies = Latencies::default();
        for micros in 1..=1000 {
            latencies.add(Duration::from_micros(micros));
        }
        let counts = latencies.so_far();
        assert_eq!(counts.count, 1000);
        assert_eq!(counts.total, Duration::from_micros(500_500));
        for (share, exact) in [(0.5, 500), (0.99, 990), (1.0, 1000)] {
            let found = counts.within(share).unwrap();
            let exact = Duration::from_micros(exact);
            assert!(
                exact <= found && found <= exact * 5 / 4,
                "{share}: {found:?}"
            );
        }
        assert_eq!(counts.longest, Duration::from_millis(1));
    }

    #[test]
    fn nothing_took_no_time_at_all() {
        let counts = Latencies::default().so_far();
        assert_eq!((counts.count, counts.within(0.5)), (0, None));
    }

    #[test]
    fn what_takes_longer_than_all_buckets_is_counted_by_the_longest() {
        let latencies = Latencies::default();
        latencies.add(Duration::from_hours(1));
        let counts = latencies.so_far();
        assert_eq!(counts.within(0.5), Some(Duration::from_hours(1)));
        let steps = counts.steps();
        let (last, others) = steps.split_last().unwrap();
        assert_eq!(*last, (None, 1));
        assert!(others.iter().all(|(_, count)| *count == 0));
    }

    #[test]
    fn a_step_is_four_times_as_long_as_the_one_before() {
        let latencies = Latencies::default();
        for micros in [0, 1, 3, 9, 100_000] {
            latencies.add(Duration::from_micros(micros));
        }
        let steps = latencies.so_far().steps();
        let first = [(1024, 2), (4096, 1), (16_384, 1)];
        let first = first.map(|(nanos, count)| (Some(Duration::from_nanos(nanos)), count));
        assert_eq!(steps[..3], first);
        assert_eq!(steps.iter().map(|(_, count)| count).sum::<u64>(), 5);
    }

    #[test]
    fn requests_are_counted_by_kind() {
        let requests = Requests::default();
        requests.note(RequestKind::Get);
        requests.note(RequestKind::Get);
        requests.note(RequestKind::List);
        requests.note_retry();
        let counts = requests.so_far();
        let of = RequestKind::ALL.map(|kind| counts.of(kind));
        assert_eq!((of, counts.retries), ([2, 0, 0, 1, 0, 0], 1));
    }
}
