//! [`JobIndex`]: what the keys of a job's outputs say, in the orders in which it is asked for.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use attachfs_jobs::{
    ActionTime, JobAddress, LatestBy, ListedOutput, SessionActionId, StepId, Which, choose,
};
use attachfs_manifest::ContentHash;
use attachfs_tree::Timestamp;
use parking_lot::Mutex;

use crate::listing::Listing;
use crate::names::NamedRoot;
use crate::place::{Content, Part, Place, View};

/// The outputs of a job at one moment.
#[derive(Debug)]
pub(crate) struct JobIndex {
    /// Its number: no other index has it.
    pub(crate) id: u64,
    /// All, in the order of keys.
    pub(crate) outputs: Vec<ListedOutput>,
    /// Those of the latest run of each task, by step and task.
    latest: Vec<u32>,
    /// All, in the order of their runs: by time, then by session action.
    runs: Vec<u32>,
    /// In the order in which they had outputs first.
    pub(crate) roots: Vec<NamedRoot>,
    by: LatestBy,
    /// How many tasks have another latest run by name than by time.
    pub(crate) differing: usize,
    /// The trees that somebody has looked at. The next index makes the same ones before it is shown. Held for single operations.
    pub(crate) used: Mutex<HashSet<Content>>,
    /// Folders that were listed. Held for single operations.
    pub(crate) folders: Mutex<HashMap<FolderOf, Listing>>,
}

/// Which folder of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FolderOf {
    Steps,
    Step(StepId),
    Runs,
    Roots(View),
}

/// The bytes that an output takes in an index.
const OUTPUT: u64 = 220;

fn part(output: &ListedOutput) -> Part {
    let key = &output.key;
    match key.place.task {
        Some(task) => Part::Task(task),
        None => Part::Action(key.time, key.action),
    }
}

fn run(output: &ListedOutput) -> (ActionTime, SessionActionId) {
    (output.key.time, output.key.action)
}

/// When an output was written, by the store's clock if it tells.
pub(crate) fn time_of(output: &ListedOutput) -> Timestamp {
    timestamp(
        output
            .modified
            .unwrap_or_else(|| output.key.time.system_time()),
    )
}

fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Timestamp {
            seconds: after.as_secs().cast_signed(),
            nanoseconds: after.subsec_nanos(),
        },
        Err(before) => {
            let before: Duration = before.duration();
            let nanoseconds = before.subsec_nanos();
            Timestamp {
                seconds: -before.as_secs().cast_signed() - i64::from(nanoseconds > 0),
                nanoseconds: (1_000_000_000 - nanoseconds) % 1_000_000_000,
            }
        }
    }
}

/// The roots of outputs in the order in which they had outputs first, each with its shortest manifests: every manifest says what its root is
/// called, and a short one is read soonest.
pub fn roots_of(outputs: &[ListedOutput]) -> Vec<(ContentHash, Vec<ListedOutput>)> {
    const MOST: usize = 3;
    let mut roots: HashMap<ContentHash, (ActionTime, Vec<ListedOutput>)> = HashMap::new();
    for output in outputs {
        let key = output.key;
        let (first, shortest) = roots.entry(key.root).or_insert((key.time, Vec::new()));
        *first = (*first).min(key.time);
        let place = shortest.partition_point(|other| other.len <= output.len);
        if place < MOST {
            shortest.insert(place, *output);
            shortest.truncate(MOST);
        }
    }
    let mut roots: Vec<_> = roots.into_iter().collect();
    roots.sort_by_key(|(hash, (first, _))| (*first, *hash));
    let roots = roots.into_iter();
    roots
        .map(|(hash, (_, shortest))| (hash, shortest))
        .collect()
}

impl JobIndex {
    pub(crate) fn new(
        id: u64,
        outputs: Vec<ListedOutput>,
        roots: Vec<NamedRoot>,
        by: LatestBy,
    ) -> Self {
        let chosen = choose(Which::Latest(by), outputs.iter().copied());
        let differing = chosen.iter().filter(|one| one.differs.is_some()).count();
        let keys: HashSet<_> = chosen
            .iter()
            .flat_map(|one| &one.manifests)
            .map(|output| output.key)
            .collect();
        let all = 0..outputs.len() as u32;
        let at = |index: &u32| &outputs[*index as usize];
        let mut latest: Vec<_> = all
            .clone()
            .filter(|index| keys.contains(&at(index).key))
            .collect();
        latest.sort_by_key(|index| {
            let output = at(index);
            (output.key.place.step, part(output), run(output))
        });
        let mut runs: Vec<_> = all.collect();
        runs.sort_by_key(|index| run(at(index)));
        Self {
            id,
            latest,
            runs,
            outputs,
            roots,
            by,
            differing,
            used: Mutex::default(),
            folders: Mutex::default(),
        }
    }

    pub(crate) fn weight(&self) -> u64 {
        4096 + OUTPUT * self.outputs.len() as u64
    }

