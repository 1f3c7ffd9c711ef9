//! The outputs of a queue or a job that are new since the last run, in the folders of this machine.
//!
//! ```text
//!     keys in the store     - without those that are done       checkpoint.rs
//!       -> manifests read   -> what goes where, later over earlier    items.rs
//!       -> batches placed   -> on the disk -> noted as done           batches.rs
//! ```
//!
//! A second run lists keys and reads nothing again. A kill at any moment loses no file and no note of one that is not there: what was
//! placed and not yet noted is compared by the next run and not fetched again. Memory is taken for the keys that are known
//! (about 50 bytes each) and for the new manifests.

mod batches;
mod checkpoint;
mod items;
mod report;
mod request;

use std::collections::{BTreeMap, HashSet};
use std::time::SystemTime;

use attachfs_jobs::{
    FarmId, JobId, JobPart, JobsAddress, ListedOutput, OutputReader, Outputs, QueueId, ReadError,
    StorageProfileId, Which,
};
use attachfs_manifest::ContentHash;
use attachfs_store::{ListStore, ManifestStore, Reach, StoreError};
use attachfs_transfer::{DownloadOptions, Progress, Sources, error_chain};
use tokio_util::sync::CancellationToken;

use self::batches::{Placer, batches};
use self::checkpoint::{Checkpoint, MOST_TRIES, OVERLAP, Owner, Waiting, Why};
use self::items::{Item, fingerprint, keep_latest, tally_of};
use self::report::count;
use crate::cancel::Cancellable;
use crate::download::nearby;
use crate::error::{Classified as _, Doing as _, Error};
use crate::places::Places;
use crate::store::OpenStore;

pub use report::{JobsWith, JobsWithout, StoppedSync, SyncReport, SyncedJob, SyncedRoot};
pub use request::{Beginning, SyncRequest};

/// The directory of checkpoints, in that of the user's state.
const CHECKPOINTS: &str = "sync-output";

/// Places what is new since the last run with the same checkpoint. What fails is in the report, and tried again by the next runs; what ends the
/// run (the store is gone, the disk is full, a cancel) is an error whose cause is a [`StoppedSync`]. Waits 10 s at most for another run
/// that has the checkpoint.
pub async fn sync_outputs(
    request: &SyncRequest,
    store: &OpenStore,
    places: &Places,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<SyncReport, Error> {
    let progress = Cancellable::new(progress, cancel);
    let work = Box::pin(sync(request, store, places, &progress));
    progress.run(work).await
}

async fn sync(
    request: &SyncRequest,
    store: &OpenStore,
    places: &Places,
    progress: &dyn Progress,
) -> Result<SyncReport, Error> {
    let (farm, queue) = queue_of(&request.named.address)?;
    if request.placing.is_nothing() {
        return Err(Error::usage("nothing says where files go on this machine").advise(
            "--map-root OLD=NEW, --path-mapping-rules or storage profiles say it; --ignore-storage-profiles takes paths as the jobs have them",
        ));
    }
    let dir = match &request.checkpoint_dir {
        Some(dir) => dir.clone(),
        None => places.state.join(CHECKPOINTS),
    };
    let owner = Owner {
        store: store.settings.address.clone(),
        farm,
        queue,
    };
    let name = format!("{queue}_{}_sync_checkpoint", request.placing.name());
    let beginning = &request.beginning;
    let opened = Checkpoint::open(&dir, &name, owner, beginning.anew, !request.dry_run).await?;
    let mut run = Run {
        request,
        checkpoint: opened,
        report: SyncReport {
            dry_run: request.dry_run,
            ..SyncReport::default()
        },
        now: SystemTime::now(),
        started_jobs: HashSet::new(),
    };
    run.begin()?;
    let new = run.list(&*store.store, farm, queue).await?;
    if run.checkpoint.is_new {
        // From when on outputs are fetched stays as it was at the first run, also if that is killed.
        run.checkpoint.write()?;
    }
    let read = run.read(&*store.store, new).await;
    let items = match read {
        Ok(items) => items,
        Err(error) => {
            run.checkpoint.write()?;
            return Err(error);
        }
    };
    run.tell(&items);
    if !request.dry_run {
        let sources = Sources {
            store: store.store.clone(),
            nearby: nearby(store, places),
        };
        run.place(&items, sources, progress).await?;
        run.checkpoint.write()?;
    }
    Ok(run.report)
}

/// The queue that is meant, or that of the job.
fn queue_of(address: &JobsAddress) -> Result<(FarmId, QueueId), Error> {
    match address {
        JobsAddress::Queue(farm, queue) => Ok((*farm, *queue)),
        JobsAddress::Job(job) => Ok((job.farm, job.queue)),
        JobsAddress::All | JobsAddress::Farm(_) => {
            Err(Error::usage(format!("{address} names no queue"))
                .advise("say which with --farm and --queue"))
        }
    }
}

struct Run<'a> {
    request: &'a SyncRequest,
    checkpoint: Checkpoint,
    report: SyncReport,
    now: SystemTime,
    /// Jobs of which something was done before.
    started_jobs: HashSet<JobId>,
}

