//! Reads put together: reads of an object that follow each other are one run, and what was read before adds nothing.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use attachfs_manifest::ContentHash;

use super::format::{MOST_RANGES, Trace, TracedRange};
use super::ranges::gaps;

/// No run is longer, in bytes: the parts of a long file that is read in order have times of their own.
const LONGEST_RUN: u64 = 64 << 20;

/// What was read so far.
#[derive(Debug)]
pub(super) struct Runs {
    objects: HashMap<ContentHash, Ranges>,
    /// How many there are.
    count: usize,
    most: usize,
    /// The number of the next run.
    next: u64,
    dropped: u64,
}

/// The runs of an object by their beginnings. They do not overlap.
type Ranges = BTreeMap<u64, Run>;

#[derive(Debug, Clone, Copy)]
struct Run {
    end: u64,
    /// The order of first reads.
    number: u64,
    after: Duration,
}

impl Run {
    fn earlier(self, other: Self) -> Self {
        if other.number < self.number {
            Self {
                end: self.end,
                ..other
            }
        } else {
            self
        }
    }
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            objects: HashMap::new(),
            count: 0,
            most: MOST_RANGES,
            next: 0,
            dropped: 0,
        }
    }
}

impl Runs {
    /// Adds a read.
    pub(super) fn add(&mut self, hash: ContentHash, range: Range<u64>, after: Duration) {
        if self.count >= self.most && !self.objects.contains_key(&hash) {
            self.dropped += u64::from(!range.is_empty());
            return;
        }
        let runs = self.objects.entry(hash).or_default();
        let mut dropped = false;
        for gap in gaps(runs, |run| run.end, &range) {
            let run = Run {
                end: gap.end,
                number: self.next,
                after,
            };
            self.next += 1;
            let may_grow = self.count < self.most;
            match place(runs, gap.start, run, may_grow) {
                Some(more) => self.count = self.count.saturating_add_signed(more),
                None => dropped = true,
            }
        }
        self.dropped += u64::from(dropped);
    }

    /// The trace of them, in which `dropped` further reads are missing.
    pub(super) fn into_trace(self, dropped: u64) -> Trace {
        let of_object = |(hash, runs): (ContentHash, Ranges)| {
            runs.into_iter().map(move |(start, run)| (hash, start, run))
        };
        let mut all: Vec<_> = self.objects.into_iter().flat_map(of_object).collect();
        all.sort_unstable_by_key(|(_, _, run)| run.number);
        let range = |(hash, start, run): (ContentHash, u64, Run)| TracedRange {
            hash,
            range: start..run.end,
            after: run.after,
        };
        Trace {
            ranges: all.into_iter().map(range).collect(),
            dropped: self.dropped + dropped,
        }
    }
}

/// Adds a run to a range without runs, and joins it with its neighbours. Returns by how much the number of runs changed; `None`, and
/// nothing is added, if it would grow and may not.
fn place(runs: &mut Ranges, mut start: u64, mut run: Run, may_grow: bool) -> Option<isize> {
    let mut more = 1;
    let before = runs.range(..start).next_back();
    if let Some((&first, &before)) = before
        && before.end == start
        && run.end - first <= LONGEST_RUN
    {
        runs.remove(&first);
        (start, run) = (first, run.earlier(before));
        more -= 1;
    }
    if let Some(&next) = runs.get(&run.end)
        && next.end - start <= LONGEST_RUN
    {
        runs.remove(&run.end);
        run = run.earlier(next);
        run.end = next.end;
        more -= 1;
    }
    if more > 0 && !may_grow {
        return None;
    }
    runs.insert(start, run);
    Some(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u8) -> ContentHash {
        ContentHash::from_bytes([number; 16])
    }

    /// Reads of objects, each a second after the one before, as the trace has them.
    fn traced(reads: &[(u8, Range<u64>)]) -> Vec<(u8, Range<u64>, u64)> {
        let mut runs = Runs::default();
        for (after, (object, range)) in (0..).zip(reads) {
            runs.add(hash(*object), range.clone(), Duration::from_secs(after));
        }
        let count = runs.count;
        let trace = runs.into_trace(0);
        assert_eq!(count, trace.ranges.len());
        let shown = |of: TracedRange| (of.hash.as_bytes()[0], of.range, of.after.as_secs());
        trace.ranges.into_iter().map(shown).collect()
    }

    #[test]
    fn reads_in_order_are_one_run_whatever_is_read_between_them() {
        let reads = [(1, 0..10), (2, 5..6), (1, 10..20), (2, 6..9), (1, 20..21)];
        assert_eq!(traced(&reads), [(1, 0..21, 0), (2, 5..9, 1)]);
        let backward = [(1, 20..30), (2, 0..1), (1, 10..20), (1, 0..10)];
        assert_eq!(traced(&backward), [(1, 0..30, 0), (2, 0..1, 1)]);
        let joined = [(1, 20..30), (1, 0..10), (1, 10..20)];
        assert_eq!(traced(&joined), [(1, 0..30, 0)]);
    }

    #[test]
    fn what_was_read_before_adds_nothing() {
        let reads = [
            (1, 10..20),
            (1, 10..20),
            (1, 12..15),
            (1, 40..50),
            (1, 0..60),
        ];
        assert_eq!(traced(&reads), [(1, 0..60, 0)]);
        let apart = [(1, 0..10), (1, 20..30), (1, 20..21), (1, 5..8)];
        assert_eq!(traced(&apart), [(1, 0..10, 0), (1, 20..30, 1)]);
    }

    #[test]
    fn the_bytes_of_a_trace_are_those_that_were_read_each_once() {
        // A fixed sequence of numbers without a pattern.
        let mut seed = 1_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..200 {
            let reads: Vec<_> = (0..30)
                .map(|_| {
                    let start = next(100);
                    (1, start..start + 1 + next(20))
                })
                .collect();
            let mut left: Vec<u64> = reads.iter().flat_map(|(_, range)| range.clone()).collect();
            left.sort_unstable();
            left.dedup();
            let mut found: Vec<u64> = traced(&reads).into_iter().flat_map(|of| of.1).collect();
            found.sort_unstable();
            assert_eq!(found, left);
        }
    }

    #[test]
    fn a_long_run_is_cut() {
        let reads = [
            (1, 0..LONGEST_RUN),
            (2, 0..1),
            (1, LONGEST_RUN..LONGEST_RUN + 1),
        ];
        let expected = [
            (1, 0..LONGEST_RUN, 0),
            (2, 0..1, 1),
            (1, LONGEST_RUN..LONGEST_RUN + 1, 2),
        ];
        assert_eq!(traced(&reads), expected);
    }

    #[test]
    fn reads_that_are_too_many_are_counted_and_those_that_join_are_not_too_many() {
        let mut runs = Runs {
            most: 2,
            ..Runs::default()
        };
        let mut add = |object, range| runs.add(hash(object), range, Duration::ZERO);
        add(1, 0..1);
        add(2, 0..1);
        add(3, 0..1);
        add(1, 1..5);
        add(1, 7..8);
        assert_eq!(runs.objects.len(), 2, "what is dropped takes no memory");
        let trace = runs.into_trace(10);
        assert_eq!((trace.ranges.len(), trace.dropped), (2, 12));
        assert_eq!(trace.ranges[0].range, 0..5);
    }
}
