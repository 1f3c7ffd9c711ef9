//! The text of a trace; `docs/formats.md` describes it.

use std::fmt::Write as _;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use attachfs_manifest::ContentHash;

/// What every trace begins with. The version follows.
const MAGIC: &str = "attachfs trace ";
const VERSION: &str = "1";
/// A longer text is no trace, in bytes: as many lines of the longest kind as there are ranges in a trace at most.
pub const LONGEST_TRACE: u64 = MOST_RANGES as u64 * 100;
/// A trace has at most so many ranges.
pub(super) const MOST_RANGES: usize = 250_000;

/// A range of an object that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedRange {
    /// The object.
    pub hash: ContentHash,
    /// Its bytes; never empty.
    pub range: Range<u64>,
    /// When the first of them were read, since the mount. Whole milliseconds are kept.
    pub after: Duration,
}

/// What was read of a mount, in the order of the first reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The ranges; none is in two of them.
    pub ranges: Vec<TracedRange>,
    /// Reads that are not in it, because there were too many.
    pub dropped: u64,
}

/// Why a text is no trace, or no whole one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TraceError {
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub what: TraceFault,
}

/// What can be wrong with a line of a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceFault {
    /// The first line is another one.
    #[error("it does not begin with \"attachfs trace\"")]
    NoTrace,
    /// It was written by another version of attachfs.
    #[error("it is a trace of version {0}, and only version 1 is known")]
    Version(String),
    /// A line that is neither a range nor the end.
    #[error(
        "it should be an object's hash, a range of bytes and a number of milliseconds, or the end of the trace"
    )]
    Line,
    /// More ranges than a trace has.
    #[error("a trace has at most {MOST_RANGES} ranges")]
    TooLong,
    /// The last line is missing, or something comes after it.
    #[error("the trace does not end here: it was cut off or added to")]
    End,
    /// The numbers of the last line do not fit what comes before it.
    #[error("the trace is damaged: its last line does not fit the others")]
    Sum,
    /// Bytes that are no text.
    #[error("it is no text")]
    NoText,
}

/// Whether a file that begins like this is a trace, of whichever version.
pub fn looks_like_trace(beginning: &[u8]) -> bool {
    beginning.starts_with(MAGIC.as_bytes())
}

impl Trace {
    /// The trace as text.
    pub fn encode(&self) -> String {
        let mut text = format!("{MAGIC}{VERSION}\n");
        for TracedRange { hash, range, after } in &self.ranges {
            let (start, end) = (range.start, range.end);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{hash} {start}-{end} {}", after.as_millis());
        }
        let _ = write!(text, "end {} {} ", self.ranges.len(), self.dropped);
        let sum = ContentHash::of(text.as_bytes());
        let _ = writeln!(text, "{sum}");
        text
    }

    /// The trace that a text is.
    pub fn decode(text: &[u8]) -> Result<Self, TraceError> {
        let mut trace = Self::default();
        let mut at = 0;
        for (line, bytes) in (1..).zip(text.split_inclusive(|&byte| byte == b'\n')) {
            let fault = |what| TraceError { line, what };
            let is_last = at + bytes.len() == text.len();
            at += bytes.len();
            let whole = bytes.strip_suffix(b"\n");
            if line == 1 {
                first_line(whole.unwrap_or(bytes)).map_err(fault)?;
                continue;
            }
            let whole = whole.ok_or(fault(TraceFault::End))?;
            let words =
                std::str::from_utf8(whole).map_err(|_not_text| fault(TraceFault::NoText))?;
            let mut words = words.split(' ');
            let words = [(); 5].map(|()| words.next());
            match words {
                [Some("end"), Some(count), Some(dropped), Some(sum), None] => {
                    if !is_last {
                        return Err(TraceError {
                            line: line + 1,
                            what: TraceFault::End,
                        });
                    }
                    let count: usize = number(count).ok_or(fault(TraceFault::Line))?;
                    trace.dropped = number(dropped).ok_or(fault(TraceFault::Line))?;
                    let before = &text[..text.len() - sum.len() - 1];
                    let is_right = sum.parse() == Ok(ContentHash::of(before));
                    if count != trace.ranges.len() || !is_right {
                        return Err(fault(TraceFault::Sum));
                    }
                    return Ok(trace);
                }
                [Some(hash), Some(range), Some(after), None, _] => {
                    if trace.ranges.len() == MOST_RANGES {
                        return Err(fault(TraceFault::TooLong));
                    }
                    let range = traced(hash, range, after);
                    trace.ranges.push(range.ok_or(fault(TraceFault::Line))?);
                }
                _ => return Err(fault(TraceFault::Line)),
            }
        }
        let (line, what) = if text.is_empty() {
            (1, TraceFault::NoTrace)
        } else {
            (trace.ranges.len() + 2, TraceFault::End)
        };
        Err(TraceError { line, what })
    }
}

