//! One session, from its base to its end: rounds of work, each of which ends in an event, and what is compared then.

mod committing;
mod ending;
mod marring;
mod process;
mod sessions;
mod walking;
mod work;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use super::Summary;
use super::events::Event;
use super::halts::{Halt, Watch};
use super::judge::settle;
use super::mounting::{Disk, Mount, Programs, STORE};
use super::side::Side;
use super::steps::{Random, bytes};
use super::worker::{Excuses, Worker};
use crate::bench::bucket::Bucket;
use crate::bench::process::anonymous_memory;
use crate::cargo::{program, succeed};
pub(super) use marring::Left;
pub(super) use walking::{Course, Walk};

/// Who works, each in a directory of its own.
const WORKERS: [&str; 2] = ["w0", "w1"];
/// How much the disk of the session has.
const DISK: u64 = 1 << 30;
/// How many rounds a session has.
const ROUNDS: u64 = 24;

pub(super) struct Life<'a> {
    programs: &'a Programs,
    dir: PathBuf,
    disk: Option<Disk>,
    session: PathBuf,
    store: OsString,
    point: PathBuf,
    plain: PathBuf,
    /// The base, and the diffs that ended sessions published, oldest first: files and addresses.
    manifests: Vec<OsString>,
    /// Whether closed files are sent before the commit.
    sends_early: bool,
    /// How many bytes a mount may keep.
    bound: Option<u64>,
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
        walk: Option<Walk>,
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
        if let Some(walk) = &walk {
            walk.add_inputs(&input.join(WORKERS[0]))?;
        }
        let manifest = dir.join("base.manifest");
        let is_in_a_directory = walk.as_ref().is_some_and(Walk::is_in_a_directory);
        let store = if is_in_a_directory {
            dir.join("store").into_os_string()
        } else {
            Bucket::address(STORE).into()
        };
        let mut snapshot = programs.command(["snapshot", "--store"]);
        snapshot.arg(&store).arg(&input).arg("-o").arg(&manifest);
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
        // A log can be moved within a disk only.
        let session = if walk.as_ref().is_some_and(Walk::is_on_the_disk_of_logs) {
            dir.join("session")
        } else {
            disk.point.join("session")
        };
        let sends_early = match &walk {
            Some(walk) => walk.is_early(),
            None => random.one_in(2),
        };
        let mut life = Self {
            programs,
            dir,
            disk: Some(disk),
            session,
            store,
            point,
            plain,
            manifests: vec![manifest.into()],
            sends_early,
            bound: None,
            workers,
            random,
            excuses: Excuses::default(),
            mount: None,
            halt: None,
            walk,
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
        self.account(summary);
        lived
    }

    /// Adds what the workers did.
    fn account(&self, summary: &mut Summary) {
        for worker in &self.workers {
            summary.steps += worker.steps;
            summary.refused += worker.refused;
            for (kind, count) in &worker.kinds {
                *summary.kinds.entry(kind).or_default() += count;
            }
        }
        summary.no_space += self.excuses.no_space.load(Ordering::SeqCst);
        summary.after_death += self.excuses.after_death.load(Ordering::SeqCst);
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
        let many = match &self.walk {
            // There are many lives in a walk.
            Some(_) => 15 + self.random.below(45),
            None => 40 + self.random.below(160),
        };
        let (kill_at, kill_after) = match event {
            Event::KilledWhileWorking(after) => (None, Some(Duration::from_millis(after))),
            Event::KilledAtStep(step) => (Some(step), None),
            Event::CommittedWhileWorking(kill) => {
                return self.commit_while_working(many, kill, summary);
            }
            Event::FullDisk(leave, kill) => return self.on_a_full_disk(many, leave, kill, summary),
            Event::Bounded(bound, kill) => {
                return self.work_within_a_bound(many, bound, kill, summary);
            }
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
            Event::Rested => {
                self.rest(summary)?;
                self.compare("after a rest", summary)
            }
            Event::UnmountedAndCommitted(kill) => self.unmount_and_commit(kill, summary),
            Event::Compared => {
                self.quiet();
                self.compare("after work", summary)
            }
            _ => self.come_back(summary),
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
        if self.store == OsString::from(Bucket::address(STORE)) {
            self.programs.bucket.delete(STORE)?;
        }
        fs::remove_dir_all(&self.dir)
            .with_context(|| format!("cannot delete {}", self.dir.display()))
    }

    /// Ends the process, and leaves all as it is, for somebody to look at.
    pub(super) fn keep(&mut self) {
        self.quiet();
        let kept = self.dir.join("kept-session");
        drop(self.mount.take());
        let copied = succeed(program("cp", ["-a"]).args([&self.session, &kept]));
        if let Err(error) = copied {
            println!("the session is not kept: {error:#}");
        }
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
