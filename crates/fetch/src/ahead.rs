//! Reading ahead in an open file.
//!
//! ```text
//!     |-- read --|=== part ===|=== part ===|=== part ===|         a stream that goes forward
//!                '------------ window ------------------'         under way, or here and not read yet
//! ```
//!
//! The window of a stream begins with nothing and doubles when a read has to wait, but is never longer than a few
//! times what was read in order, than its share of the memory for reading ahead, and than what the store gives in a
//! second. So a lone read fetches what it asks for, a reader in order soon has as many requests
//! under way as it takes to keep up, and one that stops wastes little.
//!
//! What is fetched ahead goes on as long as its stream does: it is held here, and cancelled when the stream is
//! given up for another or the file is closed.

mod pattern;
mod share;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use attachfs_manifest::ChunkLayout;
use tokio::time::Instant;

use crate::fetcher::Engine;
use crate::scheduler::Interest;
use crate::{Prefetch, Priority};
use pattern::{Course, Pattern, Way};
pub(crate) use share::AheadBytes;
use share::Share;

/// A window is at most so many times what was read in order.
const MOST_PER_READ: u64 = 4;
/// A window is cut into about so many parts, so that it comes over several connections.
const PARTS: u64 = 8;
/// The shortest part that is worth a request of its own where more is to follow, in bytes.
const LEAST_PART: u64 = 1 << 20;
/// How far ahead is read before anything came from the store.
const UNKNOWN_RATE: u64 = 4 << 20;
/// However narrow the way from the store is, this far is read ahead.
const LEAST_WINDOW: u64 = 1 << 20;
/// So many steps are fetched ahead at most.
const MOST_STEPS: u32 = 16;

/// What is fetched ahead of the reads of one open file.
#[derive(Debug)]
pub(crate) struct Ahead {
    pattern: Pattern,
    /// By the numbers of the pattern's streams.
    windows: Vec<Window>,
    steps: Steps,
    last_read: Instant,
}

/// The window that is fetched ahead of one stream.
#[derive(Debug, Default)]
struct Window {
    len: u64,
    /// What was asked for, beginning or ending where the stream does.
    asked: Option<Range<u64>>,
    under_way: UnderWay,
    share: Share,
}

/// The ranges that are fetched ahead of reads in equal steps.
#[derive(Debug, Default)]
struct Steps {
    count: u32,
    /// Where the last one begins that was asked for.
    asked: Option<i64>,
    under_way: UnderWay,
}

/// Fetches of ranges that may be read soon. They end when this is dropped.
#[derive(Debug, Default)]
struct UnderWay(VecDeque<Interest>);

impl UnderWay {
    fn add(&mut self, engine: &Arc<Engine>, layout: &ChunkLayout<'_>, range: Range<u64>) {
        self.0.retain(|interest| !interest.has_ended());
        for piece in layout.pieces(range) {
            self.0
                .extend(engine.fetch_ahead(&piece, Priority::ReadAhead));
        }
    }
}

/// The place of a read in the pattern of its file.
pub(crate) struct Seen {
    course: Course,
}

impl Ahead {
    pub(crate) fn new() -> Self {
        Self {
            pattern: Pattern::default(),
            windows: Vec::new(),
            steps: Steps::default(),
            last_read: Instant::now(),
        }
    }

    /// Notes a read before its bytes are looked for: which stream it belongs to. A new stream may take the place of an old one,
    /// whose fetches are then cancelled.
    pub(crate) fn note(&mut self, range: &Range<u64>) -> Seen {
        self.last_read = Instant::now();
        let course = self.pattern.note(range);
        match course {
            Course::Stream { number, is_new } => {
                if number == self.windows.len() {
                    self.windows.push(Window::default());
                } else if is_new {
                    self.windows[number] = Window::default();
                }
                if is_new {
                    self.steps = Steps::default();
                }
            }
            Course::Steps { .. } => {}
        }
        Seen { course }
    }

    /// Begins to fetch the ranges that are expected after a noted read. `missed`: the read has to wait, so the window grows.
    pub(crate) fn go_on(
        &mut self,
        engine: &Arc<Engine>,
        layout: &ChunkLayout<'_>,
        range: &Range<u64>,
        seen: &Seen,
        missed: bool,
    ) {
        if engine.options.prefetch == Prefetch::Off {
            return;
        }
        match seen.course {
            Course::Stream { number, .. } => self.stream(engine, layout, range, number, missed),
            Course::Steps { step, len } => {
                let at = range.start.cast_signed();
                self.steps.go_on(engine, layout, at, step, len);
            }
        }
    }

