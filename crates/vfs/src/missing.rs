//! Names that were looked up and are not there: which, how often, and by whom first.
//!
//! The kernel remembers that a name is missing, so most look-ups of it after the first do not come here. A name that the job makes
//! is not a missing one any more: who makes a file looks it up before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use attachfs_store::Count;
use attachfs_tree::{Ino, Mutation};
use parking_lot::Mutex;

use crate::Asker;

/// Names that are kept, at most. Look-ups of others are counted.
const MOST: usize = 10_000;

/// The names that are missing, and look-ups of further ones.
#[derive(Debug)]
pub(crate) struct MissingNames {
    since: Instant,
    /// By directory and name.
    names: Mutex<HashMap<Ino, NamesOfDir>>,
    /// How many there are.
    count: AtomicUsize,
    other_lookups: Count,
}

type NamesOfDir = HashMap<Box<[u8]>, Missed>;

/// The look-ups of a name.
#[derive(Debug, Clone)]
pub(crate) struct Missed {
    pub(crate) lookups: u64,
    /// When first, since the mount.
    pub(crate) first: Duration,
    pub(crate) asker: Option<Asker>,
}

impl Default for MissingNames {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            names: Mutex::default(),
            count: AtomicUsize::new(0),
            other_lookups: Count::default(),
        }
    }
}

impl MissingNames {
    /// A name was looked up in vain. `asker` is only asked at the first time, with no lock held.
    pub(crate) fn note(&self, parent: Ino, name: &[u8], asker: impl FnOnce() -> Option<Asker>) {
        if self.note_again(parent, name) {
            return;
        }
        if self.count.load(Ordering::Relaxed) >= MOST {
            self.other_lookups.add(1);
            return;
        }
        let missed = Missed {
            lookups: 0,
            first: self.since.elapsed(),
            asker: asker(),
        };
        let mut names = self.names.lock();
        let of_dir = names.entry(parent).or_default();
        let known = of_dir.entry(name.into()).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            missed
        });
        known.lookups += 1;
    }

    /// Counts the look-up of a name that is known to be missing.
    fn note_again(&self, parent: Ino, name: &[u8]) -> bool {
        let mut names = self.names.lock();
        let known = names.get_mut(&parent).and_then(|names| names.get_mut(name));
        known.map(|known| known.lookups += 1).is_some()
    }

    /// Forgets the name that a mutation gives to something.
    pub(crate) fn made_by(&self, mutation: &Mutation) {
        let (parent, name) = match mutation {
            Mutation::CreateFile { parent, name, .. }
            | Mutation::CreateDir { parent, name, .. }
            | Mutation::CreateSymlink { parent, name, .. }
            | Mutation::CreateSpecial { parent, name, .. }
            | Mutation::Link { parent, name, .. } => (parent, name),
            Mutation::Rename {
                to_parent, to_name, ..
            } => (to_parent, to_name),
            Mutation::Unlink { .. }
            | Mutation::Exchange { .. }
            | Mutation::RemoveDir { .. }
            | Mutation::CopyUp { .. }
            | Mutation::SetAttributes { .. }
            | Mutation::SetXattr { .. }
            | Mutation::RemoveXattr { .. }
            | Mutation::Write { .. }
            | Mutation::Resize { .. } => return,
        };
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut names = self.names.lock();
        if let Some(of_dir) = names.get_mut(parent)
            && of_dir.remove(name.as_bytes()).is_some()
        {
            self.count.fetch_sub(1, Ordering::Relaxed);
            if of_dir.is_empty() {
                names.remove(parent);
            }
        }
    }

    /// All of them, with the directory that each was looked up in.
    pub(crate) fn so_far(&self) -> Vec<(Ino, Box<[u8]>, Missed)> {
        let names = self.names.lock();
        let all = names.iter().flat_map(|(&parent, names)| {
            let names = names.iter();
            names.map(move |(name, missed)| (parent, name.clone(), missed.clone()))
        });
        all.collect()
    }

    /// Look-ups of names that are not kept.
    pub(crate) fn other_lookups(&self) -> u64 {
        self.other_lookups.get()
    }
}
