//! Which output manifests of a job are used.
//!
//! A task may have been run several times, each time by another session action, whose folder has a manifest for each root
//! with outputs. The latest run is used. AWS's library takes the last folder by its name, which begins with the clock of
//! the worker; a worker whose clock is wrong so hides the outputs of others. Here it is the folder that was written last by the
//! store's clock, and the name decides only where that is the same. Where the two rules differ is told. Steps whose tasks run
//! together in chunks have no folders of tasks: all of their session actions are used.
//!
//! Source: `_get_tasks_manifests_keys_from_s3` and `_get_manifests_by_session_action_id` in `download.py`.

use std::collections::VecDeque;
use std::time::SystemTime;

use attachfs_store::{Folder, ListStore, Listed, ListedName, StoreError};

use super::ranges::{Ranges, Reduce};
use super::{ForeignKeys, behind};
use crate::address::prefix;
use crate::{
    ActionTime, FarmId, JobAddress, JobPart, OutputKey, OutputPlace, QueueId, SessionActionId,
};

/// An output manifest, as a listing has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOutput {
    /// Its key.
    pub key: OutputKey,
    /// The length of the manifest in bytes.
    pub len: u64,
    /// When it was written, by the store's clock, if the store tells.
    pub modified: Option<SystemTime>,
}

/// What makes a run of a task the latest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LatestBy {
    /// When its manifests were written, by the store's clock; the names of their folders where that is the same.
    #[default]
    Modified,
    /// The name of its folder, as AWS's library has it.
    Name,
}

/// Which outputs are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The latest of each task, and all of steps whose tasks run together.
    Latest(LatestBy),
    /// All runs of all tasks.
    All,
    /// Those of one session action. Of a task that has none, those that the action made for its step.
    Of(SessionActionId),
}

/// A task whose latest run by time is another one than by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatestDiffers {
    /// The task.
    pub place: OutputPlace,
    /// The run that was written last.
    pub by_modified: (ActionTime, SessionActionId),
    /// The run that AWS's library takes.
    pub by_name: (ActionTime, SessionActionId),
}

/// What is used of one task, or of one session action of a step whose tasks run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Whose.
    pub place: OutputPlace,
    /// Its manifests, in the order of keys; at least one.
    pub manifests: Vec<ListedOutput>,
    /// How many manifests of earlier runs are passed over.
    pub older: u64,
    /// What is there if the rules differ.
    pub differs: Option<LatestDiffers>,
}

/// All outputs that were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundOutputs {
    /// In the order of keys.
    pub manifests: Vec<ListedOutput>,
    /// How many manifests of earlier runs are passed over.
    pub older: u64,
    /// The tasks of which the latest run by time is another one than by name.
    pub differing: Vec<LatestDiffers>,
    /// What else is in the folder.
    pub foreign: ForeignKeys,
}

/// The outputs of a job, or of a part of one, as they are listed.
#[derive(Debug)]
pub struct Outputs<'a> {
    ranges: Ranges<'a, Choosing>,
    /// The step whose own outputs are looked at if the task has none.
    step: Option<JobAddress>,
}

impl<'a> Outputs<'a> {
    /// Looks for outputs of what `address` means. A job that is not there has none.
    pub fn of(store: &'a dyn ListStore, address: &JobAddress, which: Which) -> Self {
        let folder = Folder::Manifests(address.outputs());
        let is_task = address.task().is_some() && matches!(which, Which::Of(_));
        Self {
            ranges: Ranges::of(store, folder, None, None, Choosing::new(which)),
            step: is_task.then_some(*address),
        }
    }

    /// Looks for outputs of all jobs of a queue. What was submitted to it is not even listed: its keys come before those of jobs.
    pub fn of_queue(store: &'a dyn ListStore, farm: FarmId, queue: QueueId, which: Which) -> Self {
        let folder = Folder::Manifests(prefix(format!("{farm}/{queue}")));
        let inputs = Folder::Manifests(prefix(format!("{farm}/{queue}/Inputs")));
        Self {
            ranges: Ranges::of(
                store,
                folder,
                Some(behind(&inputs)),
                None,
                Choosing::new(which),
            ),
            step: None,
        }
    }

    /// What comes next in the order of keys, at least one; `None` at the end. May be cancelled, and called again after a failure.
    pub async fn next(&mut self) -> Result<Option<Vec<Chosen>>, StoreError> {
        loop {
            if let Some(found) = self.ranges.next().await? {
                self.step = None;
                return Ok(Some(found));
            }
            let Some(JobAddress {
                farm,
                queue,
                job,
                part: JobPart::Task(step, _),
            }) = self.step.take()
            else {
                return Ok(None);
            };
            // What has no folder of a task comes before those that have: it begins with a year.
            let folder = Folder::Manifests(prefix(format!("{farm}/{queue}/{job}/{step}")));
            let until = folder.key_start() + "task-";
            self.ranges.go_to(folder, Some(until));
        }
    }

    /// All that is left, in memory: about 200 bytes for each manifest.
    pub async fn all(mut self) -> Result<FoundOutputs, StoreError> {
        let mut found = FoundOutputs::default();
        while let Some(some) = self.next().await? {
            for chosen in some {
                found.manifests.extend(chosen.manifests);
                found.older += chosen.older;
                found.differing.extend(chosen.differs);
            }
        }
        found.foreign = self.foreign().clone();
        Ok(found)
    }

