//! Large objects: read in aligned units, and fetched in runs of consecutive units.
//!
//! ```text
//!     a read      |----|                     of the reader
//!     units     |   |   |   |   |   |        what is kept, shared and waited for
//!     a run         |=======|                consecutive ones that nobody has: one request, each lands by itself
//!
//!     begin_large    looks the units up: all here (assemble), or a PendingPiece with a Lead for each run to fetch
//!     from_large     starts the runs (start_units -> fetch_units) and waits for the units of all of them
//!     fetch_units    room in the budget, then units from the disk cache (on_disk.rs), the rest by
//!                    fetch_range (range_fetch.rs) into a Landing (landing.rs)
//! ```
//!
//! Where bytes come fast, [`TOGETHER`](crate::scheduler::TOGETHER) units that one run brings land in one buffer, and a read of several of them is
//! answered with a slice of it. They cost one copy between the connection and the answer.
//!
//! A unit cannot be verified by itself: the hash is over the whole object. So units are hashed in order while they land
//! (`verifying.rs`), and when all of an object has been read it is known to be right, or wrong: then nothing of it is given
//! out any more (`known.rs`). With every answer of the store the object's length is checked, and that the store has not
//! replaced it in between: its version token is remembered from the first answer on. When another one comes, the units of
//! the older version are forgotten (they carry a generation in their key, which nobody asks for any more), and reads wait
//! until all of the new version has been verified; so they do from the beginning where
//! [`FetchOptions::verifies_first`](crate::FetchOptions) says so.
//!
//! [`Engine::fetch_units`] is the one place where a run of units begins, and [`Landing`] the one where each of
//! them lands that the store gives. What is in the disk cache lands from there (`on_disk.rs`), and what the store gives is
//! kept there, unit by unit.

mod known;
mod landing;
mod on_disk;
#[cfg(test)]
mod tests;
mod unit_set;
mod verifying;

use std::ops::Range;
use std::sync::Arc;

use attachfs_manifest::Piece;
use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;

use crate::fetcher::{Engine, unit_len};
use crate::landed::Landed;
use crate::patience::TooLate;
use crate::range_fetch::{ObjectRange, RangeEnd};
use crate::reader::{PendingPiece, PieceRead};
use crate::scheduler::{FoundPart, Interest, Lead, Lookup, Part, PartKey};
use crate::{FetchError, Priority};
use known::Serving;
pub(crate) use known::{KnownObject, KnownObjects};
use landing::Landing;
use on_disk::Front;

/// How often a read starts over because the object was replaced, or has to be verified first.
const MOST_ATTEMPTS: u32 = 4;

impl Engine {
    /// Looks the units of a piece up in memory. If one is missing, the piece is pending: what it has to fetch
    /// begins when somebody waits for it.
    pub(crate) fn begin_large(self: &Arc<Self>, piece: Piece, priority: Priority) -> PieceRead {
        let known = self.known.of(&piece);
        let (generation, serving) = known.serving();
        let lookup = match serving {
            Serving::Now => self.look_up_units(&piece, generation, priority),
            Serving::InAMoment | Serving::AfterVerifying | Serving::Never(_) => Lookup::default(),
        };
        match all_here(&lookup) {
            // It may have turned out to be wrong meanwhile.
            Some(units) if !units.is_empty() && known.serving() == (generation, serving) => {
                self.counts.memory_hits.add(units.len() as u64);
                let bytes = self.assemble(&piece, &units);
                self.counts.bytes_from_memory.add(bytes.len() as u64);
                PieceRead::Ready(bytes)
            }
            _ => PieceRead::Pending(Box::new(PendingPiece {
                engine: Arc::clone(self),
                piece,
                priority,
                lookup,
                looks_on_disk: false,
                generation,
            })),
        }
    }

    /// The units of a piece in memory or under way.
    fn look_up_units(
        self: &Arc<Self>,
        piece: &Piece,
        generation: u32,
        priority: Priority,
    ) -> Lookup {
        let keys = self.units(piece);
        let keys = keys.map(|index| PartKey::unit(piece, generation, index));
        self.scheduler.look_up(keys, priority)
    }

