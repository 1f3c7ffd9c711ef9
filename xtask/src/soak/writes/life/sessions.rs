//! What a session goes through beside kills and commits: its files rest until they are sent early, what it may keep has a bound, an unmount commits
//! and ends it.

use std::fs;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::super::Summary;
use super::super::mounting::detach;
use super::Life;
use super::committing::addresses;
use crate::cargo::{program, succeed};

impl Life<'_> {
    /// Leaves all files closed for longer than files have to be quiet before they are sent early.
    pub(super) fn rest(&mut self, summary: &mut Summary) -> Result<()> {
        self.quiet();
        let end = Instant::now() + Duration::from_millis(2500 + self.random.below(3000));
        while Instant::now() < end && !self.has_halted() {
            thread::sleep(Duration::from_millis(20));
        }
        if self.has_halted() {
            return self.come_back(summary);
        }
        let status = self.status(&self.point)?;
        if self.sends_early {
            let sent = status["early_upload"]["files"].as_u64();
            summary.sent_early += sent.context("no count of early uploads")?;
        }
        Ok(())
    }

    /// Work in a mount that may keep so many bytes.
    pub(super) fn work_within_a_bound(
        &mut self,
        many: u64,
        bound: u64,
        kill: bool,
        summary: &mut Summary,
    ) -> Result<()> {
        self.without_halt(summary)?;
        if !self.unmount(false, summary)? {
            return self.come_back(summary);
        }
        self.bound = Some(bound);
        self.excuses.full_disk.store(true, Ordering::SeqCst);
        self.mount(summary)?;
        let after = kill.then(|| Duration::from_millis(self.random.below(700)));
        self.work(many, None, after)?;
        if kill || self.has_halted() {
            self.come_back(summary)?;
        } else {
            self.quiet();
            self.compare("within a bound", summary)?;
        }
        self.bound = None;
        self.remount(summary)?;
        self.excuses.full_disk.store(false, Ordering::SeqCst);
        self.compare("once there is no bound", summary)
    }

    /// Unmounts and commits at once; the process is killed meanwhile, or not. A session of which all was committed ends, and another one begins over
    /// what was published.
    pub(super) fn unmount_and_commit(
        &mut self,
        kill_after: Option<u64>,
        summary: &mut Summary,
    ) -> Result<()> {
        self.without_halt(summary)?;
        // A session that published nothing leaves no account.
        self.work(0, None, None)?;
        self.quiet();
        let mount = self.mount.as_ref().context("nothing is mounted")?;
        let session = mount.told["session"].as_str().context("no session")?;
        let session = session.to_owned();
        let mut command = self.programs.command(["umount", "--commit", "--json"]);
        // The kernel tells of the last close a moment later.
        command.args(["--timeout", "20"]).arg(&self.point);
        let umount = self.programs.start(command)?;
        if let Some(after) = kill_after {
            thread::sleep(Duration::from_millis(after));
            self.kill()?;
        }
        let said = umount.wait(Duration::from_mins(3))?;
        match said.code() {
            Some(0) => {}
            // Files whose writer was killed are not committed unasked, and the process may have been killed before anything was.
            Some(13 | 14) => ensure!(self.has_session(), "pending, and gone: {said:?}"),
            // The process was dead before the command asked it.
            Some(_) if kill_after.is_some() => {}
            _ => bail!("umount --commit said {said:?}"),
        }
        if self.has_session() {
            let is_dying = self.excuses.dying.load(Ordering::SeqCst);
            ensure!(
                said.code() != Some(0) || is_dying,
                "unmounted and committed, and the session is there: {said:?}"
            );
            summary.count("umount --commit cut off or refused");
            self.is_sealed = true;
            self.excuses.dying.store(true, Ordering::SeqCst);
            return self.come_back(summary);
        }
        summary.count("session ended by umount --commit");
        let mut mount = self.mount.take().context("nothing is mounted")?;
        mount.wait(Duration::from_mins(1))?;
        // Of a process that was killed, the mount may be left.
        detach(&self.point);
        mount.is_left = true;
        let ended = self.status(session.as_ref())?;
        let diffs = addresses(&ended["commits"])?;
        self.compare_published(&diffs)?;
        self.manifests.extend(diffs);
        // Manifests hold neither owners nor attributes, nor all of a mode.
        self.mount(summary)?;
        fs::remove_dir_all(&self.plain)?;
        succeed(program("cp", ["-a"]).args([&self.point, &self.plain]))?;
        self.compare("over what was published", summary)
    }

    /// Whether there is a session. Once its deletion has begun there is none, although its directory may still be there.
    pub(super) fn has_session(&self) -> bool {
        self.session.join("session.json").exists()
    }

    /// What the program says of a mount or a session.
    pub(super) fn status(&self, of: &std::path::Path) -> Result<Value> {
        let mut command = self.programs.command(["status", "--json"]);
        command.arg(of);
        self.programs.json(command)
    }
}
