//! Workers work, also on a disk that is full, while somebody watches whether a step hangs and whether the process halts.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::Summary;
use super::super::halts::Watch;
use super::super::worker::Excuses;
use super::Life;
use crate::soak::reads::{now, show_stacks};

/// An operation that takes longer hangs.
const LONGEST: u64 = 90_000;

impl Life<'_> {
    /// Lets the workers work.
    pub(super) fn work(
        &mut self,
        many: u64,
        kill_at: Option<u64>,
        kill_after: Option<Duration>,
    ) -> Result<()> {
        self.work_during(many, kill_at, |killing: &Killing<'_>| {
            if let Some(after) = kill_after {
                thread::sleep(after);
                killing.kill();
            }
            Ok(())
        })
    }

    /// Lets the workers work while something else is done. They end by themselves, or after the process was killed.
    pub(super) fn work_during(
        &mut self,
        many: u64,
        kill_at: Option<u64>,
        other: impl FnOnce(&Killing<'_>) -> Result<()>,
    ) -> Result<()> {
        let pid = self.mount.as_ref().context("nothing is mounted")?.pid();
        let (round, excuses) = (self.round, &self.excuses);
        excuses.stop.store(false, Ordering::SeqCst);
        let pid = AtomicU32::new(pid);
        let has_ended = AtomicBool::new(false);
        let watch = self.watch.clone();
        let doing: Vec<_> = self
            .workers
            .iter()
            .map(|worker| worker.doing.clone())
            .collect();
        let mut failures = Vec::new();
        thread::scope(|scope| {
            let watching = scope.spawn(|| {
                while !has_ended.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(20));
                    let is_dying = excuses.dying.load(Ordering::SeqCst);
                    if !is_dying && watch.as_ref().is_some_and(Watch::has_halted) {
                        Killing { pid: &pid, excuses }.kill();
                    }
                    for doing in &doing {
                        let since = doing.since.load(Ordering::SeqCst);
                        if since > 0 && now().saturating_sub(since) > LONGEST {
                            let what = doing.what.lock().expect("nobody panics with it").clone();
                            show_stacks(pid.load(Ordering::SeqCst));
                            excuses.stop.store(true, Ordering::SeqCst);
                            excuses.dying.store(true, Ordering::SeqCst);
                            super::super::mounting::kill(pid.load(Ordering::SeqCst));
                            return Some(what);
                        }
                    }
                }
                None
            });
            let mut working = Vec::new();
            for (number, worker) in self.workers.iter_mut().enumerate() {
                let kill_at = kill_at.filter(|_| number == 0).map(|at| (at, &pid));
                working.push(scope.spawn(move || {
                    let worked = worker.work(round, many, kill_at, excuses);
                    if worked.is_err() {
                        excuses.stop.store(true, Ordering::SeqCst);
                    }
                    worked
                }));
            }
            let done = other(&Killing { pid: &pid, excuses });
            for worker in working {
                match worker.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(failure)) => failures.push(failure),
                    Err(_) => failures.push("a worker panicked".to_owned()),
                }
            }
            has_ended.store(true, Ordering::SeqCst);
            if let Ok(Some(what)) = watching.join() {
                failures.push(format!("it hangs: {what}"));
            }
            if let Err(error) = done {
                failures.push(format!("{error:#}"));
            }
        });
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        Ok(())
    }

    /// Closes all files.
    pub(super) fn quiet(&mut self) {
        for worker in &mut self.workers {
            worker.close_all();
        }
    }

    pub(super) fn on_a_full_disk(
        &mut self,
        many: u64,
        leave: u64,
        kill: bool,
        summary: &mut Summary,
    ) -> Result<()> {
        self.excuses.full_disk.store(true, Ordering::SeqCst);
        self.disk.as_ref().context("no disk")?.fill(leave)?;
        let after = kill.then(|| Duration::from_millis(self.random.below(700)));
        self.work(many, None, after)?;
        if kill || self.has_halted() {
            self.come_back(summary)?;
        } else {
            self.quiet();
            self.compare("on a full disk", summary)?;
        }
        if self.excuses.full_disk.load(Ordering::SeqCst) {
            self.give_room()?;
            self.work(many / 4, None, None)?;
            if self.has_halted() {
                return self.come_back(summary);
            }
            self.quiet();
            self.compare("once there is room again", summary)?;
        }
        Ok(())
    }

    pub(super) fn give_room(&self) -> Result<()> {
        self.disk.as_ref().context("no disk")?.empty()?;
        self.excuses.full_disk.store(false, Ordering::SeqCst);
        Ok(())
    }
}

/// The process of the mount, for who may kill it while others work.
pub(super) struct Killing<'a> {
    pid: &'a AtomicU32,
    excuses: &'a Excuses,
}

impl Killing<'_> {
    pub(super) fn is_dying(&self) -> bool {
        self.excuses.dying.load(Ordering::SeqCst)
    }

    /// Kills the process; workers end a moment later, if they do not notice.
    pub(super) fn kill(&self) {
        self.excuses.dying.store(true, Ordering::SeqCst);
        super::super::mounting::kill(self.pid.load(Ordering::SeqCst));
        thread::sleep(Duration::from_millis(30));
        self.excuses.stop.store(true, Ordering::SeqCst);
    }
}
