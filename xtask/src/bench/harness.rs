//! Interleaved pairs: ours, then what it is compared with, n times; the result is the median of the pairs' ratios.
//!
//! A machine gets faster and slower over minutes, but hardly between two runs that follow each other: so a pair's ratio is worth
//! more than the ratio of two medians. The order within the pair changes every time, so that neither side always finds what the
//! other left behind. A bar is missed only beyond the spread: if even the best pair is on its wrong side. Memory has a bar of its own,
//! in bytes: what a program takes is not more or less on another machine, and the other side may take far too much.

use std::time::Duration;

use anyhow::{Context, Result};

use super::machine::{drop_caches, touch_and_free};
use super::stage::Set;
use super::{process, work};
use crate::peers::{Mounter, Peer, SetUp};

/// One line of the table.
pub(super) struct Row {
    pub(super) name: String,
    /// What `ours` does and what it is compared with, for the reader of the table.
    pub(super) compared: String,
    pub(super) page_cache: PageCache,
    /// The memory that one run uses, page cache included, in bytes; touched and freed before each run.
    pub(super) touches: u64,
    /// What has to be there before the first run.
    pub(super) needs: Vec<Set>,
    /// What the other side needs; without it there is no row.
    pub(super) rival: Option<Rival>,
    pub(super) ours: Side,
    pub(super) other: Side,
    /// The largest ratio of times, ours by the other's, that is good enough; nothing if there is no bar.
    pub(super) bar: Option<f64>,
    pub(super) memory: Memory,
}

/// A program that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rival {
    Library(Peer),
    Mounter(Mounter),
}

impl Rival {
    pub(super) fn set_up(self) -> Result<SetUp> {
        match self {
            Self::Library(peer) => peer.set_up(),
            Self::Mounter(mounter) => mounter.set_up(),
        }
    }
}

/// Which memory a row is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) amount: Amount,
    /// The most bytes of it, by ours, that are good enough; nothing if there is no bar.
    pub(super) bar: Option<u64>,
}

/// An amount of memory that a run may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    /// The most anonymous memory that the process had.
    Peak,
    /// The same without the text that the work is given, which has to be there in any case.
    OverText,
    /// What is kept of each entry when the work is done.
    EachEntry,
    /// Not memory: the bytes that a server sent for the work.
    Sent,
}

impl Memory {
    /// The peak, whatever it is.
    pub(super) const PEAK: Self = Self {
        amount: Amount::Peak,
        bar: None,
    };
}

/// Runs the work once. What has to be made before and removed after it is up to it, and not timed.
pub(super) type Side = Box<dyn FnMut() -> Result<Run>>;

/// The state in which a timed run finds the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageCache {
    Cold,
    /// As the run before left it.
    Warm,
}

/// What one timed run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) time: Duration,
    /// The row's [`Amount`], in bytes: the peak where nothing else is said.
    pub(super) memory: u64,
}

/// A row with its figures.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) compared: String,
    /// Median, in seconds.
    pub(super) ours: f64,
    /// Median, in seconds.
    pub(super) other: f64,
    pub(super) ratio: Spread,
    pub(super) bar: Option<f64>,
    /// Of our runs, in bytes.
    pub(super) our_memory: Spread,
    /// Of the other's runs, in bytes.
    pub(super) other_memory: Spread,
    pub(super) memory: Memory,
}

/// Middle, least and most of the same figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

/// From what need not be looked at to what has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    NoBar,
    Held,
    /// Over the bar, but not in all pairs.
    WithinSpread,
    Missed,
}

/// Runs `pairs` pairs, at least one.
pub(super) fn measure(mut row: Row, pairs: u32) -> Result<Measured> {
    let (mut ours, mut other) = (Vec::new(), Vec::new());
    for pair in 0..pairs.max(1) {
        let mut sides = [(&mut row.ours, &mut ours), (&mut row.other, &mut other)];
        if pair % 2 == 1 {
            sides.reverse();
        }
        for (side, runs) in sides {
            if row.page_cache == PageCache::Cold {
                drop_caches()?;
                // The program that does the work is not part of it.
                process::run(&mut work::command(["nothing"], &[]))?;
            }
            touch_and_free(row.touches)?;
            runs.push(side().with_context(|| format!("while measuring {}", row.name))?);
        }
    }
    let seconds = |runs: &[Run]| {
        let times = runs.iter().map(|run| run.time.as_secs_f64());
        times.collect::<Vec<_>>()
    };
    let memory = |runs: &[Run]| {
        let amounts = runs.iter().map(|run| run.memory as f64);
        Spread::of(amounts.collect())
    };
    let (our_times, other_times) = (seconds(&ours), seconds(&other));
    let ratios = our_times.iter().zip(&other_times).map(|(a, b)| a / b);
    Ok(Measured {
        name: row.name,
        compared: row.compared,
        ratio: Spread::of(ratios.collect()),
        ours: Spread::of(our_times).median,
        other: Spread::of(other_times).median,
        bar: row.bar,
        our_memory: memory(&ours),
        other_memory: memory(&other),
        memory: row.memory,
    })
}

