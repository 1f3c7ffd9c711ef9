//! [`Landing`]: the bytes of a run of units, as they come from the store, become units that readers get and the disk cache
//! keeps.

use std::sync::Arc;

use attachfs_durable::PooledBuffer;
use bytes::Bytes;

use crate::disk::{LargeFile, VersionId};
use crate::fetcher::Engine;
use crate::landed::Landed;
use crate::large_objects::KnownObject;
use crate::range_fetch::{ObjectRange, RangeSink};
use crate::scheduler::{Fetched, Lead, TOGETHER};
use crate::{FetchError, HeldBytes};

/// A run of units that is coming in from the store.
pub(super) struct Landing<'a> {
    engine: &'a Arc<Engine>,
    known: &'a Arc<KnownObject>,
    lead: &'a mut Lead,
    /// For the units that have not landed.
    held: HeldBytes,
    generation: u32,
    /// Where the next byte belongs in the object.
    at: u64,
    /// Where the run ends in the object.
    end: u64,
    filling: Option<Filling>,
    /// The file of the disk cache that keeps the units, if there is one.
    on_disk: Option<Arc<LargeFile>>,
    /// The version that comes.
    version: Option<Arc<str>>,
}

/// A buffer that is being filled.
struct Filling {
    buffer: PooledBuffer,
    filled: usize,
    /// Where its last byte belongs in the object.
    end: u64,
}

/// A store that gives so many bytes a second fills a buffer of several units in a moment.
const FAST: u64 = 64 << 20;

impl<'a> Landing<'a> {
    pub(super) fn new(
        engine: &'a Arc<Engine>,
        known: &'a Arc<KnownObject>,
        lead: &'a mut Lead,
        held: HeldBytes,
        wanted: &ObjectRange,
        generation: u32,
        on_disk: Option<Arc<LargeFile>>,
    ) -> Self {
        Self {
            engine,
            known,
            lead,
            held,
            generation,
            at: wanted.range.start,
            end: wanted.range.end,
            filling: None,
            on_disk,
            version: None,
        }
    }

    /// Lands the complete units, and tells the reads that wait for the others that those failed.
    pub(super) fn fail(mut self, error: &FetchError) {
        self.land();
        self.lead.fail(error);
    }

    /// The buffer that the next byte is filled into: of one unit, or where bytes come fast of several.
    fn next(&self) -> Filling {
        let unit_len = self.engine.unit_len();
        let together = unit_len * TOGETHER;
        let is_fast = self.engine.link.rate().is_some_and(|rate| rate >= FAST);
        let has_all = self.at.is_multiple_of(together) && self.end - self.at >= together;
        let (pool, len) = if is_fast && has_all {
            (&self.engine.landed_together, together)
        } else {
            (&self.engine.landed, unit_len)
        };
        Filling {
            buffer: pool.take(),
            filled: 0,
            end: (self.at + 1).next_multiple_of(len).min(self.end),
        }
    }

    /// Whether bytes came as they should land: units that are forgotten together, and nothing else in their memory, as
    /// far as their length says. They are not copied.
    fn is_landed(&self, bytes: &Bytes) -> bool {
        let together = self.engine.unit_len() * TOGETHER;
        self.filling.is_none() && self.at.is_multiple_of(together) && bytes.len() as u64 == together
    }

    /// Lands the complete units of the buffer that is being filled.
    fn land(&mut self) {
        if let Some(Filling { buffer, filled, .. }) = self.filling.take() {
            self.land_together(buffer.freeze(filled));
        }
    }

    /// Lands the units whose bytes are `buffer`, which ends at [`Self::at`]: gives them to readers, the memory and the disk.
    fn land_together(&mut self, buffer: Bytes) {
        let filled = buffer.len();
        let unit_len = self.engine.unit_len() as usize;
        let is_last = self.at == self.end;
        let first = (self.at - filled as u64) / self.engine.unit_len();
        let complete = if is_last {
            filled
        } else {
            filled - filled % unit_len
        };
        if complete == 0 {
            return;
        }
        let whole = buffer.slice(..complete);
        self.engine
            .hash_before_landing(self.known, self.generation, first, &whole);
        let mut from = 0;
        while from < complete {
            let to = complete.min(from + unit_len);
            let held = self.held.split((to - from) as u64);
            let bytes = Landed::part(&buffer, from..to);
            self.lead.land(Fetched { bytes, held });
            from = to;
        }
        let units = first..first + complete.div_ceil(unit_len) as u64;
        self.engine.hash_landed(self.known, self.generation, units);
        if let Some(large) = &self.on_disk {
            // A unit that the cache drops is fetched again another time; the cache counts it.
            large.write(first, whole, self.version.clone());
        }
    }
}

/// Units that are complete are kept, also if no read wants the rest any more.
impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.land();
    }
}

impl RangeSink for Landing<'_> {
    /// Stops if the object was replaced: units of the new version are not those that reads wait for. Units that have landed keep
    /// the version that they came with.
    fn begins(&mut self, version: Option<Arc<str>>) -> bool {
        let id = version.as_deref().map(VersionId::of);
        if let Some(replaced) = id.and_then(|id| self.known.saw(id)) {
            self.engine
                .object_was_replaced(self.known, replaced.was_given);
        }
        let is_same = self.known.generation() == self.generation;
        if is_same {
            self.version = version;
        }
        is_same
    }

    /// What the disk cache cannot take is fetched again another time: it is worth a moment.
    fn is_behind(&self) -> bool {
        let on_disk = self.on_disk.as_ref();
        on_disk.is_some_and(|large| large.is_behind(self.engine.unit_len() * TOGETHER))
    }

    fn take(&mut self, mut bytes: Bytes) {
        if self.is_landed(&bytes) {
            self.at += bytes.len() as u64;
            return self.land_together(bytes);
        }
        while !bytes.is_empty() {
            let mut filling = self.filling.take().unwrap_or_else(|| self.next());
            let part = bytes.split_to(bytes.len().min((filling.end - self.at) as usize));
            let now = filling.filled + part.len();
            filling.buffer.as_mut()[filling.filled..now].copy_from_slice(&part);
            filling.filled = now;
            self.at += part.len() as u64;
            let is_full = self.at == filling.end;
            self.filling = Some(filling);
            if is_full {
                self.land();
            }
        }
    }
}
