//! Parts that are kept in memory.

use bytes::Bytes;
use hashlink::LruCache;

use super::PartKey;
use crate::HeldBytes;

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    /// When it was used last, by the scheduler's count.
    used: u64,
    held: HeldBytes,
}

/// Some of the parts that are kept, in the order of their last uses.
pub(super) struct Kept(LruCache<PartKey, Entry>);

impl Default for Kept {
    fn default() -> Self {
        // The budget is the bound.
        Self(LruCache::new_unbounded())
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({} parts)", self.0.len())
    }
}

/// A part that is not kept any more. Its bytes of the budget are given back when it is dropped.
#[derive(Debug)]
pub(super) struct Forgotten(Entry);

impl Forgotten {
    /// What it takes of the budget.
    pub(super) fn held(&self) -> u64 {
        self.0.held.bytes()
    }
}

impl Kept {
    pub(super) fn get(&mut self, key: &PartKey, used: u64) -> Option<Bytes> {
        let entry = self.0.get_mut(key)?;
        entry.used = used;
        Some(entry.bytes.clone())
    }

    pub(super) fn insert(&mut self, key: PartKey, bytes: Bytes, held: HeldBytes, used: u64) {
        let entry = Entry { bytes, used, held };
        self.0.insert(key, entry);
    }

    /// When the part was used that was not used for longest.
    pub(super) fn oldest_use(&self) -> Option<u64> {
        self.0.iter().next().map(|(_, entry)| entry.used)
    }

    pub(super) fn forget_oldest(&mut self) -> Option<Forgotten> {
        Some(Forgotten(self.0.remove_lru()?.1))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.0
            .iter()
            .map(|(_, entry)| entry.bytes.len() as u64)
            .sum()
    }
}