    fn stream(
        &mut self,
        engine: &Arc<Engine>,
        layout: &ChunkLayout<'_>,
        range: &Range<u64>,
        number: usize,
        missed: bool,
    ) {
        let stream = self.pattern.stream(number);
        let window = &mut self.windows[number];
        if stream.way() == Way::Unknown {
            return;
        }
        let before = window.len;
        if missed || before == 0 {
            window.len = (before * 2).max(range.end - range.start);
        }
        let fast = engine.link.rate().unwrap_or(UNKNOWN_RATE).max(LEAST_WINDOW);
        let most = (stream.bytes * MOST_PER_READ).min(fast);
        window.len = window.len.min(most).min(most_at_once(engine));
        window.len = window.share.resize(&engine.ahead, window.len);
        match stream.way() {
            Way::Forward => window.forward(engine, layout, stream.read.end),
            Way::Backward => window.backward(engine, layout, stream.read.start),
            Way::Unknown => {}
        }
        if missed || before == 0 {
            return;
        }
        // It was here, so it was fetched for this stream, and has been passed.
        for piece in layout.pieces(range.clone()) {
            if !engine.verifies(&piece) {
                engine.forget_passed(&piece);
            }
        }
    }

    /// The time since the last read.
    pub(crate) fn rests(&self) -> Duration {
        self.last_read.elapsed()
    }

    /// Cancels all fetches ahead, because there was no read for a while.
    pub(crate) fn pause(&mut self) {
        self.windows
            .iter_mut()
            .for_each(|window| *window = Window::default());
        self.steps = Steps::default();
    }
}

/// How many parts the store gives best at once, if it says so.
fn parts_at_once(engine: &Engine) -> Option<u64> {
    let parts = engine.store.parts_at_once();
    parts.map(|parts| u64::from(parts.get()))
}

/// How much of one stream may be on its way, for the store's sake.
fn most_at_once(engine: &Engine) -> u64 {
    let part_len = engine.options.part_len.max(engine.unit_len());
    parts_at_once(engine).map_or(u64::MAX, |parts| parts * part_len)
}

impl Window {
    /// How long the parts are that a window of this length is cut into.
    fn part(&self, engine: &Engine) -> u64 {
        let unit = engine.unit_len();
        let most = engine.options.part_len.max(unit);
        let least = LEAST_PART.clamp(unit, most).min(self.len.max(unit));
        let parts = parts_at_once(engine).unwrap_or(PARTS).min(PARTS);
        let part = (self.len / parts).clamp(least, most);
        part.next_multiple_of(unit)
    }

    fn forward(&mut self, engine: &Arc<Engine>, layout: &ChunkLayout<'_>, read_to: u64) {
        let size = layout.size();
        let part = self.part(engine);
        let until = read_to.saturating_add(self.len).min(size);
        let asked = self.asked.as_ref().map_or(0, |asked| asked.end);
        let mut from = asked.max(read_to.next_multiple_of(engine.unit_len()));
        while from < until {
            let to = (from + 1).next_multiple_of(part).min(size);
            if to > until && from > read_to.next_multiple_of(engine.unit_len()) {
                break;
            }
            self.under_way.add(engine, layout, from..to);
            from = to;
        }
        self.asked = Some(read_to..from);
    }

    fn backward(&mut self, engine: &Arc<Engine>, layout: &ChunkLayout<'_>, read_from: u64) {
        let unit = engine.unit_len();
        let part = self.part(engine);
        let until = read_from.saturating_sub(self.len);
        let asked = self.asked.as_ref().map_or(u64::MAX, |asked| asked.start);
        let first = read_from - read_from % unit;
        let mut to = asked.min(first);
        while to > until {
            let from = (to - 1) / part * part;
            if from < until && to < first {
                break;
            }
            self.under_way.add(engine, layout, from..to);
            to = from;
        }
        self.asked = Some(to..read_from);
    }
}

impl Steps {
    fn go_on(
        &mut self,
        engine: &Arc<Engine>,
        layout: &ChunkLayout<'_>,
        at: i64,
        step: i64,
        len: u64,
    ) {
        self.count = (self.count * 2).clamp(1, MOST_STEPS);
        let most = engine.ahead.most_of_one() / len.next_multiple_of(engine.unit_len()).max(1);
        let count = i64::from(self.count).min(most.cast_signed());
        let asked = self.asked.unwrap_or(at);
        for ahead in 1..=count {
            let next = at.saturating_add(step.saturating_mul(ahead));
            let is_asked = if step > 0 {
                next <= asked
            } else {
                next >= asked
            };
            if is_asked {
                continue;
            }
            let Ok(start) = u64::try_from(next) else {
                break;
            };
            if start >= layout.size() {
                break;
            }
            self.under_way.add(engine, layout, start..start + len);
            self.asked = Some(next);
        }
    }
}
