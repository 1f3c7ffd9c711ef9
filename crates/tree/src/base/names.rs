//! Every distinct name once, while a tree is built.
//!
//! A manifest has a million names, many of them again and again (`frame_0001.exr` in each directory of
//! frames). They go straight into their column; a table of 9 bytes a slot finds those that are there.

use std::hash::{BuildHasher as _, RandomState};

use super::paged::PagedBuilder;

/// Names that were given a place.
#[derive(Debug)]
pub(super) struct Names {
    bytes: PagedBuilder<u8>,
    /// Open addressing, a power of two of slots, at most three quarters of them taken.
    slots: Vec<Slot>,
    /// The length of the name in each slot.
    lens: Vec<u8>,
    taken: usize,
    /// Seeded at random, so the writer of a manifest cannot choose names that collide. Where a name
    /// is stored does not depend on the seed.
    hasher: RandomState,
}

/// Where a name is: 32 bits of place, 31 of its hash, and one that says that a name is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(u64);

impl Slot {
    const FREE: Self = Self(0);
    const TAKEN: u64 = 1 << 63;

    fn new(place: u32, hash: u32) -> Self {
        Self(u64::from(place) | u64::from(hash) << 32 | Self::TAKEN)
    }

    fn place(self) -> u32 {
        self.0 as u32
    }

    fn hash(self) -> u32 {
        ((self.0 & !Self::TAKEN) >> 32) as u32
    }
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            bytes: PagedBuilder::default(),
            slots: vec![Slot::FREE; 64],
            lens: vec![0; 64],
            taken: 0,
            hasher: RandomState::new(),
        }
    }

    /// Stores a name of 1 to 255 bytes, unless it is stored already, and returns its place. `None`
    /// if there is no room.
    pub(super) fn intern(&mut self, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(name) as u32 >> 1;
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != Slot::FREE {
            let slot = self.slots[at];
            if slot.hash() == hash && self.get(slot.place(), self.lens[at].into()) == name {
                return Some(slot.place());
            }
            at = (at + 1) & mask;
        }
        let place = self.bytes.push_run(name)?;
        self.slots[at] = Slot::new(place, hash);
        self.lens[at] = name.len() as u8;
        self.taken += 1;
        if self.taken > self.slots.len() / 4 * 3 {
            self.grow();
        }
        Some(place)
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![Slot::FREE; mask + 1];
        let mut lens = vec![0; mask + 1];
        let pairs = self.slots.iter().zip(&self.lens);
        for (&slot, &len) in pairs.filter(|&(&slot, _)| slot != Slot::FREE) {
            let mut at = slot.hash() as usize & mask;
            while slots[at] != Slot::FREE {
                at = (at + 1) & mask;
            }
            (slots[at], lens[at]) = (slot, len);
        }
        (self.slots, self.lens) = (slots, lens);
    }

    /// The name that was put at a place.
    pub(super) fn get(&self, place: u32, len: usize) -> &[u8] {
        self.bytes.run(place, len).unwrap_or_default()
    }

    /// Frees the table. No name is to be stored after that.
    pub(super) fn forget_table(&mut self) {
        self.slots = Vec::new();
        self.lens = Vec::new();
    }

    /// The names alone.
    pub(super) fn into_bytes(self) -> PagedBuilder<u8> {
        self.bytes
    }
}
