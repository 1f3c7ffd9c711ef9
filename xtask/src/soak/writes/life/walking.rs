//! A life in which processes halt at one place, until one was killed there.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::XattrFlags;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::super::Summary;
use super::super::events::{Disturbance, Event};
use super::super::halts::Halt;
use super::Life;
use super::marring::{Left, add_short_input, short_input};

/// What goes wrong with the store in a walk, in thousandths: before, in the midst and after a write is done, of chunks and of manifests.
pub(super) const WALKED_FAULTS: &str = "chunk_internal=100&chunk_cut=60&chunk_close=60&chunk_failed=60&manifest_internal=100&manifest_cut=100&manifest_close=150&manifest_failed=150";
/// What a process does by itself a moment after the work, it does in this time.
const SOON: Duration = Duration::from_secs(30);

/// What happens in a life of a walk. What had returned success is there afterwards in each, and is published in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Course {
    /// Work, commits over a store that fails, an unmount, a full disk, a kill; then the session is discarded.
    Usual,
    /// The same, with a store in a directory.
    InADirectory,
    /// What workers write is sent before a commit.
    Early,
    /// The journal grows until it is replaced by a shorter one.
    LongJournal,
    /// An input that got bytes at its end loses them.
    Shortened,
    /// A record finds room for a part of it only.
    RefusedRecord,
    /// The process is killed, leaves its files so, and another one takes them up.
    TakenUp(Left),
    /// The journal is damaged, and `fsck --repair` mends it.
    Repaired,
    /// The process is killed, and `umount --commit` commits and ends the session.
    Ended,
}

/// A life in which one place is reached.
#[derive(Debug)]
pub(in super::super) struct Walk {
    course: Course,
    /// Until a process was there.
    pub(super) wanted: Option<Halt>,
    /// Nobody halts meanwhile.
    pub(super) is_paused: bool,
}

impl Walk {
    pub(in super::super) fn to(halt: Halt, course: Course) -> Self {
        Self {
            course,
            wanted: Some(halt),
            is_paused: false,
        }
    }

    pub(super) fn is_in_a_directory(&self) -> bool {
        self.course == Course::InADirectory
    }

    pub(super) fn add_inputs(&self, root: &Path) -> Result<()> {
        match self.course {
            Course::TakenUp(left) => left.add_inputs(root),
            Course::Shortened => add_short_input(root),
            _ => Ok(()),
        }
    }

    pub(super) fn is_on_the_disk_of_logs(&self) -> bool {
        self.course == Course::Ended
    }

    pub(super) fn has_limits(&self) -> bool {
        self.course == Course::RefusedRecord
    }

    pub(super) fn is_early(&self) -> bool {
        self.course == Course::Early
    }
}