    /// The bytes of `piece` out of the units that it lies in. They are copied only if they did not land together.
    fn assemble(&self, piece: &Piece, units: &[Landed]) -> Bytes {
        let skip = (piece.range.start % self.unit_len()) as usize;
        let len = (piece.range.end - piece.range.start) as usize;
        if let Some(bytes) = Landed::slice(units, &(skip..skip + len)) {
            return bytes;
        }
        let parts = units.iter().enumerate().scan(len, |left, (i, unit)| {
            let unit = unit.as_ref();
            let part = if i == 0 { &unit[skip..] } else { unit };
            let part = &part[..part.len().min(*left)];
            *left -= part.len();
            Some(part)
        });
        if len > self.answers.buffer_len() {
            let mut all = BytesMut::with_capacity(len);
            parts.for_each(|part| all.extend_from_slice(part));
            return all.freeze();
        }
        let mut answer = self.answers.take();
        let mut at = 0;
        for part in parts {
            answer.as_mut()[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        answer.freeze(len)
    }
}

impl PendingPiece {
    /// A read of the units of a large object, which may not be given out.
    fn of_units(engine: &Arc<Engine>, piece: Piece, priority: Priority) -> Self {
        let generation = engine.known.of(&piece).generation();
        let lookup = engine.look_up_units(&piece, generation, priority);
        Self {
            engine: Arc::clone(engine),
            piece,
            priority,
            lookup,
            looks_on_disk: false,
            generation,
        }
    }

    /// Waits for the units of a large object, and fetches those that no other read does. Waits until all of the object was
    /// verified if nothing may be given out before, and starts over if it was replaced meanwhile.
    pub(crate) async fn from_large(mut self: Box<Self>) -> Result<Bytes, FetchError> {
        let (engine, hash) = (Arc::clone(&self.engine), self.piece.hash);
        let known = engine.known.of(&self.piece);
        for _ in 0..MOST_ATTEMPTS {
            let (generation, serving) = known.serving();
            match serving {
                Serving::Now => {}
                Serving::InAMoment => {
                    known.decided().await;
                    continue;
                }
                Serving::AfterVerifying => {
                    engine.verify(&known, self.priority).await?;
                    continue;
                }
                Serving::Never(found) => {
                    if engine.is_mended(&known).await? {
                        continue;
                    }
                    return Err(FetchError::Damaged { hash, found });
                }
            }
            if generation != self.generation || self.lookup.parts.is_empty() {
                self.lookup = engine.look_up_units(&self.piece, generation, self.priority);
                self.generation = generation;
            }
            if let Some(units) = self.all_units().await?
                && known.serving() == (generation, Serving::Now)
            {
                return Ok(engine.assemble(&self.piece, &units));
            }
        }
        Err(engine.replaced_too_often(hash))
    }

    /// The units when all have landed, or `None` if the object was replaced meanwhile.
    async fn all_units(&mut self) -> Result<Option<Vec<Landed>>, FetchError> {
        let lookup = std::mem::take(&mut self.lookup);
        self.arrived(lookup).await
    }

    /// The units when all have landed, or `None` if the object was replaced meanwhile. A unit whose fetch was given up
    /// is looked up again.
    async fn arrived(&self, lookup: Lookup) -> Result<Option<Vec<Landed>>, FetchError> {
        let engine = &self.engine;
        let known = engine.known.of(&self.piece);
        let runtime = engine.note_runtime();
        let start = |leads: Vec<Lead>| {
            for lead in leads {
                engine.start_units(&runtime, lead, &self.piece, self.generation);
            }
        };
        start(lookup.leads);
        let mut units = Vec::with_capacity(lookup.parts.len());
        for (index, part) in engine.units(&self.piece).zip(lookup.parts) {
            let mut part = part;
            units.push(loop {
                let waiting = match part {
                    FoundPart::Here(unit) => {
                        engine.counts.memory_hits.add(1);
                        let bytes = engine.part_in_unit(&self.piece, index);
                        engine.counts.bytes_from_memory.add(bytes);
                        break unit;
                    }
                    FoundPart::Coming(waiting) => waiting,
                };
                if let Some(outcome) = waiting.ended().await {
                    break outcome?;
                }
                if known.generation() != self.generation {
                    return Ok(None);
                }
                let key = PartKey::unit(&self.piece, self.generation, index);
                let mut again = engine.scheduler.look_up([key], self.priority);
                start(std::mem::take(&mut again.leads));
                match again.parts.pop() {
                    Some(again) => part = again,
                    None => return Ok(None),
                }
            });
        }
        Ok(Some(units))
    }
}

impl Engine {
    /// Fetches the run of a lead, in a task of its own.
    fn start_units(self: &Arc<Self>, runtime: &Handle, lead: Lead, piece: &Piece, generation: u32) {
        let (engine, known) = (Arc::clone(self), self.known.of(piece));
        lead.start(runtime, async move |lead| {
            engine.fetch_units(lead, &known, generation).await;
        });
    }

    /// Brings a run of units to everybody who waits for them: from the disk cache those that are there, the others from
    /// the store, with one request for each gap.
    async fn fetch_units(
        self: &Arc<Self>,
        mut lead: Lead,
        known: &Arc<KnownObject>,
        generation: u32,
    ) {
        let (hash, object_len) = (known.hash(), known.size());
        let on_disk = self.large_file(hash, object_len).await;
        if let Some(found) = on_disk.as_ref().and_then(|large| large.wrong()) {
            return lead.fail(&FetchError::Damaged { hash, found });
        }
        let priority = lead.priority();
        let mut patience = self.patience();
        while let Some(Part::Unit { index, .. }) = lead.next().map(|key| key.part) {
            let start = index * self.unit_len();
            let range = |units: u64| start..((index + units) * self.unit_len()).min(object_len);
            let mut units = lead.left() as u64;
            let all = range(units);
            let room = self.scheduler.room(all.end - all.start, &priority);
            let mut held = match patience.in_line(room).await {
                Ok(held) => held,
                Err(TooLate) => return lead.fail(&self.timed_out(hash)),
            };
            if let Some(large) = &on_disk {
                let wanted = index..index + units;
                let front =
                    self.land_from_disk(large, known, generation, &mut lead, &mut held, wanted);
                match patience.aside(front).await {
                    Front::Landed => continue,
                    Front::Missing(missing) => units = missing,
                }
            }
            let wanted = ObjectRange {
                hash,
                object_len,
                range: range(units),
            };
            self.counts.ranges_from_store.add(1);
            let mut landing = Landing::new(
                self,
                known,
                &mut lead,
                held,
                &wanted,
                generation,
                on_disk.clone(),
            );
            let end = self
                .fetch_range(&wanted, &priority, &mut patience, &mut landing)
                .await;
            match end {
                Ok(RangeEnd::Complete) => {}
                // The object was replaced: reads that wait for units which did not land start over.
                Ok(RangeEnd::Stopped) => return,
                Err(error) => return landing.fail(&error),
            }
        }
    }

    /// Begins to fetch the units of a piece that nobody has, for a read that may come. Each run goes on as long as its
    /// [`Interest`] lives.
    pub(crate) fn fetch_large_ahead(
        self: &Arc<Self>,
        runtime: &Handle,
        piece: &Piece,
        priority: Priority,
    ) -> Vec<Interest> {
        let generation = self.known.of(piece).generation();
        let Lookup { parts, leads } = self.look_up_units(piece, generation, priority);
        let interests = leads.iter().map(Lead::interest).collect();
        drop(parts);
        for lead in leads {
            self.start_units(runtime, lead, piece, generation);
        }
        interests
    }

    /// Fetches units that are not in the disk cache, behind everything that somebody waits for, and says how many bytes came
    /// that nobody else had or was fetching. An object of which nothing may be given out now is verified.
    pub(crate) async fn fetch_units_behind(
        self: &Arc<Self>,
        piece: &Piece,
    ) -> Result<u64, FetchError> {
        let known = self.known.of(piece);
        if !known.serves_parts() {
            return self.verify_behind(&known).await;
        }
        let mut read = PendingPiece::of_units(self, piece.clone(), Priority::Prefetch);
        let ours = read.lookup.leads.iter().filter_map(|lead| {
            let Part::Unit { index, .. } = lead.next()?.part else {
                return None;
            };
            let end = (index + lead.left() as u64) * self.unit_len();
            Some(index * self.unit_len()..end.min(piece.object_len))
        });
        let claim = self.unread.claim(piece.hash, ours);
        if read.all_units().await?.is_none() {
            // The object was replaced meanwhile: what came is forgotten.
            return Ok(0);
        }
        self.forget_passed(piece);
        Ok(claim.came())
    }

    /// Has units forgotten first that a reader in order has passed, once they are hashed: before that they would have to be
    /// fetched a second time.
    pub(crate) fn forget_passed(&self, piece: &Piece) {
        let (start, end) = (piece.range.start, piece.range.end);
        let last = if end == piece.object_len {
            end.div_ceil(self.unit_len())
        } else {
            end / self.unit_len()
        };
        let passed = start / self.unit_len()..last;
        let (generation, hashed) = self.known.of(piece).passed(passed);
        let keys = hashed.map(|index| PartKey::unit(piece, generation, index));
        self.scheduler.forget_first(keys);
    }

    /// How long a unit is, but for an object's last.
    pub(crate) fn unit_len(&self) -> u64 {
        unit_len(&self.options)
    }

    /// How many bytes of `piece` lie in one of its units.
    fn part_in_unit(&self, piece: &Piece, index: u64) -> u64 {
        let (start, end) = (index * self.unit_len(), (index + 1) * self.unit_len());
        piece
            .range
            .end
            .min(end)
            .saturating_sub(piece.range.start.max(start))
    }

    /// The numbers of the units that `piece` lies in.
    fn units(&self, piece: &Piece) -> Range<u64> {
        piece.range.start / self.unit_len()..piece.range.end.div_ceil(self.unit_len())
    }
}

/// The units, if all are here.
fn all_here(lookup: &Lookup) -> Option<Vec<Landed>> {
    let unit = |part: &FoundPart| match part {
        FoundPart::Here(unit) => Some(unit.clone()),
        FoundPart::Coming(_) => None,
    };
    lookup.parts.iter().map(unit).collect()
}
