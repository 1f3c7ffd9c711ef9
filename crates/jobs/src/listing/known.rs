//! What the keys of a bucket know of its jobs: which there are, with how many steps, tasks and runs, from when to when.
//!
//! Only outputs tell jobs: the keys of inputs have no job's id, so what is submitted is counted by queue. A job that has written
//! nothing is not known. Sizes are those of manifests, not of files.

use std::collections::VecDeque;
use std::time::SystemTime;

use attachfs_store::{Folder, ListStore, Listed, ListedName, StoreError};

use super::ranges::{Ranges, Reduce};
use super::{ForeignKeys, behind};
use crate::address::prefix;
use crate::{ActionTime, FarmId, InputKey, JobId, OutputKey, QueueId, StepId};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownScope {
    /// Everything.
    All,
    /// The queues of a farm.
    Farm(FarmId),
    /// A queue.
    Queue(FarmId, QueueId),
    /// A job, without the inputs of its queue.
    Job(FarmId, QueueId, JobId),
}

impl KnownScope {
    /// Where begins what comes behind all of it: for [`KnownJobs::after`].
    pub fn end(&self) -> String {
        behind(&self.folder())
    }

    fn folder(&self) -> Folder {
        Folder::Manifests(match self {
            Self::All => attachfs_store::KeyPrefix::default(),
            Self::Farm(farm) => prefix(farm.to_string()),
            Self::Queue(farm, queue) => prefix(format!("{farm}/{queue}")),
            Self::Job(farm, queue, job) => prefix(format!("{farm}/{queue}/{job}")),
        })
    }
}

/// The first and the last of some times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span<T> {
    /// The earliest.
    pub first: T,
    /// The latest.
    pub last: T,
}

impl<T: Ord + Copy> Span<T> {
    fn of(time: T) -> Self {
        Self {
            first: time,
            last: time,
        }
    }

    fn add(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    fn add_to(span: &mut Option<Self>, other: Option<Self>) {
        match (span, other) {
            (Some(span), Some(other)) => span.add(other),
            (span @ None, other) => *span = other,
            (Some(_), None) => {}
        }
    }
}

/// What was submitted to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownInputs {
    /// The farm.
    pub farm: FarmId,
    /// The queue.
    pub queue: QueueId,
    /// How many manifests: one for each root of a job.
    pub manifests: u64,
    /// How long they are together, in bytes.
    pub bytes: u64,
    /// When they were written, by the store's clock, if it tells.
    pub modified: Option<Span<SystemTime>>,
}

/// A step of a job that has outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownStep {
    /// The step.
    pub step: StepId,
    /// How many tasks have outputs; 0 where the tasks of a step run together.
    pub tasks: u64,
    /// How many session actions wrote outputs.
    pub actions: u64,
    /// How many manifests there are.
    pub manifests: u64,
    /// How long they are together, in bytes.
    pub bytes: u64,
    /// When the session actions began, by the workers' clocks.
    pub began: Span<ActionTime>,
    /// When the manifests were written, by the store's clock, if it tells.
    pub modified: Option<Span<SystemTime>>,
}

impl KnownStep {
    fn add(&mut self, other: &Self) {
        self.tasks += other.tasks;
        self.actions += other.actions;
        self.manifests += other.manifests;
        self.bytes += other.bytes;
        self.began.add(other.began);
        Span::add_to(&mut self.modified, other.modified);
    }
}

/// A job that has outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownJob {
    /// The farm.
    pub farm: FarmId,
    /// The queue.
    pub queue: QueueId,
    /// The job.
    pub job: JobId,
    /// Its steps with outputs, in the order of their ids; at least one.
    pub steps: Vec<KnownStep>,
}

impl KnownJob {
    /// All steps together; its id is that of the first.
    pub fn total(&self) -> KnownStep {
        let mut total = self.steps[0].clone();
        for step in &self.steps[1..] {
            total.add(step);
        }
        total
    }

    /// Where the next job begins: for [`KnownJobs::after`].
    pub fn end(&self) -> String {
        KnownScope::Job(self.farm, self.queue, self.job).end()
    }
}

/// What a listing finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// A queue with inputs.
    Inputs(KnownInputs),
    /// A job.
    Job(KnownJob),
}

impl Known {
    /// Adds what is of the same queue or job; gives back what is not.
    fn add(&mut self, other: Self) -> Result<(), Self> {
        match (self, other) {
            (Self::Inputs(one), Self::Inputs(other))
                if (one.farm, one.queue) == (other.farm, other.queue) =>
            {
                one.manifests += other.manifests;
                one.bytes += other.bytes;
                Span::add_to(&mut one.modified, other.modified);
            }
            (Self::Job(one), Self::Job(other))
                if (one.farm, one.queue, one.job) == (other.farm, other.queue, other.job) =>
            {
                for step in other.steps {
                    match one.steps.last_mut().filter(|last| last.step == step.step) {
                        Some(last) => last.add(&step),
                        None => one.steps.push(step),
                    }
                }
            }
            (_, other) => return Err(other),
        }
        Ok(())
    }
}

