//! How an open file is being read, judged by its reads so far.
//!
//! A kernel that reads ahead itself asks for several ranges at once, and they come in any order. So a stream is not
//! "where the last read ended" but the range that was read in one go: a read that touches it, or lies near it,
//! extends it. How near is near grows with what was read, so that two random reads which happen to be
//! neighbours are not taken for more.

use std::ops::Range;

/// However little was read, this far is near, in bytes: the kernel's first requests.
const LEAST_NEAR: u64 = 256 << 10;
/// However much was read, nothing further away is near.
const MOST_NEAR: u64 = 8 << 20;
/// Streams that are told apart: a file with several tracks is read at several places in turn.
const MOST_STREAMS: usize = 4;
/// So many equal steps in a row are taken for a pattern.
const STEPS: u32 = 2;

/// Which way a stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    Backward,
    /// One read says nothing, unless it is at the file's beginning.
    Unknown,
}

/// A range that is being read in one go.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) read: Range<u64>,
    /// Bytes that were asked for, repetitions included.
    pub(super) bytes: u64,
    /// Reads that extended it, those backward counted as negative.
    drift: i32,
}

impl Stream {
    fn of(range: &Range<u64>) -> Self {
        Self {
            read: range.clone(),
            bytes: range.end - range.start,
            drift: i32::from(range.start == 0),
        }
    }

    fn is_near(&self, range: &Range<u64>) -> bool {
        let near = self.bytes.clamp(LEAST_NEAR, MOST_NEAR);
        range.start <= self.read.end.saturating_add(near)
            && range.end.saturating_add(near) >= self.read.start
    }

    fn add(&mut self, range: &Range<u64>) {
        self.bytes += range.end - range.start;
        if range.end > self.read.end {
            self.read.end = range.end;
            self.drift = (self.drift + 1).min(4);
        }
        if range.start < self.read.start {
            self.read.start = range.start;
            self.drift = (self.drift - 1).max(-4);
        }
    }

    pub(super) fn way(&self) -> Way {
        match self.drift {
            1.. => Way::Forward,
            0 => Way::Unknown,
            ..0 => Way::Backward,
        }
    }
}

/// What a read is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Course {
    /// The stream with this number, which may be new.
    Stream { number: usize, is_new: bool },
    /// Reads of this length, each so far behind the one before (or before it).
    Steps { step: i64, len: u64 },
}

/// The reads of an open file.
#[derive(Debug, Default)]
pub(super) struct Pattern {
    /// Each with the time when it was last extended.
    streams: Vec<(Stream, u64)>,
    reads: u64,
    last: Range<u64>,
    step: i64,
    steps: u32,
}

impl Pattern {
    /// Takes note of a read of some bytes.
    pub(super) fn note(&mut self, range: &Range<u64>) -> Course {
        self.reads += 1;
        let step = range.start.wrapping_sub(self.last.start).cast_signed();
        let is_same_step = self.reads > 2 && step == self.step;
        self.steps = if is_same_step { self.steps + 1 } else { 0 };
        self.step = step;
        self.last = range.clone();
        let now = self.reads;
        let near = self
            .streams
            .iter()
            .position(|(stream, _)| stream.is_near(range));
        if let Some(number) = near {
            let (stream, used) = &mut self.streams[number];
            stream.add(range);
            *used = now;
            return Course::Stream {
                number,
                is_new: false,
            };
        }
        if self.steps >= STEPS {
            let len = range.end - range.start;
            return Course::Steps { step, len };
        }
        let new = (Stream::of(range), now);
        let number = if self.streams.len() < MOST_STREAMS {
            self.streams.push(new);
            self.streams.len() - 1
        } else {
            let ages = self.streams.iter().map(|(_, used)| *used).enumerate();
            let number = ages.min_by_key(|(_, used)| *used).map_or(0, |(at, _)| at);
            self.streams[number] = new;
            number
        };
        Course::Stream {
            number,
            is_new: true,
        }
    }

    pub(super) fn stream(&self, number: usize) -> &Stream {
        &self.streams[number].0
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// The streams that reads belong to, and the way of the last.
    fn ways(reads: impl IntoIterator<Item = Range<u64>>) -> (Vec<Course>, Way) {
        let mut pattern = Pattern::default();
        let courses: Vec<_> = reads.into_iter().map(|read| pattern.note(&read)).collect();
        let way = match courses.last() {
            Some(Course::Stream { number, .. }) => pattern.stream(*number).way(),
            _ => Way::Unknown,
        };
        (courses, way)
    }

    fn count_new(courses: &[Course]) -> usize {
        let new = |course: &&Course| matches!(course, Course::Stream { is_new: true, .. });
        courses.iter().filter(new).count()
    }

    #[test]
    fn reads_in_order_are_one_stream_forward() {
        let (courses, way) =
            ways((0..10).map(|i| 100 * MIB + i * 4096..100 * MIB + (i + 1) * 4096));
        assert_eq!((count_new(&courses), way), (1, Way::Forward));
    }

    #[test]
    fn requests_that_came_in_another_order_are_the_same_stream() {
        let order = [1, 0, 3, 2, 5, 4, 7, 6];
        let (courses, way) = ways(order.map(|i| i * MIB..(i + 1) * MIB));
        assert_eq!((count_new(&courses), way), (1, Way::Forward));
    }

    #[test]
    fn reads_from_the_end_are_one_stream_backward() {
        let (courses, way) = ways((0..10).rev().map(|i| i * 65536..(i + 1) * 65536));
        assert_eq!((count_new(&courses), way), (1, Way::Backward));
    }

    #[test]
    fn one_read_says_something_only_at_the_beginning() {
        assert_eq!(ways(iter::once(0..4096)).1, Way::Forward);
        assert_eq!(ways(iter::once(MIB..MIB + 4096)).1, Way::Unknown);
    }

    #[test]
    fn random_reads_are_streams_of_one_read() {
        let mut random = 1_u64;
        let reads = (0..1000).map(|_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (random >> 33) % (2 << 30);
            at..at + 4096
        });
        let (courses, _) = ways(reads);
        assert!(count_new(&courses) > 990, "{}", count_new(&courses));
    }

    #[test]
    fn two_tracks_are_two_streams() {
        let reads = (0..10).map(|i| {
            let at = (i % 2) * 500 * MIB + (i / 2) * 65536;
            at..at + 65536
        });
        let (courses, way) = ways(reads);
        assert_eq!((count_new(&courses), way), (2, Way::Forward));
    }

    #[test]
    fn equal_steps_are_a_pattern_in_either_direction() {
        let reads = |at: fn(u64) -> u64| (0..6).map(move |i| at(i)..at(i) + 4096);
        let (courses, _) = ways(reads(|i| i * 10 * MIB));
        let forward = Course::Steps {
            step: 10 * MIB as i64,
            len: 4096,
        };
        assert_eq!(courses[3..], [forward.clone(), forward.clone(), forward]);
        let (courses, _) = ways(reads(|i| 100 * MIB - i * 10 * MIB));
        let backward = Course::Steps {
            step: -10 * (MIB as i64),
            len: 4096,
        };
        assert_eq!(courses[5], backward);
    }
}
