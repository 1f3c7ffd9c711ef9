//! What is told when an object in the store is not what it was, or not what its name says.

use std::fmt;
use std::sync::{Arc, OnceLock};

use attachfs_manifest::ContentHash;
use attachfs_store::data_key;
use parking_lot::Mutex;

use crate::fetcher::Engine;
use crate::large_objects::KnownObject;

/// An object whose bytes, as far as they were given out, may not be those that its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// The object.
    pub hash: ContentHash,
    /// Its length in bytes.
    pub len: u64,
    /// The hash of what the store has, or what a file of the disk cache has that the kernel read (up to the first byte that cannot be read),
    /// if all of it was read and it is another one. `None` if the store replaced the object and nobody has verified the new one yet.
    pub found: Option<ContentHash>,
    /// Whether bytes of it were given out that had not been verified.
    pub was_given: bool,
}

type Listener = Box<dyn Fn(&Doubt) + Send + Sync>;

/// Who hears of doubts.
#[derive(Default)]
pub(crate) struct Doubts {
    listener: OnceLock<Listener>,
    /// Wrong objects of which bytes were given out. Held to add one and to copy all.
    given: Mutex<Vec<Doubt>>,
}

impl Doubts {
    /// The first listener counts.
    pub(crate) fn listen(&self, listener: Listener) {
        // A second one is not called, as `Fetcher::on_doubt` says.
        let _ = self.listener.set(listener);
    }

    /// The wrong objects of which bytes were given out.
    pub(crate) fn wrong_and_given(&self) -> Vec<Doubt> {
        self.given.lock().clone()
    }

    pub(crate) fn tell(&self, doubt: &Doubt) {
        if doubt.found.is_some() && doubt.was_given {
            self.given.lock().push(*doubt);
        }
        if let Some(listener) = self.listener.get() {
            listener(doubt);
        }
    }
}

impl fmt::Debug for Doubts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doubts")
    }
}

impl Engine {
    /// All of an object was read, and it has another hash: nothing of it is given out any more.
    pub(crate) fn object_is_wrong(&self, hash: ContentHash, len: u64, found: ContentHash) {
        let Some(told) = self.known.found_wrong(hash, len, found) else {
            return;
        };
        self.counts.wrong.add(1);
        tracing::error!(key = %data_key(hash), %found, len,
            "an object in the store is not what its name says: all of it was read and has another hash");
        self.forget_on_disk(hash, len, found);
        self.doubts.tell(&Doubt {
            hash,
            len,
            found: Some(found),
            was_given: told.was_given,
        });
    }

    /// Has what the disk cache keeps of a wrong object removed: the next process would read it.
    fn forget_on_disk(&self, hash: ContentHash, len: u64, found: ContentHash) {
        let (Some(disk), Some(runtime)) = (&self.disk, self.runtime()) else {
            return;
        };
        let disk = Arc::clone(disk);
        runtime.spawn_blocking(move || {
            let large = disk
                .large(hash, len)
                .filter(|large| large.wrong().is_none());
            if let Some(large) = large {
                large.give_up(found);
            }
        });
    }

    /// The store has another version of an object than before.
    pub(crate) fn object_was_replaced(&self, known: &KnownObject, was_given: bool) {
        self.counts.versions_changed.add(1);
        let (hash, len) = (known.hash(), known.size());
        tracing::warn!(key = %data_key(hash), "an object was replaced in the store; it is verified before more of it is read");
        if was_given {
            self.doubts.tell(&Doubt {
                hash,
                len,
                found: None,
                was_given,
            });
        }
    }
}
