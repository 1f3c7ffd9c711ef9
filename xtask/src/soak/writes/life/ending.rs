//! The end of a session: it is discarded, or committed by who unmounts it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::super::Summary;
use super::super::halts::Halt;
use super::super::mounting::{STORE, Said, kill};
use super::walking::WALKED_FAULTS;
use super::{Life, WORKERS};
use crate::bench::bucket::Bucket;

/// So often a commit is tried over a store that fails.
const TRIED: u64 = 6;

impl Life<'_> {
    /// Discards the session, whose deletion may be interrupted.
    pub(super) fn discard(&mut self, summary: &mut Summary) -> Result<()> {
        drop(self.mount.take());
        // A directory that was there before the session stays.
        if !self.session.join("session.json").exists() {
            return Ok(());
        }
        let discard = |life: &Self| {
            let mut discard = life.programs.command(["discard", "--yes"]);
            discard.arg(&life.session);
            discard
        };
        if let Some(halt) = self.wanted() {
            let said = self.run_to_its_halt(discard(self), &halt, summary)?;
            if said.code() == Some(0) {
                return Ok(());
            }
            ensure!(said.code().is_none(), "discard said {said:?}");
        }
        if self.session.join("session.json").exists() {
            let said = self.programs.said(discard(self))?;
            // The session may have been all but gone.
            let is_gone = said.code() == Some(0) || !self.session.exists();
            ensure!(is_gone, "cannot discard: {said:?}");
        }
        Ok(())
    }

    /// Runs a command to its end, or kills it where it halts.
    pub(super) fn run_to_its_halt(
        &mut self,
        mut command: Command,
        halt: &Halt,
        summary: &mut Summary,
    ) -> Result<Said> {
        halt.tell(&mut command);
        let mut running = self.programs.start(command)?;
        while !running.has_ended()? {
            if running.has_said(&halt.said()) {
                self.reached(halt, summary);
                running.child.kill()?;
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        running.wait(Duration::from_mins(3))
    }

    /// Kills a process in the background, which logs into the session; then `umount --commit` commits and ends it, over a store that fails.
    pub(super) fn end_with_a_commit(&mut self, summary: &mut Summary) -> Result<()> {
        self.without_halt(summary)?;
        ensure!(self.unmount(false, summary)?, "a process halted");
        let mut mounting = self.programs.command(["mount", "--json", "--session"]);
        mounting.arg(&self.session);
        mounting.args(["--max-cache-size", "64M", "--cache-min-free", "0"]);
        mounting.arg(&self.point);
        let told = self.programs.json(mounting)?;
        let pid = told["pid"].as_u64().context("a mount tells its process")?;
        let process = InBackground(u32::try_from(pid)?);
        let id = told["session"]
            .as_str()
            .with_context(|| format!("a mount tells its session: {told}"))?
            .to_owned();
        for root in [&self.plain, &self.point] {
            fs::write(root.join(WORKERS[0]).join("last"), "last")?;
        }
        thread::sleep(Duration::from_millis(100));
        drop(process);
        summary.kills += 1;
        let end = Instant::now() + Duration::from_mins(1);
        while Path::new("/proc").join(pid.to_string()).exists() {
            ensure!(Instant::now() < end, "a killed process does not end");
            thread::sleep(Duration::from_millis(2));
        }
        // As one that panicked. An empty log is not kept.
        fs::write(self.session.join("log"), "the last words\n")?;
        for number in 0.. {
            // The log is kept by the first one, who finds the dead mount, if it comes so far.
            let faults = if (1..TRIED).contains(&number) {
                let seed = self.random.below(1 << 30);
                format!("seed={seed}&{WALKED_FAULTS}")
            } else {
                String::new()
            };
            self.programs.faults(&faults)?;
            let mut ending = self.programs.command(["umount", "--json", "--commit"]);
            ending.arg(&self.point);
            let said = match self.wanted() {
                Some(halt) => self.run_to_its_halt(ending, &halt, summary)?,
                None => self.programs.said(ending)?,
            };
            match said.code() {
                // It was killed, or the store failed.
                None | Some(11 | 13) if number <= TRIED => {}
                Some(0) => break,
                // The session may have been all but gone.
                _ if !self.session.exists() => break,
                _ => bail!("umount --commit said {said:?}"),
            }
        }
        self.programs.faults("")?;
        ensure!(
            !self.session.join("session.json").exists(),
            "the session is still there"
        );
        let prefix = format!("{STORE}/Manifests/attachfs/{id}");
        let mut numbers = Vec::new();
        for entry in fs::read_dir(self.programs.bucket.object(&prefix))? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(".manifest"));
            let number = number.and_then(|number| number.parse::<u32>().ok());
            numbers.push(number.with_context(|| format!("{} is no manifest", name.display()))?);
        }
        numbers.sort_unstable();
        let diffs: Vec<_> = numbers
            .iter()
            .map(|number| OsString::from(Bucket::address(&format!("{prefix}/{number}.manifest"))))
            .collect();
        self.compare_published(&diffs)
    }
}

/// A process that is killed when this is dropped.
struct InBackground(u32);

impl Drop for InBackground {
    fn drop(&mut self) {
        kill(self.0);
    }
}
