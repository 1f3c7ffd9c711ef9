//! Files that are read one after the other, in the order in which a manifest or a listing has them.
//!
//! ```text
//!     read         | expected next, and being fetched |  expected
//!     a  b  c  d   | e  f  g  h                       |  i  j  k
//!               ^ hits: each makes the middle wider
//! ```
//!
//! Whoever reads small files one by one waits for each of them as long as the store takes to answer. So when a few
//! files in a row were those that had been expected, the following ones are fetched before anybody opens them,
//! more of them with each one that was right. Several readers that share a list are one series, since a file that
//! comes a little early or late still belongs to it. A series is only begun by a read that had to wait: what is in
//! the disk cache needs none of this.

use std::collections::VecDeque;

use attachfs_fetch::{Fetcher, Prefetched};
use attachfs_tree::{FileContent, Ino, Namespace};
use parking_lot::{Mutex, RwLock};

/// Series that are followed at a time. The one that was not read from for longest makes room.
const MOST_SERIES: usize = 32;
/// A new series expects so many files, of which the first read file may skip some.
const FIRST: usize = 8;
/// Expected files that were read in a row before any is fetched ahead.
const HITS: u32 = 2;
/// The most files of a series that are fetched ahead.
const MOST_FILES: usize = 128;
/// How far the readers of a series may be apart, in files.
const APART: usize = 32;
/// Files that are no use are passed over at one time, at most.
const MOST_SKIPPED: usize = 64;
/// Longer files are worth no guess: their readers read ahead themselves.
const LONGEST: u64 = 8 << 20;

/// All series of a file system.
#[derive(Debug, Default)]
pub(crate) struct Siblings(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    series: Vec<Series>,
    /// Counts the files that were read.
    now: u64,
}

#[derive(Debug)]
struct Series {
    next: VecDeque<Expected>,
    /// The last file that is expected; where the others are found.
    last: Ino,
    hits: u32,
    used: u64,
}

#[derive(Debug)]
struct Expected {
    ino: Ino,
    len: u64,
    fetched: Option<Prefetched>,
}

impl Siblings {
    /// Takes note that somebody begins to read a file of the base, and fetches what is expected to follow. `missed`: its
    /// bytes have to come from the store.
    pub(crate) fn note(
        &self,
        ino: Ino,
        missed: bool,
        namespace: &RwLock<Namespace>,
        fetcher: &Fetcher,
    ) {
        let most = fetcher.most_prefetched();
        let mut state = self.0.lock();
        if most == 0 || (!missed && state.series.is_empty()) {
            return;
        }
        state.now += 1;
        let now = state.now;
        let number = match state.hit(ino) {
            Some(number) => number,
            None if missed => state.begin(ino),
            None => return,
        };
        let others = state.bytes_of_others(number);
        let series = &mut state.series[number];
        series.used = now;
        series.go_on(&namespace.read(), fetcher, most.saturating_sub(others));
    }
}

impl State {
    /// The series that expected the file, which it does not expect any more.
    fn hit(&mut self, ino: Ino) -> Option<usize> {
        self.series
            .iter_mut()
            .position(|series| series.has_come(ino))
    }

    fn begin(&mut self, ino: Ino) -> usize {
        let new = Series {
            next: VecDeque::new(),
            last: ino,
            hits: 0,
            used: 0,
        };
        if self.series.len() < MOST_SERIES {
            self.series.push(new);
            return self.series.len() - 1;
        }
        let ages = self.series.iter().map(|series| series.used).enumerate();
        let oldest = ages.min_by_key(|(_, used)| *used).map_or(0, |(at, _)| at);
        self.series[oldest] = new;
        oldest
    }

    /// What the others have fetched ahead. One that nobody reads from any more gives it up.
    fn bytes_of_others(&mut self, number: usize) -> u64 {
        let now = self.now;
        let mut bytes = 0;
        for (at, series) in self.series.iter_mut().enumerate() {
            if at == number {
                continue;
            }
            if now - series.used > 4 * MOST_FILES as u64 {
                series.next.iter_mut().for_each(|file| file.fetched = None);
            }
            bytes += series.fetched();
        }
        bytes
    }
}

impl Series {
    fn has_come(&mut self, ino: Ino) -> bool {
        let Some(at) = self.next.iter().position(|file| file.ino == ino) else {
            return false;
        };
        self.next.remove(at);
        // Others may still read what lies before it.
        self.next.drain(..at.saturating_sub(APART));
        self.hits = self.hits.saturating_add(1);
        true
    }

    fn fetched(&self) -> u64 {
        let fetched = self.next.iter().filter(|file| file.fetched.is_some());
        fetched.map(|file| file.len).sum()
    }

    /// How many files it fetches ahead.
    fn width(&self) -> usize {
        match self.hits.checked_sub(HITS) {
            Some(more) => MOST_FILES.min(4 << more.min(16)),
            None => 0,
        }
    }

    fn go_on(&mut self, namespace: &Namespace, fetcher: &Fetcher, most: u64) {
        let base = namespace.base();
        let width = self.width();
        let mut left = most.saturating_sub(self.fetched());
        let mut skipped = 0;
        while self.next.len() < width.max(FIRST) && skipped < MOST_SKIPPED {
            let Some(ino) = base.next_file(self.last) else {
                break;
            };
            self.last = ino;
            // What was written, deleted or hidden is nobody's to fetch.
            let is_whole = namespace.content(ino) == Some(&FileContent::Base);
            let Some(layout) = base.layout(ino).filter(|_| is_whole) else {
                skipped += 1;
                continue;
            };
            if base.place(ino).is_none() || layout.size() > LONGEST {
                skipped += 1;
            } else {
                self.next.push_back(Expected {
                    ino,
                    len: layout.size(),
                    fetched: None,
                });
            }
        }
        for file in self.next.iter_mut().take(width) {
            if file.fetched.is_some() {
                continue;
            }
            let Some(layout) = base.layout(file.ino) else {
                continue;
            };
            let Some(rest) = left.checked_sub(file.len) else {
                break;
            };
            left = rest;
            file.fetched = Some(fetcher.prefetch(&layout));
        }
    }
}
