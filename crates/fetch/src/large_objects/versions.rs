//! Which version of a large object its bytes come from.

use std::collections::HashMap;

use attachfs_manifest::ContentHash;
use parking_lot::Mutex;

use crate::disk::VersionId;

/// Which version of each large object was seen last, in the store or on the disk. Grows with the number of large objects
/// that were read; held for single look-ups, with no other lock.
#[derive(Debug, Default)]
pub(crate) struct Versions(Mutex<HashMap<ContentHash, Seen>>);

#[derive(Debug, Default)]
struct Seen {
    version: Option<VersionId>,
    generation: u32,
}

impl Versions {
    /// Of the object's units that are right now.
    pub(crate) fn generation(&self, hash: ContentHash) -> u32 {
        self.0.lock().get(&hash).map_or(0, |seen| seen.generation)
    }

    /// Takes note of a version that the store gives, and says whether it replaces another one.
    pub(crate) fn saw(&self, hash: ContentHash, version: VersionId) -> bool {
        let mut all = self.0.lock();
        let seen = all.entry(hash).or_default();
        let before = seen.version.replace(version);
        let changed = before.is_some_and(|before| before != version);
        seen.generation += u32::from(changed);
        changed
    }

    /// Takes note of a version that is on the disk, unless another one was seen. Says whether this is the one.
    pub(crate) fn is_now(&self, hash: ContentHash, version: VersionId) -> bool {
        let mut all = self.0.lock();
        *all.entry(hash).or_default().version.get_or_insert(version) == version
    }

    /// None of the object's units is right: they are not found in memory any more.
    pub(crate) fn give_up(&self, hash: ContentHash) {
        self.0.lock().entry(hash).or_default().generation += 1;
    }
}