    /// Keys that are not those of outputs, as far as the listing has come.
    pub fn foreign(&self) -> &ForeignKeys {
        self.ranges.foreign()
    }

    /// How many keys were listed so far.
    pub fn listed(&self) -> u64 {
        self.ranges.listed()
    }
}

/// Chooses among outputs that are known, in the order of their keys.
pub fn choose(which: Which, outputs: impl IntoIterator<Item = ListedOutput>) -> Vec<Chosen> {
    let (mut choosing, mut chosen) = (Choosing::new(which), VecDeque::new());
    for output in outputs {
        choosing.add(output, &mut chosen);
    }
    choosing.end(&mut chosen);
    chosen.into()
}

/// One folder of a session action.
#[derive(Debug, Clone)]
struct Run {
    time: ActionTime,
    action: SessionActionId,
    manifests: Vec<ListedOutput>,
}

impl Run {
    fn is_of(&self, key: &OutputKey) -> bool {
        (self.time, self.action) == (key.time, key.action)
    }

    /// When the last of its manifests was written.
    fn modified(&self) -> Option<SystemTime> {
        self.manifests.iter().filter_map(|one| one.modified).max()
    }
}

/// Chooses as the keys come: those of a task, and those of a run in it, follow each other, the runs in the order of their names.
#[derive(Debug, Clone)]
struct Choosing {
    which: Which,
    place: Option<OutputPlace>,
    /// The run that was written last, of those before the current one.
    latest: Option<Run>,
    /// The current run: the last one by name so far.
    current: Option<Run>,
    passed: u64,
}

impl Choosing {
    fn new(which: Which) -> Self {
        Self {
            which,
            place: None,
            latest: None,
            current: None,
            passed: 0,
        }
    }

    /// The current run is complete.
    fn end_run(&mut self, ready: &mut VecDeque<Chosen>) {
        let (Some(place), Some(run)) = (self.place, self.current.take()) else {
            return;
        };
        if place.task.is_none() || !matches!(self.which, Which::Latest(_)) {
            let is_asked_for = match self.which {
                Which::Of(action) => action == run.action,
                Which::Latest(_) | Which::All => true,
            };
            if is_asked_for {
                ready.push_back(Chosen {
                    place,
                    manifests: run.manifests,
                    older: 0,
                    differs: None,
                });
            }
            return;
        }
        self.latest = Some(match self.latest.take() {
            Some(earlier) if earlier.modified() > run.modified() => {
                // The last one by name is kept until it is known whether it stays the last.
                self.current = Some(run);
                earlier
            }
            passed => {
                self.passed += passed.map_or(0, |run| run.manifests.len() as u64);
                run
            }
        });
    }

    /// A run that is the last one by name, but was not written last, is followed by another one.
    fn pass_current(&mut self) {
        let passed = self.current.take();
        self.passed += passed.map_or(0, |run| run.manifests.len() as u64);
    }

    fn add(&mut self, listed: ListedOutput, ready: &mut VecDeque<Chosen>) {
        let key = listed.key;
        if self.place != Some(key.place) {
            self.end_place(ready);
            self.place = Some(key.place);
        }
        if self.current.as_ref().is_some_and(|run| !run.is_of(&key)) {
            self.end_run(ready);
            self.pass_current();
        }
        match &mut self.current {
            Some(run) => run.manifests.push(listed),
            none => {
                *none = Some(Run {
                    time: key.time,
                    action: key.action,
                    manifests: vec![listed],
                });
            }
        }
    }

    /// There is nothing more of the place.
    fn end_place(&mut self, ready: &mut VecDeque<Chosen>) {
        self.end_run(ready);
        let by_name = self.current.take();
        let passed = std::mem::take(&mut self.passed);
        let (Some(place), Some(latest), Which::Latest(by)) =
            (self.place.take(), self.latest.take(), self.which)
        else {
            return;
        };
        let differs = by_name.as_ref().map(|by_name| LatestDiffers {
            place,
            by_modified: (latest.time, latest.action),
            by_name: (by_name.time, by_name.action),
        });
        let (used, other) = match (by, by_name) {
            (LatestBy::Name, Some(by_name)) => (by_name, Some(latest)),
            (LatestBy::Modified | LatestBy::Name, other) => (latest, other),
        };
        ready.push_back(Chosen {
            place,
            manifests: used.manifests,
            older: passed + other.map_or(0, |run| run.manifests.len() as u64),
            differs,
        });
    }
}

impl Reduce for Choosing {
    type Item = Chosen;

    fn take(&mut self, entry: Listed, ready: &mut VecDeque<Chosen>, foreign: &mut ForeignKeys) {
        let key = match &entry.name {
            ListedName::Manifest(key) => OutputKey::try_from(key),
            ListedName::Object { .. } | ListedName::Foreign => {
                foreign.add(entry.key, "it is not the key of a manifest".to_owned());
                return;
            }
        };
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                foreign.add(entry.key, error.reason());
                return;
            }
        };
        let listed = ListedOutput {
            key,
            len: entry.len,
            modified: entry.modified,
        };
        self.add(listed, ready);
    }

    fn end(&mut self, ready: &mut VecDeque<Chosen>) {
        self.end_place(ready);
    }
}
