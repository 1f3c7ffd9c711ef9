//! What to fetch because earlier runs read it: a pure decision over traces and the objects of a mount.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use attachfs_manifest::{ContentHash, Piece};

use super::format::{Trace, TracedRange};
use super::ranges::RangeSet;
use crate::disk::UNIT;

/// No piece of a plan is longer, in bytes, unless it is a whole object.
const LONGEST_PIECE: u64 = 4 << 20;
/// If the traces name at least so many of 100 bytes of a mount, all of it is fetched.
const NEARLY_ALL: u64 = 90;

/// How objects are fetched.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions {
    /// Objects of up to so many bytes are fetched whole.
    pub whole_object_limit: u64,
}

/// What to fetch ahead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order. No byte is in two of them.
    pub pieces: Vec<Piece>,
    /// Whether the rest of the mount is to follow, because nearly all of it was read: then the pieces are whole objects.
    pub is_everything: bool,
    /// Ranges of objects that the mount does not show.
    pub unknown: u64,
}

/// An object of the mount that a trace names.
#[derive(Debug)]
struct Known {
    len: u64,
    /// How often the mount shows it.
    uses: u64,
    planned: RangeSet,
}

impl Plan {
    /// The plan for a mount that shows these objects, as often as it does, after runs with these traces. Ranges come in the order
    /// of the times at which some run read them first.
    pub fn new(
        traces: &[Trace],
        objects: impl Iterator<Item = (ContentHash, u64)>,
        options: PlanOptions,
    ) -> Self {
        let mut ranges: Vec<&TracedRange> = traces.iter().flat_map(|trace| &trace.ranges).collect();
        ranges.sort_by_key(|of| of.after);
        let (mut known, total) = find(&ranges, objects);
        let mut plan = Self::default();
        for of in ranges {
            let Some(Some(object)) = known.get_mut(&of.hash) else {
                plan.unknown += 1;
                continue;
            };
            let Some(range) = fetched(of, object.len, options) else {
                plan.unknown += 1;
                continue;
            };
            let new = object.planned.insert(range);
            plan.pieces.extend(new.into_iter().map(|range| Piece {
                hash: of.hash,
                object_len: object.len,
                range,
            }));
        }
        let planned: u128 = known
            .values()
            .flatten()
            .map(|of| u128::from(of.planned.bytes()) * u128::from(of.uses))
            .sum();
        plan.is_everything = planned > 0 && planned * 100 >= total * u128::from(NEARLY_ALL);
        let is_whole = |piece: &Piece| {
            let of = known.get(&piece.hash).and_then(Option::as_ref);
            plan.is_everything || of.is_some_and(|of| of.planned.bytes() == of.len)
        };
        plan.pieces = merged(&plan.pieces, is_whole);
        plan
    }
}

/// The objects of the mount that are named, and the bytes of all that it shows.
fn find(
    ranges: &[&TracedRange],
    objects: impl Iterator<Item = (ContentHash, u64)>,
) -> (HashMap<ContentHash, Option<Known>>, u128) {
    let mut known: HashMap<ContentHash, Option<Known>> =
        ranges.iter().map(|of| (of.hash, None)).collect();
    let mut total = 0;
    for (hash, len) in objects {
        total += u128::from(len);
        let Some(of) = known.get_mut(&hash) else {
            continue;
        };
        let of = of.get_or_insert(Known {
            len,
            uses: 0,
            planned: RangeSet::default(),
        });
        of.uses += 1;
    }
    (known, total)
}

/// The bytes that are fetched because of a range; `None` if the object has none of it.
fn fetched(of: &TracedRange, len: u64, options: PlanOptions) -> Option<Range<u64>> {
    if of.range.start >= len {
        return None;
    }
    if len <= options.whole_object_limit {
        return Some(0..len);
    }
    let start = of.range.start / UNIT * UNIT;
    let end = of.range.end.min(len).checked_next_multiple_of(UNIT);
    Some(start..end.unwrap_or(len).min(len))
}

