//! Verifying large objects: in passing, while their units land for readers, and by reading all of one first.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use attachfs_manifest::{ContentHash, Piece};
use attachfs_store::{StoreError, data_key};
use bytes::Bytes;

use super::known::{Hashed, KnownObject, Stage};
use super::on_disk;
use crate::disk::VersionId;
use crate::fetcher::Engine;
use crate::landed::Landed;
use crate::patience::TooLate;
use crate::reader::PendingPiece;
use crate::scheduler::{Interest, PartKey};
use crate::{FetchError, Priority};

/// How many bytes are read at once to verify an object, and so many of these at a time.
const STEP: u64 = 4 << 20;
const STEPS_AHEAD: u64 = 8;
/// How often an object that is being replaced is begun anew.
const MOST_GENERATIONS: u32 = 3;
/// How long it takes until an object that could not be read is tried again to verify it: twice as long each time, up to the second.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(5), Duration::from_mins(5)];

impl Engine {
    /// Hashes units that are about to land, if they come next. Their readers have not got them yet: so the reader of the
    /// last bytes of a wrong object gets an error.
    pub(super) fn hash_before_landing(
        self: &Arc<Self>,
        known: &Arc<KnownObject>,
        generation: u32,
        first: u64,
        bytes: &Bytes,
    ) {
        let unit_len = self.unit_len() as usize;
        let hashed = known.hash_units(generation, |unit| {
            let from = usize::try_from(unit.checked_sub(first)?).ok()? * unit_len;
            (from < bytes.len())
                .then(|| Landed::part(bytes, from..bytes.len().min(from + unit_len)))
        });
        self.hashed(known, generation, hashed);
    }

    /// Notes that units have landed, and hashes what is in memory and comes next.
    pub(super) fn hash_landed(
        self: &Arc<Self>,
        known: &Arc<KnownObject>,
        generation: u32,
        units: Range<u64>,
    ) {
        known.landed(generation, units);
        let piece = whole(known);
        let hashed = known.hash_units(generation, |unit| {
            self.scheduler
                .kept(&PartKey::unit(&piece, generation, unit))
        });
        self.hashed(known, generation, hashed);
    }

    fn hashed(self: &Arc<Self>, known: &Arc<KnownObject>, generation: u32, hashed: Hashed) {
        let (piece, passed) = (whole(known), known.take_passed(generation));
        let passed = passed.into_iter();
        let passed = passed.map(|unit| PartKey::unit(&piece, generation, unit));
        self.scheduler.forget_first(passed);
        match hashed {
            Hashed::Some => {}
            Hashed::Verified => {
                self.counts.verified.add(1);
                tracing::debug!(key = %data_key(known.hash()), "all of an object was read, and is right");
            }
            Hashed::Wrong(found) => self.object_is_wrong(known.hash(), known.size(), found),
            Hashed::Forgotten => self.read_again(known),
        }
    }

    /// Reads what was not hashed of an object of which all was read, when there is nothing else to do. A store that
    /// does not answer is asked again later, as long as the engine is there.
    fn read_again(self: &Arc<Self>, known: &Arc<KnownObject>) {
        let Some(runtime) = self.runtime() else {
            return;
        };
        let (engine, known) = (Arc::downgrade(self), Arc::clone(known));
        runtime.spawn(async move {
            let key = data_key(known.hash());
            let [mut wait, longest] = AGAIN_AFTER;
            let mut is_told = false;
            while engine.strong_count() > 0 {
                let error = match verify(&engine, &known, Priority::Prefetch).await {
                    Ok(()) => {
                        tracing::debug!(key, "an object that was read in parts was verified");
                        return;
                    }
                    // This was told when it was found.
                    Err(FetchError::Damaged { .. }) => return,
                    Err(error) => error,
                };
                if !is_told {
                    tracing::warn!(
                        key,
                        error = &error as &dyn std::error::Error,
                        "an object that was read in parts could not be verified; it is tried again from time to time"
                    );
                    is_told = true;
                }
                tokio::time::sleep(wait).await;
                wait = longest.min(wait * 2);
            }
        });
    }

    /// Reads all of an object that was not hashed yet, and says whether it is right.
    pub(crate) async fn verify(
        self: &Arc<Self>,
        known: &Arc<KnownObject>,
        priority: Priority,
    ) -> Result<(), FetchError> {
        verify(&Arc::downgrade(self), known, priority).await
    }

