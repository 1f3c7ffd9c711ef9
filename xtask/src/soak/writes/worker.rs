//! Who works: each step is done in the mount, then in the directory on a disk, and both must have given the same.
//!
//! What may differ is said by [`Excuses`]: a process that is being killed, a disk that is full, a store that fails. A step that was
//! under way when the process died is kept, since it may be done or not.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::side::{BUS_ERROR, Gave, Outcome, Side};
use super::steps::{Random, Step};
use crate::soak::reads::now;

const NO_SPACE: i32 = 28;
const IO: i32 = 5;
/// What calls into a mount give whose process is gone: ECONNABORTED, ENOTCONN.
const GONE: [i32; 2] = [103, 107];
/// How many steps a failure is told with.
const KEPT: usize = 50;

/// What is going on that a step may suffer from.
#[derive(Debug, Default)]
pub(super) struct Excuses {
    /// The process is being killed, or is dead.
    pub(super) dying: AtomicBool,
    pub(super) full_disk: AtomicBool,
    /// Reads may fail.
    pub(super) failing_store: AtomicBool,
    /// Who has an input open for reading keeps its bytes when it is written.
    pub(super) passthrough: AtomicBool,
    /// Workers end after the present step.
    pub(super) stop: AtomicBool,
    /// What a step on a full disk gave.
    pub(super) no_space: AtomicU64,
    /// Operations by a kernel file of a process that is dead.
    pub(super) after_death: AtomicU64,
}

/// What a worker does at this moment, for who watches over it.
#[derive(Debug, Default)]
pub(super) struct Doing {
    /// In milliseconds since 1970; 0 is nothing.
    pub(super) since: AtomicU64,
    pub(super) what: Mutex<String>,
}

/// A step of which nobody knows whether it was done.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) step: Step,
    /// On the disk.
    pub(super) subject: Option<File>,
    /// So many bytes of it were certainly written.
    pub(super) written: u64,
}

/// One who works, in a directory of its own.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) mount: Side,
    pub(super) disk: Side,
    random: Random,
    pub(super) under_way: Option<UnderWay>,
    pub(super) last: VecDeque<String>,
    /// All steps, in a file.
    log: BufWriter<File>,
    /// Inodes on the disk of files whose time may be another than in the mount, and how long a step would have made them for which there
    /// was no room.
    pub(super) strained: BTreeMap<u64, u64>,
    pub(super) steps: u64,
    pub(super) kinds: BTreeMap<&'static str, u64>,
    /// Steps that gave an error, in both places alike.
    pub(super) refused: u64,
    pub(super) doing: Arc<Doing>,
}

impl Worker {
    pub(super) fn new(name: &str, seed: u64, log: File, mount: Side, disk: Side) -> Self {
        Self {
            name: name.to_owned(),
            mount,
            disk,
            random: Random::new(seed),
            under_way: None,
            last: VecDeque::new(),
            log: BufWriter::new(log),
            strained: BTreeMap::new(),
            steps: 0,
            kinds: BTreeMap::new(),
            refused: 0,
            doing: Arc::default(),
        }
    }

    /// Works until it is stopped, the process dies, or so many steps are drawn; with 0 it makes a small change. `kill_at` is the step before which the process `pid` is
    /// killed by the worker itself. Gives what is not right.
    pub(super) fn work(
        &mut self,
        round: u64,
        many: u64,
        kill_at: Option<(u64, &AtomicU32)>,
        excuses: &Excuses,
    ) -> Result<(), String> {
        // Each round has its own, so that one that was cut off changes no later one.
        let mut random =
            Random::new(self.random.clone().next() ^ round.wrapping_mul(0x1234_5678_9abc));
        for number in 0..many.max(1) {
            let steps = match number {
                _ if many == 0 => Step::kept(round),
                0 => Step::opened(&mut random),
                _ => Step::draw(&mut random),
            };
            for step in steps {
                if excuses.stop.load(Ordering::SeqCst) || self.under_way.is_some() {
                    return Ok(());
                }
                if let Some((at, pid)) = kill_at
                    && at == number
                {
                    excuses.dying.store(true, Ordering::SeqCst);
                    super::mounting::kill(pid.load(Ordering::SeqCst));
                }
                let start = Instant::now();
                self.step(step, excuses)?;
                // Half of the time is others': the soak runs beside other work.
                thread::sleep(
                    start.elapsed().min(Duration::from_millis(50)) + Duration::from_micros(200),
                );
            }
        }
        Ok(())
    }

