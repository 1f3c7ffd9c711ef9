//! Which version of a long object its bytes come from.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use attachfs_manifest::ContentHash;
use parking_lot::Mutex;

use crate::disk::VersionId;

/// Which version of each long object was seen last, in the store or on the disk. Grows with the number of long objects
/// that were read; held for single look-ups, with no other lock.
#[derive(Debug, Default)]
pub(crate) struct Versions(Mutex<HashMap<ContentHash, Seen>>);

#[derive(Debug)]
struct Seen {
    version: VersionId,
    generation: u32,
}

impl Versions {
    /// Of the object's units that are right now.
    pub(crate) fn generation(&self, hash: ContentHash) -> u32 {
        self.0.lock().get(&hash).map_or(0, |seen| seen.generation)
    }

    /// Takes note of a version that the store gives, and says whether it replaces another one.
    pub(crate) fn saw(&self, hash: ContentHash, version: VersionId) -> bool {
        match self.0.lock().entry(hash) {
            Entry::Vacant(entry) => {
                entry.insert(Seen {
                    version,
                    generation: 0,
                });
                false
            }
            Entry::Occupied(mut entry) => {
                let seen = entry.get_mut();
                let changed = seen.version != version;
                if changed {
                    seen.version = version;
                    seen.generation += 1;
                }
                changed
            }
        }
    }

    /// Takes note of a version that is on the disk, unless another one was seen. Says whether this is the one.
    pub(crate) fn is_now(&self, hash: ContentHash, version: VersionId) -> bool {
        let mut all = self.0.lock();
        let seen = all.entry(hash).or_insert(Seen {
            version,
            generation: 0,
        });
        seen.version == version
    }
}