fn first_line(line: &[u8]) -> Result<(), TraceFault> {
    let version = line.strip_prefix(MAGIC.as_bytes());
    match version.ok_or(TraceFault::NoTrace)? {
        version if version == VERSION.as_bytes() => Ok(()),
        version => {
            let shown = &version[..version.len().min(20)];
            Err(TraceFault::Version(shown.escape_ascii().to_string()))
        }
    }
}

fn traced(hash: &str, range: &str, after: &str) -> Option<TracedRange> {
    let (start, end) = range.split_once('-')?;
    let range: Range<u64> = number(start)?..number(end)?;
    if range.is_empty() {
        return None;
    }
    Some(TracedRange {
        hash: hash.parse().ok()?,
        range,
        after: Duration::from_millis(number(after)?),
    })
}

/// Digits and nothing else: no sign.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(object: u8, range: Range<u64>, after: u64) -> TracedRange {
        TracedRange {
            hash: ContentHash::from_bytes([object; 16]),
            range,
            after: Duration::from_millis(after),
        }
    }

    fn some() -> Trace {
        Trace {
            ranges: vec![range(7, 0..131_072, 12), range(9, 5..u64::MAX, u64::MAX)],
            dropped: 3,
        }
    }

    #[test]
    fn a_trace_is_the_same_after_it_was_written_and_read() {
        for trace in [Trace::default(), some()] {
            let text = trace.encode();
            assert_eq!(Trace::decode(text.as_bytes()), Ok(trace));
            assert!(looks_like_trace(text.as_bytes()));
        }
        let text = some().encode();
        let first = "attachfs trace 1\n07070707070707070707070707070707 0-131072 12\n";
        assert!(text.starts_with(first), "{text}");
    }

    #[test]
    fn a_trace_that_was_cut_off_or_altered_anywhere_is_refused() {
        let text = some().encode().into_bytes();
        for len in 0..text.len() {
            Trace::decode(&text[..len]).unwrap_err();
        }
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bad = text.clone();
                bad[at] ^= 1 << bit;
                Trace::decode(&bad).unwrap_err();
            }
        }
        Trace::decode(&[&text[..], b"more"].concat()).unwrap_err();
    }

    #[test]
    fn the_error_names_the_line() {
        let told = |text: &str| Trace::decode(text.as_bytes()).unwrap_err().to_string();
        assert!(told("").starts_with("line 1: it does not begin"));
        assert!(told("{}\n").starts_with("line 1: it does not begin"));
        assert!(told("attachfs trace 2\n").contains("version 2"));
        assert!(told("attachfs trace \x1b[31m\n").contains("\\x1b"));
        let hash = "07070707070707070707070707070707";
        for bad in [
            "",
            "x 0-1 0",
            &format!("{hash} 1-1 0"),
            &format!("{hash} 2-1 0"),
            &format!("{hash} +0-1 0"),
            &format!("{hash} 0-1"),
            &format!("{hash} 0-1 0 0"),
            &format!("{hash} 0-99999999999999999999 0"),
        ] {
            let text = format!("attachfs trace 1\n{hash} 0-1 0\n{bad}\nend 1 0 {hash}\n");
            assert!(told(&text).starts_with("line 3: it should be"), "{bad}");
        }
        let text = format!("attachfs trace 1\n{hash} 0-1 0\nend 1 0 {hash}\n");
        assert!(told(&text).starts_with("line 3: the trace is damaged"));
    }

    #[test]
    fn a_trace_with_too_many_ranges_is_refused() {
        let trace = |count| Trace {
            ranges: vec![range(1, 0..1, 0); count],
            dropped: 0,
        };
        let most = trace(MOST_RANGES).encode();
        assert!(most.len() as u64 <= LONGEST_TRACE);
        Trace::decode(most.as_bytes()).unwrap();
        let error = Trace::decode(trace(MOST_RANGES + 1).encode().as_bytes()).unwrap_err();
        assert_eq!(
            (error.line, error.what),
            (MOST_RANGES + 2, TraceFault::TooLong)
        );
    }
}
