//! [`Engine`]: what is in a directory, from memory or from the store.

use std::sync::{Arc, Weak};

use attachfs_jobs::{JobAddress, JobId, JobPart};
use attachfs_manifest::ContentHash;
use attachfs_store::Store;
use attachfs_tree::Timestamp;
use attachfs_vfs::{FsError, FsErrorKind};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::caches::{weighed, weighed_and_made, weight};
use crate::fresh::Fresh;
use crate::index::{FolderOf, Index, JobIndex, next_id, roots_of, time_of};
use crate::listing::{FolderEntry, Listing, TreeDir};
use crate::names::{NamedRoot, name_roots};
use crate::options::{BrowseOptions, JobInput, Scope};
use crate::place::{Content, Place, View};
use crate::source::{Source, Wanted, key_of};
use crate::tree::Tree;

/// A tree, and the manifests that it is made of.
#[derive(Debug, Clone)]
struct Made {
    of: Arc<[Wanted]>,
    tree: Arc<Tree>,
}

/// Names a tree: the number of the index whose manifests it is made of (`None` for inputs), and what it shows.
type TreeKey = (Option<u64>, Content);

/// A job that was looked at.
#[derive(Debug, Clone)]
struct Job {
    fresh: Arc<Fresh<JobIndex>>,
    weight: u64,
}

/// What is in folders.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) options: BrowseOptions,
    source: Source,
    /// The jobs of a queue.
    queue: Option<Arc<Fresh<Vec<JobId>>>>,
    jobs: moka::sync::Cache<JobAddress, Job>,
    trees: moka::future::Cache<TreeKey, Made>,
    ours: Weak<Self>,
}

impl Engine {
    pub(crate) fn new(store: Arc<dyn Store>, options: BrowseOptions) -> Arc<Self> {
        let most = options.memory_bytes;
        // The cache would refuse what weighs more than its whole budget, and a job as long as that would be listed by each look. So nothing
        // counts as more than half of the budget.
        let half = (most / 2).max(1);
        let of_job = move |_: &JobAddress, job: &Job| {
            // Each job in the cache is listed again every period. With at least 1/64 of the budget for each there are at most 64.
            weight(job.weight.clamp((half / 32).max(1), half))
        };
        let of_tree = move |_: &TreeKey, made: &Made| {
            let bytes = made.tree.weight + 64 * made.of.len() as u64;
            weight(bytes.min(half))
        };
        Arc::new_cyclic(|ours: &Weak<Self>| Self {
            source: Source::new(store, options.deadline, most),
            queue: queue(&options, ours),
            jobs: weighed(most, of_job),
            trees: weighed_and_made(most, of_tree),
            ours: ours.clone(),
            options,
        })
    }

    /// Forgets all jobs and trees. The tasks in the background that list the jobs again end then.
    pub(crate) fn forget(&self) {
        for (job, _) in &self.jobs {
            self.jobs.invalidate(&*job);
        }
        self.trees.invalidate_all();
    }

    /// The place of the mount point.
    pub(crate) fn top(&self) -> Place {
        match &self.options.scope {
            Scope::Job(job) => Place::Job(*job),
            Scope::Jobs(_) | Scope::Queue(..) => Place::Jobs,
        }
    }

    /// How often a job is listed again. The kernel keeps an answer for another quarter of `refresh`, so half of it is left for the listing.
    fn period(options: &BrowseOptions) -> std::time::Duration {
        options.refresh / 2
    }

    async fn index(&self, job: JobAddress) -> Result<Index, FsError> {
        let found = self.jobs.get(&job);
        let fresh = match found {
            Some(job) => job.fresh,
            None => {
                let ours = self.ours.clone();
                let ask = move |before| ask_job(ours.clone(), job, before).boxed();
                let fresh = Arc::new(Fresh::new(Self::period(&self.options), Box::new(ask)));
                let new = Job { fresh, weight: 0 };
                // If another look has put the job there meanwhile, that one is used.
                self.jobs.get_with(job, || new).fresh
            }
        };
        fresh.get().await
    }

    /// Lists a job again. Gives the index of before if nothing has changed.
    async fn list_job(&self, job: JobAddress, before: Option<Index>) -> Result<Index, FsError> {
        let outputs = self.source.outputs(&job).await?;
        if let Some(before) = before.as_ref().filter(|before| before.is_of(&outputs)) {
            return Ok(Arc::clone(before));
        }
        let roots = self.source.roots(roots_of(&outputs)).await?;
        let roots = name_roots(roots, &self.options.mappings);
        let index = JobIndex::new(next_id(), outputs, roots, self.options.latest_by);
        if index.differing > before.as_ref().map_or(0, |before| before.differing) {
            tracing::warn!(
                %job,
                tasks = index.differing,
                "the latest run by the store's clock is another one than by the workers' clocks"
            );
        }
        // Trees that somebody has looked at are made of the new manifests before the new index is shown: nobody waits for them then.
        if let Some(before) = before {
            let used: Vec<_> = before.used.lock().iter().copied().collect();
            for content in used {
                let key = (Some(before.id), content);
                if let Some(made) = self.trees.get(&key).await {
                    self.tree_of(&index, content, Some(made)).await?;
                    self.trees.invalidate(&key).await;
                }
            }
        }
        if let Some(kept) = self.jobs.get(&job) {
            let weight = index.weight();
            self.jobs.insert(job, Job { weight, ..kept });
        }
        Ok(Arc::new(index))
    }

