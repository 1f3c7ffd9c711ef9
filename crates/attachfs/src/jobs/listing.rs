//! What a store knows of jobs: farms, queues, jobs, steps, tasks, runs and times, as the keys of manifests say.
//!
//! ```text
//!     keys  --KnownJobs, Outputs-->  entries, as they come  --with their manifests read, if asked for-->  the caller
//! ```
//!
//! Nothing is held but what is under way: so a queue may have any number of manifests.

mod report;

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use attachfs_jobs::{
    ForeignKeys, JobAddress, JobPart, JobsAddress, Known, KnownJob, KnownJobs, KnownScope,
    KnownStep, LatestBy, ListedOutput, OutputReader, Outputs, ReadError, Span, Which,
};
use attachfs_manifest::Node;
use attachfs_store::StoreError;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

pub use self::report::{
    JobRun, JobsListing, JobsRequest, ListedJobs, PassedKey, QueueInputs, StepOutputs, StoredJob,
    StoredOutputs,
};
use crate::cancel::unless_cancelled;
use crate::error::{Doing as _, Error};
use crate::store::OpenStore;

/// How many jobs are looked at together where their manifests are read.
const JOBS_AT_ONCE: usize = 32;

/// How many unreadable manifests are named.
const NAMED: usize = 10;

/// Lists jobs, and shows each as it is known, in the order of keys. What is not there has none.
pub async fn list_jobs(
    store: &OpenStore,
    request: &JobsRequest,
    mut show: impl FnMut(ListedJobs) -> Result<(), Error>,
    cancel: &CancellationToken,
) -> Result<JobsListing, Error> {
    unless_cancelled(cancel, async {
        let mut listing = JobsListing::default();
        let mut counting = Counting {
            store,
            is_asked_for: request.long,
            reader: OutputReader::of(&*store.store, []),
            waiting: VecDeque::new(),
        };
        match (request.address, request.action) {
            (JobsAddress::Job(address), Some(action)) => {
                let which = Which::Of(action);
                runs(
                    &mut counting,
                    request,
                    &address,
                    which,
                    &mut show,
                    &mut listing,
                )
                .await?;
            }
            (JobsAddress::Job(address), None) if address.part != JobPart::Whole => {
                let which = Which::All;
                runs(
                    &mut counting,
                    request,
                    &address,
                    which,
                    &mut show,
                    &mut listing,
                )
                .await?;
            }
            (_, Some(action)) => {
                let sentence = format!("the job of {action} is not known");
                return Err(Error::usage(sentence).advise("say it with --job"));
            }
            _ => jobs(&mut counting, request, &mut show, &mut listing).await?,
        }
        Ok(listing)
    })
    .await
}

fn scope(address: &JobsAddress) -> KnownScope {
    match *address {
        JobsAddress::All => KnownScope::All,
        JobsAddress::Farm(farm) => KnownScope::Farm(farm),
        JobsAddress::Queue(farm, queue) => KnownScope::Queue(farm, queue),
        JobsAddress::Job(of) => KnownScope::Job(of.farm, of.queue, of.job),
    }
}

fn cannot_list(store: &OpenStore, address: &JobsAddress) -> String {
    format!(
        "cannot list {address} in the store {}",
        store.store.address()
    )
}

fn foreign(keys: &ForeignKeys, listing: &mut JobsListing) {
    listing.foreign = keys.count;
    let first = keys.first.iter();
    let passed = first.map(|(key, reason)| PassedKey {
        key: key.clone(),
        reason: reason.clone(),
    });
    listing.first_foreign = passed.collect();
}

async fn jobs(
    counting: &mut Counting<'_>,
    request: &JobsRequest,
    show: &mut impl FnMut(ListedJobs) -> Result<(), Error>,
    listing: &mut JobsListing,
) -> Result<(), Error> {
    let store = counting.store;
    let after = request.after.as_ref().map(|after| scope(after).end());
    let found = scope(&request.address);
    let mut found = KnownJobs::after(&*store.store, &found, request.since, after);
    let mut left = request.limit;
    let mut last = None;
    'listed: loop {
        let next = found.next().await;
        let next = next.doing(|| cannot_list(store, &request.address))?;
        let Some(mut known) = next else { break };
        let mut is_cut = false;
        if let Some(left) = &mut left {
            let fits = known.iter().take_while(|one| {
                let is_job = matches!(one, Known::Job(_));
                let fits = *left > 0;
                *left -= u64::from(is_job && fits);
                fits
            });
            let fits = fits.count();
            is_cut = fits < known.len();
            known.truncate(fits);
        }
        let mut known = known.into_iter().peekable();
        while known.peek().is_some() {
            let some: Vec<_> = known.by_ref().take(JOBS_AT_ONCE).collect();
            for (one, counts) in counting.of_jobs(some, listing).await? {
                if let Known::Job(job) = &one {
                    last = Some(address_of(job));
                }
                show(shown(one, counts))?;
            }
        }
        if is_cut {
            let behind = last.map(JobsAddress::Job).or(request.after);
            listing.next = behind.map(|behind| behind.to_string());
            break 'listed;
        }
    }
    listing.keys = found.listed();
    foreign(found.foreign(), listing);
    Ok(())
}

