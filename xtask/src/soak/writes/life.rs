//! One session, from its base to its end.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::Summary;
use super::events::{Disturbance, Event};
use super::halts::{Halt, Watch};
use super::judge::{hold, settle};
use super::mounting::{Disk, Mount, Programs, Running, STORE, Started, detach};
use super::side::{Side, Tree};
use super::steps::{Random, bytes};
use super::worker::{Excuses, Worker};
use crate::bench::bucket::Bucket;
use crate::bench::process::anonymous_memory;
use crate::cargo::{program, succeed};
use crate::soak::reads::{now, show_stacks};

/// Who works, each in a directory of its own.
const WORKERS: [&str; 2] = ["w0", "w1"];
/// An operation that takes longer hangs.
const LONGEST: u64 = 90_000;
/// How much the disk of the session has.
const DISK: u64 = 1 << 30;
/// What goes wrong with the store in a walk, in thousandths: before, in the midst and after a write is done, of chunks and of manifests.
const WALKED_FAULTS: &str = "chunk_internal=100&chunk_cut=60&chunk_close=60&chunk_failed=60&manifest_internal=100&manifest_cut=100&manifest_close=150&manifest_failed=150";
/// How many rounds a session has.
const ROUNDS: u64 = 24;

pub(super) struct Life<'a> {
    programs: &'a Programs,
    dir: PathBuf,
    disk: Option<Disk>,
    session: PathBuf,
    point: PathBuf,
    plain: PathBuf,
    manifest: PathBuf,
    workers: Vec<Worker>,
    random: Random,
    excuses: Excuses,
    mount: Option<Mount>,
    /// Where the mount's process halts, if it comes there.
    halt: Option<Halt>,
    /// Whether the process may have ended in order before it was killed.
    is_sealed: bool,
    /// If not at random, where processes halt.
    walk: Option<Walk>,
    /// Hears that the mount's process halts.
    watch: Option<Watch>,
    round: u64,
}

impl<'a> Life<'a> {
    /// Makes a base and mounts it.
    pub(super) fn begin(
        programs: &'a Programs,
        seed: u64,
        wanted: Option<Halt>,
        summary: &mut Summary,
    ) -> Result<Self> {
        programs.faults("")?;
        let dir = programs.dir.join("life");
        fs::create_dir_all(&dir)?;
        let disk = Disk::make(&dir, DISK)?;
        let mut random = Random::new(seed);
        let (input, plain) = (dir.join("input"), dir.join("plain"));
        for name in WORKERS {
            inputs(&input.join(name), &mut random)?;
        }
        let manifest = dir.join("base.manifest");
        let mut snapshot = programs.command(["snapshot", "--store"]);
        snapshot
            .arg(Bucket::address(STORE))
            .arg(&input)
            .arg("-o")
            .arg(&manifest);
        if random.one_in(2) {
            snapshot.args(["--chunk-size", "262144"]);
        }
        let said = programs.said(snapshot)?;
        ensure!(said.status.success(), "no snapshot: {said:?}");
        succeed(program("cp", ["-a"]).args([&input, &plain]))?;
        fs::remove_dir_all(&input)?;
        let point = dir.join("mount");
        let mut workers = Vec::new();
        for name in WORKERS {
            let [mount, disk] = [&point, &plain].map(|root| Side::new(root.join(name)));
            let log = fs::File::create(dir.join(format!("{name}.steps")))?;
            workers.push(Worker::new(name, random.next(), log, mount, disk));
        }
        let session = disk.point.join("session");
        let mut life = Self {
            programs,
            dir,
            disk: Some(disk),
            session,
            point,
            plain,
            manifest,
            workers,
            random,
            excuses: Excuses::default(),
            mount: None,
            halt: None,
            walk: wanted.map(|halt| Walk {
                wanted: Some(halt),
                is_paused: false,
            }),
            is_sealed: false,
            watch: None,
            round: 0,
        };
        life.mount(summary)?;
        Ok(life)
    }

    /// Rounds, until there were enough or the time is over; then all is committed.
    pub(super) fn live(&mut self, end: Instant, summary: &mut Summary) -> Result<()> {
        let lived = self.rounds(end, summary);
        for worker in &self.workers {
            summary.steps += worker.steps;
            summary.refused += worker.refused;
            for (kind, count) in &worker.kinds {
                *summary.kinds.entry(kind).or_default() += count;
            }
        }
        summary.no_space += self.excuses.no_space.load(Ordering::SeqCst);
        summary.after_death += self.excuses.after_death.load(Ordering::SeqCst);
        lived
    }

