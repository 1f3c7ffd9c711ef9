//! Numbered sequences of two jobs, and the frames that are missing from them.
//!
//! ```text
//!     frames/beauty.  0999  .exr      prefix (with the directory), number, extension
//!     frames/beauty.  1000  .exr      the same sequence: frames/beauty.####.exr
//! ```
//!
//! The number is the last run of digits that stands right before an extension. Files with one prefix, extension and padding are one
//! sequence. A number without a zero in front may have any padding up to its length: it belongs to the widest one that the two
//! jobs have.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use attachfs_manifest::{EscapedBytes, PathRef, Snapshot};
use serde::Serialize;

/// Frames from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FrameRange {
    /// The first frame.
    pub first: u64,
    /// The last frame.
    pub last: u64,
}

impl FrameRange {
    /// How many frames these are.
    pub fn frames(self) -> u64 {
        self.last - self.first + 1
    }
}

/// `1003-1005`, or `1010` for a single one.
impl fmt::Display for FrameRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last {
            write!(f, "{first}")
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

/// The frames of a sequence that one job has, and those that it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SequenceFrames {
    /// How many frames there are.
    pub frames: u64,
    /// From the first to the last frame; `None` if there are none.
    pub span: Option<FrameRange>,
    /// How many frames are missing.
    pub missing_frames: u64,
    /// The missing frames, in order: those between the first and the last, and in the second job those that the first has.
    pub missing: Vec<FrameRange>,
}

/// A sequence from which frames are missing in one job or in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SequenceDiff {
    /// The path below the root with a `#` for each digit of the padding: `frames/beauty.####.exr`.
    pub sequence: String,
    /// How many digits a frame's number has at least.
    pub padding: usize,
    /// The first job's frames.
    pub a: SequenceFrames,
    /// The second job's frames.
    pub b: SequenceFrames,
}

/// Where the number is in a path.
fn number_in(path: PathRef<'_>) -> Option<Range<usize>> {
    /// Every number of so many digits is a `u64`.
    const LONGEST: usize = 18;
    let bytes = path.as_bytes();
    let name = bytes.len() - path.name().len();
    let extension = bytes.iter().rposition(|&byte| byte == b'.')? + 1;
    if bytes[extension..].iter().all(u8::is_ascii_digit) {
        return None;
    }
    // `smoke.0001.bgeo.sc`: an extension may have parts.
    let dots = (name..extension).rev().filter(|&at| bytes[at] == b'.');
    let mut runs = dots.map(|dot| {
        let digits = bytes[name..dot].iter().rev();
        dot - digits.take_while(|byte| byte.is_ascii_digit()).count()..dot
    });
    let run = runs.find(|run| !run.is_empty())?;
    (run.len() <= LONGEST).then_some(run)
}

/// What the names of a sequence have before and behind the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Around<'a> {
    prefix: &'a [u8],
    extension: &'a [u8],
}

/// A frame's number as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn number(self) -> u64 {
        let add = |number, digit: &u8| number * 10 + u64::from(digit - b'0');
        self.0.iter().fold(0, add)
    }

    fn width(self) -> usize {
        self.0.len()
    }

    /// Whether its length is that of the padding for sure.
    fn is_padded(self) -> bool {
        self.0.len() > 1 && self.0[0] == b'0'
    }
}

/// A frame of one of the jobs.
#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    digits: Digits<'a>,
    of_a: bool,
}

/// The sequences of two snapshots from which frames are missing, in the order of their paths.
pub(super) fn sequences_of(a: &Snapshot, b: &Snapshot) -> Vec<SequenceDiff> {
    let mut names: BTreeMap<Around<'_>, Vec<Frame<'_>>> = BTreeMap::new();
    for (snapshot, of_a) in [(a, true), (b, false)] {
        for (path, node) in snapshot.entries() {
            if node.is_dir() {
                continue;
            }
            let Some(number) = number_in(path) else {
                continue;
            };
            let bytes = path.as_bytes();
            let around = Around {
                prefix: &bytes[..number.start],
                extension: &bytes[number.end..],
            };
            names.entry(around).or_default().push(Frame {
                digits: Digits(&bytes[number]),
                of_a,
            });
        }
    }
    let mut found = Vec::new();
    for (around, frames) in names {
        for (padding, frames) in by_padding(&frames) {
            found.extend(compare(around, padding, &frames));
        }
    }
    found
}

