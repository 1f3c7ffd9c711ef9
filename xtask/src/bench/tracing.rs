//! What it costs to record a trace: the CPU time of the process that serves a mount, with `--record-trace` and without.
//!
//! Both mounts answer every read themselves (`--no-passthrough`, which recording implies), and the reads go past the kernel's page cache,
//! so that all of them come there. What is timed is not the reader but that process, user and system. It counts in hundredths of a
//! second: the work takes some seconds of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::harness::{Memory, PageCache, Row, Run, Side};
use super::process;
use super::stage::{Set, Stage};
use super::work::{self, LARGE};

/// 64 MiB, which the mount keeps in its memory: so a read costs as little as it can, and a recording is the largest part of it.
const SPAN: &str = "67108864";
/// What a recording may cost.
const BAR: f64 = 1.01;
/// Of `/proc/PID/stat` on every Linux.
const TICKS_PER_SECOND: u64 = 100;

pub(super) fn rows(stage: &Rc<Stage>) -> Vec<Row> {
    let kinds = [
        // A bit more than the recorder puts together at a time, six times: so nearly all that it has to do is in it.
        ("200,000 reads of 4 KiB without an order", "4096", "200000"),
        ("20,000 reads of 1 MiB without an order", "1048576", "20000"),
    ];
    let row = |(reads, length, times): (&str, &'static str, &'static str)| Row {
        name: format!("CPU time of a mount that records a trace: {reads}, warm"),
        compared: "the same without a recording".to_owned(),
        page_cache: PageCache::Warm,
        touches: 2 * LARGE,
        needs: vec![Set::LargeInChunks],
        rival: None,
        ours: side(stage, true, length, times),
        other: side(stage, false, length, times),
        bar: Some(BAR),
        memory: Memory::PEAK,
    };
    kinds.into_iter().map(row).collect()
}

fn side(stage: &Rc<Stage>, records: bool, length: &'static str, times: &'static str) -> Side {
    let stage = Rc::clone(stage);
    Box::new(move || {
        let session = stage.fresh()?;
        let trace = session.with_extension("trace");
        let trace = trace.to_str().context("a path that is not text")?;
        let mut options = vec!["--no-passthrough"];
        if records {
            options.extend(["--record-trace", trace]);
        }
        let set = Set::LargeInChunks;
        let mut mount = stage.start_mount(set, &stage.store(), &session, &options)?;
        mount.wait_until_ready()?;
        let large = mount.point().join("large");
        process::run(&mut reading(&large, length, "20000"))?;
        let pid = mount.process();
        let before = cpu_time(pid)?;
        let run = process::run_watching(pid, &mut reading(&large, length, times))?;
        let time = cpu_time(pid)?.saturating_sub(before);
        mount.unmount()?;
        Ok(Run { time, ..run })
    })
}

fn reading(file: &Path, length: &str, times: &str) -> Command {
    work::command(["read-direct", length, times, SPAN], &[file])
}

/// The CPU time that a process has had, user and system, its threads that have ended included.
fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = ticks(&stat).with_context(|| format!("cannot understand {path}"))?;
    Ok(Duration::from_millis(1000 / TICKS_PER_SECOND * ticks))
}

/// `utime` and `stime`, fields 14 and 15; the second field is a name, which may have anything in it.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let [user, system] = [fields.next()?, fields.next()?];
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_any_name() {
        let stat = "7 (a) b 1 (x) S 1 2 3 4 5 6 7 8 9 10 300 45 0 0 20 0 1 0 9";
        assert_eq!(ticks(stat), Some(345));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_had_time_that_only_grows() {
        let first = cpu_time(std::process::id()).unwrap();
        assert!(cpu_time(std::process::id()).unwrap() >= first);
    }
}
