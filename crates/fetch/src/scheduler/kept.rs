//! Parts that are kept in memory.

use bytes::Bytes;
use hashlink::LinkedHashMap;

use super::PartKey;
use crate::HeldBytes;

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    /// When it was used last, by the scheduler's count; 0 if it is not expected to be used again.
    used: u64,
    held: HeldBytes,
}

/// Some of the parts that are kept, in the order in which they are to be forgotten.
#[derive(Default)]
pub(super) struct Kept(LinkedHashMap<PartKey, Entry>);

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
        let entry = self.0.to_back(key)?;
        entry.used = used;
        Some(entry.bytes.clone())
    }

    pub(super) fn insert(&mut self, key: PartKey, bytes: Bytes, held: HeldBytes, used: u64) {
        let entry = Entry { bytes, used, held };
        self.0.insert(key, entry);
    }

    /// Has a part forgotten before all others.
    pub(super) fn forget_first(&mut self, key: &PartKey) {
        if let Some(entry) = self.0.to_front(key) {
            entry.used = 0;
        }
    }

    /// When the part was used that is to be forgotten next.
    pub(super) fn oldest_use(&self) -> Option<u64> {
        self.0.front().map(|(_, entry)| entry.used)
    }

    pub(super) fn forget_oldest(&mut self) -> Option<Forgotten> {
        Some(Forgotten(self.0.pop_front()?.1))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.0
            .iter()
            .map(|(_, entry)| entry.bytes.len() as u64)
            .sum()
    }
}