impl Spread {
    /// Of at least one figure. The middle of an even number is the mean of the two in the middle.
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        Self {
            median: f64::midpoint(figures[(figures.len() - 1) / 2], figures[middle]),
            least: figures[0],
            most: figures[figures.len() - 1],
        }
    }
}

impl Measured {
    /// The worse of the two.
    pub(super) fn verdict(&self) -> Verdict {
        self.time_verdict().max(self.memory_verdict())
    }

    /// The median counts.
    pub(super) fn time_verdict(&self) -> Verdict {
        verdict(self.ratio.median, self.ratio.least, self.bar)
    }

    /// The largest amount counts: a program that is killed for its memory is not helped by the median.
    pub(super) fn memory_verdict(&self) -> Verdict {
        let Spread { least, most, .. } = self.our_memory;
        verdict(most, least, self.memory.bar.map(|bar| bar as f64))
    }
}

/// What counts must not be over the bar.
fn verdict(counts: f64, best: f64, bar: Option<f64>) -> Verdict {
    match bar {
        None => Verdict::NoBar,
        Some(bar) if counts <= bar => Verdict::Held,
        Some(bar) if best <= bar => Verdict::WithinSpread,
        Some(_) => Verdict::Missed,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    fn side(name: char, seconds: &'static [u64], order: &Rc<RefCell<String>>) -> Side {
        let mut seconds = seconds.iter().copied();
        let order = Rc::clone(order);
        Box::new(move || {
            order.borrow_mut().push(name);
            let seconds = seconds.next().unwrap();
            Ok(Run {
                time: Duration::from_secs(seconds),
                memory: seconds * 100,
            })
        })
    }

    fn measured(ours: &'static [u64], other: &'static [u64], bar: f64) -> (Measured, String) {
        let order = Rc::default();
        let row = Row {
            name: "work".to_owned(),
            compared: "the same".to_owned(),
            page_cache: PageCache::Warm,
            touches: 0,
            needs: Vec::new(),
            rival: None,
            ours: side('a', ours, &order),
            other: side('b', other, &order),
            bar: Some(bar),
            memory: Memory {
                amount: Amount::Peak,
                bar: Some(300),
            },
        };
        let result = measure(row, ours.len() as u32).unwrap();
        let order = order.borrow().clone();
        (result, order)
    }

    #[test]
    fn pairs_are_interleaved_and_change_their_order() {
        assert_eq!(measured(&[1, 1, 1], &[1, 1, 1], 1.0).1, "abbaab");
    }

    #[test]
    fn the_ratio_is_the_median_of_the_pairs_not_of_the_sides() {
        // The machine slowed down by half in the last two pairs: the medians alone would say 20 to 1.
        let (result, _) = measured(&[20, 20, 2], &[10, 10, 1], 1.0);
        let all_two = Spread {
            median: 2.0,
            least: 2.0,
            most: 2.0,
        };
        assert_eq!(result.ratio, all_two);
    }

    #[test]
    fn a_bar_is_missed_only_beyond_the_spread() {
        let verdict = |bar| measured(&[2, 3, 4], &[1, 1, 1], bar).0.time_verdict();
        assert_eq!(verdict(3.0), Verdict::Held);
        assert_eq!(verdict(2.5), Verdict::WithinSpread);
        assert_eq!(verdict(1.9), Verdict::Missed);
    }

    #[test]
    fn a_run_that_takes_too_much_memory_is_within_the_spread_only_if_another_does_not() {
        let verdict = |ours| measured(ours, &[1, 1, 1], 1.0).0.memory_verdict();
        assert_eq!(verdict(&[1, 2, 3]), Verdict::Held);
        assert_eq!(verdict(&[1, 2, 4]), Verdict::WithinSpread);
        assert_eq!(verdict(&[4, 5, 6]), Verdict::Missed);
    }

    #[test]
    fn memory_over_its_bar_misses_a_row_that_is_fast_enough() {
        let (result, _) = measured(&[4, 4, 4], &[5, 5, 5], 1.0);
        assert_eq!(result.time_verdict(), Verdict::Held);
        assert_eq!(result.verdict(), Verdict::Missed);
    }

    #[test]
    fn the_middle_of_four_is_between_the_two_in_the_middle() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(spread.median.to_bits(), 2.5_f64.to_bits());
    }
}