    fn step(&mut self, step: Step, excuses: &Excuses) -> Result<(), String> {
        let holds = |excuse: &AtomicBool| excuse.load(Ordering::SeqCst);
        let was_full = holds(&excuses.full_disk);
        let was_failing = holds(&excuses.failing_store);
        if was_full && step.is_partial_without_room() {
            return Ok(());
        }
        let was_dead = holds(&excuses.dying);
        let subject = self.disk.subject(&step);
        // Its time may be another.
        let is_strained = matches!(&step, Step::Look { at } if self.is_strained(at));
        let is_unsure =
            is_strained || (holds(&excuses.passthrough) && self.mount.reads_by_a_reader(&step));
        *self.doing.what.lock().expect("nobody panics with it") = format!("{} {step}", self.name);
        self.doing.since.store(now(), Ordering::SeqCst);
        let found = self.mount.perform(&step, u64::MAX);
        self.doing.since.store(0, Ordering::SeqCst);
        self.steps += 1;
        *self.kinds.entry(step.kind()).or_default() += 1;
        self.note(&step, &found);
        let is_dying = holds(&excuses.dying);
        if was_dead && found.is_ok() {
            excuses.after_death.fetch_add(1, Ordering::SeqCst);
        }
        let reads = matches!(
            step,
            Step::Read { .. } | Step::ReadAll { .. } | Step::Map { .. }
        );
        match found {
            // Of a write in several requests the kernel tells as EIO that one was cut off.
            Err(errno)
                if is_dying && (GONE.contains(&errno) || [IO, BUS_ERROR].contains(&errno)) =>
            {
                self.under_way = Some(UnderWay {
                    step,
                    subject,
                    written: 0,
                });
                return Ok(());
            }
            Err(NO_SPACE) if was_full || holds(&excuses.full_disk) => {
                excuses.no_space.fetch_add(1, Ordering::SeqCst);
                if let Step::Open { slot, .. } = step {
                    // It was closed before.
                    drop(self.disk.perform(&Step::Close { slot }, 0));
                }
                if let Some(data) = subject.and_then(|file| file.metadata().ok()) {
                    let end = match step {
                        Step::Room { offset, length, .. } => offset + length,
                        _ => 0,
                    };
                    let strained = self.strained.entry(data.ino()).or_default();
                    *strained = end.max(*strained);
                }
                return Ok(());
            }
            Err(IO | BUS_ERROR) if reads && (was_failing || holds(&excuses.failing_store)) => {
                return Ok(());
            }
            _ => {}
        }
        let wanted = match &step {
            Step::Write { length, .. } | Step::Append { length, .. } => *length,
            _ => u64::MAX,
        };
        let written = match found {
            Ok(Gave::Count(written)) if written < wanted && wanted != u64::MAX => Some(written),
            _ => None,
        };
        let expected = self.disk.perform(&step, written.unwrap_or(u64::MAX));
        if expected.is_err() {
            self.refused += 1;
        }
        // Room that changes no byte of an input need not change its time, as on ext4 it does.
        if matches!(step, Step::Room { .. })
            && expected.is_ok()
            && let Some(data) = subject.as_ref().and_then(|file| file.metadata().ok())
        {
            self.strained.entry(data.ino()).or_default();
        }
        if let Some(written) = written
            && is_dying
        {
            self.under_way = Some(UnderWay {
                step,
                subject,
                written,
            });
            return Ok(());
        }
        let is_excused =
            written.is_some() && (was_full || holds(&excuses.full_disk)) && expected == found;
        if is_excused {
            excuses.no_space.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        if written.is_some() || (expected != found && !is_unsure) {
            return Err(format!(
                "{} step {}: {step} gave {found:?} in the mount and {expected:?} on the disk",
                self.name, self.steps
            ));
        }
        Ok(())
    }

    fn is_strained(&self, at: &str) -> bool {
        let data = std::fs::symlink_metadata(self.disk.root.join(at));
        data.is_ok_and(|data| self.strained.contains_key(&data.ino()))
    }

    fn note(&mut self, step: &Step, found: &Outcome) {
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        let line = format!("{} {}: {step} -> {found:?}", self.name, self.steps);
        // The log is for a person who looks for the cause of a difference: the soak goes on without it.
        let _ = writeln!(self.log, "{line}");
        self.last.push_back(line);
    }

    /// Closes all that is open, in both places.
    pub(super) fn close_all(&mut self) {
        self.mount.close_all();
        self.disk.close_all();
    }
}
