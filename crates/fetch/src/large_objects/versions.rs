//! Which version of a long object its bytes come from.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use attachfs_manifest::ContentHash;
use parking_lot::Mutex;

/// Which version of each long object was seen last. Grows with the number of long objects that were
/// read; held for single look-ups, with no other lock.
#[derive(Debug, Default)]
pub(crate) struct Versions(Mutex<HashMap<ContentHash, Seen>>);

#[derive(Debug)]
struct Seen {
    version: Arc<str>,
    generation: u32,
}

impl Versions {
    /// Of the object's units that are right now.
    pub(crate) fn generation(&self, hash: ContentHash) -> u32 {
        self.0.lock().get(&hash).map_or(0, |seen| seen.generation)
    }

    /// Takes note of a version, and says whether it replaces another one.
    pub(crate) fn saw(&self, hash: ContentHash, version: Arc<str>) -> bool {
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
}
