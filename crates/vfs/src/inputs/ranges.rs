//! Which bytes of a file were read, in a bounded number of ranges.

use std::ops::Range;

/// Ranges of one file that are kept apart, at most.
const MOST: usize = 32;

/// Sorted ranges that neither overlap nor touch. When there are too many, the two that lie closest become one with what is
/// between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    parts: Vec<Range<u64>>,
    is_rough: bool,
}

impl Ranges {
    /// Adds a range. One that goes on where the last one ends, as most do, costs nothing.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some(last) = self.parts.last_mut()
            && (last.start..=last.end).contains(&range.start)
        {
            last.end = last.end.max(range.end);
            return;
        }
        let first = self.parts.partition_point(|part| part.end < range.start);
        let behind = self.parts.partition_point(|part| part.start <= range.end);
        match self.parts.get(first..behind) {
            Some([left, .., right]) => {
                let joined = left.start.min(range.start)..right.end.max(range.end);
                self.parts.splice(first..behind, [joined]);
            }
            Some([only]) => {
                self.parts[first] = only.start.min(range.start)..only.end.max(range.end);
            }
            Some([]) | None => {
                self.parts.insert(first, range);
                self.bound();
            }
        }
    }

    /// Adds all ranges of another file part.
    pub(crate) fn add_all(&mut self, other: Self) {
        self.is_rough |= other.is_rough;
        if self.parts.is_empty() {
            self.parts = other.parts;
        } else {
            for part in other.parts {
                self.add(part);
            }
        }
    }

    fn bound(&mut self) {
        if self.parts.len() <= MOST {
            return;
        }
        let gaps = self.parts.windows(2).enumerate();
        let closest = gaps.min_by_key(|(_, pair)| pair[1].start - pair[0].end);
        if let Some((at, _)) = closest {
            let right = self.parts.remove(at + 1);
            self.parts[at].end = right.end;
            self.is_rough = true;
        }
    }

    pub(crate) fn parts(&self) -> &[Range<u64>] {
        &self.parts
    }

    /// Whether bytes lie in these ranges that were not read.
    pub(crate) fn is_rough(&self) -> bool {
        self.is_rough
    }

    /// How many bytes lie in them.
    pub(crate) fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.end - part.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(parts: &[Range<u64>]) -> Ranges {
        let mut ranges = Ranges::default();
        for part in parts {
            ranges.add(part.clone());
        }
        ranges
    }

    #[test]
    fn a_file_that_is_read_in_order_is_one_range() {
        let ranges = of(&(0..100).map(|at| at * 10..at * 10 + 10).collect::<Vec<_>>());
        assert_eq!(ranges.parts(), std::slice::from_ref(&(0..1000)));
        assert_eq!((ranges.len(), ranges.is_rough()), (1000, false));
    }

    #[test]
    fn too_many_ranges_become_fewer_and_say_so() {
        let many: Vec<_> = (0..1000).map(|at| at * 10..at * 10 + 1).collect();
        let ranges = of(&many);
        assert_eq!(ranges.parts().len(), MOST);
        assert!(ranges.is_rough());
        let has = |byte: u64| ranges.parts().iter().any(|part| part.contains(&byte));
        assert!(many.iter().all(|part| has(part.start)));
    }

    proptest! {
        #[test]
        fn ranges_have_the_bytes_that_were_added_and_no_others(
            added in prop::collection::vec((0_u64..200, 0_u64..40), 0..24),
            split in 0_usize..24,
        ) {
            let added: Vec<_> = added.into_iter().map(|(from, len)| from..from + len).collect();
            let (one, other) = added.split_at(split.min(added.len()));
            let mut ranges = of(one);
            ranges.add_all(of(other));
            for byte in 0..250 {
                let expected = added.iter().any(|range| range.contains(&byte));
                let found = ranges.parts().iter().any(|part| part.contains(&byte));
                prop_assert_eq!(expected, found, "{}", byte);
            }
            let apart = ranges.parts().windows(2).all(|pair| pair[0].end < pair[1].start);
            prop_assert!(apart, "{:?}", ranges);
        }
    }
}