impl Life<'_> {
    /// Lives until a process has halted at the place that is wanted and was killed there. Then all is as it would have been without. Says
    /// whether one came there.
    pub(in super::super) fn walk(&mut self, summary: &mut Summary) -> Result<bool> {
        let walked = self.walk_its_course(summary);
        self.account(summary);
        walked
    }

    fn walk_its_course(&mut self, summary: &mut Summary) -> Result<bool> {
        let course = self.walk.as_ref().context("this life is no walk")?.course;
        match course {
            Course::Usual | Course::InADirectory => self.walk_usually(summary)?,
            Course::Early => self.send_early(summary)?,
            Course::LongJournal => self.grow_the_journal(summary)?,
            Course::Shortened => self.shorten(summary)?,
            Course::RefusedRecord => self.refuse_a_record(summary)?,
            Course::TakenUp(left) => {
                self.walk_through(Event::Committed(Disturbance::None), summary)?;
                self.walk_through(Event::Compared, summary)?;
                self.leave(left, summary)?;
            }
            Course::Repaired => {
                self.walk_through(Event::Compared, summary)?;
                self.repair(summary)?;
            }
            Course::Ended => {
                self.walk_through(Event::Committed(Disturbance::None), summary)?;
                self.walk_through(Event::Compared, summary)?;
                self.end_with_a_commit(summary)?;
                return Ok(self.wanted().is_none());
            }
        }
        // Those who come after it can work.
        self.walk_through(Event::Compared, summary)?;
        self.without_halt(summary)?;
        self.commit_at_last(summary).context("at the end")?;
        self.discard(summary)?;
        Ok(self.wanted().is_none())
    }

    /// The place where a process is still to halt.
    pub(super) fn wanted(&self) -> Option<Halt> {
        self.walk.as_ref().and_then(|walk| walk.wanted.clone())
    }

    fn walk_usually(&mut self, summary: &mut Summary) -> Result<()> {
        for number in 0.. {
            let Some(wanted) = self.wanted() else {
                return Ok(());
            };
            let event = match number {
                0 => Event::Compared,
                1 | 6 => Event::Committed(Disturbance::None),
                2 => Event::Unmounted,
                3 => Event::Committed(Disturbance::Offline(None, Some(wanted))),
                4 => Event::FullDisk(0, false),
                5 => Event::KilledAtRest,
                _ => break,
            };
            self.walk_through(event, summary)?;
        }
        // Faults of the store may have ended each commit before the step.
        if self.wanted().is_some_and(|halt| halt.is_of_commit()) {
            self.round += 1;
            let event = Event::Committed(Disturbance::None);
            self.round(event, summary).context("without faults")?;
        }
        Ok(())
    }

    /// A round over a store that fails.
    fn walk_through(&mut self, event: Event, summary: &mut Summary) -> Result<()> {
        self.round += 1;
        let seed = self.random.below(1 << 30);
        self.programs
            .faults(&format!("seed={seed}&{WALKED_FAULTS}"))?;
        let at = format!("round {}, {event:?}", self.round);
        self.round(event, summary).with_context(|| at)?;
        self.programs.faults("")?;
        summary.rounds += 1;
        Ok(())
    }

    /// What the workers wrote is sent once it was quiet for a moment.
    fn send_early(&mut self, summary: &mut Summary) -> Result<()> {
        self.walk_through(Event::Compared, summary)?;
        self.quiet();
        self.wait_for_a_halt();
        if self.has_halted() {
            self.come_back(summary)?;
        }
        Ok(())
    }

    /// Long records fill the journal, until it was replaced by a shorter one. In the end they did nothing.
    fn grow_the_journal(&mut self, summary: &mut Summary) -> Result<()> {
        const NAME: &str = "user.long";
        self.walk_through(Event::Compared, summary)?;
        self.quiet();
        let at = self.point.join(super::WORKERS[0]);
        let grown = thread::scope(|scope| {
            let growing = scope.spawn(|| {
                // 4 MiB are enough, twice: it may have grown while it was replaced.
                for number in 0..160_u8 {
                    let value = vec![number; 60_000];
                    rustix::fs::setxattr(&at, NAME, &value, XattrFlags::empty())?;
                }
                rustix::fs::removexattr(&at, NAME)
            });
            self.wait_for_a_halt();
            if self.has_halted() {
                self.kill()?;
            }
            anyhow::Ok(growing.join())
        })?;
        if self.has_halted() {
            self.come_back(summary)?;
            match rustix::fs::removexattr(self.point.join(super::WORKERS[0]), NAME) {
                Ok(()) | Err(rustix::io::Errno::NODATA) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        match grown {
            Ok(grown) => grown.context("the journal does not grow"),
            Err(_) => anyhow::bail!("who made the journal grow panicked"),
        }
    }

    /// Does one thing in the mount; if the process halts meanwhile, it is killed.
    fn until_it_halts(
        &mut self,
        act: impl FnOnce() -> io::Result<()> + Send,
    ) -> Result<io::Result<()>> {
        thread::scope(|scope| {
            let acting = scope.spawn(act);
            while !acting.is_finished() && !self.has_halted() {
                thread::sleep(Duration::from_millis(2));
            }
            if self.has_halted() {
                self.kill()?;
            }
            let acted = acting.join();
            acted.map_err(|_| anyhow!("who worked in the mount panicked"))
        })
    }

    /// The bytes that an input got, and some of its own, are cut off.
    fn shorten(&mut self, summary: &mut Summary) -> Result<()> {
        self.walk_through(Event::Compared, summary)?;
        self.quiet();
        self.lengthen_an_input()?;
        let [plain, point] = [&self.plain, &self.point].map(|root| short_input(root));
        let cut = |path: &Path| OpenOptions::new().write(true).open(path)?.set_len(3000);
        let shortened = self.until_it_halts(|| cut(&point))?;
        // The record of it is durable before the scratch file is shortened.
        cut(&plain)?;
        if self.has_halted() {
            return self.come_back(summary);
        }
        shortened.context("an input cannot be shortened")
    }

    /// The kernel takes the first bytes of a record and no more.
    fn refuse_a_record(&mut self, summary: &mut Summary) -> Result<()> {
        self.walk_through(Event::Compared, summary)?;
        self.quiet();
        let mount = self.mount.as_ref().context("nothing is mounted")?;
        let pid = Pid::from_raw(mount.pid().cast_signed());
        let limit = |bytes| Rlimit {
            current: bytes,
            maximum: None,
        };
        let journal = fs::metadata(self.session.join("journal"))?.len();
        prlimit(pid, Resource::Fsize, limit(Some(journal + 10)))?;
        let at = self.point.join(super::WORKERS[0]).join("refused");
        let made = self.until_it_halts(|| fs::create_dir(&at))?;
        ensure!(made.is_err(), "a directory without a record");
        if self.has_halted() {
            return self.come_back(summary);
        }
        prlimit(pid, Resource::Fsize, limit(None))?;
        Ok(())
    }

    /// Waits until the mount's process halts, for a while.
    fn wait_for_a_halt(&self) {
        let end = Instant::now() + SOON;
        while !self.has_halted() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn pause_walk(&mut self, is_paused: bool) {
        if let Some(walk) = &mut self.walk {
            walk.is_paused = is_paused;
        }
    }

    /// A process halted there, and is killed.
    pub(super) fn reached(&mut self, halt: &Halt, summary: &mut Summary) {
        summary.halted(halt);
        if let Some(walk) = &mut self.walk {
            walk.wanted = None;
        }
    }
}