/// Queues and jobs as they are listed, in the order of keys: the inputs of a queue before its jobs.
#[derive(Debug)]
pub struct KnownJobs<'a> {
    ranges: Ranges<'a, Counting>,
    /// The last one, of which more may come from the next range.
    last: Option<Known>,
}

impl<'a> KnownJobs<'a> {
    /// Counts the manifests that were written at `since` or later by the store's clock, all if `None`; where the store
    /// tells no times, those of session actions count instead, and all inputs.
    pub fn of(store: &'a dyn ListStore, scope: &KnownScope, since: Option<SystemTime>) -> Self {
        Self::after(store, scope, since, None)
    }

    /// As [`of`](Self::of), from [`the end of a job`](KnownJob::end) on: so a listing is taken up where another one stopped.
    pub fn after(
        store: &'a dyn ListStore,
        scope: &KnownScope,
        since: Option<SystemTime>,
        after: Option<String>,
    ) -> Self {
        Self {
            ranges: Ranges::of(store, scope.folder(), after, None, Counting::new(since)),
            last: None,
        }
    }

    /// What comes next, at least one; `None` at the end. May be cancelled, and called again after a failure.
    pub async fn next(&mut self) -> Result<Option<Vec<Known>>, StoreError> {
        let mut complete = Vec::new();
        while complete.is_empty() {
            let Some(found) = self.ranges.next().await? else {
                return Ok(self.last.take().map(|last| vec![last]));
            };
            for known in found {
                let Some(last) = &mut self.last else {
                    self.last = Some(known);
                    continue;
                };
                if let Err(next) = last.add(known) {
                    complete.push(std::mem::replace(last, next));
                }
            }
        }
        Ok(Some(complete))
    }

    /// Keys that are not those of a job's manifests, as far as the listing has come; also those of commits
    /// that were published elsewhere.
    pub fn foreign(&self) -> &ForeignKeys {
        self.ranges.foreign()
    }

    /// How many keys were listed so far.
    pub fn listed(&self) -> u64 {
        self.ranges.listed()
    }
}

/// Counts as the keys come.
#[derive(Debug, Clone)]
struct Counting {
    since: Option<SystemTime>,
    known: Option<Known>,
    /// The output before: the next one may be of the same task, or of the same run.
    last: Option<OutputKey>,
}

impl Counting {
    fn new(since: Option<SystemTime>) -> Self {
        Self {
            since,
            known: None,
            last: None,
        }
    }

    fn count(&mut self, known: Known, ready: &mut VecDeque<Known>) {
        match &mut self.known {
            none @ None => *none = Some(known),
            Some(last) => {
                if let Err(next) = last.add(known) {
                    ready.push_back(std::mem::replace(last, next));
                }
            }
        }
    }
}

/// Whether a manifest was written at a time or later.
fn is_since(since: Option<SystemTime>, entry: &Listed, began: Option<ActionTime>) -> bool {
    let Some(since) = since else { return true };
    match (entry.modified, began) {
        (Some(modified), _) => modified >= since,
        (None, Some(began)) => began.system_time() >= since,
        (None, None) => true,
    }
}

impl Reduce for Counting {
    type Item = Known;

    fn take(&mut self, entry: Listed, ready: &mut VecDeque<Known>, foreign: &mut ForeignKeys) {
        let modified = entry.modified.map(Span::of);
        let ListedName::Manifest(name) = &entry.name else {
            foreign.add(entry.key, "it is not the key of a manifest".to_owned());
            return;
        };
        if let Ok(InputKey { farm, queue, .. }) = InputKey::try_from(name) {
            if is_since(self.since, &entry, None) {
                let known = KnownInputs {
                    farm,
                    queue,
                    manifests: 1,
                    bytes: entry.len,
                    modified,
                };
                self.count(Known::Inputs(known), ready);
            }
            return;
        }
        let key = match OutputKey::try_from(name) {
            Ok(key) => key,
            // Manifests of sessions and snapshots, which attachfs itself keeps beside those of jobs.
            Err(_) if name.as_str().starts_with("attachfs/") => return,
            Err(error) => {
                foreign.add(entry.key, error.reason());
                return;
            }
        };
        if !is_since(self.since, &entry, Some(key.time)) {
            return;
        }
        let is_new = |same: fn(&OutputKey, &OutputKey) -> bool| {
            self.last.as_ref().is_none_or(|last| !same(last, &key))
        };
        let new_task = key.place.task.is_some() && is_new(|one, other| one.place == other.place);
        let new_action = is_new(|one, other| {
            let run = |key: &OutputKey| (key.place, key.time, key.action);
            run(one) == run(other)
        });
        self.last = Some(key);
        let step = KnownStep {
            step: key.place.step,
            tasks: new_task.into(),
            actions: new_action.into(),
            manifests: 1,
            bytes: entry.len,
            began: Span::of(key.time),
            modified,
        };
        let known = KnownJob {
            farm: key.place.farm,
            queue: key.place.queue,
            job: key.place.job,
            steps: vec![step],
        };
        self.count(Known::Job(known), ready);
    }

    fn end(&mut self, ready: &mut VecDeque<Known>) {
        ready.extend(self.known.take());
    }
}
