//! One timed run of a program, its memory watched from outside.
//!
//! The peak is that of `RssAnon`: what the program allocated, without the files that it reads and maps. The kernel keeps no peak of
//! it (`VmHWM` counts file pages too), so it is sampled; a peak shorter than [`SAMPLE`] may be missed.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::harness::Run;
use crate::cargo::shown;

/// Between two looks at a program's memory.
const SAMPLE: Duration = Duration::from_millis(2);

/// Runs the command to its end, its output thrown away; a failure is an error.
pub(super) fn run(command: &mut Command) -> Result<Run> {
    Ok(timed(command.stdout(Stdio::null()), None)?.0)
}

/// As [`run`], but its output is given.
pub(super) fn run_hearing(command: &mut Command) -> Result<(Run, String)> {
    timed(command.stdout(Stdio::piped()), None)
}

/// As [`run`], but the memory is that of another process, which serves this one.
pub(super) fn run_watching(process: u32, command: &mut Command) -> Result<Run> {
    Ok(timed(command.stdout(Stdio::null()), Some(process))?.0)
}

fn timed(command: &mut Command, watched: Option<u32>) -> Result<(Run, String)> {
    let start = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let (memory, ended) = peak_while(watched.unwrap_or(child.id()), || {
        let output = child.wait_with_output();
        (output, start.elapsed())
    });
    let (output, time) = ended;
    let output = output.with_context(|| format!("cannot wait for {}", shown(command)))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = output.status;
    if !status.success() {
        bail!("{} ended with {status}\n{}", shown(command), text.trim());
    }
    Ok((Run { time, memory }, text))
}

/// Does the work while another thread watches a process, which may be another than the one that works: a daemon's memory is
/// watched while a client reads. Gives the peak in bytes and what the work gave.
pub(super) fn peak_while<T>(process: u32, work: impl FnOnce() -> T) -> (u64, T) {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let sampler = scope.spawn(move || {
            let mut peak = 0;
            loop {
                peak = peak.max(anonymous_memory(process).unwrap_or(0));
                if is_done.recv_timeout(SAMPLE) != Err(RecvTimeoutError::Timeout) {
                    return peak;
                }
            }
        });
        let result = work();
        drop(done);
        let peak = sampler.join().expect("the sampler does not panic");
        (peak, result)
    })
}

/// `RssAnon` of a process, in bytes; nothing once it has ended.
pub(crate) fn anonymous_memory(process: u32) -> Option<u64> {
    rss_anon(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
}

/// From the text of `/proc/PID/status`, which counts in KiB.
fn rss_anon(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_is_read_in_bytes() {
        let status = "VmHWM:\t   9000 kB\nRssAnon:\t     640 kB\nRssFile:\t 1 kB\n";
        assert_eq!(rss_anon(status), Some(640 * 1024));
    }

    #[test]
    fn this_process_has_anonymous_memory() {
        assert!(anonymous_memory(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn a_program_that_fails_is_no_measurement() {
        let error = run(&mut Command::new("false")).unwrap_err();
        assert!(error.to_string().starts_with("false ended with"), "{error}");
    }
}
