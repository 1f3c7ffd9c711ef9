//! The process of the mount: it is started, ends in order, is killed where it halts or at any time, and another one takes the session up.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::super::Summary;
use super::super::halts::{Halt, Watch};
use super::super::mounting::{Mount, Running, Started, detach};
use super::{Life, WORKERS, Walk};
use crate::soak::reads::show_stacks;

impl Life<'_> {
    /// Mounts, for the first time or again.
    pub(super) fn mount(&mut self, summary: &mut Summary) -> Result<()> {
        let mut had_died = Some(self.mount.is_some());
        if let Some(mut mount) = self.mount.take() {
            let is_dying = self.excuses.dying.load(Ordering::SeqCst);
            ensure!(is_dying, "the mount ended by itself");
            // The dead mount is taken away by the next one, unless that was done before.
            mount.is_left = true;
        }
        if std::mem::take(&mut self.is_sealed) {
            had_died = None;
        }
        let is_new = !self.has_session();
        let is_passthrough = self.random.one_in(2);
        self.halt = match &self.walk {
            None => self.random.one_in(4).then(|| Halt::draw(&mut self.random)),
            Some(walk) => walk.wanted.clone().filter(|_| !walk.is_paused),
        };
        let mut mount = self.start(is_new, is_passthrough)?;
        if let Started::Halted = mount {
            if let Some(halt) = self.halt.take() {
                self.reached(&halt, summary);
            }
            had_died = None;
            mount = self.start(is_new, is_passthrough)?;
            if is_new && matches!(mount, Started::Ended(_)) {
                mount = self.start(false, is_passthrough)?;
            }
        }
        if let Started::Ended(said) = &mount
            && self.excuses.full_disk.load(Ordering::SeqCst)
        {
            ensure!(
                said.code().is_some(),
                "a mount on a full disk ended with {said:?}"
            );
            summary.count("not mounted on a full disk");
            self.give_room()?;
            self.halt = None;
            mount = self.start(is_new, is_passthrough)?;
        }
        let mount = match mount {
            Started::Ready(mount) => mount,
            Started::Ended(said) => bail!("not mounted: {said:?}"),
            Started::Halted => bail!("a mount halted that was not to"),
        };
        ensure!(
            had_died.is_none_or(|had_died| mount.told["had_died"] == had_died),
            "had the process died ({had_died:?})? {}",
            mount.told
        );
        self.excuses
            .passthrough
            .store(is_passthrough, Ordering::SeqCst);
        self.excuses.dying.store(false, Ordering::SeqCst);
        self.mount = Some(mount);
        Ok(())
    }

    pub(super) fn start(&mut self, is_new: bool, is_passthrough: bool) -> Result<Started> {
        let log = self.dir.join("mount.log");
        let watch = Watch::on(&log, self.halt.as_ref());
        self.watch = Some(watch.clone());
        let mut command = self
            .programs
            .command(["mount", "--json", "--foreground", "--session"]);
        command.arg(&self.session);
        if is_new {
            command.arg("--store").arg(&self.store);
        }
        command.args(["--max-cache-size", "64M", "--cache-min-free", "0"]);
        if !is_passthrough {
            command.arg("--no-passthrough");
        }
        // A session keeps them.
        if self.sends_early && is_new {
            command.args(WORKERS.iter().flat_map(|name| ["--output-dir", name]));
        }
        if let Some(bound) = self.bound {
            command.arg(format!("--max-scratch={bound}"));
        }
        if let Some(halt) = &self.halt {
            halt.tell(&mut command);
        }
        if is_new {
            command.args(&self.manifests);
        }
        command.arg(&self.point);
        if self.walk.as_ref().is_some_and(Walk::has_limits) {
            // Else a write beyond a limit ends the process, and is no error.
            command = behind(&["env", "--ignore-signal=XFSZ"], &command);
        }
        Mount::start(command, &self.point, &log, Some(&watch))
    }

    /// Kills the process, if it lives; then the session is checked and taken up, and what had returned success is there.
    pub(super) fn come_back(&mut self, summary: &mut Summary) -> Result<()> {
        if self.has_halted()
            && let Some(halt) = self.halt.take()
        {
            self.reached(&halt, summary);
        }
        self.kill()?;
        summary.kills += 1;
        self.quiet();
        let under_way = self
            .workers
            .iter()
            .filter(|worker| worker.under_way.is_some());
        summary.under_way += under_way.count() as u64;
        if self.random.one_in(2) {
            detach(&self.point);
            self.check(summary)?;
            // With the dead mount went what told that it had died.
            self.is_sealed = true;
        }
        self.mount(summary)?;
        self.compare("after a kill", summary)
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.excuses.dying.store(true, Ordering::SeqCst);
        self.mount.as_mut().context("nothing is mounted")?.kill()
    }

    /// Unmounts and mounts again. All files are closed.
    pub(super) fn remount(&mut self, summary: &mut Summary) -> Result<()> {
        if !self.unmount(false, summary)? {
            return self.come_back(summary);
        }
        self.mount(summary)
    }

    /// Says whether it was unmounted; else its process halted, and was killed.
    pub(super) fn unmount(&mut self, by_signal: bool, summary: &mut Summary) -> Result<bool> {
        // A session of which all is committed would end.
        self.work(0, None, None)?;
        self.quiet();
        if self.has_halted() {
            self.kill()?;
            return Ok(false);
        }
        let mount = self.mount.as_ref().context("nothing is mounted")?;
        if by_signal {
            let pid = Pid::from_raw(mount.pid().cast_signed()).context("no process")?;
            kill_process(pid, Signal::TERM)?;
            if self.is_killed_where_it_halts(None, summary)? {
                return Ok(false);
            }
        } else {
            let mut command = self.programs.command(["umount", "--json"]);
            command.arg(&self.point);
            let mut running = self.programs.start(command)?;
            if self.is_killed_where_it_halts(Some(&mut running), summary)? {
                running.wait(Duration::from_mins(2))?;
                return Ok(false);
            }
            let said = running.wait(Duration::from_mins(3))?;
            ensure!(said.code() == Some(0), "umount said {said:?}");
        }
        let mut mount = self.mount.take().context("nothing is mounted")?;
        let status = mount.wait(Duration::from_mins(1))?;
        ensure!(
            status.success() || by_signal,
            "the mount ended with {status}"
        );
        ensure!(
            self.session.exists(),
            "the session is gone, although something is in it"
        );
        Ok(true)
    }

    /// Waits until the mount's process has ended, or the command, if there is one; or until the process halts, and kills it then.
    pub(super) fn is_killed_where_it_halts(
        &mut self,
        mut command: Option<&mut Running>,
        summary: &mut Summary,
    ) -> Result<bool> {
        let end = Instant::now() + Duration::from_mins(3);
        loop {
            if self.has_halted() {
                if let Some(halt) = self.halt.take() {
                    self.reached(&halt, summary);
                }
                self.is_sealed = true;
                self.kill()?;
                return Ok(true);
            }
            let has_ended = match &mut command {
                Some(command) => command.has_ended()?,
                None => {
                    let mount = self.mount.as_mut().context("nothing is mounted")?;
                    mount.process.try_wait()?.is_some()
                }
            };
            if has_ended {
                return Ok(false);
            }
            if Instant::now() > end {
                let mount = self.mount.as_ref().context("nothing is mounted")?;
                show_stacks(mount.pid());
                bail!("neither an end nor a halt");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(super) fn has_halted(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::has_halted)
    }

    /// If the process may halt, another one is mounted.
    pub(super) fn without_halt(&mut self, summary: &mut Summary) -> Result<()> {
        self.quiet();
        self.pause_walk(true);
        while self.halt.is_some() {
            self.remount(summary)?;
        }
        self.pause_walk(false);
        Ok(())
    }
}

/// A command as the arguments of another one.
fn behind(words: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(words[0]);
    outer
        .args(&words[1..])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}
