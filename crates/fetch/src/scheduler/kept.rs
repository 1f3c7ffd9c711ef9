//! Parts that are kept in memory.
//!
//! Units of a large object that may have landed together are forgotten together: they share one buffer.

use hashlink::LinkedHashMap;

use super::PartKey;
use crate::HeldBytes;
use crate::landed::Landed;

/// Parts that are forgotten together.
#[derive(Debug)]
struct KeptTogether {
    parts: Vec<KeptPart>,
    /// When one of them was used last, by the scheduler's count; 0 if they are not expected to be used again.
    used: u64,
}

#[derive(Debug)]
struct KeptPart {
    key: PartKey,
    bytes: Landed,
    held: HeldBytes,
    /// A reader in order has had it.
    is_passed: bool,
}

/// The kept parts of one shard, in the order in which they are to be forgotten.
#[derive(Default)]
pub(super) struct KeptParts(LinkedHashMap<PartKey, KeptTogether>);

impl std::fmt::Debug for KeptParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeptParts({} entries)", self.0.len())
    }
}

/// Parts that are not kept any more. Their bytes of the budget are given back when this is dropped.
#[derive(Debug)]
pub(super) struct Forgotten(KeptTogether);

impl Forgotten {
    /// What they take of the budget.
    pub(super) fn held(&self) -> u64 {
        self.0.parts.iter().map(|part| part.held.bytes()).sum()
    }
}

impl KeptParts {
    pub(super) fn get(&mut self, key: &PartKey, used: u64) -> Option<Landed> {
        let bytes = self.peek(key)?;
        self.0.to_back(&key.together())?.used = used;
        Some(bytes)
    }

    /// A part; this is no use of it.
    pub(super) fn peek(&self, key: &PartKey) -> Option<Landed> {
        let together = self.0.get(&key.together())?;
        let part = together.parts.iter().find(|part| part.key == *key)?;
        Some(part.bytes.clone())
    }

    pub(super) fn insert(&mut self, key: PartKey, bytes: Landed, held: HeldBytes, used: u64) {
        let part = KeptPart {
            key,
            bytes,
            held,
            is_passed: false,
        };
        let together = key.together();
        if let Some(entry) = self.0.to_back(&together) {
            entry.used = used;
            entry.parts.push(part);
            return;
        }
        let parts = vec![part];
        self.0.insert(together, KeptTogether { parts, used });
    }

    /// Marks a part as passed. Once all that are forgotten with it are passed, they are the next to be forgotten.
    pub(super) fn forget_first(&mut self, key: &PartKey) {
        let together = key.together();
        let Some(entry) = self.0.get_mut(&together) else {
            return;
        };
        if let Some(part) = entry.parts.iter_mut().find(|part| part.key == *key) {
            part.is_passed = true;
        }
        if entry.parts.iter().all(|part| part.is_passed) {
            entry.used = 0;
            self.0.to_front(&together);
        }
    }

    /// When the parts that are to be forgotten next were used last.
    pub(super) fn oldest_use(&self) -> Option<u64> {
        self.0.front().map(|(_, entry)| entry.used)
    }

    pub(super) fn forget_oldest(&mut self) -> Option<Forgotten> {
        Some(Forgotten(self.0.pop_front()?.1))
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        let parts = self.0.iter().flat_map(|(_, entry)| &entry.parts);
        parts.map(|part| part.bytes.as_ref().len() as u64).sum()
    }
}
