//! Every distinct name once, while a tree is built.
//!
//! A manifest has a million names, many of them again and again (`frame_0001.exr` in each directory of
//! frames). They go straight into their column; a table of 8 bytes a slot finds those that are there.

use std::hash::{BuildHasher as _, RandomState};

use super::paged::PagedBuilder;

/// Names that were given a place.
#[derive(Debug)]
pub(super) struct Names {
    bytes: PagedBuilder<u8>,
    /// Open addressing, a power of two of slots, at most three quarters of them taken.
    slots: Vec<Slot>,
    taken: usize,
    /// Seeded: who writes a manifest cannot choose names that collide. Where a name goes does not
    /// depend on it.
    hasher: RandomState,
}

/// Where a name is: 32 bits of place, 8 of length, 24 of its hash. Zero if nothing is here: a name has a
/// length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(u64);

const TAG: u64 = !0 << 40;

impl Slot {
    const FREE: Self = Self(0);

    fn new(place: u32, len: u8, hash: u64) -> Self {
        Self(u64::from(place) | u64::from(len) << 32 | hash & TAG)
    }

    fn place(self) -> u32 {
        self.0 as u32
    }

    fn len(self) -> usize {
        usize::from((self.0 >> 32) as u8)
    }
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            bytes: PagedBuilder::default(),
            slots: vec![Slot::FREE; 64],
            taken: 0,
            hasher: RandomState::new(),
        }
    }

    /// Where a name of 1 to 255 bytes is from now on. `None` if there is no room for it.
    pub(super) fn intern(&mut self, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != Slot::FREE {
            let slot = self.slots[at];
            if (slot.0 ^ hash) & TAG == 0
                && slot.len() == name.len()
                && self.get(slot.place(), slot.len()) == name
            {
                return Some(slot.place());
            }
            at = (at + 1) & mask;
        }
        let place = self.bytes.push_run(name)?;
        self.slots[at] = Slot::new(place, name.len() as u8, hash);
        self.taken += 1;
        if self.taken > self.slots.len() / 4 * 3 {
            self.grow();
        }
        Some(place)
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![Slot::FREE; mask + 1];
        for &slot in self.slots.iter().filter(|&&slot| slot != Slot::FREE) {
            let name = self.get(slot.place(), slot.len());
            let mut at = self.hasher.hash_one(name) as usize & mask;
            while slots[at] != Slot::FREE {
                at = (at + 1) & mask;
            }
            slots[at] = slot;
        }
        self.slots = slots;
    }

    /// The name at a place.
    pub(super) fn get(&self, place: u32, len: usize) -> &[u8] {
        self.bytes.run(place, len)
    }

    /// The names alone.
    pub(super) fn into_bytes(self) -> PagedBuilder<u8> {
        self.bytes
    }
}