impl Run<'_> {
    /// What is said of the first run, and of jobs.
    fn begin(&mut self) -> Result<(), Error> {
        let beginning = &self.request.beginning;
        self.report.checkpoint = self.checkpoint.path().to_owned();
        if self.checkpoint.is_new {
            self.checkpoint.since = beginning.since;
        } else if beginning.import.is_some() {
            return Err(Error::usage(format!(
                "the checkpoint {} has begun already, so no other one is read",
                self.checkpoint.path().display()
            ))
            .advise("--force-bootstrap begins anew"));
        }
        for job in &self.request.jobs {
            self.checkpoint.note_job(job);
        }
        if let Some(job) = &self.request.named.documents.job {
            self.checkpoint.note_job(job);
        }
        Ok(())
    }

    fn profile(&self, job: &JobId) -> Option<StorageProfileId> {
        self.checkpoint.job(job).and_then(|known| known.profile)
    }

    /// Lists what there is, and gives back what is to be read.
    async fn list(
        &mut self,
        store: &dyn ListStore,
        farm: FarmId,
        queue: QueueId,
    ) -> Result<Vec<(ListedOutput, ContentHash)>, Error> {
        let which = self.request.named.action.map_or(Which::All, Which::Of);
        let mut outputs = match &self.request.named.address {
            JobsAddress::Job(job) => Outputs::of(store, job, which),
            _ => Outputs::of_queue(store, farm, queue, which),
        };
        let doing = || format!("cannot list the outputs of {}", self.request.named.address);
        let mut all = Vec::new();
        let mut listed = HashSet::new();
        let mut jobs: BTreeMap<JobId, JobState> = BTreeMap::new();
        while let Some(some) = outputs.next().await.doing(doing)? {
            for one in some.into_iter().flat_map(|chosen| chosen.manifests) {
                let hash = hash_of(&one);
                listed.insert(hash);
                let state = jobs.entry(one.key.place.job).or_default();
                if self.is_wanted(&one, hash, state) {
                    all.push((one, hash));
                }
            }
        }
        self.report.listed_manifests = listed.len() as u64;
        self.report.foreign_keys = outputs.foreign().count;
        for (job, state) in jobs {
            if state.is_started {
                self.started_jobs.insert(job);
            }
            let without = &mut self.report.jobs_without_downloads;
            match state {
                JobState { wanted: true, .. } => {}
                JobState {
                    no_profile: true, ..
                } => without.missing_storage_profile += 1,
                JobState { .. } => without.unchanged += 1,
            }
        }
        if !self.request.dry_run && self.request.named.action.is_none() {
            match &self.request.named.address {
                JobsAddress::Job(job) if job.part == JobPart::Whole => {
                    self.checkpoint
                        .forget(&listed, |of| *of == job.job, self.now);
                }
                JobsAddress::Job(_) => {}
                _ => self.checkpoint.forget(&listed, |_| true, self.now),
            }
        }
        Ok(all)
    }

    /// Whether a manifest is to be read.
    fn is_wanted(&mut self, one: &ListedOutput, hash: ContentHash, state: &mut JobState) -> bool {
        if self.checkpoint.is_done(&hash) {
            state.is_started = true;
            return false;
        }
        let job = one.key.place.job;
        let written = one.modified.unwrap_or_else(|| one.key.time.system_time());
        let earlier = |since: SystemTime| since.checked_sub(OVERLAP).is_some_and(|t| written < t);
        if self.checkpoint.since.is_some_and(earlier) {
            self.report.earlier_manifests += 1;
            return false;
        }
        let beginning = &self.request.beginning;
        if let Some(import) = &beginning.import
            && import.has(&one.key, one.modified)
        {
            self.report.imported_manifests += 1;
            self.checkpoint.set_done(hash, job);
            state.is_started = true;
            return false;
        }
        let known = self.checkpoint.job(&job);
        if self.request.placing.needs_profile() && known.is_some_and(|job| job.profile.is_none()) {
            state.no_profile = true;
            return false;
        }
        let profile = self.profile(&job);
        match self.checkpoint.waiting(&hash).map(|of| &of.why) {
            Some(Why::Failed { tries, .. }) if *tries >= MOST_TRIES => {
                if !self.request.retry_failed {
                    self.report.given_up_manifests += 1;
                    return false;
                }
            }
            Some(Why::Unmapped {
                root,
                location,
                rules,
                files,
                bytes,
            }) => {
                let placing = &self.request.placing;
                let parts = placing.parts(root, location.as_deref(), profile.as_ref());
                if fingerprint(&parts) == *rules {
                    let (root, files, bytes) = (root.clone(), *files, *bytes);
                    self.job(job).add_unmapped(&root, files, bytes);
                    return false;
                }
            }
            Some(Why::Failed { .. }) | None => {}
        }
        state.wanted = true;
        true
    }

    fn job(&mut self, job: JobId) -> &mut report::SyncedJob {
        let name = self.checkpoint.job(&job).and_then(|job| job.name.clone());
        let of = self.report.jobs.entry(job).or_default();
        of.name = name;
        of
    }

    /// Reads manifests, and says what each puts where. One that cannot be used is a failure of its job; fails if the store does.
    async fn read(
        &mut self,
        store: &dyn ManifestStore,
        new: Vec<(ListedOutput, ContentHash)>,
    ) -> Result<Vec<Item>, Error> {
        let mut reader = OutputReader::of(store, new.iter().map(|(one, _)| *one));
        let mut items = Vec::new();
        for (one, hash) in new {
            let job = one.key.place.job;
            let why = match reader.next().await {
                Ok(None) => break,
                Ok(Some(output)) => {
                    self.report.read_manifests += 1;
                    let profile = self.profile(&job);
                    match Item::of(output, hash, &self.request.placing, profile.as_ref()) {
                        Ok(item) => {
                            items.push(item);
                            continue;
                        }
                        Err(error) => error_chain(&error),
                    }
                }
                Err(error) if concerns_all(&error) => return Err(error.into()),
                Err(error) => error_chain(&error),
            };
            self.fail(&one, hash, vec![(key_of(&one), why)]);
        }
        keep_latest(&mut items);
        Ok(items)
    }

    /// A manifest could not be placed as a whole.
    fn fail(&mut self, one: &ListedOutput, hash: ContentHash, failed: Vec<(String, String)>) {
        let job = one.key.place.job;
        let before = if self.request.retry_failed {
            0
        } else {
            self.checkpoint.tries(&hash)
        };
        let tries = before.saturating_add(1);
        let error = failed.first().map(|(_, why)| why.clone());
        let waiting = Waiting {
            key: key_of(one),
            job,
            why: Why::Failed {
                tries,
                error: error.unwrap_or_default(),
            },
        };
        if !self.request.dry_run {
            self.checkpoint.set_waiting(hash, waiting);
        }
        let of = self.job(job);
        of.tries = of.tries.max(tries);
        of.given_up |= tries >= MOST_TRIES;
        for (path, why) in failed {
            of.fail(path, why);
        }
    }

    /// Tells what goes where.
    fn tell(&mut self, items: &[Item]) {
        for item in items {
            for (folder, snapshot) in &item.placed {
                let tally = tally_of(snapshot);
                let of = self.job(item.job());
                of.add_files(&item.root, folder, tally.count, tally.bytes);
                if self.request.dry_run {
                    self.report.downloaded_files += tally.count;
                    self.report.downloaded_bytes += tally.bytes;
                }
            }
            if item.unmapped.count > 0 {
                let of = self.job(item.job());
                of.add_unmapped(&item.root, item.unmapped.count, item.unmapped.bytes);
            }
        }
        let jobs = &self.report.jobs;
        let unmapped = jobs.values().filter(|job| !job.unmapped.is_empty());
        self.report.unmapped_paths = unmapped.count() as u64;
        for (job, of) in jobs {
            if of.roots.is_empty() {
                continue;
            }
            let with = &mut self.report.jobs_with_downloads;
            if self.started_jobs.contains(job) {
                with.updated += 1;
            } else {
                with.added += 1;
            }
        }
    }

    /// Places everything, batch by batch, and notes what is done.
    async fn place(
        &mut self,
        items: &[Item],
        sources: Sources,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let request = self.request;
        let placer = Placer {
            sources,
            options: DownloadOptions {
                conflict: request.conflict,
                permissions: request.permissions,
                caches: request.hashing.caches.clone(),
                force_rehash: request.hashing.force_rehash,
                sync: true,
                ..DownloadOptions::default()
            },
            progress,
        };
        let mut actions = HashSet::new();
        for numbers in batches(items) {
            let placed = placer.place(items, numbers.clone()).await;
            let mut batch = match placed {
                Ok(batch) => batch,
                Err(source) => {
                    self.checkpoint.write()?;
                    let class = source.class();
                    let report = Box::new(std::mem::take(&mut self.report));
                    return Err(Error::of(class, StoppedSync { report, source }));
                }
            };
            count(&mut self.report, &batch.report.summary);
            self.report.copied.append(&mut batch.report.copied);
            self.report.left.append(&mut batch.report.left);
            for number in numbers {
                let item = &items[number];
                if let Some(failed) = batch.failed.remove(&number) {
                    let failed = failed.into_iter().map(|of| (of.path, of.error));
                    self.fail(&item.listed, item.hash, failed.collect());
                } else if item.unmapped.count > 0 {
                    self.checkpoint.set_waiting(item.hash, unmapped(item));
                } else {
                    self.checkpoint.set_done(item.hash, item.job());
                    actions.insert((item.job(), item.listed.key.action));
                }
            }
            self.report.downloaded_session_actions = actions.len() as u64;
            self.checkpoint.write_at_times()?;
        }
        Ok(())
    }
}

/// What was seen of a job while it was listed.
#[derive(Debug, Default)]
struct JobState {
    is_started: bool,
    wanted: bool,
    no_profile: bool,
}

fn unmapped(item: &Item) -> Waiting {
    Waiting {
        key: key_of(&item.listed),
        job: item.job(),
        why: Why::Unmapped {
            root: item.root.clone(),
            location: item.location.clone(),
            rules: item.rules.clone(),
            files: item.unmapped.count,
            bytes: item.unmapped.bytes,
        },
    }
}

fn key_of(one: &ListedOutput) -> String {
    let key = one.key.manifest_key();
    key.unwrap_or_else(|error| unreachable!("it was read from a key: {error}"))
        .to_string()
}

fn hash_of(one: &ListedOutput) -> ContentHash {
    ContentHash::of(key_of(one).as_bytes())
}

/// Whether no other manifest could be read either.
fn concerns_all(error: &ReadError) -> bool {
    match error {
        ReadError::Store { source, .. } => !matches!(
            source,
            StoreError::NotFound { .. }
                | StoreError::Denied {
                    reach: Reach::Unknown,
                    ..
                }
        ),
        _ => false,
    }
}
