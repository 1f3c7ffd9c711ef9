//! Sets of bytes of an object, as ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RangeSet {
    /// The ends of ranges by their beginnings. They neither overlap nor touch.
    ranges: BTreeMap<u64, u64>,
    bytes: u64,
}

impl RangeSet {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many bytes are in it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a range, and gives the parts of it that were not there.
    pub(super) fn insert(&mut self, range: Range<u64>) -> Vec<Range<u64>> {
        let gaps = gaps(&self.ranges, |&end| end, &range);
        for gap in &gaps {
            self.bytes += gap.end - gap.start;
            let (mut start, mut end) = (gap.start, gap.end);
            let before = self.ranges.range(..start).next_back();
            if let Some((&first, _)) = before.filter(|(_, end)| **end == gap.start) {
                start = first;
            }
            end = self.ranges.remove(&end).unwrap_or(end);
            self.ranges.insert(start, end);
        }
        gaps
    }

    /// Takes a range out, and says how many bytes of it were there.
    pub(super) fn remove(&mut self, range: &Range<u64>) -> u64 {
        let before = self.bytes;
        let first = self.ranges.range(..=range.start).next_back();
        let from = first.map_or(range.start, |(&start, _)| start);
        let touched: Vec<(u64, u64)> = self
            .ranges
            .range(from..range.end.max(from))
            .map(|(&start, &end)| (start, end))
            .collect();
        for (start, end) in touched {
            let taken = start.max(range.start)..end.min(range.end);
            if taken.is_empty() {
                continue;
            }
            self.ranges.remove(&start);
            self.bytes -= taken.end - taken.start;
            if start < taken.start {
                self.ranges.insert(start, taken.start);
            }
            if taken.end < end {
                self.ranges.insert(taken.end, end);
            }
        }
        before - self.bytes
    }
}

/// The parts of a range that are in none of these ranges, which begin at their keys and do not overlap.
pub(super) fn gaps<T>(
    ranges: &BTreeMap<u64, T>,
    end_of: impl Fn(&T) -> u64,
    range: &Range<u64>,
) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    if range.is_empty() {
        return gaps;
    }
    let before = ranges.range(..=range.start).next_back();
    let mut at = before.map_or(range.start, |(_, of)| end_of(of).max(range.start));
    for (&start, of) in ranges.range(range.start..range.end) {
        if start > at {
            gaps.push(at..start);
        }
        at = at.max(end_of(of));
    }
    if at < range.end {
        gaps.push(at..range.end);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_ranges_has_the_bytes_of_a_set_of_bytes() {
        // A fixed sequence of numbers without a pattern.
        let mut seed = 7_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut set = RangeSet::default();
        let mut bytes = std::collections::BTreeSet::new();
        for _ in 0..5000 {
            let start = next(60);
            let range = start..start + next(12);
            let (before, is_added) = (bytes.len() as u64, next(2) == 0);
            if is_added {
                let added: Vec<u64> = set.insert(range.clone()).into_iter().flatten().collect();
                let new: Vec<u64> = range.filter(|byte| bytes.insert(*byte)).collect();
                assert_eq!(added, new);
            } else {
                let removed = set.remove(&range);
                range.for_each(|byte| {
                    bytes.remove(&byte);
                });
                assert_eq!(removed, before - bytes.len() as u64);
            }
            let all = set.ranges.iter().flat_map(|(&start, &end)| start..end);
            assert!(all.eq(bytes.iter().copied()));
            assert_eq!(set.bytes(), bytes.len() as u64);
            let ends = set.ranges.values();
            assert!(!ends.clone().any(|end| set.ranges.contains_key(end)));
        }
    }
}
