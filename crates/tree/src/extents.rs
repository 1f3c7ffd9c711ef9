//! Sets of byte ranges.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A set of byte offsets, kept as disjoint ranges that do not touch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExtentSet {
    /// Start to end.
    ranges: BTreeMap<u64, u64>,
}

impl ExtentSet {
    /// Adds a range, joining it with those it touches.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&s, &e)) = self.ranges.range(..=end).next_back() {
            if e < start {
                break;
            }
            start = start.min(s);
            end = end.max(e);
            self.ranges.remove(&s);
        }
        self.ranges.insert(start, end);
    }

    /// Takes out everything from `end` on.
    pub fn truncate(&mut self, end: u64) {
        self.ranges.split_off(&end);
        if let Some((_, last)) = self.ranges.iter_mut().next_back() {
            *last = (*last).min(end);
        }
    }

    /// The parts of the set that lie in `range`, in order.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let before = self
            .ranges
            .range(..range.start)
            .next_back()
            .filter(|&(_, &end)| end > range.start);
        let first = before.map_or(range.start, |(&start, _)| start);
        let first = first.min(range.end);
        self.ranges
            .range(first..range.end)
            .map(move |(&start, &end)| start.max(range.start)..end.min(range.end))
            .filter(|part| !part.is_empty())
    }

    /// Whether all of `range` is in the set.
    pub fn covers(&self, range: Range<u64>) -> bool {
        range.is_empty()
            || self
                .ranges
                .range(..=range.start)
                .next_back()
                .is_some_and(|(_, &end)| end >= range.end)
    }

    /// Behind its last offset; 0 if it is empty.
    pub fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Op {
        Insert(Range<u64>),
        Truncate(u64),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let range = (0..60u64, 0..20u64).prop_map(|(start, len)| Op::Insert(start..start + len));
        prop::collection::vec(
            prop_oneof![4 => range, 1 => (0..60u64).prop_map(Op::Truncate)],
            0..20,
        )
    }

    proptest! {
        #[test]
        fn a_set_of_extents_is_a_set_of_offsets(ops in ops(), query in (0..70u64, 0..20u64)) {
            let mut extents = ExtentSet::default();
            let mut model = [false; 100];
            for op in ops {
                match op {
                    Op::Insert(range) => {
                        model[range.start as usize..range.end as usize].fill(true);
                        extents.insert(range);
                    }
                    Op::Truncate(end) => {
                        model[end as usize..].fill(false);
                        extents.truncate(end);
                    }
                }
            }
            let query = query.0..query.0 + query.1;
            let mut found = [false; 100];
            let mut last_end = None;
            for part in extents.overlapping(query.clone()) {
                prop_assert!(last_end.is_none_or(|end| end < part.start), "parts touch");
                last_end = Some(part.end);
                found[part.start as usize..part.end as usize].fill(true);
            }
            for at in query.clone() {
                prop_assert_eq!(found[at as usize], model[at as usize], "offset {}", at);
            }
            let end = model.iter().rposition(|&is_in| is_in).map_or(0, |last| last as u64 + 1);
            prop_assert_eq!(extents.end(), end);
            prop_assert_eq!(extents.covers(query.clone()), query.clone().all(|at| model[at as usize]));
        }
    }
}