    /// One of each event, with a store that fails, until a process has halted at the place that is wanted and was killed there. Then all is as it
    /// would have been without. Says whether one came there.
    pub(super) fn walk(&mut self, summary: &mut Summary) -> Result<bool> {
        let wanted = self.walk.as_ref().and_then(|walk| walk.wanted.clone());
        let events = [
            Event::Compared,
            Event::Committed(Disturbance::None),
            Event::Unmounted,
            Event::Committed(Disturbance::Offline(None, wanted)),
            Event::FullDisk(0, false),
            Event::KilledAtRest,
            Event::Committed(Disturbance::None),
        ];
        for event in events {
            self.round += 1;
            let seed = self.random.below(1 << 30);
            self.programs
                .faults(&format!("seed={seed}&{WALKED_FAULTS}"))?;
            let at = format!("round {}, {event:?}", self.round);
            self.round(event, summary).with_context(|| at)?;
            self.programs.faults("")?;
            summary.rounds += 1;
        }
        self.without_halt(summary)?;
        self.commit_at_last(summary).context("at the end")?;
        self.discard(summary)?;
        Ok(self.walk.as_ref().is_some_and(|walk| walk.wanted.is_none()))
    }

    /// Discards the session, whose deletion may be interrupted.
    fn discard(&mut self, summary: &mut Summary) -> Result<()> {
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
        if let Some(halt) = self.walk.as_ref().and_then(|walk| walk.wanted.clone()) {
            let mut command = discard(self);
            halt.tell(&mut command);
            let mut running = self.programs.start(command)?;
            while !running.has_ended()? {
                if running.has_said(&halt.said()) {
                    self.reached(&halt, summary);
                    running.child.kill()?;
                    break;
                }
                thread::sleep(Duration::from_millis(2));
            }
            let said = running.wait(Duration::from_mins(1))?;
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

    fn rounds(&mut self, end: Instant, summary: &mut Summary) -> Result<()> {
        while self.round < ROUNDS && (Instant::now() < end || self.round == 0) {
            self.round += 1;
            let event = Event::draw(&mut self.random);
            let at = format!("round {}, {event:?}", self.round);
            let done = self.round(event.clone(), summary);
            summary.rounds += 1;
            summary.count(event.name());
            let memory = self
                .mount
                .as_ref()
                .and_then(|mount| anonymous_memory(mount.pid()));
            summary.memory = summary.memory.max(memory.unwrap_or(0));
            done.with_context(|| at)?;
        }
        self.quiet();
        self.without_halt(summary)?;
        self.commit_at_last(summary).context("at the end")
    }

    fn round(&mut self, event: Event, summary: &mut Summary) -> Result<()> {
        let many = 40 + self.random.below(160);
        let (kill_at, kill_after) = match event {
            Event::KilledWhileWorking(after) => (None, Some(Duration::from_millis(after))),
            Event::KilledAtStep(step) => (Some(step), None),
            Event::CommittedWhileWorking(kill) => {
                return self.commit_while_working(many, kill, summary);
            }
            Event::FullDisk(leave, kill) => return self.on_a_full_disk(many, leave, kill, summary),
            _ => (None, None),
        };
        let many = if kill_after.is_some() {
            10_000
        } else {
            many + kill_at.unwrap_or(0)
        };
        self.work(many, kill_at, kill_after)?;
        if self.has_halted() {
            return self.come_back(summary);
        }
        match event {
            Event::KilledAtRest => {
                if self.random.one_in(2) {
                    self.quiet();
                }
                self.come_back(summary)
            }
            Event::Unmounted | Event::Terminated => {
                self.quiet();
                if !self.unmount(event == Event::Terminated, summary)? {
                    return self.come_back(summary);
                }
                self.check(summary)?;
                self.mount(summary)?;
                self.compare("after an unmount", summary)
            }
            Event::Committed(disturbance) => {
                self.quiet();
                if self.random.one_in(3) {
                    self.compare("before a commit", summary)?;
                }
                self.commit(disturbance, summary)
            }
            Event::Compared => {
                self.quiet();
                self.compare("after work", summary)
            }
            _ => self.come_back(summary),
        }
    }

    /// Lets the workers work.
    fn work(
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
    fn work_during(
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
                            super::mounting::kill(pid.load(Ordering::SeqCst));
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
    fn quiet(&mut self) {
        for worker in &mut self.workers {
            worker.close_all();
        }
    }

    fn kill(&mut self) -> Result<()> {
        self.excuses.dying.store(true, Ordering::SeqCst);
        self.mount.as_mut().context("nothing is mounted")?.kill()
    }

    /// Kills the process, if it lives; then the session is checked and taken up, and what had returned success is there.
    fn come_back(&mut self, summary: &mut Summary) -> Result<()> {
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

    /// Mounts, for the first time or again.
    fn mount(&mut self, summary: &mut Summary) -> Result<()> {
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
        let is_new = !self.session.exists();
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

    fn start(&mut self, is_new: bool, is_passthrough: bool) -> Result<Started> {
        let log = self.dir.join("mount.log");
        let watch = Watch::on(&log, self.halt.as_ref());
        self.watch = Some(watch.clone());
        let mut command = self
            .programs
            .command(["mount", "--json", "--foreground", "--session"]);
        command.arg(&self.session);
        if is_new {
            command.arg("--store").arg(Bucket::address(STORE));
        }
        command.args(["--max-cache-size", "64M", "--cache-min-free", "0"]);
        if !is_passthrough {
            command.arg("--no-passthrough");
        }
        if let Some(halt) = &self.halt {
            halt.tell(&mut command);
        }
        if is_new {
            command.arg(&self.manifest);
        }
        command.arg(&self.point);
        Mount::start(command, &self.point, &log, Some(&watch))
    }

    /// If the process may halt, another one is mounted.
    fn without_halt(&mut self, summary: &mut Summary) -> Result<()> {
        self.quiet();
        self.pause_walk(true);
        while self.halt.is_some() {
            self.remount(summary)?;
        }
        self.pause_walk(false);
        Ok(())
    }

    fn pause_walk(&mut self, is_paused: bool) {
        if let Some(walk) = &mut self.walk {
            walk.is_paused = is_paused;
        }
    }

    /// A process halted there, and is killed.
    fn reached(&mut self, halt: &Halt, summary: &mut Summary) {
        summary.halted(halt);
        if let Some(walk) = &mut self.walk {
            walk.wanted = None;
        }
    }

    fn has_halted(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::has_halted)
    }

    /// Unmounts and mounts again. All files are closed.
    fn remount(&mut self, summary: &mut Summary) -> Result<()> {
        if !self.unmount(false, summary)? {
            return self.come_back(summary);
        }
        self.mount(summary)
    }

    /// Says whether it was unmounted; else its process halted, and was killed.
    fn unmount(&mut self, by_signal: bool, summary: &mut Summary) -> Result<bool> {
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
    fn is_killed_where_it_halts(
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

    /// `fsck` finds nothing.
    fn check(&mut self, summary: &mut Summary) -> Result<()> {
        let mut command = self.programs.command(["fsck", "--json"]);
        if self.random.one_in(4) {
            command.arg("--repair");
        }
        command.arg(&self.session);
        let said = self.programs.json(command)?;
        ensure!(said["sound"] == true, "fsck: {said}");
        summary.count("fsck");
        Ok(())
    }

    /// The mount has what the disk has.
    fn compare(&mut self, what: &str, summary: &mut Summary) -> Result<()> {
        summary.compared += 1;
        for worker in &mut self.workers {
            settle(worker, what)?;
        }
        let mut names: Vec<_> = fs::read_dir(&self.point)?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        ensure!(names == WORKERS, "{what}: the mount has {names:?}");
        Ok(())
    }

    fn commit(&mut self, disturbance: Disturbance, summary: &mut Summary) -> Result<()> {
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

    fn start_commit(&self, options: &[&str]) -> Result<Running> {
        let mut command = self.programs.command(["commit", "--json", "--accept-open"]);
        command.args(options);
        // The kernel tells of the last close a moment later.
        if !options.contains(&"--skip-open") {
            command.args(["--wait", "20"]);
        }
        command.arg(&self.point);
        self.programs.start(command)
    }

    fn after_killed_commit(&mut self, commit: Running, summary: &mut Summary) -> Result<()> {
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
    fn commit_halting(&mut self, summary: &mut Summary) -> Result<()> {
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

    fn commit_over_faults(
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

    fn commit_offline(
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
    fn commit_at_last(&mut self, summary: &mut Summary) -> Result<()> {
        self.programs.faults("")?;
        let said = self.start_commit(&[])?.wait(Duration::from_mins(3))?;
        ensure!(
            said.code() == Some(0),
            "a commit that nothing disturbs said {said:?}"
        );
        summary.count("published and compared");
        let mut command = self.programs.command(["status", "--json"]);
        command.arg(&self.point);
        let status = self.programs.json(command)?;
        ensure!(
            status["uncommitted"] == 0 && status["commit_unfinished"] == false,
            "not all is committed: {status}"
        );
        let published = status["committed"].as_array().context("no commits")?;
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
        command.arg(Bucket::address(STORE)).arg(&self.manifest);
        for commit in published {
            command.arg(commit["address"].as_str().context("no address")?);
        }
        command.arg(&look);
        let mount = match Mount::start(command, &look, &self.dir.join("look.log"), None)? {
            Started::Ready(mount) => mount,
            other => bail!("what was published cannot be mounted: {other:?}"),
        };
        let found = Tree::read(&look)?.committed();
        let expected = Tree::read(&self.plain)?.committed();
        let many = published.len();
        hold(&found, &expected, &format!("the base and {many} diffs"))?;
        drop(mount);
        self.compare("after a commit", summary)
    }

    fn commit_while_working(
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

    fn on_a_full_disk(
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

    fn give_room(&self) -> Result<()> {
        self.disk.as_ref().context("no disk")?.empty()?;
        self.excuses.full_disk.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// The last steps of each worker.
    pub(super) fn last_steps(&self) -> VecDeque<String> {
        self.workers
            .iter()
            .flat_map(|worker| worker.last.iter().cloned())
            .collect()
    }

    /// Ends the session, of which all was committed.
    pub(super) fn end(mut self) -> Result<()> {
        self.quiet();
        self.discard(&mut Summary::default())?;
        drop(self.disk.take());
        self.programs.bucket.delete(STORE)?;
        fs::remove_dir_all(&self.dir)
            .with_context(|| format!("cannot delete {}", self.dir.display()))
    }

    /// Ends the process, and leaves all as it is, for somebody to look at.
    pub(super) fn keep(&mut self) {
        self.quiet();
        let kept = self.dir.join("session");
        drop(self.mount.take());
        let copied = succeed(program("cp", ["-a"]).args([&self.session, &kept]));
        if let Err(error) = copied {
            println!("the session is not kept: {error:#}");
        }
    }
}

/// A life in which one place is reached.
#[derive(Debug)]
struct Walk {
    /// Until a process was there.
    wanted: Option<Halt>,
    /// Nobody halts meanwhile.
    is_paused: bool,
}

struct Killing<'a> {
    pid: &'a AtomicU32,
    excuses: &'a Excuses,
}

impl Killing<'_> {
    fn is_dying(&self) -> bool {
        self.excuses.dying.load(Ordering::SeqCst)
    }

    /// Kills the process; workers end a moment later, if they do not notice.
    fn kill(&self) {
        self.excuses.dying.store(true, Ordering::SeqCst);
        super::mounting::kill(self.pid.load(Ordering::SeqCst));
        thread::sleep(Duration::from_millis(30));
        self.excuses.stop.store(true, Ordering::SeqCst);
    }
}

/// Makes the inputs of a worker: files of all lengths, of which some run and all have times of long ago.
fn inputs(root: &std::path::Path, random: &mut Random) -> Result<()> {
    fs::create_dir_all(root)?;
    for _ in 0..40 {
        let (path, length, fill) = (root.join(random.path()), 2 * random.length(), random.next());
        let (runs, seconds) = (random.one_in(3), random.below(1_600_000_000));
        let parent = path.parent().context("a file has a directory")?;
        // A name may be that of a file already.
        if path.exists() || fs::create_dir_all(parent).is_err() {
            continue;
        }
        fs::write(&path, bytes(fill, 0, length))?;
        fs::set_permissions(
            &path,
            fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 }),
        )?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::open(&path)?.set_times(fs::FileTimes::new().set_modified(time))?;
    }
    Ok(())
}