    /// The tree of a root, which is `before` if it is made of the same manifests.
    async fn tree_of(
        &self,
        index: &JobIndex,
        content: Content,
        before: Option<Made>,
    ) -> Result<Arc<Tree>, FsError> {
        index.used.lock().insert(content);
        let make = async {
            let outputs = index.manifests(&content).into_iter();
            let wanted: Result<Vec<_>, FsError> = outputs
                .map(|output| {
                    Ok(Wanted {
                        origin: Arc::new(key_of(&output)?),
                        len: Some(output.len),
                        time: time_of(&output),
                    })
                })
                .collect();
            self.make(wanted?, before).await
        };
        let key = (Some(index.id), content);
        self.made(key, make).await
    }

    /// A tree that is known, or made now.
    async fn made(
        &self,
        key: TreeKey,
        make: impl Future<Output = Result<Made, FsError>>,
    ) -> Result<Arc<Tree>, FsError> {
        let made = self.trees.try_get_with(key, make).await;
        made.map(|made| made.tree)
            .map_err(|error| FsError::clone(&error))
    }

    async fn make(&self, of: Vec<Wanted>, before: Option<Made>) -> Result<Made, FsError> {
        match before.filter(|before| *before.of == of) {
            Some(before) => Ok(before),
            None => Ok(Made {
                tree: Arc::new(self.source.tree(&of).await?),
                of: of.into(),
            }),
        }
    }

    fn inputs(&self, job: &JobAddress) -> &[JobInput] {
        self.options.inputs.get(job).map_or(&[], Vec::as_slice)
    }

    /// The tree of a root of the inputs.
    async fn input_tree(&self, content: Content) -> Result<Arc<Tree>, FsError> {
        let make = async {
            let inputs = self.inputs(&content.job).iter();
            let of_root = inputs.filter(|input| input_hash(input) == content.root);
            let wanted = of_root.map(|input| Wanted {
                origin: Arc::new(input.key.clone()),
                len: None,
                time: self.options.settings.created,
            });
            self.make(wanted.collect(), None).await
        };
        self.made((None, content), make).await
    }

    fn input_roots(&self, job: &JobAddress) -> Vec<NamedRoot> {
        let mut roots: Vec<(ContentHash, _)> = Vec::new();
        for input in self.inputs(job) {
            let hash = input_hash(input);
            if !roots.iter().any(|(other, _)| *other == hash) {
                let said = attachfs_jobs::OutputMetadata {
                    asset_root: input.root.clone(),
                    location: input.location.clone(),
                };
                roots.push((hash, Some(said)));
            }
        }
        name_roots(roots, &self.options.mappings)
    }

