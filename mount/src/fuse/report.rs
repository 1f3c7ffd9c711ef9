//! Failed operations, in the log: what was asked of which file, and the whole chain of causes.
//!
//! A store that is away fails thousands of reads; the log says so a few times a second and counts the
//! rest.

use std::error::Error;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use attachfs_tree::Ino;
use attachfs_vfs::{FsError, Vfs};
use parking_lot::Mutex;
use tracing::Level;

use super::errno::level;

/// How many failures are logged within a [`PERIOD`].
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(5);

/// Where the adapter's failures go.
#[derive(Debug)]
pub(super) struct Report {
    throttle: Mutex<Throttle>,
}

#[derive(Debug)]
struct Throttle {
    since: Instant,
    lines: u32,
    held_back: u64,
}

/// Whether a line may be written, and how many were not before it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Write { held_back: u64 },
    HoldBack,
}

impl Throttle {
    fn ask(&mut self, now: Instant) -> Verdict {
        if now.saturating_duration_since(self.since) >= PERIOD {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines == LINES {
            self.held_back += 1;
            return Verdict::HoldBack;
        }
        self.lines += 1;
        Verdict::Write {
            held_back: std::mem::take(&mut self.held_back),
        }
    }
}

impl Report {
    pub(super) fn new() -> Self {
        let throttle = Throttle {
            since: Instant::now(),
            lines: 0,
            held_back: 0,
        };
        Self {
            throttle: Mutex::new(throttle),
        }
    }

    /// Logs an error that has a cause; one without is the answer to what was asked.
    pub(super) fn failed(&self, vfs: &Vfs, operation: &'static str, ino: Ino, error: &FsError) {
        let level = level(error.kind());
        if !error.has_cause() || (level == Level::DEBUG && !tracing::enabled!(Level::DEBUG)) {
            return;
        }
        let Verdict::Write { held_back } = self.throttle.lock().ask(Instant::now()) else {
            return;
        };
        if held_back > 0 {
            tracing::warn!(held_back, "failures were left out of the log");
        }
        let (path, cause) = (vfs.describe(ino), chain(error));
        match level {
            Level::ERROR => tracing::error!(operation, inode = %ino, path, "{cause}"),
            Level::WARN => tracing::warn!(operation, inode = %ino, path, "{cause}"),
            _ => tracing::debug!(operation, inode = %ino, path, "{cause}"),
        }
    }

    /// Logs a panic, which is a bug here; the caller was answered EIO.
    pub(super) fn panicked(operation: &'static str, ino: Ino, panic: &(dyn std::any::Any + Send)) {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(operation, inode = %ino, "the operation panicked: {text}");
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("writing to a String cannot fail");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_failures_is_counted_and_the_count_is_given_with_the_next_line() {
        let start = Instant::now();
        let mut throttle = Throttle {
            since: start,
            lines: 0,
            held_back: 0,
        };
        for _ in 0..LINES {
            assert_eq!(throttle.ask(start), Verdict::Write { held_back: 0 });
        }
        for _ in 0..7 {
            assert_eq!(throttle.ask(start), Verdict::HoldBack);
        }
        assert_eq!(
            throttle.ask(start + PERIOD),
            Verdict::Write { held_back: 7 }
        );
        assert_eq!(
            throttle.ask(start + PERIOD),
            Verdict::Write { held_back: 0 }
        );
    }

    #[test]
    fn a_logged_error_names_its_causes() {
        let inner = std::io::Error::other("the disk is gone");
        let error = FsError::io("read a scratch file", inner);
        assert_eq!(chain(&error), "read a scratch file: Io: the disk is gone");
    }
}
