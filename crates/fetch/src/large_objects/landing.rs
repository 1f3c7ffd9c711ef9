//! Where units of long objects land, one by one as their bytes come.

use std::sync::Arc;

use attachfs_manifest::ContentHash;
use attachfs_store::data_key;
use bytes::Bytes;

use crate::bringing::{Taker, Wanted};
use crate::buffers::Buffer;
use crate::fetcher::Core;
use crate::scheduler::{Fetched, Lead};
use crate::{FetchError, HeldBytes};

/// A run of units that is coming in.
pub(super) struct Landing<'a> {
    shared: &'a Core,
    lead: Lead,
    /// For the units that have not landed.
    held: HeldBytes,
    hash: ContentHash,
    generation: u32,
    /// Where the next byte belongs in the object.
    at: u64,
    /// Where the last one does.
    end: u64,
    /// The unit that is being filled, and how much of it is.
    unit: Option<(Buffer, usize)>,
}

impl<'a> Landing<'a> {
    pub(super) fn new(
        shared: &'a Core,
        lead: Lead,
        held: HeldBytes,
        wanted: &Wanted,
        generation: u32,
    ) -> Self {
        Self {
            shared,
            lead,
            held,
            hash: wanted.hash,
            generation,
            at: wanted.range.start,
            end: wanted.range.end,
            unit: None,
        }
    }

    /// Tells everybody who waits for what has not landed that it failed.
    pub(super) fn fail(self, error: &FetchError) {
        self.lead.fail(error);
    }

    fn land(&mut self, bytes: Bytes) {
        let held = self.held.split(bytes.len() as u64);
        self.lead.land(Fetched { bytes, held });
    }
}

impl Taker for Landing<'_> {
    /// Units of another version than those that are here already belong to nobody who waits for these.
    fn begins(&mut self, version: Option<Arc<str>>) -> bool {
        let versions = &self.shared.versions;
        if version.is_some_and(|version| versions.saw(self.hash, version)) {
            self.shared.counts.versions_changed.add(1);
            tracing::warn!(key = %data_key(self.hash), "an object was replaced while it was being read");
        }
        versions.generation(self.hash) == self.generation
    }

    fn take(&mut self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let unit_len = self.shared.unit_len();
            let (mut unit, filled) = self
                .unit
                .take()
                .unwrap_or_else(|| (self.shared.landed.take(), 0));
            let unit_end = (self.at + 1).next_multiple_of(unit_len).min(self.end);
            let part = bytes.split_to(bytes.len().min((unit_end - self.at) as usize));
            let now = filled + part.len();
            unit.as_mut()[filled..now].copy_from_slice(&part);
            self.at += part.len() as u64;
            if self.at == unit_end {
                self.land(unit.freeze(now));
            } else {
                self.unit = Some((unit, now));
            }
        }
    }
}
