//! The end of a terminal, which is no reason to leave a dead mount behind.

use std::fs;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears of SIGHUP, unless the program was started with that signal ignored, as nohup(1) does.
#[derive(Debug)]
pub(crate) struct HangUp(Option<Signal>);

impl HangUp {
    pub(crate) fn new() -> io::Result<Self> {
        let ignored = fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status));
        if ignored {
            return Ok(Self(None));
        }
        signal(SignalKind::hangup()).map(Some).map(Self)
    }

    /// Waits for it.
    pub(crate) async fn recv(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// Whether a process with this status ignores SIGHUP, see proc_pid_status(5).
fn ignores(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal 1 is the lowest bit.
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_of_what_is_ignored_is_the_end_of_the_terminal() {
        for (line, expected) in [
            ("SigIgn:\t0000000000001001", true),
            ("SigIgn:\t0000000000001000", false),
            ("SigBlk:\t0000000000000001", false),
        ] {
            assert_eq!(ignores(&format!("Name:\tx\n{line}\n")), expected, "{line}");
        }
    }
}