/// The pieces, those of whole objects put together where the first of them is, and the others cut to the length of one request.
fn merged(pieces: &[Piece], is_whole: impl Fn(&Piece) -> bool) -> Vec<Piece> {
    let mut whole = HashSet::new();
    let mut all = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if is_whole(piece) {
            if whole.insert(piece.hash) {
                all.push(Piece {
                    range: 0..piece.object_len,
                    ..piece.clone()
                });
            }
            continue;
        }
        let mut start = piece.range.start;
        while start < piece.range.end {
            // Units stay whole: LONGEST_PIECE is a multiple of them.
            let end = (start + LONGEST_PIECE).min(piece.range.end);
            all.push(Piece {
                range: start..end,
                ..piece.clone()
            });
            start = end;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OPTIONS: PlanOptions = PlanOptions {
        whole_object_limit: 1000,
    };
    const LONG: u64 = 100 * UNIT + 7;

    fn hash(object: u8) -> ContentHash {
        ContentHash::from_bytes([object; 16])
    }

    fn trace(ranges: &[(u8, Range<u64>, u64)]) -> Trace {
        let range = |(object, range, after): &(u8, Range<u64>, u64)| TracedRange {
            hash: hash(*object),
            range: range.clone(),
            after: Duration::from_millis(*after),
        };
        Trace {
            ranges: ranges.iter().map(range).collect(),
            dropped: 0,
        }
    }

    /// The plan over objects 1 and 2 (short), 3 (long), and 9, which is longer than all of them.
    fn plan(traces: &[Trace]) -> Plan {
        let objects = [(1, 1000), (2, 10), (3, LONG), (9, 3 * LONG), (2, 10)];
        let objects = objects.into_iter().map(|(object, len)| (hash(object), len));
        Plan::new(traces, objects, OPTIONS)
    }

    fn shown(plan: &Plan) -> Vec<(u8, Range<u64>)> {
        let shown = |piece: &Piece| (piece.hash.as_bytes()[0], piece.range.clone());
        plan.pieces.iter().map(shown).collect()
    }

    #[test]
    fn what_runs_read_first_is_fetched_first_and_nothing_twice() {
        let first = trace(&[
            (3, 0..UNIT, 0),
            (1, 5..6, 20),
            (3, 5 * UNIT..5 * UNIT + 1, 40),
        ]);
        let second = trace(&[
            (2, 0..10, 10),
            (3, UNIT / 2..2 * UNIT + 1, 30),
            (1, 0..9, 50),
        ]);
        let plan = plan(&[first, second]);
        let expected = [
            (3, 0..UNIT),
            (2, 0..10),
            (1, 0..1000),
            (3, UNIT..3 * UNIT),
            (3, 5 * UNIT..6 * UNIT),
        ];
        assert_eq!(shown(&plan), expected);
        assert_eq!((plan.unknown, plan.is_everything), (0, false));
    }

    #[test]
    fn what_the_mount_does_not_show_is_left_out_and_counted() {
        let plan = plan(&[trace(&[
            (7, 0..1, 0),
            (2, 10..11, 1),
            (2, 9..u64::MAX, 2),
            (3, LONG - 1..u64::MAX, 3),
        ])]);
        assert_eq!(shown(&plan), [(2, 0..10), (3, 100 * UNIT..LONG)]);
        assert_eq!(plan.unknown, 2);
    }

    #[test]
    fn an_object_that_was_read_in_parts_and_wholly_is_fetched_as_one_and_long_parts_are_cut() {
        let half = 50 * UNIT;
        let whole = plan(&[trace(&[(3, half..LONG, 0), (2, 0..1, 1), (3, 0..half, 2)])]);
        assert_eq!(shown(&whole), [(3, 0..LONG), (2, 0..10)]);
        let part = plan(&[trace(&[(3, 0..LONG - 10 * UNIT, 0)])]);
        let lens: Vec<u64> = shown(&part)
            .iter()
            .map(|(_, range)| range.end - range.start)
            .collect();
        assert_eq!(lens[..2], [LONGEST_PIECE, LONGEST_PIECE]);
        assert_eq!(lens.iter().sum::<u64>(), 91 * UNIT);
    }

    #[test]
    fn everything_is_fetched_if_nearly_all_of_it_was_read() {
        let of_last = |bytes| trace(&[(1, 0..1, 0), (3, 0..LONG, 1), (9, 0..bytes, 2)]);
        let some = plan(&[of_last(LONG)]);
        assert!(!some.is_everything);
        let most = plan(&[of_last(3 * LONG - LONG / 5)]);
        assert!(most.is_everything);
        assert_eq!(shown(&most), [(1, 0..1000), (3, 0..LONG), (9, 0..3 * LONG)]);
        assert_eq!(plan(&[]), Plan::default());
        let empty = Plan::new(&[trace(&[(1, 0..1, 0)])], std::iter::empty(), OPTIONS);
        assert!(!empty.is_everything);
    }
}
