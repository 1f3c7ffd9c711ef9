//! Time and memory of one piece of work, from inside the process that does it.
//!
//! The kernel keeps the peak of a process's resident memory and lets it be set back (`/proc/PID/clear_refs`, see proc(5)); so
//! nothing is sampled and no peak is too short. It counts pages of files too (the program and its libraries), which are
//! subtracted; they hardly change, because nothing here maps a file.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

const STATUS: &str = "/proc/self/status";
const CLEAR_REFS: &str = "/proc/self/clear_refs";
/// Sets the peak back to what is resident now.
const RESET_PEAK: &str = "5";

/// The figures are those of the process, so one piece of work is measured at a time.
static MEASURING: Mutex<()> = Mutex::new(());

/// What one piece of work took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    /// The most anonymous memory that the process had meanwhile, in bytes: its input included, if that was in memory.
    pub(crate) peak_anon: u64,
    /// How much more the process had when the work was done and all but its result was let go, in bytes.
    pub(crate) kept: u64,
}

/// Does the work. What it gives is still there when `kept` is taken, and what it has let go by then may be kept by the
/// allocator: that counts, because no other program gets it.
pub(crate) fn measured<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Figures)> {
    let _measuring = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = memory()?.anonymous;
    fs::write(CLEAR_REFS, RESET_PEAK)
        .with_context(|| format!("cannot set back the peak by {CLEAR_REFS}"))?;
    let start = Instant::now();
    let result = work()?;
    let seconds = start.elapsed().as_secs_f64();
    let after = memory()?;
    let figures = Figures {
        seconds,
        peak_anon: after.peak.saturating_sub(after.of_files),
        kept: after.anonymous.saturating_sub(before),
    };
    Ok((result, figures))
}

/// In bytes.
#[derive(Debug, PartialEq, Eq)]
struct Memory {
    peak: u64,
    anonymous: u64,
    of_files: u64,
}

fn memory() -> Result<Memory> {
    let status = fs::read_to_string(STATUS).with_context(|| format!("cannot read {STATUS}"))?;
    parse(&status).with_context(|| format!("{STATUS} does not say how much memory is used"))
}

/// From the text of `/proc/PID/status`, which counts in KiB.
fn parse(status: &str) -> Option<Memory> {
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    };
    Some(Memory {
        peak: bytes("VmHWM:")?,
        anonymous: bytes("RssAnon:")?,
        of_files: bytes("RssFile:")? + bytes("RssShmem:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let status =
            "VmHWM:\t 9 kB\nVmRSS:\t 8 kB\nRssAnon:\t 4 kB\nRssFile:\t 2 kB\nRssShmem:\t 1 kB\n";
        let expected = Memory {
            peak: 9 << 10,
            anonymous: 4 << 10,
            of_files: 3 << 10,
        };
        assert_eq!(parse(status), Some(expected));
    }

    #[test]
    fn memory_that_is_let_go_is_in_the_peak_and_not_kept() {
        const LEN: usize = 64 << 20;
        let touched = || vec![1_u8; LEN];
        // A test beside it may use some memory too.
        let near = LEN as u64 * 3 / 4;
        let (_, let_go) = measured(|| Ok(touched().len())).unwrap();
        assert!(let_go.peak_anon >= near && let_go.kept < near, "{let_go:?}");
        let (_kept, held) = measured(|| Ok(touched())).unwrap();
        assert!(held.peak_anon >= near && held.kept >= near, "{held:?}");
    }
}
