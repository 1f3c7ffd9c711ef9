//! Putting objects into a store, each once, and only those that it lacks.
//!
//! ```text
//!     relied on   nothing is asked, if a sample of them is there            seen.rs
//!     small       HEAD, then PUT; after much that was missing only PUT      guess.rs
//!     the rest    HEAD, then PUT
//! ```
//!
//! A slot is held for the time of one request and no longer, so that whoever has one waits for nobody; how
//! many slots there are follows from how far the store is (slots.rs). Objects longer than
//! [`UploadOptions::small_file`] take turns besides, from before their bytes are hashed until they are stored.

mod guess;
mod seen;
mod slots;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use attachfs_durable::open_files_limit;
use attachfs_fetch::ByteBudget;
use attachfs_manifest::{ContentHash, EscapedBytes};
use attachfs_scan::{Phase, Progress};
use attachfs_store::{ChunkStore, Payload, StoreError, data_key};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::check::readable_len;
use crate::error::TransferError;
use crate::meter::Meter;
use crate::refusals::{Refusals, Request};
use crate::run::{blocking, run_all};
use crate::source::ChunkSource;
use crate::summary::Tally;

use guess::Guess;
use slots::Slots;

pub use seen::SeenObjects;

/// How much an [`Uploader`] does at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadOptions {
    /// Requests at once, where the store answers at once.
    pub max_in_flight: usize,
    /// Requests at once, where each takes long.
    pub max_in_flight_far: usize,
    /// How many of them may be for objects longer than [`UploadOptions::small_file`]: few, so that an
    /// interrupted upload leaves whole objects rather than parts of many.
    pub max_large_in_flight: usize,
    /// Objects of up to this many bytes are sent without being asked for where nearly everything is
    /// missing; 0 asks for all. Right for a store to which a HEAD is as far as a PUT.
    pub unasked: u64,
    /// Files of up to this many bytes are read once: hashed and sent from memory. Longer ones are
    /// hashed first and sent from the file.
    pub small_file: u64,
    /// Bytes of small files in memory.
    pub memory_bytes: u64,
}

/// An object on its way has its file open, the one that it goes to or a connection, and a directory; others of this process have
/// some, too.
const FILES_FOR_EACH: u64 = 5;

/// So many objects at once, or fewer where this process may open few files.
fn within_limit(most: usize) -> usize {
    let fit = open_files_limit().map_or(u64::MAX, |limit| limit / FILES_FOR_EACH);
    most.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self {
            max_in_flight: within_limit(32),
            max_in_flight_far: within_limit(128),
            max_large_in_flight: 4,
            unasked: 64 << 10,
            small_file: 4 << 20,
            memory_bytes: 64 << 20,
        }
    }
}

/// What an upload did. Counts objects: one that several files share is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadReport {
    /// Sent.
    pub uploaded: Tally,
    /// Not sent, because the store had them with the right length.
    pub already_there: Tally,
    /// Of these, the ones that were [expected](Uploader::expecting) to be there.
    pub expected: Tally,
}

impl UploadReport {
    pub(crate) fn add(&mut self, outcome: Outcome, bytes: u64) {
        match outcome {
            Outcome::Uploaded => self.uploaded.add(bytes),
            Outcome::AlreadyThere => self.already_there.add(bytes),
        }
    }
}

/// An object that a store does not have as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LackingObject {
    /// Its hash.
    pub hash: ContentHash,
    /// How many bytes it should have.
    pub expected: u64,
    /// How many the store has; `None` if it has no such object.
    pub found: Option<u64>,
}

/// How an object came to be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Uploaded,
    AlreadyThere,
}

/// Bytes that are about to be sent, and their turn if they are many.
pub(crate) struct Sending {
    pub(crate) payload: Payload,
    /// Held until they are sent.
    pub(crate) turn: Option<OwnedSemaphorePermit>,
}

/// Puts objects into one store. Clones share its limits.
#[derive(Debug, Clone)]
pub struct Uploader {
    store: Arc<dyn ChunkStore>,
    pub(crate) options: UploadOptions,
    slots: Arc<Slots>,
    large: Arc<Semaphore>,
    pub(crate) memory: ByteBudget,
    guess: Arc<Mutex<Guess>>,
    refusals: Arc<Refusals>,
    pub(crate) seen: Option<Arc<SeenObjects>>,
    expected: Arc<HashSet<ContentHash>>,
}

impl Uploader {
    /// An uploader for this store.
    pub fn new(store: Arc<dyn ChunkStore>, options: UploadOptions) -> Self {
        Self {
            store,
            slots: Arc::new(Slots::new(options.max_in_flight, options.max_in_flight_far)),
            large: Arc::new(Semaphore::new(options.max_large_in_flight.max(1))),
            memory: ByteBudget::new(options.memory_bytes),
            guess: Arc::default(),
            refusals: Arc::default(),
            seen: None,
            expected: Arc::default(),
            options,
        }
    }

    /// With objects that are probably there: each is asked for before it is sent, however much else is missing. That one is expected
    /// confirms nothing.
    #[must_use]
    pub fn expecting(self, objects: HashSet<ContentHash>) -> Self {
        Self {
            expected: Arc::new(objects),
            ..self
        }
    }