    /// Asks the store whether a wrong object has been replaced; `true` if it may be right now.
    pub(super) async fn is_mended(
        self: &Arc<Self>,
        known: &Arc<KnownObject>,
    ) -> Result<bool, FetchError> {
        if !known.is_to_be_asked_for() {
            return Ok(false);
        }
        let (hash, len) = (known.hash(), known.size());
        let mut patience = self.patience();
        let part = patience.on_its_way(self.request(hash, 0..1, len)).await;
        let part = part.map_err(|_: TooLate| self.timed_out(hash))??;
        let version = part.version.as_deref().map(VersionId::of);
        let is_mended = known.may_be_mended(version);
        if is_mended && let Some(disk) = &self.disk {
            disk.forgive(hash, len);
        }
        Ok(is_mended)
    }
}

/// All of an object.
fn whole(known: &KnownObject) -> Piece {
    Piece {
        hash: known.hash(),
        object_len: known.size(),
        range: 0..known.size(),
    }
}

/// One task reads, and all others that want the object verified wait for it. Ends with the engine.
async fn verify(
    engine: &Weak<Engine>,
    known: &Arc<KnownObject>,
    priority: Priority,
) -> Result<(), FetchError> {
    let hash = known.hash();
    let _reading = known.verifying.lock().await;
    let mut ahead = Ahead::default();
    let mut generations = 0;
    loop {
        let settled = known.settled.notified();
        let Some(engine) = engine.upgrade() else {
            return Ok(());
        };
        match known.stage() {
            Stage::Verified => return Ok(()),
            Stage::Wrong(found) => return Err(FetchError::Damaged { hash, found }),
            Stage::Hashing => {
                drop(engine);
                settled.await;
            }
            Stage::Next(generation, unit) => {
                if ahead.generation != Some(generation) {
                    ahead = Ahead::of(generation);
                    generations += 1;
                    if generations > MOST_GENERATIONS {
                        return Err(engine.replaced_too_often(hash));
                    }
                    if unit == 0 && on_disk::is_verified(&engine, known).await {
                        continue;
                    }
                }
                step(&engine, known, generation, unit, priority, &mut ahead).await?;
            }
        }
    }
}

/// What is fetched ahead of the step that is waited for.
#[derive(Debug, Default)]
struct Ahead {
    generation: Option<u32>,
    /// Where it begins, for each step.
    steps: VecDeque<(u64, Vec<Interest>)>,
}

impl Ahead {
    fn of(generation: u32) -> Self {
        Self {
            generation: Some(generation),
            steps: VecDeque::new(),
        }
    }
}

/// Reads some units, from `first` on, and hashes them.
async fn step(
    engine: &Arc<Engine>,
    known: &Arc<KnownObject>,
    generation: u32,
    first: u64,
    priority: Priority,
    ahead: &mut Ahead,
) -> Result<(), FetchError> {
    let start = first * engine.unit_len();
    let len = STEP
        .min(engine.options.memory_bytes / 16)
        .next_multiple_of(engine.unit_len());
    let piece = |start: u64| Piece {
        range: start..(start + len).min(known.size()),
        ..whole(known)
    };
    let wanted = piece(start);
    // A task that waited while an earlier attempt timed out does not wait for the same bytes again.
    if engine.overdue.has(&wanted) {
        return Err(engine.timed_out(wanted.hash));
    }
    let mut read = PendingPiece::of_units(engine, wanted.clone(), priority);
    if read.generation != generation {
        return Ok(());
    }
    // Only now: this read keeps going what was fetched ahead of it.
    while ahead
        .steps
        .front()
        .is_some_and(|(begin, _)| *begin <= start)
    {
        ahead.steps.pop_front();
    }
    let behind = match priority {
        Priority::Read => Priority::ReadAhead,
        Priority::ReadAhead | Priority::Prefetch => priority,
    };
    let runtime = engine.note_runtime();
    let next = ahead.steps.back().map_or(start, |(begin, _)| *begin) + len;
    let until = known.size().min(start + STEPS_AHEAD * len + 1);
    for begin in (next..until).step_by(len as usize) {
        let interests = engine.fetch_large_ahead(&runtime, &piece(begin), behind);
        ahead.steps.push_back((begin, interests));
    }
    let units = read.all_units().await.inspect_err(|error| {
        if let FetchError::TimedOut { .. } = error {
            engine.overdue.note(&wanted);
        }
    })?;
    if let Some(units) = units {
        let hashed = known.hash_units(generation, |unit| {
            let at = usize::try_from(unit.checked_sub(first)?).ok()?;
            units.get(at).cloned()
        });
        engine.hashed(known, generation, hashed);
        engine.forget_passed(&wanted);
    }
    Ok(())
}

impl Engine {
    pub(super) fn replaced_too_often(&self, hash: ContentHash) -> FetchError {
        let error = StoreError::Other {
            what: format!("reading {}", data_key(hash)),
            source: "the object is being replaced again and again".into(),
        };
        self.store_failed(hash, error)
    }
}

#[cfg(test)]
mod tests;