/// The frames of each padding, and whether A and B have them.
type ByPadding = BTreeMap<usize, BTreeMap<u64, (bool, bool)>>;

/// Puts frames together that have one padding.
fn by_padding(frames: &[Frame<'_>]) -> ByPadding {
    let padded = frames.iter().filter(|frame| frame.digits.is_padded());
    let mut paddings: Vec<usize> = padded.map(|frame| frame.digits.width()).collect();
    paddings.sort_unstable();
    paddings.dedup();
    let widest = |digits: Digits<'_>| {
        let fitting = paddings.partition_point(|&padding| padding <= digits.width());
        fitting.checked_sub(1).map(|at| paddings[at])
    };
    // Those that fit none have no padding: as many digits as the shortest.
    let unpadded = frames
        .iter()
        .filter(|frame| widest(frame.digits).is_none())
        .map(|frame| frame.digits.width())
        .min()
        .unwrap_or(1);
    let mut sequences = ByPadding::new();
    for frame in frames {
        let padding = widest(frame.digits).unwrap_or(unpadded);
        let of = sequences.entry(padding).or_default();
        let known = of.entry(frame.digits.number()).or_default();
        *known = (known.0 || frame.of_a, known.1 || !frame.of_a);
    }
    sequences
}

fn compare(
    around: Around<'_>,
    padding: usize,
    frames: &BTreeMap<u64, (bool, bool)>,
) -> Option<SequenceDiff> {
    // A name with a number that stands alone is no sequence.
    if frames.len() < 2 {
        return None;
    }
    let numbers = |has: fn(&(bool, bool)) -> bool| {
        let numbers = frames.iter().filter(move |(_, of)| has(of));
        numbers.map(|(&number, _)| number).collect::<Vec<_>>()
    };
    let (in_a, in_b) = (numbers(|of| of.0), numbers(|of| of.1));
    let a = SequenceFrames::of(&in_a, &[]);
    let b = SequenceFrames::of(&in_b, &in_a);
    if a.missing.is_empty() && b.missing.is_empty() {
        return None;
    }
    let path = [around.prefix, &vec![b'#'; padding], around.extension].concat();
    Some(SequenceDiff {
        sequence: EscapedBytes(&path).to_string(),
        padding,
        a,
        b,
    })
}

impl SequenceFrames {
    /// Of frames in order; `wanted` are more that should be there.
    fn of(frames: &[u64], wanted: &[u64]) -> Self {
        let mut missing = Vec::new();
        let span = match (frames.first(), frames.last()) {
            (Some(&first), Some(&last)) => Some(FrameRange { first, last }),
            _ => None,
        };
        let before = |number: &u64| span.is_none_or(|span| *number < span.first);
        let behind = |number: &u64| span.is_some_and(|span| *number > span.last);
        for &number in wanted.iter().filter(|number| before(number)) {
            add(&mut missing, number);
        }
        let gaps = frames.windows(2).map(|two| FrameRange {
            first: two[0] + 1,
            last: two[1] - 1,
        });
        missing.extend(gaps.filter(|gap| gap.first <= gap.last));
        for &number in wanted.iter().filter(|number| behind(number)) {
            add(&mut missing, number);
        }
        Self {
            frames: frames.len() as u64,
            span,
            missing_frames: missing.iter().map(|range| range.frames()).sum(),
            missing,
        }
    }
}

/// Adds the next frame to ranges.
fn add(ranges: &mut Vec<FrameRange>, number: u64) {
    match ranges.last_mut() {
        Some(range) if range.last + 1 == number => range.last = number,
        _ => ranges.push(FrameRange {
            first: number,
            last: number,
        }),
    }
}