    /// What is in a directory; `None` if it is not there any more.
    pub(crate) fn listing<'a>(
        &'a self,
        place: &'a Place,
    ) -> BoxFuture<'a, Result<Option<Listing>, FsError>> {
        self.list(place).boxed()
    }

    async fn list(&self, place: &Place) -> Result<Option<Listing>, FsError> {
        let created = self.options.settings.created;
        match place {
            Place::Jobs => self.jobs().await.map(Some),
            Place::Job(job) => {
                let mut entries = vec![
                    folder("latest", Place::Roots(*job, View::Latest), created),
                    folder("by-step", Place::Steps(*job), created),
                    folder("by-time", Place::Runs(*job), created),
                ];
                if !self.inputs(job).is_empty() {
                    let inputs = Place::Roots(*job, View::Inputs);
                    entries.push(folder("inputs", inputs, created));
                }
                // If the job was listed already, a folder has the time of the newest output in it.
                if let Some(known) = self.jobs.get(job)
                    && let Some(Ok(index)) = known.fresh.get().now_or_never()
                {
                    for entry in &mut entries {
                        let newest =
                            folder_of(&entry.place).and_then(|(_, folder)| index.newest_of(folder));
                        entry.time = newest.unwrap_or(entry.time);
                    }
                }
                Ok(Some(Listing::folders(entries)))
            }
            Place::Roots(job, View::Inputs) => {
                let roots = self.input_roots(job).into_iter().map(|root| {
                    let content = Content {
                        job: *job,
                        view: View::Inputs,
                        root: root.hash,
                    };
                    folder(&root.name, Place::In(content, Box::default()), created)
                });
                Ok(Some(Listing::folders(roots.collect())))
            }
            Place::Steps(_) | Place::Step(..) | Place::Runs(_) | Place::Roots(..) => {
                let Some((job, of)) = folder_of(place) else {
                    return Ok(None);
                };
                let index = self.index(job).await?;
                if let Some(known) = index.folders.lock().get(&of) {
                    return Ok(Some(known.clone()));
                }
                let folders = index.folders_of(job, of);
                let is_gone = folders.is_empty()
                    && matches!(
                        of,
                        FolderOf::Step(_) | FolderOf::Roots(View::Part(..) | View::Run(..))
                    );
                if is_gone {
                    return Ok(None);
                }
                let folders = folders.into_iter();
                let entries = folders.map(|(name, place, time)| folder(&name, place, time));
                let listing = Listing::folders(entries.collect());
                index.folders.lock().insert(of, listing.clone());
                Ok(Some(listing))
            }
            Place::In(content, path) => {
                let tree = if content.view == View::Inputs {
                    self.input_tree(*content).await?
                } else {
                    let index = self.index(content.job).await?;
                    self.tree_of(&index, *content, None).await?
                };
                let dir = tree.dir_at(path);
                Ok(dir.map(|dir| {
                    Listing::Tree(Arc::new(TreeDir {
                        tree,
                        dir,
                        content: *content,
                        path: path.clone(),
                    }))
                }))
            }
        }
    }

    async fn jobs(&self) -> Result<Listing, FsError> {
        let entry = |job: JobAddress| {
            let time = self.options.settings.created;
            folder(&job.job.to_string(), Place::Job(job), time)
        };
        let jobs: Vec<_> = match (&self.options.scope, &self.queue) {
            (Scope::Queue(farm, queue), Some(listed)) => {
                let jobs = listed.get().await?;
                let jobs = jobs.iter().map(|&job| {
                    entry(JobAddress {
                        farm: *farm,
                        queue: *queue,
                        job,
                        part: JobPart::Whole,
                    })
                });
                jobs.collect()
            }
            (Scope::Jobs(jobs), _) => jobs.iter().map(|&job| entry(job)).collect(),
            (Scope::Job(_) | Scope::Queue(..), _) => Vec::new(),
        };
        Ok(Listing::folders(jobs))
    }

    /// The root of a content, with what the job says of it, if the job was listed already.
    pub(crate) fn root(&self, content: &Content) -> Option<NamedRoot> {
        let is_it = |root: &NamedRoot| root.hash == content.root;
        if content.view == View::Inputs {
            return self.input_roots(&content.job).into_iter().find(is_it);
        }
        let job = self.jobs.get(&content.job)?;
        let index = job.fresh.get().now_or_never()?.ok()?;
        index.roots.iter().find(|root| is_it(root)).cloned()
    }
}

fn folder(name: &str, place: Place, time: Timestamp) -> FolderEntry {
    FolderEntry {
        name: name.as_bytes().into(),
        place,
        time,
    }
}

fn folder_of(place: &Place) -> Option<(JobAddress, FolderOf)> {
    match *place {
        Place::Steps(job) => Some((job, FolderOf::Steps)),
        Place::Step(job, step) => Some((job, FolderOf::Step(step))),
        Place::Runs(job) => Some((job, FolderOf::Runs)),
        Place::Roots(job, view) => Some((job, FolderOf::Roots(view))),
        Place::Jobs | Place::Job(_) | Place::In(..) => None,
    }
}

/// The hash that keys would have for a root of the inputs.
fn input_hash(input: &JobInput) -> ContentHash {
    attachfs_paths::output_root_hash(input.location.as_deref(), &input.root)
}

fn ended() -> FsError {
    FsErrorKind::Ended.into()
}

async fn ask_job(
    engine: Weak<Engine>,
    job: JobAddress,
    before: Option<Index>,
) -> Result<Index, FsError> {
    let engine = engine.upgrade().ok_or_else(ended)?;
    engine.list_job(job, before).await
}

fn queue(options: &BrowseOptions, ours: &Weak<Engine>) -> Option<Arc<Fresh<Vec<JobId>>>> {
    let Scope::Queue(farm, queue) = options.scope else {
        return None;
    };
    let (ours, queue) = (ours.clone(), format!("{farm}/{queue}"));
    let ask = move |_| {
        let (ours, queue) = (ours.clone(), queue.clone());
        async move {
            let engine = ours.upgrade().ok_or_else(ended)?;
            engine.source.jobs(&queue).await.map(Arc::new)
        }
        .boxed()
    };
    Some(Arc::new(Fresh::new(Engine::period(options), Box::new(ask))))
}
