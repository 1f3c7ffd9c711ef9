//! Commits, by the mount's process and without one, disturbed and not; what was published is mounted and is what was there.

use std::ffi::OsString;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::super::Summary;
use super::super::events::Disturbance;
use super::super::halts::Halt;
use super::super::judge::hold;
use super::super::mounting::{Mount, Running, Started};
use super::super::side::Tree;
use super::Life;

impl Life<'_> {
    pub(super) fn commit(&mut self, disturbance: Disturbance, summary: &mut Summary) -> Result<()> {
        match disturbance {
            Disturbance::Offline(after, halt) => {
                if !self.unmount(false, summary)? {
                    return self.come_back(summary);
                }
                self.commit_offline(after, halt.as_ref(), summary)?;
                self.mount(summary)?;
                self.compare("after a commit without a mount", summary)?;
            }
            _ if self.halt.is_some() => self.commit_halting(summary)?,
            Disturbance::None => {}
            Disturbance::Store(faults, lasts) => {
                self.commit_over_faults(faults, Duration::from_millis(lasts), summary)?;
            }
            Disturbance::Killed(after) => {
                let commit = self.start_commit(&[])?;
                thread::sleep(Duration::from_millis(after));
                self.kill()?;
                self.after_killed_commit(commit, summary)?;
            }
        }
        self.without_halt(summary)?;
        self.commit_at_last(summary)
    }

    pub(super) fn start_commit(&self, options: &[&str]) -> Result<Running> {
        let mut command = self.programs.command(["commit", "--json", "--accept-open"]);
        command.args(options);
        // The kernel tells of the last close a moment later.
        if !options.contains(&"--skip-open") {
            command.args(["--wait", "20"]);
        }
        command.arg(&self.point);
        self.programs.start(command)
    }

    pub(super) fn after_killed_commit(
        &mut self,
        commit: Running,
        summary: &mut Summary,
    ) -> Result<()> {
        let said = commit.wait(Duration::from_mins(1))?;
        // It may have been done before.
        ensure!(
            matches!(said.code(), Some(0 | 13)),
            "a commit whose mount was killed said {said:?}"
        );
        summary.count(if said.code() == Some(0) {
            "commit done before the kill"
        } else {
            "commit cut off"
        });
        self.come_back(summary)
    }

    /// The process may halt in the commit, and is killed there.
    pub(super) fn commit_halting(&mut self, summary: &mut Summary) -> Result<()> {
        let is_of_commit = self.halt.as_ref().is_some_and(Halt::is_of_commit);
        let mut commit = self.start_commit(&[])?;
        if self.is_killed_where_it_halts(Some(&mut commit), summary)? {
            return self.after_killed_commit(commit, summary);
        }
        let said = commit.wait(Duration::ZERO)?;
        // Nothing was to be committed, or the durable step is not taken by a commit.
        let is_right = match said.code() {
            Some(0) => !is_of_commit || said.json()?["unchanged"] == true,
            Some(11 | 13) => self.walk.is_some(),
            _ => false,
        };
        ensure!(is_right, "a commit that was to halt said {said:?}");
        Ok(())
    }

    pub(super) fn commit_over_faults(
        &mut self,
        faults: &str,
        lasts: Duration,
        summary: &mut Summary,
    ) -> Result<()> {
        let seed = self.random.below(1 << 30);
        self.programs.faults(&format!("seed={seed}&{faults}"))?;
        let mut commit = self.start_commit(&[])?;
        let end = Instant::now() + lasts;
        while !commit.has_ended()? && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        self.programs.faults("")?;
        let said = commit.wait(Duration::from_mins(3))?;
        match said.code() {
            Some(0) => summary.count("commit done over faults"),
            // The store's, or of a mount whose commit is pending.
            Some(11 | 13) => {
                ensure!(
                    !said.err.trim().is_empty(),
                    "no word of why a commit failed"
                );
                summary.count("commit refused by faults");
            }
            _ => bail!("a commit over {faults} said {said:?}"),
        }
        Ok(())
    }

    pub(super) fn commit_offline(
        &mut self,
        after: Option<u64>,
        halt: Option<&Halt>,
        summary: &mut Summary,
    ) -> Result<()> {
        let commit = |life: &Self, halt: Option<&Halt>| {
            let mut command = life.programs.command(["commit", "--json", "--accept-open"]);
            command.arg(&life.session);
            if let Some(halt) = halt {
                halt.tell(&mut command);
            }
            life.programs.start(command)
        };
        if after.is_some() || halt.is_some() {
            let mut running = commit(self, halt)?;
            let start = Instant::now();
            while !running.has_ended()? {
                if let Some(halt) = halt.filter(|halt| running.has_said(&halt.said())) {
                    self.reached(halt, summary);
                    break;
                }
                if after.is_some_and(|after| start.elapsed() > Duration::from_millis(after)) {
                    break;
                }
                thread::sleep(Duration::from_millis(2));
            }
            // It may have ended.
            let _ = running.child.kill();
            let said = running.wait(Duration::from_mins(1))?;
            // In a walk the store fails meanwhile.
            let is_refused = self.walk.is_some() && matches!(said.code(), Some(11 | 13));
            ensure!(
                matches!(said.code(), None | Some(0)) || is_refused,
                "a commit that was killed said {said:?}"
            );
            summary.count(if said.code() == Some(0) {
                "commit done before the kill"
            } else {
                "commit cut off"
            });
            self.check(summary)?;
        }
        self.programs.faults("")?;
        let said = commit(self, None)?.wait(Duration::from_mins(3))?;
        ensure!(
            said.code() == Some(0),
            "a commit without a mount said {said:?}"
        );
        Ok(())
    }

    /// Commits without a disturbance, and mounts what was published.
    pub(super) fn commit_at_last(&mut self, summary: &mut Summary) -> Result<()> {
        self.programs.faults("")?;
        let said = self.start_commit(&[])?.wait(Duration::from_mins(3))?;
        ensure!(
            said.code() == Some(0),
            "a commit that nothing disturbs said {said:?}"
        );
        summary.count("published and compared");
        let status = self.status(&self.point)?;
        if status["uncommitted"] != 0 || status["commit_unfinished"] != false {
            let left = self.start_commit(&["--dry-run"])?;
            let left = left.wait(Duration::from_mins(3))?;
            bail!("not all is committed: {status}\n{said:?}\nleft: {left:?}");
        }
        let diffs = addresses(&status["committed"])?;
        // What may differ in the mount is the same on the disk from here on.
        if self
            .workers
            .iter()
            .any(|worker| !worker.strained.is_empty())
        {
            self.compare("after a commit", summary)?;
        }
        self.compare_published(&diffs)?;
        self.compare("after a commit", summary)
    }

    /// The base and these diffs are what is on the disk.
    pub(super) fn compare_published(&self, diffs: &[OsString]) -> Result<()> {
        let look = self.dir.join("look");
        let mut command = self.programs.command([
            "mount",
            "--json",
            "--foreground",
            "--read-only",
            "--max-cache-size",
            "64M",
            "--cache-min-free",
            "0",
            "--store",
        ]);
        command.arg(&self.store).args(&self.manifests).args(diffs);
        command.arg(&look);
        let mount = match Mount::start(command, &look, &self.dir.join("look.log"), None)? {
            Started::Ready(mount) => mount,
            other => bail!("what was published cannot be mounted: {other:?}"),
        };
        let found = Tree::read(&look)?.committed();
        let expected = Tree::read(&self.plain)?.committed();
        let many = diffs.len();
        hold(&found, &expected, &format!("the base and {many} diffs"))?;
        drop(mount);
        Ok(())
    }

    pub(super) fn commit_while_working(
        &mut self,
        many: u64,
        kill: Option<u64>,
        summary: &mut Summary,
    ) -> Result<()> {
        let may_halt = self.halt.is_some();
        let pause = Duration::from_millis(self.random.below(400));
        let mut command = self.programs.command(["commit", "--json", "--skip-open"]);
        command.arg(&self.point);
        let programs = self.programs;
        let mut code = None;
        self.work_during(many, None, |killing| {
            thread::sleep(pause);
            let commit = programs.start(command)?;
            if let Some(after) = kill {
                thread::sleep(Duration::from_millis(after));
                killing.kill();
            }
            let said = commit.wait(Duration::from_mins(3))?;
            let is_cut_off = said.code() == Some(13) && (kill.is_some() || may_halt);
            // The process may be dead before the commit asks it.
            let is_too_late = said.code() != Some(0) && may_halt && killing.is_dying();
            ensure!(
                said.code() == Some(0) || is_cut_off || is_too_late,
                "a commit while others worked said {said:?}"
            );
            code = said.code();
            Ok(())
        })?;
        summary.count(if code == Some(0) {
            "commit beside work"
        } else {
            "commit beside work cut off"
        });
        if kill.is_some() || self.has_halted() {
            return self.come_back(summary);
        }
        self.quiet();
        self.compare("after a commit beside work", summary)
    }
}

/// Where manifests are that the program told of.
pub(super) fn addresses(commits: &Value) -> Result<Vec<OsString>> {
    let address = |commit: &Value| {
        let address = commit["address"].as_str().context("no address")?;
        Ok(OsString::from(address))
    };
    let commits = commits.as_array().context("no commits")?;
    commits.iter().map(address).collect()
}
