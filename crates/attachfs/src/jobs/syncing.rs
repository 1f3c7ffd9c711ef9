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
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use attachfs_jobs::{
    FarmId, JobId, JobPart, JobsAddress, ListedOutput, OutputReader, Outputs, QueueId,
    SessionActionId, StorageProfileId, Which,
};
use attachfs_manifest::ContentHash;
use attachfs_store::{ListStore, ManifestStore};
use attachfs_transfer::{DownloadOptions, Failed, Progress, Sources, TransferError, error_chain};
use tokio_util::sync::CancellationToken;

use self::batches::{Batch, Placer, batches, concerns_all};
use self::checkpoint::{Checkpoint, MOST_TRIES, OVERLAP, Owner, Waiting, Why};
use self::items::{Item, Lost, fingerprint, hash_of, keep_latest, key_of, tally_of};
use self::report::count;
use self::request::queue_of;
use crate::cancel::Cancellable;
use crate::download::nearby;
use crate::error::{Classified as _, Doing as _, Error};
use crate::places::Places;
use crate::store::OpenStore;

pub use report::{
    GivenUpManifest, JobsWith, JobsWithout, StoppedSync, SyncReport, SyncedJob, SyncedRoot,
};
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
        failures: Vec::new(),
        actions: HashSet::new(),
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
    }
    run.note_failures();
    run.checkpoint.write()?;
    Ok(run.report)
}

struct Run<'a> {
    request: &'a SyncRequest,
    checkpoint: Checkpoint,
    report: SyncReport,
    now: SystemTime,
    /// Jobs of which something was done before.
    started_jobs: HashSet<JobId>,
    /// Manifests that failed in this run, and why.
    failures: Vec<(ListedOutput, ContentHash, String)>,
    /// Session actions whose outputs are placed now.
    actions: HashSet<(JobId, SessionActionId)>,
}

impl Run<'_> {
    /// Takes from the request where a first run begins, and the documents of jobs.
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

    /// Lists the outputs in the store, and gives those that are to be read.
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
            Some(Why::Failed { tries, error }) if *tries >= MOST_TRIES => {
                if !self.request.retry_failed {
                    self.report.give_up(GivenUpManifest {
                        job,
                        name: known.and_then(|job| job.name.clone()),
                        key: key_of(one),
                        error: error.clone(),
                    });
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

    /// A manifest could not be placed as a whole. That a try of it is used is [noted](Self::note_failures) when the run ends by itself.
    fn fail(&mut self, one: &ListedOutput, hash: ContentHash, failed: Vec<(String, String)>) {
        let error = failed.first().map(|(_, why)| why.clone());
        self.failures.push((*one, hash, error.unwrap_or_default()));
        let of = self.job(one.key.place.job);
        for (path, why) in failed {
            of.fail(path, why);
        }
    }

    /// How often a manifest has failed that fails now, too.
    fn tries_now(&self, hash: &ContentHash) -> u32 {
        let before = if self.request.retry_failed {
            0
        } else {
            self.checkpoint.tries(hash)
        };
        before.saturating_add(1)
    }

    fn note_failures(&mut self) {
        for (one, hash, error) in std::mem::take(&mut self.failures) {
            let tries = self.tries_now(&hash);
            let job = one.key.place.job;
            let of = self.job(job);
            of.tries = of.tries.max(tries);
            of.given_up |= tries >= MOST_TRIES;
            let waiting = Waiting {
                key: key_of(&one),
                job,
                why: Why::Failed { tries, error },
            };
            if !self.request.dry_run {
                self.checkpoint.set_waiting(hash, waiting);
            }
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
        let mut failed: BTreeMap<usize, Vec<Failed>> = BTreeMap::new();
        for numbers in batches(items) {
            let placed = placer.place(items, numbers.clone()).await;
            failed.extend(self.counted(placed)?);
            for number in numbers {
                if items[number].replaced.is_empty() && !failed.contains_key(&number) {
                    self.done(&items[number]);
                }
            }
            self.checkpoint.write_at_times()?;
        }
        let mut lost = Lost::new();
        for (number, of) in &failed {
            let is_given_up = self.tries_now(&items[*number].hash) >= MOST_TRIES;
            let item = &items[*number];
            item.note_lost(&item.placed, of, is_given_up, &mut lost);
        }
        // The later ones first: each is placed where those behind it are given up. One that waits for them is not noted.
        let replaced = items.iter().enumerate().rev();
        for (number, item) in replaced.filter(|(_, item)| !item.replaced.is_empty()) {
            let (instead, waits) = item.instead(&mut lost);
            let placed = placer.place_all([(number, &*instead)]).await;
            for (_, more) in self.counted(placed)? {
                item.note_lost(&instead, &more, false, &mut lost);
                failed.entry(number).or_default().extend(more);
            }
            if !waits && !failed.contains_key(&number) {
                self.done(item);
            }
        }
        for (number, of) in failed {
            let item = &items[number];
            let of = of.into_iter().map(|of| (of.path, of.error));
            self.fail(&item.listed, item.hash, of.collect());
        }
        Ok(())
    }

    /// Counts what was placed, and gives back what failed. If the run ends here, what is done is written.
    fn counted(
        &mut self,
        placed: Result<Batch, TransferError>,
    ) -> Result<HashMap<usize, Vec<Failed>>, Error> {
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
        Ok(batch.failed)
    }

    /// Everything of a manifest that has a place is placed.
    fn done(&mut self, item: &Item) {
        if item.unmapped.count > 0 {
            self.checkpoint.set_waiting(item.hash, item.unmapped());
            return;
        }
        self.checkpoint.set_done(item.hash, item.job());
        if self.actions.insert((item.job(), item.listed.key.action)) {
            self.report.downloaded_session_actions += 1;
        }
    }
}

/// What was seen of a job while it was listed.
#[derive(Debug, Default)]
struct JobState {
    is_started: bool,
    wanted: bool,
    no_profile: bool,
}