async fn runs(
    counting: &mut Counting<'_>,
    request: &JobsRequest,
    address: &JobAddress,
    which: Which,
    show: &mut impl FnMut(ListedJobs) -> Result<(), Error>,
    listing: &mut JobsListing,
) -> Result<(), Error> {
    if request.limit.is_some() || request.after.is_some() {
        let sentence =
            "--limit and --after are for jobs: the runs of a step or a task are listed as a whole";
        return Err(Error::usage(sentence));
    }
    let store = counting.store;
    let mut found = Outputs::of(&*store.store, address, which);
    loop {
        let next = found.next().await;
        let next = next.doing(|| cannot_list(store, &request.address))?;
        let Some(chosen) = next else { break };
        let runs = chosen.into_iter().map(|chosen| chosen.manifests);
        let runs = runs.filter(|run| is_since(run, request.since));
        for (run, counts) in counting.of_runs(runs.collect(), listing).await? {
            if let Some(run) = shown_run(&run, counts) {
                show(ListedJobs::Run(run))?;
            }
        }
    }
    listing.keys = found.listed();
    foreign(found.foreign(), listing);
    Ok(())
}

/// Whether a run wrote something at this time or later.
fn is_since(run: &[ListedOutput], since: Option<SystemTime>) -> bool {
    let Some(since) = since else { return true };
    run.iter().any(|output| {
        let written = output.modified;
        written.unwrap_or_else(|| output.key.time.system_time()) >= since
    })
}

/// Files and their bytes.
type Counts = Option<(u64, u64)>;

/// Reads manifests, many at once, and counts what is in them.
struct Counting<'a> {
    store: &'a OpenStore,
    is_asked_for: bool,
    reader: OutputReader<'a>,
    /// The manifests that the reader has still to give, in its order.
    waiting: VecDeque<ListedOutput>,
}

impl Counting<'_> {
    /// Jobs with what the latest runs of their tasks wrote.
    async fn of_jobs(
        &mut self,
        known: Vec<Known>,
        listing: &mut JobsListing,
    ) -> Result<Vec<(Known, Counts)>, Error> {
        if !self.is_asked_for {
            return Ok(known.into_iter().map(|one| (one, None)).collect());
        }
        let store = self.store;
        let outputs = known.into_iter().map(|one| async move {
            let outputs = match &one {
                Known::Inputs(_) => None,
                Known::Job(job) => {
                    let address = address_of(job);
                    let which = Which::Latest(LatestBy::default());
                    let found = Outputs::of(&*store.store, &address, which).all().await;
                    let address = JobsAddress::Job(address);
                    Some(found.doing(|| cannot_list(store, &address))?.manifests)
                }
            };
            Ok::<_, Error>((one, outputs))
        });
        let mut outputs = futures::stream::iter(outputs).buffered(JOBS_AT_ONCE);
        let mut jobs = Vec::new();
        while let Some((one, outputs)) = outputs.try_next().await? {
            let many = outputs.map(|outputs| self.add(outputs));
            jobs.push((one, many));
        }
        let mut counted = Vec::with_capacity(jobs.len());
        for (one, many) in jobs {
            let counts = match many {
                Some(many) => Some(self.count(many, listing).await?),
                None => None,
            };
            counted.push((one, counts));
        }
        Ok(counted)
    }

    async fn of_runs(
        &mut self,
        runs: Vec<Vec<ListedOutput>>,
        listing: &mut JobsListing,
    ) -> Result<Vec<(Vec<ListedOutput>, Counts)>, Error> {
        if self.is_asked_for {
            for run in &runs {
                self.add(run.clone());
            }
        }
        let mut counted = Vec::with_capacity(runs.len());
        for run in runs {
            let counts = if self.is_asked_for {
                Some(self.count(run.len(), listing).await?)
            } else {
                None
            };
            counted.push((run, counts));
        }
        Ok(counted)
    }

    fn add(&mut self, outputs: Vec<ListedOutput>) -> usize {
        let many = outputs.len();
        self.waiting.extend(&outputs);
        self.reader.add(outputs);
        many
    }

    /// Counts what is in the next manifests. One that cannot be used is told and not counted, like one that went after it was listed;
    /// a store that does not answer ends the listing.
    async fn count(&mut self, many: usize, listing: &mut JobsListing) -> Result<(u64, u64), Error> {
        let (mut files, mut bytes) = (0, 0);
        for _ in 0..many {
            let listed = self.waiting.pop_front();
            let error = match self.reader.next().await {
                Ok(output) => {
                    let snapshot = output.map(|output| output.snapshot);
                    for (_, node) in snapshot
                        .iter()
                        .flat_map(attachfs_manifest::Snapshot::entries)
                    {
                        if let Node::File(file) = node {
                            files += 1;
                            bytes += file.size;
                        }
                    }
                    continue;
                }
                Err(error) => error,
            };
            let is_store = match &error {
                ReadError::List { .. } => true,
                ReadError::Store { source, .. } => !matches!(source, StoreError::NotFound { .. }),
                _ => false,
            };
            if is_store {
                return Err(error.into());
            }
            listing.unread += 1;
            if listing.first_unread.len() < NAMED {
                let key = listed.and_then(|listed| listed.key.manifest_key().ok());
                listing.first_unread.push(PassedKey {
                    key: key.map(|key| key.to_string()).unwrap_or_default(),
                    reason: attachfs_transfer::error_chain(&error),
                });
            }
        }
        Ok((files, bytes))
    }
}