    fn of<'a>(&'a self, order: &'a [u32]) -> impl DoubleEndedIterator<Item = &'a ListedOutput> {
        order.iter().map(|&index| &self.outputs[index as usize])
    }

    /// The part of a sorted order for which `place` gives `Equal`, found by binary search.
    fn equal<'a>(
        &'a self,
        order: &'a [u32],
        place: impl Fn(&ListedOutput) -> Ordering,
    ) -> &'a [u32] {
        let at = |index: u32| &self.outputs[index as usize];
        let start = order.partition_point(|&index| place(at(index)) == Ordering::Less);
        let rest = &order[start..];
        &rest[..rest.partition_point(|&index| place(at(index)) == Ordering::Equal)]
    }

    fn of_view(&self, view: View) -> &[u32] {
        match view {
            View::Latest => &self.latest,
            View::Part(step, of) => self.equal(&self.latest, |output| {
                (output.key.place.step, part(output)).cmp(&(step, of))
            }),
            View::Run(time, action) => {
                self.equal(&self.runs, |output| run(output).cmp(&(time, action)))
            }
            View::Inputs => &[],
        }
    }

    /// The manifests of a view below a root, the latest last.
    pub(crate) fn manifests(&self, content: &Content) -> Vec<ListedOutput> {
        let all = self.of(self.of_view(content.view));
        let mut found: Vec<_> = all
            .filter(|output| output.key.root == content.root)
            .copied()
            .collect();
        let by = self.by;
        // What was written at the same time comes in the order of runs, and then of keys.
        found.sort_by(|a, b| {
            let by_time = match by {
                LatestBy::Modified => a.modified.cmp(&b.modified),
                LatestBy::Name => Ordering::Equal,
            };
            by_time.then_with(|| run(a).cmp(&run(b)))
        });
        found
    }

    /// When something was written last.
    pub(crate) fn newest(&self, order: &[u32]) -> Option<Timestamp> {
        self.of(order).map(time_of).max()
    }

    /// The folders in a folder of the job: the name of each, what it shows, and when something in it was written last.
    pub(crate) fn folders_of(
        &self,
        job: JobAddress,
        folder: FolderOf,
    ) -> Vec<(String, Place, Timestamp)> {
        let mut found: Vec<(String, Place, Timestamp)> = Vec::new();
        let mut add = |place: Place, time: Timestamp, name: &dyn Fn() -> String| match found
            .last_mut()
            .filter(|(_, last, _)| *last == place)
        {
            Some((_, _, newest)) => *newest = (*newest).max(time),
            None => found.push((name(), place, time)),
        };
        match folder {
            FolderOf::Steps => {
                for output in self.of(&self.latest) {
                    let step = output.key.place.step;
                    add(Place::Step(job, step), time_of(output), &|| {
                        step.to_string()
                    });
                }
            }
            FolderOf::Step(step) => {
                let of_step = |output: &ListedOutput| output.key.place.step.cmp(&step);
                for output in self.of(self.equal(&self.latest, of_step)) {
                    let part = part(output);
                    let place = Place::Roots(job, View::Part(step, part));
                    add(place, time_of(output), &|| match part {
                        Part::Task(task) => task.to_string(),
                        Part::Action(time, action) => crate::names::run_name(time, action),
                    });
                }
            }
            FolderOf::Runs => {
                for output in self.of(&self.runs) {
                    let (time, action) = run(output);
                    let place = Place::Roots(job, View::Run(time, action));
                    add(place, time_of(output), &|| {
                        crate::names::run_name(time, action)
                    });
                }
            }
            FolderOf::Roots(view) => {
                let mut newest: HashMap<ContentHash, Timestamp> = HashMap::new();
                for output in self.of(self.of_view(view)) {
                    let time = newest.entry(output.key.root).or_default();
                    *time = (*time).max(time_of(output));
                }
                for root in &self.roots {
                    if let Some(&time) = newest.get(&root.hash) {
                        let hash = root.hash;
                        let content = Content {
                            job,
                            view,
                            root: hash,
                        };
                        let place = Place::In(content, Box::default());
                        add(place, time, &|| root.name.clone());
                    }
                }
            }
        }
        found
    }

    /// When the newest output in a folder was written; `None` for folders that are only listed together with others.
    pub(crate) fn newest_of(&self, folder: FolderOf) -> Option<Timestamp> {
        match folder {
            FolderOf::Roots(View::Latest) | FolderOf::Steps => self.newest(&self.latest),
            FolderOf::Runs => self.newest(&self.runs),
            FolderOf::Step(_) | FolderOf::Roots(_) => None,
        }
    }

    /// Whether another listing found the same.
    pub(crate) fn is_of(&self, outputs: &[ListedOutput]) -> bool {
        self.outputs == outputs
    }
}

/// The next number of an index.
pub(crate) fn next_id() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// An index that is shared.
pub(crate) type Index = Arc<JobIndex>;