    /// Believes what was seen in the bucket at an earlier time, as far as [`SeenObjects`] goes. Only
    /// [`snapshot`](crate::snapshot()) and [`upload_named`](crate::upload_named) do;
    /// [`Uploader::upload_missing`] confirms every object all the same. If nothing is to be believed, or an
    /// earlier upload to there did not end well, no object is sent without being asked for. Blocks for a moment.
    #[must_use]
    pub fn believing(self, seen: SeenObjects) -> Self {
        if seen.begin() || seen.is_doubted() {
            *self.guess.lock() = Guess::always();
        }
        Self {
            seen: Some(Arc::new(seen)),
            ..self
        }
    }

    /// Stores those of `chunks` that the store lacks. An object of the wrong length counts as missing
    /// and is replaced. When this succeeds, every one of them was confirmed by the store.
    pub async fn upload_missing(
        &self,
        chunks: Vec<ChunkSource>,
        progress: &dyn Progress,
    ) -> Result<UploadReport, TransferError> {
        let mut seen = HashSet::new();
        let chunks: Vec<_> = chunks
            .into_iter()
            .filter(|chunk| seen.insert(chunk.hash))
            .collect();
        let bytes = chunks.iter().map(ChunkSource::object_len).sum();
        let meter = Meter::new(Phase::Upload, chunks.len() as u64, bytes);
        let jobs = chunks.into_iter().map(|chunk| {
            let (uploader, meter) = (self.clone(), Arc::clone(&meter));
            async move {
                // No more files are open than requests can be made.
                let _place = uploader.slots.place().await;
                let len = chunk.object_len();
                let path = &chunk.source.path;
                let (source, range) = (chunk.source.clone(), chunk.range.clone());
                let sending = async {
                    let turn = uploader.turn(len).await;
                    let payload = blocking(&meter, move || source.payload(range)).await?;
                    Ok(Sending { payload, turn })
                };
                let outcome = uploader.ensure(chunk.hash, len, sending, path).await?;
                match outcome {
                    Outcome::AlreadyThere => meter.known(len, 0),
                    Outcome::Uploaded => {
                        meter.add_bytes(len);
                        meter.finished(|| {
                            EscapedBytes(path.as_os_str().as_encoded_bytes()).to_string()
                        });
                    }
                }
                Ok((chunk.hash, outcome, len))
            }
        });
        let mut report = UploadReport::default();
        let count = |(hash, outcome, len)| {
            report.add(outcome, len);
            if outcome == Outcome::AlreadyThere && self.expected.contains(&hash) {
                report.expected.add(len);
            }
        };
        run_all(jobs, self.most_in_flight(), &meter, progress, count).await?;
        Ok(report)
    }

    /// Asks the store for each of these objects, and fails unless all are there with these lengths.
    pub async fn confirm(
        &self,
        chunks: &[(ContentHash, u64)],
        progress: &dyn Progress,
    ) -> Result<(), TransferError> {
        let lacking = self.lacking(chunks, progress).await?;
        match lacking.first() {
            None => Ok(()),
            Some(first) => Err(TransferError::Unconfirmed {
                count: lacking.len() as u64,
                first: first.hash,
                expected: first.expected,
                found: first.found,
            }),
        }
    }

    /// Asks the store for each of these objects: those that are not there with these lengths (in bytes), by their hashes. Fails where
    /// the store does not say.
    pub async fn lacking(
        &self,
        chunks: &[(ContentHash, u64)],
        progress: &dyn Progress,
    ) -> Result<Vec<LackingObject>, TransferError> {
        let chunks: HashMap<ContentHash, u64> = chunks.iter().copied().collect();
        let meter = Meter::new(Phase::Check, chunks.len() as u64, 0);
        let jobs = chunks.into_iter().map(|(hash, expected)| {
            let (uploader, meter) = (self.clone(), Arc::clone(&meter));
            async move {
                let _slot = uploader.slots.take().await;
                let found = readable_len(&*uploader.store, hash).await?;
                meter.finished(|| hash.to_string());
                let lacking = LackingObject {
                    hash,
                    expected,
                    found,
                };
                Ok((found != Some(expected)).then_some(lacking))
            }
        });
        let mut lacking = Vec::new();
        let collect = |answer| lacking.extend(answer);
        run_all(jobs, self.most_in_flight(), &meter, progress, collect).await?;
        lacking.sort_unstable();
        Ok(lacking)
    }

    /// As many requests as there will ever be at once.
    pub(crate) fn most_in_flight(&self) -> usize {
        let options = &self.options;
        options.max_in_flight.max(options.max_in_flight_far)
    }