fn address_of(job: &KnownJob) -> JobAddress {
    JobAddress {
        farm: job.farm,
        queue: job.queue,
        job: job.job,
        part: JobPart::Whole,
    }
}

/// Microseconds since 1970.
fn micros(time: SystemTime) -> i64 {
    let micros =
        |duration: std::time::Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => micros(after),
        Err(before) => -micros(before.duration()),
    }
}

fn written(span: Option<&Span<SystemTime>>) -> (Option<i64>, Option<i64>) {
    (
        span.map(|span| micros(span.first)),
        span.map(|span| micros(span.last)),
    )
}

fn outputs_of(step: &KnownStep, counts: Counts) -> StoredOutputs {
    let (first_written, last_written) = written(step.modified.as_ref());
    StoredOutputs {
        tasks: step.tasks,
        runs: step.actions,
        manifests: step.manifests,
        manifest_bytes: step.bytes,
        first_began: Some(step.began.first.micros()),
        last_began: Some(step.began.last.micros()),
        first_written,
        last_written,
        files: counts.map(|(files, _)| files),
        bytes: counts.map(|(_, bytes)| bytes),
    }
}

fn shown(known: Known, counts: Counts) -> ListedJobs {
    match known {
        Known::Inputs(inputs) => {
            let (first_written, last_written) = written(inputs.modified.as_ref());
            ListedJobs::Inputs(QueueInputs {
                address: JobsAddress::Queue(inputs.farm, inputs.queue).to_string(),
                manifests: inputs.manifests,
                manifest_bytes: inputs.bytes,
                first_written,
                last_written,
            })
        }
        Known::Job(job) => {
            let address = address_of(&job);
            let steps = job.steps.iter().map(|step| StepOutputs {
                address: JobAddress {
                    part: JobPart::Step(step.step),
                    ..address
                }
                .to_string(),
                outputs: outputs_of(step, None),
            });
            ListedJobs::Job(StoredJob {
                address: address.to_string(),
                outputs: outputs_of(&job.total(), counts),
                steps: steps.collect(),
            })
        }
    }
}

/// A run, whose manifests are of one place and one session action.
fn shown_run(run: &[ListedOutput], counts: Counts) -> Option<JobRun> {
    let key = run.first()?.key;
    let place = key.place;
    let part = match place.task {
        None => JobPart::Step(place.step),
        Some(task) => JobPart::Task(place.step, task),
    };
    let address = JobAddress {
        farm: place.farm,
        queue: place.queue,
        job: place.job,
        part,
    };
    let written = || run.iter().filter_map(|output| output.modified);
    Some(JobRun {
        address: address.to_string(),
        session_action: key.action.to_string(),
        outputs: StoredOutputs {
            tasks: u64::from(place.task.is_some()),
            runs: 1,
            manifests: run.len() as u64,
            manifest_bytes: run.iter().map(|output| output.len).sum(),
            first_began: Some(key.time.micros()),
            last_began: Some(key.time.micros()),
            first_written: written().min().map(micros),
            last_written: written().max().map(micros),
            files: counts.map(|(files, _)| files),
            bytes: counts.map(|(_, bytes)| bytes),
        },
    })
}