    /// Sees to it that one object is in the store. `sending` is asked for only if the store lacks it;
    /// `path` is the file that it is a part of.
    pub(crate) async fn ensure(
        &self,
        hash: ContentHash,
        len: u64,
        sending: impl Future<Output = Result<Sending, TransferError>> + Send,
        path: &Path,
    ) -> Result<Outcome, TransferError> {
        // What is expected says nothing of the others.
        let is_expected = self.expected.contains(&hash);
        if is_expected || len > self.options.unasked || self.guess.lock().asks_first() {
            let found = self.found_len(hash).await?;
            if !is_expected {
                self.guess.lock().answered(found == Some(len));
            }
            match found {
                Some(found) if found == len => {
                    self.note(hash);
                    return Ok(Outcome::AlreadyThere);
                }
                Some(found) => {
                    tracing::warn!(key = %data_key(hash), expected = len, found,
                        "an object in the store has the wrong length and is replaced");
                }
                None => {}
            }
        }
        let Sending {
            payload,
            turn: _turn,
        } = sending.await?;
        let sent = {
            let _slot = self.slots.take().await;
            let began = Instant::now();
            let sent = self.store.put(hash, payload).await;
            if sent.is_ok() && len <= self.options.unasked {
                self.slots.answered(began.elapsed());
            }
            sent
        };
        match sent {
            Ok(()) => {
                self.refusals.answered(Request::Send);
                self.note(hash);
                Ok(Outcome::Uploaded)
            }
            Err(StoreError::SourceChanged { .. }) => Err(TransferError::changed(path)),
            Err(source) => {
                self.refusals.refused(Request::Send, hash, &source);
                Err(TransferError::Store {
                    path: path.to_owned(),
                    source: Arc::new(source),
                })
            }
        }
    }

    /// Whether an object is there with its length.
    pub(crate) async fn has(&self, hash: ContentHash, len: u64) -> Result<bool, TransferError> {
        let is_there = self.found_len(hash).await? == Some(len);
        if is_there {
            self.note(hash);
        }
        Ok(is_there)
    }

    fn note(&self, hash: ContentHash) {
        if let Some(seen) = &self.seen {
            seen.confirmed(hash);
        }
    }

    async fn found_len(&self, hash: ContentHash) -> Result<Option<u64>, TransferError> {
        let _slot = self.slots.take().await;
        let began = Instant::now();
        let found = match self.store.head(hash).await {
            Ok(meta) => Some(meta.len),
            Err(StoreError::NotFound { .. }) => None,
            Err(source) => {
                self.refusals.refused(Request::Ask, hash, &source);
                let source = Arc::new(source);
                return Err(TransferError::Ask { hash, source });
            }
        };
        self.slots.answered(began.elapsed());
        self.refusals.answered(Request::Ask);
        Ok(found)
    }

    /// Waits for the turn of so many bytes, if they are many.
    pub(crate) async fn turn(&self, len: u64) -> Option<OwnedSemaphorePermit> {
        if len <= self.options.small_file {
            return None;
        }
        let turn = Arc::clone(&self.large).acquire_owned().await;
        Some(turn.expect("the semaphore is never closed"))
    }

    /// Whether an object need not be asked for, if [`Uploader::tested_reliance`] says so in the end.
    pub(crate) fn relies_on(&self, hash: ContentHash, len: u64) -> bool {
        self.seen
            .as_ref()
            .is_some_and(|seen| seen.relies_on(hash, len))
    }

    /// Asks for a sample of what was relied on. Gives what all of it was if the sample is in the store;
    /// `None` if something is missing: then everything is forgotten and has to be asked for.
    pub(crate) async fn tested_reliance(
        &self,
        progress: &dyn Progress,
    ) -> Result<Option<Tally>, TransferError> {
        let Some(seen) = &self.seen else {
            return Ok(Some(Tally::default()));
        };
        let sample = seen.sample();
        let meter = Meter::new(Phase::Check, sample.len() as u64, 0);
        let jobs = sample.into_iter().map(|(hash, len)| {
            let uploader = self.clone();
            async move { Ok((hash, uploader.has(hash, len).await?)) }
        });
        let mut is_right = true;
        let judge = |(hash, is_there): (ContentHash, bool)| {
            is_right &= is_there;
            if !is_there {
                tracing::warn!(key = %data_key(hash),
                    "the cache of seen objects is wrong about the store; every object is asked for");
            }
        };
        run_all(jobs, self.most_in_flight(), &meter, progress, judge).await?;
        if is_right {
            return Ok(Some(seen.relied_on()));
        }
        let seen = Arc::clone(seen);
        let forget = move || {
            seen.forget();
            Ok(())
        };
        blocking(&meter, forget).await?;
        Ok(None)
    }

    /// Whether what failed for one file may succeed for others.
    pub(crate) fn others_may_pass(&self, error: &TransferError) -> bool {
        match error {
            TransferError::Store { source, .. } => {
                self.refusals.others_may_pass(Request::Send, source)
            }
            TransferError::Ask { source, .. } => {
                self.refusals.others_may_pass(Request::Ask, source)
            }
            error => error.is_of_one_file(),
        }
    }

    /// Whether the store failed so each time it was asked, which is the store's failure then.
    pub(crate) fn never_passed(&self, error: &TransferError) -> bool {
        match error {
            TransferError::Store { .. } => self.refusals.never_passed(Request::Send),
            TransferError::Ask { .. } => self.refusals.never_passed(Request::Ask),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
